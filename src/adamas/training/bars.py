"""Progress bars with the time left: one for the run, one for the phase that it is in."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tqdm import tqdm

from adamas.training.announcement import total_seconds


class Bars:
    """The run's bar counts expected seconds, so that its time left knows that phases differ in cost.

    Args:
        costs: expected seconds a unit of each phase.
        total: expected seconds of the whole run.
        behind: units of each phase that a resumed run has behind it.
    """

    def __init__(self, costs: Mapping[str, float], total: float, behind: Mapping[str, int]) -> None:
        done = total_seconds(behind, costs)
        self.costs = costs
        self.live = sys.stderr.isatty()
        form = "run {percentage:3.0f}%|{bar:24}| {elapsed}<{remaining}{postfix}"
        self.run = tqdm(
            total=max(total, done), initial=done, bar_format=form, mininterval=0.2 if self.live else 30, position=0
        )

    @contextmanager
    def phase(self, title: str, units: int, done: int) -> Iterator[tqdm]:
        """A bar for `units` of a phase; `update` it once a unit."""
        self.run.set_postfix_str(title, refresh=False)
        form = "{desc:24} {percentage:3.0f}%|{bar:24}| {n_fmt}/{total_fmt} {elapsed}<{remaining} {rate_fmt}{postfix}"
        with tqdm(
            total=units, initial=done, desc=title, bar_format=form, leave=False, position=1, disable=not self.live
        ) as bar:
            yield bar

    def tick(self, phase: str, units: int) -> None:
        """So many more units of `phase` are done."""
        self.run.update(min(units * self.costs.get(phase, 0.0), self.run.total - self.run.n))

    def left(self, seconds: float) -> float | None:
        """Expected seconds to the end of a run that took `seconds` to get here."""
        done = self.run.n / self.run.total
        return seconds * (1 - done) / done if done else None

    def say(self, line: str) -> None:
        tqdm.write(line)

    def close(self) -> None:
        self.run.close()
