"""What was played, as the columns of a dataset that training can read."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from adamas.data import storage
from adamas.play.step import PlayState


class RecordedFrame(NamedTuple):
    """One frame of a recording."""

    step: int  # since the initial state
    obs: np.ndarray  # uint8 (84, 84)
    action: int  # the one that led here, as are the next two
    reward: float
    terminated: bool
    real_obs: np.ndarray | None  # uint8 (84, 84): the real game at the same step


class Recorder:
    """The episodes of one recording. A step from an earlier state replaces what came after that state."""

    def __init__(self) -> None:
        self.episodes: list[list[RecordedFrame]] = [[]]

    @property
    def steps(self) -> int:
        return _count_steps(self.episodes)

    def until(self, state: PlayState) -> list[list[RecordedFrame]]:
        """The episodes without what comes after `state` in the last one, or [] if no step is left. It changes nothing."""
        *before, last = self.episodes
        episodes = [*before, [frame for frame in last if frame.step <= state.step]]
        return episodes if _count_steps(episodes) else []

    def add(self, before: PlayState, after: PlayState) -> None:
        frames = self.up_to(before)
        if not frames:
            frames.append(_recorded(before))
        frames.append(_recorded(after))

    def up_to(self, state: PlayState) -> list[RecordedFrame]:
        """The last episode, of which what comes after `state` is removed."""
        frames = self.episodes[-1]
        while frames and frames[-1].step > state.step:
            frames.pop()
        return frames

    def end_episode(self, state: PlayState) -> None:
        """Ends the last episode at `state`."""
        self.up_to(state)
        self.episodes.append([])


def _count_steps(episodes: list[list[RecordedFrame]]) -> int:
    return sum(max(len(frames) - 1, 0) for frames in episodes)


def _recorded(state: PlayState) -> RecordedFrame:
    real_obs = state.real.obs if state.real else None
    return RecordedFrame(state.step, state.obs.copy(), state.action or 0, state.reward, state.terminated, real_obs)


def columns(episodes: list[list[RecordedFrame]]) -> dict[str, np.ndarray]:
    """The columns of `adamas.data.storage`; and "real_obs" where every frame has one.

    An episode whose last step does not terminate it is truncated there.
    """
    rows = [row for frames in episodes if len(frames) > 1 for row in _rows(frames)]
    real = [frame.real_obs for frame, *_ in rows]
    obs, *values = zip(*((frame.obs, *row) for frame, *row in rows), strict=True)
    table = {
        name: np.array(column, storage.DTYPES[name])
        for name, column in zip(storage.DTYPES, [obs, *values], strict=True)
    }
    return table | ({} if any(frame is None for frame in real) else {"real_obs": np.stack(real)})


def _rows(frames: list[RecordedFrame]) -> list[tuple[RecordedFrame, int, float, bool, bool, bool]]:
    """(frame, action, reward, terminated, truncated, final) for each step, and for each frame that ends an episode."""
    rows = []
    for now, after in pairwise(frames):
        truncated = after is frames[-1] and not after.terminated
        rows.append((now, after.action, after.reward, after.terminated, truncated, False))
        if after.terminated or truncated:
            rows.append((after, 0, 0.0, False, False, True))
    return rows
