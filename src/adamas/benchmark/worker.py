"""Runs of a queue at work: here, one on each GPU, or as jobs of a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from adamas.benchmark.queue import FAILED, FINISHED, RUNNING, STOPPED, Queue, Task
from adamas.training.signals import StopRequest
from adamas.utils.locks import is_locked, take_lock

TRIES = 3  # of a run that crashes, in one run of the queue
LOOK_EVERY = 0.2  # seconds


class Attempt:
    """Works on one task in a process of its own, and again when that crashes. The process holds the lock too: it stays
    locked for as long as either is alive.

    Raises:
        BlockingIOError: somebody else works on it.
    """

    def __init__(self, queue: Queue, task: Task, gpu: str | None = None) -> None:
        self.queue, self.task = queue, task
        self.environment = {**os.environ, **({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})}
        self.tries, self.stopping = 0, False
        self.process: subprocess.Popen | None = None  # None: finished before it began
        self.lock = take_lock(queue.lock(task))
        try:
            queue.failure(task).unlink(missing_ok=True)
            if not self._finished():
                self._start()
        except BaseException:
            os.close(self.lock)
            raise

    def poll(self) -> str | None:
        """None while it works, then how that ended."""
        if self.process is not None and self.process.poll() is None:
            return None
        state = self._ended()
        if state is None:
            self._start()
            return None
        if state == FAILED:
            self._mark_failure()
        os.close(self.lock)
        return state

    def stop(self) -> None:
        """Asks the process to save and end."""
        if self.process is not None and not self.stopping:
            self.process.send_signal(signal.SIGTERM)
        self.stopping = True

    def wait(self) -> None:
        """Until the process has ended; also within a signal handler that interrupted `poll`."""
        if self.process is not None and self.process.returncode is None:
            with suppress(ChildProcessError):  # `poll` was faster
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)

    def _ended(self) -> str | None:
        """How it ended; None if it is worth another try."""
        if self._finished():
            return FINISHED
        code = None if self.process is None else self.process.returncode
        killed = self.stopping and code not in (1, 2)  # by the signal, before anything was there to save
        if code == 0 or killed:
            return STOPPED
        for_a_person = code == 2  # a UserError
        return FAILED if for_a_person or self.stopping or self.tries == TRIES else None

    def _finished(self) -> bool:
        run = self.queue.find(self.task)
        return run is not None and run.final is not None

    def _mark_failure(self) -> None:
        mark = self.queue.failure(self.task)
        mark.parent.mkdir(exist_ok=True)
        mark.touch()

    def _start(self) -> None:
        self.tries += 1
        path = self.queue.log(self.task)
        path.parent.mkdir(exist_ok=True)
        with open(path, "a") as log:
            self.process = subprocess.Popen(
                self.queue.command(self.task),
                env=self.environment,
                stdout=log,
                stderr=log,
                pass_fds=[self.lock],
                start_new_session=True,  # Ctrl-C is for the queue, which passes it on
            )


class Job:
    """What submitit runs on a machine of a cluster. When that is about to be taken away, `checkpoint` saves; the job
    is queued again and goes on from there."""

    def __init__(self, queue: Queue, task: Task) -> None:
        self.queue, self.task = queue, task
        self.attempt: Attempt | None = None

    def __call__(self) -> str:
        try:
            self.attempt = Attempt(self.queue, self.task)
        except BlockingIOError:
            return RUNNING
        while (state := self.attempt.poll()) is None:
            time.sleep(LOOK_EVERY)
        if state == FAILED:
            raise RuntimeError(f"{self.task} failed: see {self.queue.log(self.task)}")
        return state

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        if self.attempt is not None:
            self.attempt.stop()
            self.attempt.wait()
        return DelayedSubmission(Job(self.queue, self.task))


def work_off(
    queue: Queue, tasks: Iterable[Task], gpus: list[str | None], stop: StopRequest, say: Callable[[str], None]
) -> dict[Task, str]:
    """All tasks in order, one at a time on each of `gpus` (None: whatever is there), until they are done or a stop is
    requested. Returns how each that was begun ended. After an error of its own, such as of a disk, none works on unwatched."""
    at_work: dict[Task, tuple[str | None, Attempt]] = {}
    try:
        return _work_off(queue, tasks, gpus, stop, say, at_work)
    finally:
        for _, attempt in at_work.values():
            attempt.stop()
        for _, attempt in at_work.values():
            attempt.wait()
            os.close(attempt.lock)


def _work_off(
    queue: Queue,
    tasks: Iterable[Task],
    gpus: list[str | None],
    stop: StopRequest,
    say: Callable[[str], None],
    at_work: dict[Task, tuple[str | None, Attempt]],
) -> dict[Task, str]:
    """`at_work`: filled with what is at work, and the GPU that it has."""
    waiting, ended = list(tasks), {}
    free = list(gpus)
    while waiting or at_work:
        if stop.requested:
            waiting = []
            for _, attempt in at_work.values():
                attempt.stop()
        while free and waiting:
            task = waiting.pop(0)
            try:
                at_work[task] = free[0], Attempt(queue, task, free[0])
            except BlockingIOError:
                ended[task] = RUNNING
                say(f"{task}: somebody else works on it")
                continue
            free.pop(0)
            if at_work[task][1].process is not None:
                say(f"{task}: at work, {queue.log(task)}")
        for task, (gpu, attempt) in list(at_work.items()):
            if (state := attempt.poll()) is not None:
                ended[task] = state
                free.append(gpu)
                del at_work[task]
                say(f"{task}: {state}")
        if not waiting and not at_work and not stop.requested:  # whoever worked on the others may have been killed
            waiting = [t for t, state in ended.items() if state == RUNNING and not is_locked(queue.lock(t))]
        time.sleep(LOOK_EVERY)
    return ended
