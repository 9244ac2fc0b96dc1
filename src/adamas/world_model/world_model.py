"""The world model as a pure step: no object owns a rollout."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from adamas import config
from adamas.networks.lstm import State
from adamas.utils.categorical import draw
from adamas.utils.random import Random
from adamas.world_model.denoiser import Denoiser, Trace
from adamas.world_model.reward_end import ASTRAY, TERMINATED, RewardEnd


class WorldState(NamedTuple):
    """Where B dreams stand. Its shapes never change."""

    obs: Tensor  # uint8 (B, n, H, W): the last n frames, oldest first; obs[:, -1] is now
    action: Tensor  # int64 (B, n-1): what was done after each of them but the last
    hidden: State  # of the reward/end model


class Prediction(NamedTuple):
    """What an action brings."""

    obs: Tensor  # uint8 (B, H, W)
    reward: Tensor  # float32 (B,): -1, 0 or +1; 0 where the dream has gone astray
    terminated: Tensor  # bool (B,)
    truncated: Tensor  # bool (B,): the dream has gone astray with this frame


class WorldModel(nn.Module):
    """A denoiser for the frames and a reward/end model for what they mean."""

    def __init__(self, denoiser: Denoiser, reward_end: RewardEnd, sampler: config.Sampler) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.reward_end = reward_end
        self.sampler = sampler

    @torch.no_grad()
    def start(self, obs: Tensor, action: Tensor) -> WorldState:
        """The state after frames uint8 (B, n, H, W) with actions int64 (B, n-1) between them.

        The recurrent state is burnt in with the weights of now.
        """
        _, _, hidden = self.reward_end(obs[:, :-1], action, obs[:, 1:])
        return WorldState(obs, action, hidden)

    @torch.no_grad()
    def step(
        self, state: WorldState, action: Tensor, generator: Random, trace: Trace | None = None
    ) -> tuple[WorldState, Prediction]:
        """One step of B dreams with action int64 (B,). Goes on after a predicted end: mask what comes then.

        To `trace` goes how the frame came out of the noise, as in `Denoiser.sample`.
        """
        now, actions = state.obs[:, -1:], torch.cat([state.action, action[:, None]], dim=1)
        obs = self.denoiser.sample(state.obs, actions, self.sampler, generator, trace)
        rewards, ends, hidden = self.reward_end(now, action[:, None], obs[:, None], state.hidden)
        reward, end = draw(rewards[:, 0], generator), draw(ends[:, 0], generator)
        prediction = Prediction(obs, (reward.float() - 1) * (end != ASTRAY), end == TERMINATED, end == ASTRAY)
        frames = torch.cat([state.obs[:, 1:], obs[:, None]], dim=1)
        return WorldState(frames, actions[:, 1:], hidden), prediction
