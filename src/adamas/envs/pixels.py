"""Any other env of Gymnasium that shows pixels. The only file of the package that makes such envs."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import VectorEnv

from adamas.config import SIZE
from adamas.data.frames import to_frame
from adamas.envs.actions import read_actions
from adamas.envs.registered import make_registered
from adamas.envs.screens import holds_pictures, is_picture, to_rgb, to_screen
from adamas.utils.errors import UserError

TRIED = 100  # random steps of which two envs must make the same, to count as deterministic
AT_ONCE = 8  # envs that play full games side by side: some take a process and much memory each


class RegisteredEnv(gymnasium.Env):
    """The env `env_id` of Gymnasium's registry at 84x84 grey. One of its steps is an agent step, rewards as they are.

    A frame is the observation where that is a picture, else what `render_mode="rgb_array"` draws. An episode is a game; step
    number `max_episode_steps` truncates it, or the env's own limit. Every game has its own seed, drawn from `np_random`.

    Raises:
        UserError: there is no such env, or it has no pixels or no finite number of actions.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(
        self, env_id: str, kwargs: Mapping[str, Any], max_episode_steps: int, render_mode: str | None = None
    ) -> None:
        self.env_id, self.kwargs, self.max_episode_steps = env_id, dict(kwargs), max_episode_steps
        self.render_mode = render_mode
        self._env = make_registered(env_id, kwargs)
        self._actions = read_actions(self._env)
        self._observes = holds_pictures(self._env.observation_space)
        self._screen = np.zeros((SIZE, SIZE), np.uint8)
        self._game_seed, self._played = 0, bytearray()  # the actions of this game
        self._running = False
        self.action_meanings = self._actions.meanings
        self.action_space = Discrete(len(self.action_meanings))
        self.observation_space = Box(0, 255, (SIZE, SIZE), np.uint8)

    @property
    def deterministic(self) -> bool:
        """Found out once in a process, by playing."""
        return is_deterministic(self.env_id, as_json(self.kwargs))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new game. `options` are not used. Returns obs, uint8 (84, 84), and info {}."""
        super().reset(seed=seed)
        self._start(int(self.np_random.integers(2**31)))
        return self._frame(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One agent step: obs uint8 (84, 84), reward, terminated, truncated, info {"game_over": bool}."""
        if not self._running:
            raise ResetNeeded("the episode has not started or has ended: call reset() before step()")
        if not self.action_space.contains(action):
            raise InvalidAction(f"action {action} is not in 0..{len(self.action_meanings) - 1}")
        reward, terminated, truncated = self._play(int(action))
        truncated |= not terminated and len(self._played) >= self.max_episode_steps
        self._running = not (terminated or truncated)
        return self._frame(), reward, terminated, truncated, {"game_over": terminated}

    def render(self) -> np.ndarray | None:
        """What the frame was made of, uint8 (height, width, 3), if `render_mode` is rgb_array."""
        return to_rgb(self._screen) if self.render_mode else None

    def close(self) -> None:
        self._env.close()

    def _start(self, seed: int) -> None:
        self._game_seed, self._played, self._running = seed, bytearray(), True
        obs, _ = self._env.reset(seed=seed)
        self._screen = self._look(obs)

    def _play(self, action: int) -> tuple[float, bool, bool]:
        self._played.append(action)
        obs, reward, terminated, truncated, _ = self._env.step(self._actions.of_env(action))
        self._screen = self._look(obs)
        if not math.isfinite(reward):
            raise UserError(f"env={self.env_id} gave the reward {reward}: rewards must be finite numbers")
        return float(reward), bool(terminated), bool(truncated)

    def _look(self, obs: Any) -> np.ndarray:
        picture = np.asarray(obs if self._observes else self._env.render())
        if not is_picture(picture):
            raise UserError(
                f"env={self.env_id} shows {picture.dtype} {picture.shape}: a picture is needed, uint8 or floats in 0..1, (height, width, 3)"
            )
        return to_screen(picture)

    def _frame(self) -> np.ndarray:
        return to_frame(self._screen)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors from which `load_state_dict` of another env goes on exactly as this one does, where the env
        is deterministic."""
        return {
            "env": self.env_id,
            "env_kwargs": as_json(self.kwargs),
            "deterministic": self.deterministic,
            "seed": self._game_seed,
            "actions": torch.tensor(list(self._played), dtype=torch.uint8),
            "frame": torch.from_numpy(self._frame()),
            "running": self._running,
            "np_random": self.np_random.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Plays the game of `state` again up to where it was saved. False where it plays differently now."""
        for name, ours in (("env", self.env_id), ("env_kwargs", as_json(self.kwargs))):
            if state[name] != ours:
                raise UserError(f"the saved game has {name}={state[name]}, this run {name}={ours}: make them the same")
        self.np_random.bit_generator.state = state["np_random"]
        if not state["deterministic"]:
            return False
        self._start(state["seed"])
        for action in state["actions"].tolist():
            if not self._running:  # it ended earlier
                return False
            _, terminated, truncated = self._play(action)
            self._running = not (terminated or truncated)
        self._running = state["running"]
        return np.array_equal(self._frame(), state["frame"].numpy())


class SideBySide(VectorEnv):
    """Full games of several envs, as ale-py's vector env has them; obs uint8 (num_envs, 1, 84, 84). What has ended stays as it is:
    its action and reward (0) mean nothing."""

    def __init__(self, envs: list[RegisteredEnv]) -> None:
        self.envs, self.num_envs = envs, len(envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """New games; those of `seed`, one an env, or if it is a number of `seed`, `seed` + 1, ..."""
        given = (
            [None] * self.num_envs if seed is None else np.arange(self.num_envs) + seed if np.ndim(seed) == 0 else seed
        )
        seeds = [None if one is None else int(one) for one in given]
        self._obs = np.stack([env.reset(seed=one)[0] for env, one in zip(self.envs, seeds, strict=True)])[:, None]
        self._over = np.zeros(self.num_envs, dtype=bool)
        return self._obs.copy(), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        reward = np.zeros(self.num_envs)
        terminated, truncated = np.zeros((2, self.num_envs), dtype=bool)
        for i in np.flatnonzero(~self._over):
            self._obs[i, 0], reward[i], terminated[i], truncated[i], _ = self.envs[i].step(int(actions[i]))
        self._over |= terminated | truncated
        return self._obs.copy(), reward, terminated, truncated, {}

    def close_extras(self, **kwargs: Any) -> None:
        for env in self.envs:
            env.close()


@functools.cache
def is_deterministic(env_id: str, kwargs: str) -> bool:
    """Whether a game plays alike in a new env and in one that has played another game before. `kwargs` is JSON."""
    one, other = (RegisteredEnv(env_id, json.loads(kwargs), TRIED) for _ in range(2))
    try:
        other.reset(seed=1)
        for action in _random_actions(other, seed=1)[: TRIED // 4]:
            if other._running:
                other.step(action)
        return _seen(one) == _seen(other)
    finally:
        one.close()
        other.close()


def _seen(env: RegisteredEnv) -> list[Any]:
    """All that an agent sees of TRIED random steps."""
    seen: list[Any] = [env.reset(seed=0)[0].tobytes()]
    for action in _random_actions(env, seed=0):
        if not env._running:
            seen.append(env.reset()[0].tobytes())
        obs, *outcome = env.step(action)
        seen.append((obs.tobytes(), *outcome))
    return seen


def _random_actions(env: RegisteredEnv, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(len(env.action_meanings), size=TRIED).tolist()


def as_json(kwargs: Mapping[str, Any]) -> str:
    return json.dumps(kwargs, sort_keys=True)
