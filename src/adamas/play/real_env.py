"""The real game beside the world model: it gets the same actions, and is rewound with it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from adamas.config import Config
from adamas.envs.make import make_env


class RealState(NamedTuple):
    """A state of the real game."""

    obs: np.ndarray  # uint8 (84, 84)
    reward: float  # unclipped, as is the return
    episode_return: float
    ended: bool
    emulator: dict[str, Any]  # from which the game can continue


class RealEnv:
    """One game. It is restored only when it is not already at the state to continue: that takes 0.1 s and more."""

    def __init__(self, config: Config) -> None:
        self.env = make_env(config)
        self._current: dict[str, Any] | None = None  # the state of the env of now

    def reset(self, seed: int) -> RealState:
        obs, _ = self.env.reset(seed=seed)
        return self._state(obs, 0.0, 0.0, ended=False)

    def step(self, state: RealState, action: int) -> RealState | None:
        """What `action` leads to. A game that has ended stays as it is; None where the env cannot go back to `state`."""
        if state.ended:
            return state._replace(reward=0.0)
        if state.emulator is not self._current and not self.env.load_state_dict(state.emulator):
            self._current = None
            return None
        obs, reward, terminated, truncated, _ = self.env.step(action)
        return self._state(obs, reward, state.episode_return + reward, terminated or truncated)

    def _state(self, obs: np.ndarray, reward: float, episode_return: float, ended: bool) -> RealState:
        self._current = self.env.state_dict()
        return RealState(obs, reward, episode_return, ended, self._current)
