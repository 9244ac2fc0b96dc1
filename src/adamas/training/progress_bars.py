"""Progress bars with the time left: one for the run, one for the phase that it is in."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tqdm import tqdm

from adamas.training.pace import Pace
from adamas.utils.console import Lasting, say


class Bars:
    """The run's bar counts expected seconds, so that its time left knows that phases differ in cost.

    Args:
        costs: seconds a unit of each phase, as measured before the run.
        units_left: returns the units of each phase that are ahead.
        behind: units of each phase that a resumed run has behind it.
    """

    def __init__(
        self, costs: Mapping[str, float], units_left: Callable[[], Mapping[str, int]], behind: Mapping[str, int]
    ) -> None:
        self.pace, self.units_left = Pace(costs), units_left
        self.done = Counter({phase: units for phase, units in behind.items() if phase in costs})
        self.live = sys.stderr.isatty()
        form = "run {percentage:3.0f}%|{bar:24}| {elapsed}<{desc}{postfix}"
        behind_seconds = self.pace.total(self.done)
        left = self.left()
        self.run = tqdm(
            total=behind_seconds + left,
            initial=behind_seconds,
            bar_format=form,
            mininterval=0.2 if self.live else 30,
            position=0,
            file=Lasting(sys.stderr),
        )
        self.run.set_description_str(tqdm.format_interval(left), refresh=False)

    @contextmanager
    def phase(self, title: str, units: int, done: int) -> Iterator[tqdm]:
        """A bar for `units` of a phase; `update` it once a unit."""
        self.run.set_postfix_str(title, refresh=False)
        form = "{desc:24} {percentage:3.0f}%|{bar:24}| {n_fmt}/{total_fmt} {elapsed}<{remaining} {rate_fmt}{postfix}"
        with tqdm(
            total=units,
            initial=done,
            desc=title,
            bar_format=form,
            leave=False,
            position=1,
            disable=not self.live,
            file=Lasting(sys.stderr),
        ) as bar:
            yield bar

    def tick(self, phase: str, seconds: float) -> None:
        """One more unit of `phase` is done, in so many seconds."""
        self.pace.see(phase, 1, seconds)
        self.done[phase] += 1
        left, behind = self.left(), self.pace.total(self.done)
        self.run.set_description_str(tqdm.format_interval(left), refresh=False)
        self.run.total = behind + left
        self.run.update(behind - self.run.n)

    def left(self) -> float:
        """Expected seconds to the end of the run, at the pace of now."""
        return self.pace.total(self.units_left())

    def say(self, line: str) -> None:
        with tqdm.external_write_mode():
            say(line)

    def close(self) -> None:
        self.run.close()
