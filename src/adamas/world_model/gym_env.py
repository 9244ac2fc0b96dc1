"""The world model as a Gymnasium env: the game that it imagines, to be played by any agent.

An observation is the newest frame, uint8 (84, 84); a reward is the sign of the game's, as the world model was trained. A
predicted end is `terminated`; the horizon, and a rollout that has diverged, are `truncated`. A dream begins with a context,
real play of n frames and the n-1 actions between them: drawn, or given to `reset` as `options={"context": (obs, action)}`,
uint8 (n, 84, 84) and (n-1,) in the single env, each with `num_envs` in front in the vector env.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.spaces import Box, Discrete

from adamas.config import SIZE
from adamas.data.batch import Trajectory
from adamas.envs.keys import DIGITS, keys_of_actions
from adamas.envs.screens import to_rgb
from adamas.utils.transfer import to_cpu
from adamas.world_model.parallel_rollouts import ParallelRollouts

KEYS = {
    "UP": "w",
    "DOWN": "s",
    "LEFT": "a",
    "RIGHT": "d",
    "FIRE": " ",
    **{d: d for d in DIGITS},
}  # as ale-py's own envs have them
RENDERING: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 15}


class WorldModelEnv(gymnasium.Env):
    """One dream. After its end `step` asks for a `reset`."""

    metadata: dict[str, Any] = RENDERING

    def __init__(
        self, rollouts: ParallelRollouts, action_meanings: Sequence[str], render_mode: str | None = None
    ) -> None:
        self._rollouts, self._action_meanings, self.render_mode = rollouts, list(action_meanings), render_mode
        self._running = False
        self._actions = Discrete(len(action_meanings))
        self.action_space = self._actions
        self.observation_space = frame_space()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new dream. ValueError if `options["context"]` does not have the shapes that the world model needs."""
        super().reset(seed=None if seed is None else int(seed))  # NumPy's whole numbers too
        contexts = read_contexts(options, 1, self._rollouts.starts, self._actions)
        self._rollouts.begin([0], [draw_seed(self.np_random)], contexts)
        self._running = True
        return frames(self._rollouts)[0], {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step of the dream: obs uint8 (84, 84), reward -1, 0 or 1, terminated, truncated, info {}."""
        if not self._running:
            raise ResetNeeded("the dream has not begun or has ended: call reset() before step()")
        if not self.action_space.contains(action):
            raise InvalidAction(f"action {action} is not in 0..{self._actions.n - 1}: {self._action_meanings}")
        prediction, truncated = self._rollouts.step(torch.tensor([int(action)]))
        obs, reward, ended, cut = (x[0] for x in to_cpu(*prediction[:2], prediction.terminated, truncated))
        self._running = not (ended or cut)
        return obs.numpy().copy(), float(reward), bool(ended), bool(cut), {}

    def render(self) -> np.ndarray | None:
        """The newest frame, uint8 (84, 84, 3), if `render_mode` is rgb_array."""
        return to_rgb(frames(self._rollouts)[0]) if self.render_mode else None

    def get_action_meanings(self) -> list[str]:
        """What the actions 0, 1, ... do: ["NOOP", "FIRE", "RIGHT", "LEFT"] for Breakout."""
        return list(self._action_meanings)

    def get_keys_to_action(self) -> dict[tuple[str, ...], int]:
        """The keys to hold for each action but NOOP, for `gymnasium.utils.play`: w, a, s, d, the space bar and digits."""
        named = keys_of_actions(self._action_meanings)
        held = [tuple(key for word, key in KEYS.items() if word in keys) for keys in named]
        return {keys: action for action, keys in enumerate(held) if keys}


def frame_space() -> Box:
    """The space of one frame. A new one each time, as a space has a random state of its own."""
    return Box(0, 255, (SIZE, SIZE), np.uint8)


def draw_seed(random: np.random.Generator) -> int:
    """The seed of a dream."""
    return int(random.integers(2**31))


def frames(rollouts: ParallelRollouts) -> np.ndarray:
    """The newest frames, uint8 (B, 84, 84): a copy, as the caller may keep them or write to them."""
    return rollouts.obs.cpu().numpy().copy()


def read_contexts(options: dict[str, Any] | None, count: int, like: Trajectory, actions: Discrete) -> Trajectory | None:
    """The context of `options`, checked, on the device; None where there is none."""
    if not options or options.get("context") is None:
        return None
    obs, action = (np.asarray(column) for column in options["context"])
    frames, steps = (count, *like.obs.shape[1:]), (count, *like.action.shape[1:])
    if count == 1 and obs.shape == frames[1:]:
        obs, action = obs[None], action[None]
    if obs.dtype != np.uint8 or (obs.shape, action.shape) != (frames, steps):
        raise ValueError(
            f"the context has {obs.dtype} {obs.shape} frames and {action.shape} actions, but must have uint8 {frames} and {steps}"
        )
    if not all(map(actions.contains, action.flatten().tolist())):
        raise ValueError(f"the context holds an action that is not in 0..{actions.n - 1}")
    device = like.obs.device
    return Trajectory(torch.tensor(obs, device=device), torch.tensor(action, dtype=torch.int64, device=device))
