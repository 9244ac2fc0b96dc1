"""The actor-critic: a policy and a value with one memory, and their loss on rollouts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamas import config
from adamas.agent.policy import Policy
from adamas.agent.ppo import clipped_surrogate
from adamas.agent.returns import LAMBDA, lambda_returns
from adamas.agent.rollout import Hidden, PolicyBatch, Rollout
from adamas.config import SIZE
from adamas.data.batch import masked_mean
from adamas.data.frames import to_float, with_changes
from adamas.networks.blocks import zero
from adamas.networks.encoders import FrameEncoder
from adamas.networks.lstm import LSTM
from adamas.utils.logger import Metrics
from adamas.utils.random import Random


class ActorCritic(Policy):
    """CNN, LSTM, and two heads that start at zero: a uniform policy and no expectation."""

    def __init__(self, c: config.ActorCritic, network: config.Network, num_actions: int) -> None:
        super().__init__(c.frame_stack, network.lstm_dim)
        self.config = c
        published = network.architecture == "diamond"
        self.encoder = FrameEncoder(c.frame_stack, c.channels, network.patch, SIZE, published)
        self.norm = nn.Identity() if published else nn.LayerNorm(self.encoder.features)
        self.lstm = LSTM(self.encoder.features, network.lstm_dim)
        self.actor = zero(nn.Linear(network.lstm_dim, num_actions))
        self.critic = zero(nn.Linear(network.lstm_dim, 1))

    def forward(self, obs: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor, Hidden]:
        """obs uint8 (B, T, H, W) -> action logits (B, T, A), values (B, T), the state after the last frame."""
        b, t = obs.shape[:2]
        frames = self.with_past(obs, hidden)  # (B, n-1+T, H, W)
        seen = with_changes(to_float(frames), self.frame_stack)  # (B, T, n, H, W)
        features = self.norm(self.encoder(seen.flatten(0, 1)).float()).unflatten(0, (b, t))  # (B, T, features)
        with torch.autocast(obs.device.type, enabled=False):
            output, (h, c) = self.lstm(features, (hidden.h, hidden.c))
            return self.actor(output), self.critic(output)[..., 0], Hidden(h, c, frames[None, :, t:].to(torch.int16))

    def with_targets(self, rollout: Rollout) -> PolicyBatch:
        """With lambda-returns, and their advantage over the values of then."""
        returns = lambda_returns(
            rollout.reward, rollout.value, rollout.terminated, rollout.truncated, self.config.discount, LAMBDA
        )
        return PolicyBatch(rollout, returns, returns - rollout.value[:, :-1])

    def valid_steps(self, batch: PolicyBatch) -> Tensor:
        """bool (B, T): which steps the loss is a mean over."""
        return batch.rollout.mask

    def loss(self, batch: PolicyBatch, generator: Random) -> tuple[Tensor, Metrics]:
        """Policy, value and entropy over the steps taken (DIAMOND, appendix D; PPO where `epochs` is above 1).

        The policy is run again over the whole rollout at once, with gradients.
        """
        rollout, returns, advantage = batch
        mask = rollout.mask
        logits, values, _ = self(rollout.obs, rollout.hidden)
        log_p = F.log_softmax(logits[:, :-1], dim=-1)
        taken = log_p.gather(-1, rollout.action[..., None])[..., 0]
        policy = masked_mean(clipped_surrogate(taken, rollout.log_p, advantage), mask)
        value = masked_mean((values[:, :-1] - returns).square(), mask)
        entropy = masked_mean(-(log_p.exp() * log_p).sum(-1), mask)
        metrics: Metrics = {
            "policy": policy,
            "value": value,
            "entropy": entropy,
            "mean_value": masked_mean(rollout.value[:, :-1], mask),
            "mean_return": masked_mean(returns, mask),
        }
        return policy + value - self.config.entropy_weight * entropy, metrics
