"""How long a unit of each phase takes now: what was measured before the run, corrected by what is seen as it goes.

A phase that was seen tells its own cost, anew each time that it begins. What changes while it goes on is the load of the machine, and
tells of all other phases too. One that was not seen yet costs what was measured, times what those that were seen cost more than measured.
"""

from __future__ import annotations

from collections.abc import Mapping

HALF_SECONDS, HALF_UNITS = 10.0, 2  # what is older than both counts less than half
WINDOW_SECONDS, WINDOW_UNITS = 2.0, 2  # units are averaged over so much: those of a phase take turns in what they do
ENOUGH_SECONDS = 10.0  # for a window of one unit
SETTLED_SECONDS, SETTLED_UNITS = 10.0, 8  # since a phase began, before its changes tell of the load


class _Seen:
    """A phase: recent seconds a unit, at the load of the machine at the time; how much was seen since it last began, and in all.

    Windows are averaged by their logarithm: thirty times slower is followed as fast as thirty times faster.
    """

    def __init__(self, expected: float, load: float) -> None:
        self.rate, self.load = max(expected, 1e-9), load
        self.all_seconds = 0.0
        self.begin()

    def begin(self) -> None:
        self._since_seconds, self._since_units = 0.0, 0
        self._seconds, self._units = 0.0, 0  # of the window that is open

    @property
    def settled(self) -> bool:
        return self._since_seconds >= SETTLED_SECONDS and self._since_units >= SETTLED_UNITS

    def add(self, units: int, seconds: float) -> None:
        was_settled = self.settled
        self.all_seconds += seconds
        self._since_seconds, self._since_units = self._since_seconds + seconds, self._since_units + units
        self._seconds, self._units = self._seconds + seconds, self._units + units
        enough = self._seconds >= WINDOW_SECONDS and self._units >= WINDOW_UNITS
        if enough or self._seconds >= ENOUGH_SECONDS:
            kept = 0.5 ** min(self._seconds / HALF_SECONDS, self._units / HALF_UNITS)
            seen = self._seconds / self._units
            average = self._since_seconds / self._since_units
            self.rate = self.rate**kept * seen ** (1 - kept) if was_settled else average
            self._seconds, self._units = 0.0, 0

    def move(self, load: float) -> None:
        """What it would have been at another load."""
        self.rate, self.load = self.rate * load / self.load, load


class Pace:
    """Args: `measured`, seconds a unit of each phase."""

    def __init__(self, measured: Mapping[str, float]) -> None:
        self.measured = measured
        self._seen: dict[str, _Seen] = {}
        self._last = ""  # phase
        self._load = 1.0  # of the machine, times what it was at the start

    def see(self, phase: str, units: int, seconds: float) -> None:
        """So many units of `phase` took so long."""
        if phase not in self._seen:
            self._seen[phase] = _Seen(self.seconds(phase), self._load)
        seen = self._seen[phase]
        if phase != self._last:
            seen.begin()
            self._last = phase
        seen.move(self._load)
        before, settled = seen.rate, seen.settled
        seen.add(units, seconds)
        if (
            settled
        ):  # before, what differs from what was expected is the phase's own: measured wrongly, or other work by now
            seen.load = self._load = self._load * seen.rate / before

    def seconds(self, phase: str) -> float:
        """Expected, a unit."""
        if phase in self._seen:
            seen = self._seen[phase]
            return seen.rate * self._load / seen.load
        return self.measured[phase] * self._slower()

    def total(self, units: Mapping[str, int]) -> float:
        """Expected seconds of so many units of each phase."""
        return sum(count * self.seconds(phase) for phase, count in units.items() if count)

    def _slower(self) -> float:
        """How many times as long as measured the phases that were seen take now, weighted by the time that they took."""
        known = {p: s for p, s in self._seen.items() if self.measured[p] > 0}
        known = {p: s for p, s in known.items() if s.settled} or known
        weight = sum(s.all_seconds for s in known.values())
        if not weight:
            return 1.0
        return sum(s.all_seconds * self.seconds(p) / self.measured[p] for p, s in known.items()) / weight
