"""The real game beside a dream: it gets the same actions, and goes back when the dream does."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from adamas.config import Atari
from adamas.envs.atari import AtariEnv


class RealMoment(NamedTuple):
    """Where a real game stands."""

    obs: np.ndarray  # uint8 (84, 84)
    reward: float  # unclipped, as is the total
    total: float
    over: bool
    state: dict[str, Any]  # from which the emulator can go on


class Reality:
    """One emulator. It is set back only when a moment is asked for its future that it is not at: that takes 0.1 s and more."""

    def __init__(self, game: str, config: Atari) -> None:
        self.env = AtariEnv(game, config, episodic_life=False)
        self._at: dict[str, Any] | None = None  # the state of the moment where the emulator stands

    def reset(self, seed: int) -> RealMoment:
        obs, _ = self.env.reset(seed=seed)
        return self._now(obs, 0.0, 0.0, over=False)

    def step(self, moment: RealMoment, action: int) -> RealMoment:
        """What `action` leads to. A game that is over stays as it is."""
        if moment.over:
            return moment._replace(reward=0.0)
        if moment.state is not self._at:
            self.env.load_state_dict(moment.state)
        obs, reward, terminated, truncated, _ = self.env.step(action)
        return self._now(obs, reward, moment.total + reward, terminated or truncated)

    def _now(self, obs: np.ndarray, reward: float, total: float, over: bool) -> RealMoment:
        self._at = self.env.state_dict()
        return RealMoment(obs, reward, total, over, self._at)
