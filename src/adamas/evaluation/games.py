"""Full games in the real emulator, many side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from adamas.agent.actor_critic import ActorCritic, Hidden
from adamas.config import Atari
from adamas.envs.atari import make_vector_env
from adamas.utils.categorical import draw


class Games(NamedTuple):
    """One entry a game."""

    returns: list[float]  # sums of unclipped rewards
    lengths: list[int]  # agent steps


class UniformPlay:
    """All actions alike: a policy to compare with, called as an ActorCritic is."""

    device = torch.device("cpu")

    def __init__(self, num_actions: int) -> None:
        self.num_actions = num_actions

    def initial_hidden(self, count: int) -> Hidden:
        return Hidden(*[torch.empty(1, count, 0)] * 3)

    def __call__(self, obs: Tensor, hidden: Hidden) -> tuple[Tensor, None, Hidden]:
        return torch.zeros(len(obs), 1, self.num_actions), None, hidden


@torch.no_grad()
def play_games(
    policy: ActorCritic | UniformPlay,
    game: str,
    count: int,
    atari: Atari,
    seed: int,
    each_step: Callable[[], None] = lambda: None,
) -> Games:
    """Plays `count` full games at once: a lost life does not end one, no epsilon, at most `max_episode_steps` each.

    Args:
        each_step: called after each step; may raise to give up.
    """
    env, generator = make_vector_env(game, count, atari), torch.Generator().manual_seed(seed)
    try:
        return _play(policy, env, generator, seed, each_step)
    finally:
        env.close()


def _play(
    policy: ActorCritic | UniformPlay,
    env: VectorEnv,
    generator: torch.Generator,
    seed: int,
    each_step: Callable[[], None],
) -> Games:
    count = env.num_envs
    obs, _ = env.reset(seed=seed)
    hidden = policy.initial_hidden(count)
    returns, lengths = np.zeros(count), np.zeros(count, dtype=int)
    playing = np.arange(count)  # games that go on; the policy looks at these only
    while len(playing):
        logits, _, hidden = policy(torch.from_numpy(obs[playing]).to(policy.device), hidden)
        action = np.zeros(count, dtype=np.int64)
        action[playing] = draw(logits[:, 0].cpu(), generator).numpy()
        obs, reward, terminated, truncated, _ = env.step(action)
        returns[playing] += reward[playing]
        lengths[playing] += 1
        goes_on = ~(terminated | truncated)[playing]
        hidden = Hidden(*(h[:, torch.from_numpy(goes_on).to(h.device)] for h in hidden))
        playing = playing[goes_on]
        each_step()
    return Games(returns.tolist(), lengths.tolist())
