"""A queue of runs that is kept in their folders: what is finished is not done again, what was cut short goes on.

There is no list of jobs that could be wrong. Where a run stands is read from its folder, and that somebody works on it
from a lock, which the kernel takes back from the dead.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from adamas.checkpoint import newest_first
from adamas.config import UserError
from adamas.training.outcomes import Outcome, find_outcomes
from adamas.training.run_folder import RunFolder
from adamas.training.stopping import StopRequest

MAIN = Path(__file__).resolve().parents[2] / "main.py"
TRIES = 3  # of a run that crashes, in one sitting
LOOK_EVERY = 0.2  # seconds
LOOKS = 5  # at a lock
FINISHED, RUNNING, QUEUED, TO_RESUME, WAITING = "finished", "running", "queued", "to resume", "waiting"
STOPPED, FAILED = "stopped", "failed"


class Task(NamedTuple):
    """One run of the benchmark."""

    game: str
    seed: int

    def __str__(self) -> str:
        return f"{self.game}-{self.seed}"


class Standing(NamedTuple):
    """Where a task stands; None is not known, or not yet."""

    task: Task
    state: str
    steps: int | None = None  # agent steps at its last save
    score: float | None = None  # mean return of its last evaluation
    seconds: float | None = None  # wall-clock until its last save
    left: float | None = None  # expected seconds to its end


@dataclass(frozen=True)
class Queue:
    """The runs below the folder `runs`, all with the same settings."""

    runs: Path
    preset: str
    overrides: tuple[str, ...] = ()

    def claim(self) -> None:
        """Makes the folder this queue's. UserError if it was begun with other settings."""
        path, mine = self.runs / "queue.json", {"preset": self.preset, "overrides": list(self.overrides)}
        self.runs.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(json.dumps(mine) + "\n")
        begun = json.loads(path.read_text())
        if begun != mine:
            words = " ".join([f"preset={begun['preset']}", *begun["overrides"]])
            raise UserError(f"{self.runs} was begun with {words}: use the same, or another folder with runs=")

    def newest(self, task: Task) -> Outcome | None:
        """The newest run of the task that is finished, else the newest that can be resumed."""
        folder = self.runs / task.game
        found = find_outcomes([folder], warn=lambda line: None) if folder.is_dir() else []
        mine = [run for run in found if run.config.seed == task.seed]
        good = [run for run in mine if run.final] or [
            run for run in mine if newest_first(RunFolder(run.path).checkpoints)
        ]
        return good[-1] if good else None

    def standing(self, task: Task, at_work: dict[str, str]) -> Standing:
        """`at_work`: the state of jobs on a cluster, by name."""
        run = self.newest(task)
        if run is not None and run.final:
            return Standing(task, FINISHED, run.final["steps"], run.score, run.final["seconds"])
        state = at_work.get(self.job_name(task)) or (TO_RESUME if run else WAITING)
        if is_locked(self.lock(task)):
            state = RUNNING
        if run is None:
            return Standing(task, state)
        progress = RunFolder(run.path).read_progress()
        score = run.curve[-1]["return"] if run.curve else None
        return Standing(task, state, progress.get("steps"), score, progress.get("seconds"), progress.get("left"))

    def command(self, task: Task) -> list[str]:
        """What starts the run, or goes on with it."""
        run = self.newest(task)
        if run is not None:
            return [sys.executable, str(MAIN), f"resume='{run.path}'"]
        knobs = [f"env={task.game}", f"seed={task.seed}", f"preset={self.preset}", f"runs='{self.runs}'"]
        return [sys.executable, str(MAIN), *knobs, *self.overrides]

    def lock(self, task: Task) -> Path:
        return self.runs / "locks" / str(task)

    def log(self, task: Task) -> Path:
        return self.runs / "logs" / f"{task}.log"

    def job_name(self, task: Task) -> str:
        return f"{self.runs.name}-{task}"


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
        if not self._finished():
            self._start()

    def poll(self) -> str | None:
        """None while it works, then how that ended."""
        if self.process is not None and self.process.poll() is None:
            return None
        state = self._ended()
        if state is None:
            self._start()
        else:
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
        if self.stopping or self.process.returncode == 0:
            return STOPPED
        for_a_person = self.process.returncode == 2  # a UserError
        return FAILED if for_a_person or self.tries == TRIES else None

    def _finished(self) -> bool:
        run = self.queue.newest(self.task)
        return run is not None and run.final is not None

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


def take_lock(path: Path) -> int:
    """The lock, as a descriptor: whoever has it open, or a copy that a process inherits, holds the lock.
    BlockingIOError: somebody does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(LOOKS):
        if (lock := _try_lock(path)) is not None:
            return lock
        time.sleep(LOOK_EVERY / LOOKS)  # somebody may just have had a look at it
    raise BlockingIOError(f"{path} is locked")


def is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    if (lock := _try_lock(path)) is None:
        return True
    os.close(lock)
    return False


def _try_lock(path: Path) -> int | None:
    import fcntl  # Windows has none

    lock = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def work_off(
    queue: Queue, tasks: Iterable[Task], gpus: list[str | None], stop: StopRequest, say: Callable[[str], None]
) -> dict[Task, str]:
    """All tasks in order, one at a time on each of `gpus` (None: whatever is there), until they are done or a stop is
    requested. Returns how each that was begun ended."""
    waiting, at_work, ended = list(tasks), {}, {}
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
        time.sleep(LOOK_EVERY)
    return ended
