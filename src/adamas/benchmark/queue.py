"""A queue of runs that is kept in their folders: what is finished is not done again, what was cut short goes on.

There is no list of jobs that could be wrong. Where a run stands is read from its folder, and that somebody works on it
from a lock.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from adamas.config.files import config_of_run, load_config
from adamas.training.checkpoint import newest_first
from adamas.training.run_folder import RunFolder
from adamas.training.run_records import final_of, read_curve
from adamas.utils.errors import UserError, is_passing
from adamas.utils.locks import is_locked, take_lock
from adamas.utils.quoting import assignment
from adamas.utils.records import read_record, write_record

TRAIN = (sys.executable, "-m", "adamas.cli", "train")
FINISHED, RUNNING, QUEUED, TO_RESUME, WAITING = "finished", "running", "queued", "to resume", "waiting"
STOPPED, FAILED = "stopped", "failed"


class Task(NamedTuple):
    """One run of the benchmark."""

    game: str
    seed: int

    def __str__(self) -> str:
        return f"{self.game}-{self.seed}"


class Found(NamedTuple):
    """A run that was begun, as its folder shows it."""

    folder: RunFolder
    curve: list[dict[str, Any]]  # its evaluations
    final: dict[str, Any] | None  # the one at its end; None as long as it is not finished


class RunStatus(NamedTuple):
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
        """Makes the folder this queue's. UserError if it cannot be, or runs were begun there with other settings."""
        path, mine = self.runs / "queue.json", {"preset": self.preset, "overrides": list(self.overrides)}
        try:
            lock = take_lock(self.runs / "queue.lock", patience=30)  # fails where a file system has none
            try:
                if not path.exists() or not self._is_begun():
                    write_record(path, mine)
                begun = self.begun_with()
            finally:
                os.close(lock)
            words = as_words(begun)
        except OSError as error:
            if is_passing(error) and error.errno != errno.ENOLCK:  # which a file system without locks has for good
                raise
            raise UserError(f"runs={self.runs} cannot be used ({error.strerror})") from error
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} is damaged: delete it if the runs beside it have these settings") from error
        if begun != mine:
            raise UserError(f"{self.runs} was begun with {words}: use the same, or another folder with runs=")

    def _is_begun(self) -> bool:
        """Whether a run is there, or somebody is at work on one, or a job was submitted."""
        places = ("seed-*/*/*/", "slurm/*")
        return any(any(self.runs.glob(place)) for place in places) or any(map(is_locked, self.runs.glob("locks/*")))

    def begun_with(self) -> dict[str, Any]:
        """The preset and the overrides of the queue of this folder. OSError, ValueError, TypeError or KeyError where there is none
        that can be read."""
        saved = read_record(self.runs / "queue.json")
        return {name: saved[name] for name in ("preset", "overrides")}

    def find(self, task: Task) -> Found | None:
        """The newest run of the task that is finished, else the newest that can be resumed."""
        found = [_read(RunFolder(path)) for path in sorted((self.place(task) / task.game).glob("*/"))]
        finished = [run for run in found if run.final]
        begun = finished or [run for run in found if newest_first(run.folder.checkpoints)]
        return begun[-1] if begun else None

    def status_of(self, task: Task, jobs: Mapping[str, str]) -> RunStatus:
        """`jobs`: the states of those on a cluster, by name."""
        run = self.find(task)
        if run is not None and run.final:
            return RunStatus(task, FINISHED, run.final["steps"], run.final["return"], run.final.get("seconds"))
        state = self._state_of_unfinished(task, run, jobs)
        if run is None:
            return RunStatus(task, state)
        progress = run.folder.read_progress()
        score = run.curve[-1]["return"] if run.curve else None
        return RunStatus(task, state, progress.get("steps"), score, progress.get("seconds"), progress.get("left"))

    def command(self, task: Task) -> list[str]:
        """What starts the run, or goes on with it."""
        run = self.find(task)
        if run is not None:
            return [*TRAIN, assignment("resume", run.folder.path)]
        return self.first_command(task)

    def first_command(self, task: Task) -> list[str]:
        """What starts the run."""
        own = [f"env={task.game}", f"seed={task.seed}", f"preset={self.preset}", assignment("runs", self.place(task))]
        return [*TRAIN, *own, *self.overrides]

    def place(self, task: Task) -> Path:
        """Each seed has a folder, so that it takes no config, which is slow to read, to know whose a run is."""
        return self.runs / f"seed-{task.seed}"

    def lock(self, task: Task) -> Path:
        return self.runs / "locks" / str(task)

    def log(self, task: Task) -> Path:
        return self.runs / "logs" / f"{task}.log"

    def failure(self, task: Task) -> Path:
        """A file that is there from when the run failed until it is begun again."""
        return self.runs / "failed" / str(task)

    def job_name(self, task: Task) -> str:
        """On a cluster. Another clone may have a queue in a folder of the same name: the whole path tells them apart."""
        place = hashlib.sha256(str(self.runs.absolute()).encode()).hexdigest()[:8]
        return f"{self.runs.name}-{place}-{task}"

    def _state_of_unfinished(self, task: Task, run: Found | None, jobs: Mapping[str, str]) -> str:
        if is_locked(self.lock(task)):
            return RUNNING
        if self.job_name(task) in jobs:
            return jobs[self.job_name(task)]
        if self.failure(task).exists():
            return FAILED
        return TO_RESUME if run else WAITING


def as_words(begun: Mapping[str, Any]) -> str:
    """What `begun_with` returns, as typed."""
    return " ".join([f"preset={begun['preset']}", *begun["overrides"]])


def _read(folder: RunFolder) -> Found:
    """What is damaged hides no run: resuming goes on with it or says what is wrong, and a report names the damage."""
    curve, final = read_curve(folder, warn=lambda line: None), None
    if curve and curve[-1]["kind"] == "final_evaluation":  # only then is the config read, which is slow
        with suppress(UserError):
            final = final_of(curve, load_config(config_of_run(folder.path)))
    return Found(folder, curve, final)
