"""The states of one episode of play, for rewinding."""

from __future__ import annotations

from adamas.play.step import PlayState

MOST_STATES = 400  # that one can go back


class History:
    """Rewinding moves a position. What comes after it can be returned to until the next step replaces it."""

    def __init__(self, first: PlayState) -> None:
        self.first = first
        self._states = [first]
        self._position = 0

    @property
    def now(self) -> PlayState:
        return self._states[self._position]

    @property
    def states(self) -> list[PlayState]:
        """Oldest first."""
        return list(self._states)

    @property
    def past(self) -> int:
        """How many states one can go back."""
        return self._position

    @property
    def future(self) -> int:
        """How many states one can go forward again."""
        return len(self._states) - 1 - self._position

    def append(self, state: PlayState) -> None:
        """A step from `now`."""
        self._states = [*self._states[: self._position + 1], state][-MOST_STATES - 1 :]
        self._position = len(self._states) - 1

    def rewind(self, steps: int) -> None:
        """Goes back, or forward again if `steps` is negative, as far as there are states."""
        self._position = min(max(self._position - steps, 0), len(self._states) - 1)
