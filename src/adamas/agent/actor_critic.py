"""The actor-critic: REINFORCE with a value baseline on rollouts, or PPO where a rollout is used more than once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamas import config
from adamas.agent.returns import lambda_returns
from adamas.config import SIZE
from adamas.data.frames import to_float, with_changes
from adamas.networks.blocks import zero
from adamas.networks.encoders import FrameEncoder
from adamas.networks.lstm import LSTM
from adamas.training.distributed import masked_mean

NONE = -1  # where there was no frame


class Hidden(NamedTuple):
    """What a policy remembers of B episodes; dimension 1 counts them."""

    h: Tensor  # float (1, B, lstm_dim)
    c: Tensor  # float (1, B, lstm_dim)
    past: Tensor  # int16 (1, B, frames - 1, H, W): the last frames, oldest first; NONE before the first one


class Rollout(NamedTuple):
    """B rollouts of T steps, imagined or real. A rollout ends where its episode does; `mask` leaves out the rest."""

    hidden: Hidden  # the policy's state before obs[:, 0]
    obs: Tensor  # uint8 (B, T+1, H, W)
    action: Tensor  # int64 (B, T)
    log_p: Tensor  # float (B, T): log-probability of each action when it was drawn
    value: Tensor  # float (B, T+1): what the critic said of each frame then
    reward: Tensor  # float32 (B, T)
    terminated: Tensor  # bool (B, T)
    truncated: Tensor  # bool (B, T)
    mask: Tensor  # bool (B, T): the step was taken

    def rows(self, index: Tensor | slice) -> Rollout:
        """Some of the B rollouts."""
        hidden = Hidden(*(h[:, index] for h in self.hidden))
        return Rollout(hidden, *(column[index] for column in self[1:]))


class Loss(NamedTuple):
    """The loss and its parts, each float ()."""

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    mean_value: Tensor
    mean_return: Tensor


class ActorCritic(nn.Module):
    """CNN, LSTM, and two heads that start at zero: a uniform policy and no expectation."""

    def __init__(self, c: config.ActorCritic, num_actions: int) -> None:
        super().__init__()
        self.config = c
        self.encoder = FrameEncoder(c.frames, c.channels, c.patch, SIZE)
        self.norm = nn.LayerNorm(self.encoder.features) if c.feature_norm else nn.Identity()
        self.lstm = LSTM(self.encoder.features, c.lstm_dim)
        self.actor = zero(nn.Linear(c.lstm_dim, num_actions))
        self.critic = zero(nn.Linear(c.lstm_dim, 1))

    @property
    def device(self) -> torch.device:
        return self.critic.weight.device

    def initial_hidden(self, batch: int) -> Hidden:
        """The state where an episode begins."""
        zeros = torch.zeros(1, batch, self.config.lstm_dim, device=self.device)
        past = torch.full((1, batch, self.config.frames - 1, SIZE, SIZE), NONE, dtype=torch.int16, device=self.device)
        return Hidden(zeros, zeros.clone(), past)

    def forward(self, obs: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor, Hidden]:
        """obs uint8 (B, T, H, W) -> action logits (B, T, A), values (B, T), the state after the last frame."""
        b, t = obs.shape[:2]
        past = torch.where(hidden.past[0] == NONE, obs[:, :1], hidden.past[0])  # before the first frame it stood still
        frames = torch.cat([past, obs], dim=1)  # (B, n-1+T, H, W)
        seen = with_changes(to_float(frames), self.config.frames)  # (B, T, n, H, W)
        features = self.norm(self.encoder(seen.flatten(0, 1)).float()).unflatten(0, (b, t))  # (B, T, features)
        with torch.autocast(obs.device.type, enabled=False):
            output, (h, c) = self.lstm(features, (hidden.h, hidden.c))
            return self.actor(output), self.critic(output)[..., 0], Hidden(h, c, frames[None, :, t:].to(torch.int16))

    def steps(self, rollout: Rollout) -> Tensor:
        """bool (B, T): which steps the loss is a mean over."""
        return rollout.mask

    def loss(self, rollout: Rollout) -> Loss:
        """The clipped surrogate of PPO (Schulman et al. 2017, equation 7) with lambda-returns, means over the steps taken.

        For weights that have not changed since the rollout, it is REINFORCE with a baseline (DIAMOND, appendix D): the
        ratio of probabilities is 1 then, and the gradient that of -log p * advantage. The policy is run again over
        the whole rollout at once, with gradients.
        """
        c, mask = self.config, self.steps(rollout)
        logits, values, _ = self(rollout.obs, rollout.hidden)
        returns = lambda_returns(
            rollout.reward, rollout.value, rollout.terminated, rollout.truncated, c.discount, c.lambda_
        )
        advantage = returns - rollout.value[:, :-1]
        if c.normalize_advantages:
            advantage = _normalized(advantage, mask)
        log_p = F.log_softmax(logits[:, :-1], dim=-1)
        ratio = (log_p.gather(-1, rollout.action[..., None])[..., 0] - rollout.log_p).exp()
        clipped = ratio.clamp(1 - c.clip, 1 + c.clip)
        policy = masked_mean(-torch.minimum(ratio * advantage, clipped * advantage), mask)
        value = masked_mean((values[:, :-1] - returns).square(), mask)
        entropy = masked_mean(-(log_p.exp() * log_p).sum(-1), mask)
        total = policy + c.value_weight * value - c.entropy_weight * entropy
        return Loss(total, policy, value, entropy, masked_mean(rollout.value[:, :-1], mask), masked_mean(returns, mask))


def _normalized(x: Tensor, mask: Tensor) -> Tensor:
    centred = x - masked_mean(x, mask)
    return centred / masked_mean(centred.square(), mask).sqrt().clamp_min(1e-3)
