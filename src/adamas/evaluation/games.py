"""Full games in the real emulator, many side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from adamas.agent.policy import Policy
from adamas.agent.rollout import Hidden
from adamas.config import Config
from adamas.envs.make import make_vector_env, most_at_once
from adamas.utils.random import Random, categorical


class Games(NamedTuple):
    """One entry a game."""

    returns: list[float]  # sums of unclipped rewards
    lengths: list[int]  # agent steps


class UniformPlay:
    """All actions alike: a policy to compare with, which acts as a Policy does."""

    device = torch.device("cpu")

    def __init__(self, num_actions: int) -> None:
        self.num_actions = num_actions

    def initial_hidden(self, count: int) -> Hidden:
        return Hidden(*[torch.empty(1, count, 0)] * 3)

    def act(self, obs: Tensor, hidden: Hidden, generator: Random) -> tuple[Tensor, None, None, Hidden]:
        return categorical(torch.zeros(len(obs), self.num_actions), generator), None, None, hidden


@torch.no_grad()
def play_games(
    policy: Policy | UniformPlay,
    config: Config,
    count: int,
    seed: int,
    each_step: Callable[[], None] = lambda: None,
) -> Games:
    """Plays `count` full games, all of Atari's at once: a lost life does not end one, at most `max_episode_steps`
    each.

    Args:
        each_step: called after each step; may raise to give up.
    """
    generator, together = torch.Generator().manual_seed(seed), Games([], [])
    while (done := len(together.returns)) < count:
        env = make_vector_env(config, most_at_once(config, count - done))
        try:
            played = _play(policy, env, generator, seed + done, each_step)
        finally:
            env.close()
        together = Games(*(a + b for a, b in zip(together, played, strict=True)))
    return together


def _play(
    policy: Policy | UniformPlay,
    env: VectorEnv,
    generator: torch.Generator,
    seed: int,
    each_step: Callable[[], None],
) -> Games:
    count, whole = env.num_envs, policy.device.type == "cuda"
    obs, _ = env.reset(seed=(seed + np.arange(count)) % 2**31)
    hidden = policy.initial_hidden(count)
    returns, lengths = np.zeros(count), np.zeros(count, dtype=int)
    looked_at = np.arange(count)  # by the policy: the games that go on; on a GPU all, whose number never changes
    playing = np.ones(count, dtype=bool)
    while playing.any():
        drawn, _, _, hidden = policy.act(torch.from_numpy(obs[looked_at, 0]), hidden, generator)
        action = np.zeros(count, dtype=np.int64)
        action[looked_at] = drawn.numpy()
        obs, reward, terminated, truncated, _ = env.step(action)
        returns[playing] += reward[playing]
        lengths[playing] += 1
        playing &= ~(terminated | truncated)
        if not whole:
            goes_on = playing[looked_at]
            hidden = Hidden(*(h[:, torch.from_numpy(goes_on)] for h in hidden))
            looked_at = looked_at[goes_on]
        each_step()
    return Games(returns.tolist(), lengths.tolist())
