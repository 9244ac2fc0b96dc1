"""The actor-critic: REINFORCE with a value baseline on rollouts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamas import config
from adamas.agent.returns import lambda_returns
from adamas.config import SIZE
from adamas.frames import to_float
from adamas.networks.blocks import zero
from adamas.networks.encoders import FrameEncoder

Hidden = tuple[Tensor, Tensor]  # an LSTM's state, each float (1, B, lstm_dim)


class Rollout(NamedTuple):
    """B rollouts of T steps, imagined or real. A rollout ends where its episode does; `mask` leaves out the rest."""

    hidden: Hidden  # the policy's state before obs[:, 0]
    obs: Tensor  # uint8 (B, T+1, H, W)
    action: Tensor  # int64 (B, T)
    reward: Tensor  # float32 (B, T)
    terminated: Tensor  # bool (B, T)
    truncated: Tensor  # bool (B, T)
    mask: Tensor  # bool (B, T): the step was taken


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
        self.encoder = FrameEncoder(c.channels, c.patch, SIZE)
        self.lstm = nn.LSTM(self.encoder.features, c.lstm_dim, batch_first=True)
        self.actor = zero(nn.Linear(c.lstm_dim, num_actions))
        self.critic = zero(nn.Linear(c.lstm_dim, 1))

    @property
    def device(self) -> torch.device:
        return self.critic.weight.device

    def initial_hidden(self, batch: int) -> Hidden:
        """The state where an episode begins."""
        zeros = torch.zeros(1, batch, self.config.lstm_dim, device=self.device)
        return zeros, zeros.clone()

    def forward(self, obs: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor, Hidden]:
        """obs uint8 (B, T, H, W) -> action logits (B, T, A), values (B, T), the state after the last frame."""
        b, t = obs.shape[:2]
        frames = to_float(obs.flatten(0, 1))[:, None].contiguous(memory_format=torch.channels_last)
        features = self.encoder(frames).float().unflatten(0, (b, t))  # (B, T, features)
        with torch.autocast(obs.device.type, enabled=False):
            output, hidden = self.lstm(features, hidden)
            return self.actor(output), self.critic(output)[..., 0], hidden

    def loss(self, rollout: Rollout) -> Loss:
        """REINFORCE with lambda-returns (DIAMOND, appendix D), means over the steps that were taken.

        The policy is run again over the whole rollout at once: the same numbers as when it acted, with gradients.
        """
        c, mask = self.config, rollout.mask
        logits, values, _ = self(rollout.obs, rollout.hidden)
        baseline = values.detach()
        returns = lambda_returns(rollout.reward, baseline, rollout.terminated, rollout.truncated, c.discount, c.lambda_)
        log_p = F.log_softmax(logits[:, :-1], dim=-1)
        log_p_taken = log_p.gather(-1, rollout.action[..., None])[..., 0]
        policy = _masked_mean(-log_p_taken * (returns - baseline[:, :-1]), mask)
        value = _masked_mean((values[:, :-1] - returns).square(), mask)
        entropy = _masked_mean(-(log_p.exp() * log_p).sum(-1), mask)
        total = policy + c.value_weight * value - c.entropy_weight * entropy
        return Loss(total, policy, value, entropy, _masked_mean(baseline[:, :-1], mask), _masked_mean(returns, mask))


def _masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp_min(1)
