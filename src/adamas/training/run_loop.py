"""What every phase of a run shares: bars, curves, signals and saves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from tqdm import tqdm

from adamas import config
from adamas.training import checkpoint
from adamas.training.phases import Phase
from adamas.training.progress import Progress
from adamas.training.progress_bars import Bars
from adamas.training.run_folder import RunFolder
from adamas.training.signals import Stopped, StopRequest
from adamas.utils.logger import Logger

KEEP = 2  # newest checkpoints
FLUSH_EVERY = 50  # units of a phase from one point of its TensorBoard curves to the next


class RunLoop:
    """One session of a run: from its start, or a resume, to its end or the next stop.

    Args:
        snapshot: returns all that a checkpoint holds beside the progress.
        costs: expected seconds a unit of each phase, for the bars.
        left: returns the units of each phase that are ahead.

    Inside `with loop:` signals ask to stop, bars are shown, and a resume is possible from the first moment.
    """

    def __init__(
        self,
        folder: RunFolder,
        c: config.Checkpoint,
        progress: Progress,
        logger: Logger,
        snapshot: Callable[[], dict[str, Any]],
        costs: Mapping[str, float],
        left: Callable[[], Mapping[str, int]],
    ) -> None:
        self.folder, self.config, self.progress, self.logger, self.snapshot = folder, c, progress, logger, snapshot
        self.bars, self.stop = Bars(costs, left, progress.total), StopRequest()
        self.saved_at, self.in_a_run = time.monotonic(), folder.config.is_file()

    def __enter__(self) -> RunLoop:
        self.stop.__enter__()
        try:
            self.save()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bars.close()
        self.logger.close()
        self.stop.__exit__(kind, error, trace)

    def run(self, phase: Phase, target: Callable[[], int], work: Callable[[], object]) -> None:
        """Works, a unit at a time, until `target()` units of the phase are done in this epoch.

        After each round the run can stop and be resumed here.
        """
        done, rounds = self.progress.done, 0
        if done[phase.name] >= target():
            return
        with self.bars.phase(f"epoch {self.progress.epoch} {phase.name}", target(), done[phase.name]) as bar:
            try:
                while done[phase.name] < target():
                    self._work(phase, work, bar)
                    bar.total = target()
                    rounds += 1
                    if rounds % FLUSH_EVERY == 0:
                        self._flush(phase, bar)
                    self.check_stop()
            finally:
                self._flush(phase, bar)

    def check_stop(self) -> None:
        """Saves if it is time, and stops if asked to. Also called inside of long rounds that change nothing."""
        if self.stop.requested:
            self.save()
            raise Stopped
        if time.monotonic() - self.saved_at > 60 * self.config.every_minutes:
            self.save()

    def seconds(self) -> float:
        """Wall-clock of all sessions of the run."""
        return self.progress.seconds + time.monotonic() - self.saved_at

    def save(self) -> None:
        """Everything that a resume needs, atomically. UserError when the folder is gone."""
        if self.in_a_run:
            self.folder.check_there()
        self.progress.seconds = self.seconds()
        self.progress.saves += 1
        self.saved_at = time.monotonic()
        self.logger.sync()
        parts = {**self.snapshot(), "progress": self.progress.state_dict()}
        checkpoint.save(self.folder.checkpoints, self.progress.saves, parts, KEEP)
        p = self.progress
        left = self.bars.left()
        self.folder.write_progress({"epoch": p.epoch, "steps": p.steps, "seconds": p.seconds, "left": left})

    def _work(self, phase: Phase, work: Callable[[], object], bar: tqdm) -> None:
        start = time.monotonic()
        work()
        seconds = time.monotonic() - start
        if self.stop.continued:  # the time in which it stood still says nothing about its pace
            self.stop.continued, seconds = False, self.bars.pace.seconds(phase.name)
        self.progress.tick(phase.name)
        self.logger.add(f"speed/{phase.name}_a_second", 1.0, seconds)
        self.bars.tick(phase.name, seconds)
        bar.update()

    def _flush(self, phase: Phase, bar: tqdm) -> None:
        means = self.logger.flush(self.progress.total[phase.name])
        if phase.shown in means:
            bar.set_postfix_str(f" {phase.shown} {means[phase.shown]:.3g}", refresh=False)
