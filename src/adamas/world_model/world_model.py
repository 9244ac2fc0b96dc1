"""The world model as a pure step: no object owns a rollout."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from adamas import config
from adamas.data.batch import Trajectory
from adamas.networks.lstm import State
from adamas.utils.random import Random, categorical
from adamas.world_model.denoiser import Denoiser, Trace
from adamas.world_model.reward_end import DIVERGED, TERMINATED, RewardEnd


class WorldState(NamedTuple):
    """Where B imagined rollouts stand. Its shapes never change."""

    context: Trajectory  # the last n frames, the newest of them now, and the n-1 actions between them
    hidden: State  # of the reward/end model

    @property
    def obs(self) -> Tensor:
        """The newest frame, uint8 (B, H, W)."""
        return self.context.obs[:, -1]


class Prediction(NamedTuple):
    """What an action brings."""

    obs: Tensor  # uint8 (B, H, W)
    reward: Tensor  # float32 (B,): -1, 0 or +1; 0 where the rollout has diverged
    end: Tensor  # int64 (B,): CONTINUE, TERMINATED or DIVERGED

    @property
    def terminated(self) -> Tensor:
        """bool (B,): the episode is over."""
        return self.end == TERMINATED

    @property
    def diverged(self) -> Tensor:
        """bool (B,): this frame has lost track of what moves."""
        return self.end == DIVERGED


class WorldModel(nn.Module):
    """A denoiser for the frames and a reward/end model for what they mean."""

    def __init__(self, denoiser: Denoiser, reward_end: RewardEnd, sampler: config.Sampler) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.reward_end = reward_end
        self.sampler = sampler

    @torch.no_grad()
    def start(self, context: Trajectory) -> WorldState:
        """The state after a context of n frames. The recurrent state is burnt in with the weights of now."""
        _, _, hidden = self.reward_end(context.obs[:, :-1], context.action, context.obs[:, 1:])
        return WorldState(context, hidden)

    @torch.no_grad()
    def step(
        self, state: WorldState, action: Tensor, generator: Random, trace: Trace | None = None
    ) -> tuple[WorldState, Prediction]:
        """One step of B rollouts with action int64 (B,). Goes on after a predicted end: mask what comes then.

        To `trace` goes how the frame came out of the noise, as in `Denoiser.sample`.
        """
        frames, actions = state.context.obs, torch.cat([state.context.action, action[:, None]], dim=1)
        obs = self.denoiser.sample(frames, actions, self.sampler, generator, trace)
        rewards, ends, hidden = self.reward_end(frames[:, -1:], action[:, None], obs[:, None], state.hidden)
        reward, end = categorical(rewards[:, 0], generator), categorical(ends[:, 0], generator)
        context = Trajectory(torch.cat([frames[:, 1:], obs[:, None]], dim=1), actions[:, 1:])
        return WorldState(context, hidden), Prediction(obs, (reward.float() - 1) * (end != DIVERGED), end)
