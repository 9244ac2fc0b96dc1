"""Games of other packages that need a few lines before `adamas train` can play them: env=other_games:MinAtar/Breakout-v1."""

from __future__ import annotations

import contextlib
from typing import ClassVar

import gymnasium
import numpy as np

with contextlib.suppress(ImportError):  # MinAtar registers its envs when it is asked to
    from minatar.gym import register_envs

    register_envs()


class Crafter(gymnasium.Env):
    """crafter.Env, which has the interface of the old package gym."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode=None):
        import crafter

        self._make = lambda seed: crafter.Env(area=(64, 64), size=(84, 84), length=10_000, seed=seed)
        self._env = self._make(0)
        self.render_mode = render_mode
        self.action_space = gymnasium.spaces.Discrete(self._env.action_space.n)
        self.observation_space = gymnasium.spaces.Box(0, 255, (84, 84, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._env = self._make(int(self.np_random.integers(2**31)))
        return self._env.reset(), {}

    def step(self, action):
        obs, reward, done, info = self._env.step(action)
        dead = done and info["discount"] == 0
        return obs, reward, dead, done and not dead, {}

    def render(self):
        return self._env.render()

    def get_action_meanings(self):
        return self._env.action_names


gymnasium.register("Crafter-v0", entry_point=Crafter)
