"""The world model as a Gymnasium vector env: `adamas.world_model.gym_env` many times, in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.spaces import Discrete
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from adamas.data.batch import Trajectory
from adamas.envs.screens import to_rgb
from adamas.utils.transfer import to_cpu
from adamas.world_model.gym_env import RENDERING, draw_seed, frame_space, frames, read_contexts
from adamas.world_model.parallel_rollouts import ParallelRollouts


class WorldModelVectorEnv(VectorEnv):
    """Dreams side by side, all in one batch. One that ends begins anew in the same step, so that no step is idle; its
    last frame is in `infos["final_obs"]`."""

    metadata = RENDERING | {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self, num_envs: int, rollouts: ParallelRollouts, action_meanings: Sequence[str], render_mode: str | None = None
    ) -> None:
        self._rollouts, self._action_meanings, self.render_mode = rollouts, list(action_meanings), render_mode
        self._randoms = [np_random()[0] for _ in range(num_envs)]
        self.num_envs, self._begun = num_envs, False
        self._actions = Discrete(len(action_meanings))
        self.single_action_space, self.single_observation_space = self._actions, frame_space()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """New dreams. Env i with seed s is the single env with seed s + i, up to what the batch size does to rounding."""
        seeds = (
            [int(seed) + i for i in range(self.num_envs)]
            if isinstance(seed, (int, np.integer))
            else [None] * self.num_envs
            if seed is None
            else list(seed)
        )
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} envs: give one number, or one an env")
        for i, each in enumerate(seeds):
            self._randoms[i] = self._randoms[i] if each is None else np_random(int(each))[0]
        contexts = read_contexts(options, self.num_envs, self._rollouts.starts, self._actions)
        self._begin(range(self.num_envs), contexts)
        self._begun = True
        return frames(self._rollouts), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """obs uint8 (num_envs, 84, 84), reward float64, terminated, truncated (num_envs,), infos."""
        if not self._begun:
            raise ResetNeeded("the dreams have not begun: call reset() before step()")
        actions = np.asarray(actions)
        if actions.dtype.kind not in "iu" or not self.action_space.contains(actions := actions.astype(np.int64)):
            raise InvalidAction(f"actions {actions} are not {self.num_envs} numbers in 0..{self._actions.n - 1}")
        prediction, cut = self._rollouts.step(torch.from_numpy(actions))
        brought = to_cpu(prediction.obs, prediction.reward, prediction.terminated, cut)
        obs, reward, terminated, truncated = (x.numpy().copy() for x in brought)
        infos: dict[str, Any] = {}
        if (ended := np.flatnonzero(terminated | truncated)).size:
            for i in ended:
                infos = self._add_info(infos, {"final_obs": obs[i], "final_info": {}}, int(i))
            self._begin(ended.tolist())
            obs = frames(self._rollouts)
        return obs, reward.astype(np.float64), terminated, truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The newest frame of each env, uint8 (84, 84, 3), if `render_mode` is rgb_array."""
        return tuple(map(to_rgb, frames(self._rollouts))) if self.render_mode else None

    def get_action_meanings(self) -> list[str]:
        """What the actions 0, 1, ... do."""
        return list(self._action_meanings)

    def _begin(self, indices: Sequence[int], contexts: Trajectory | None = None) -> None:
        self._rollouts.begin(indices, [draw_seed(self._randoms[i]) for i in indices], contexts)
