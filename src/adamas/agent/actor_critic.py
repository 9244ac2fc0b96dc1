"""The actor-critic: a policy and a value with one memory, and their loss on rollouts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamas import config
from adamas.agent.ppo import clipped_surrogate
from adamas.agent.returns import LAMBDA, lambda_returns
from adamas.agent.rollout import NO_FRAME, Hidden, PolicyBatch, Rollout
from adamas.config import SIZE
from adamas.data.batch import masked_mean
from adamas.data.frames import to_float, with_changes
from adamas.networks.blocks import zero
from adamas.networks.encoders import FrameEncoder
from adamas.networks.lstm import LSTM
from adamas.utils.logger import Metrics
from adamas.utils.random import Random, categorical
from adamas.utils.transfer import to_device


class ActorCritic(nn.Module):
    """CNN, LSTM, and two heads that start at zero: a uniform policy and no expectation."""

    def __init__(self, c: config.ActorCritic, network: config.Network, num_actions: int) -> None:
        super().__init__()
        self.config = c
        published = network.architecture == "diamond"
        self.encoder = FrameEncoder(c.frame_stack, c.channels, network.patch, SIZE, published)
        self.norm = nn.Identity() if published else nn.LayerNorm(self.encoder.features)
        self.lstm = LSTM(self.encoder.features, network.lstm_dim)
        self.actor = zero(nn.Linear(network.lstm_dim, num_actions))
        self.critic = zero(nn.Linear(network.lstm_dim, 1))

    @property
    def device(self) -> torch.device:
        return self.critic.weight.device

    def initial_hidden(self, batch: int) -> Hidden:
        """The state where an episode begins."""
        zeros = torch.zeros(1, batch, self.lstm.hidden_size, device=self.device)
        shape = (1, batch, self.config.frame_stack - 1, SIZE, SIZE)
        return Hidden(zeros, zeros.clone(), torch.full(shape, NO_FRAME, dtype=torch.int16, device=self.device))

    def forward(self, obs: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor, Hidden]:
        """obs uint8 (B, T, H, W) -> action logits (B, T, A), values (B, T), the state after the last frame."""
        b, t = obs.shape[:2]
        past = torch.where(hidden.past[0] == NO_FRAME, obs[:, :1], hidden.past[0])  # as if the first frame stood still
        frames = torch.cat([past, obs], dim=1)  # (B, n-1+T, H, W)
        seen = with_changes(to_float(frames), self.config.frame_stack)  # (B, T, n, H, W)
        features = self.norm(self.encoder(seen.flatten(0, 1)).float()).unflatten(0, (b, t))  # (B, T, features)
        with torch.autocast(obs.device.type, enabled=False):
            output, (h, c) = self.lstm(features, (hidden.h, hidden.c))
            return self.actor(output), self.critic(output)[..., 0], Hidden(h, c, frames[None, :, t:].to(torch.int16))

    @torch.no_grad()
    def act(self, obs: Tensor, hidden: Hidden, generator: Random) -> tuple[Tensor, Tensor, Tensor, Hidden]:
        """obs uint8 (B, H, W) -> an action int64 (B,) on the generator's device, its log-probability and the value of obs,
        float (B,), and the next state."""
        logits, value, hidden = self(to_device(obs[:, None], self.device), hidden)
        at = generator.device if isinstance(generator, torch.Generator) else generator[0].device
        action = categorical(logits[:, 0].to(at), generator)
        log_p = F.log_softmax(logits[:, 0], dim=-1).gather(-1, to_device(action, self.device)[:, None])
        return action, log_p[:, 0], value[:, 0], hidden

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
