"""The values of actions: a network that plays greedily, and its loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamas import config
from adamas.agent.policy import Policy
from adamas.agent.q_learning import QBatch, shifted_by
from adamas.agent.rollout import Hidden
from adamas.data.batch import masked_mean
from adamas.data.frames import to_float, with_changes
from adamas.networks.blocks import dropout, zero
from adamas.networks.encoders import NatureEncoder
from adamas.utils.logger import Metrics
from adamas.utils.random import Random, normal

FRAME_STACK = 4  # newest frames that it sees (Mnih et al. 2015)
EPSILON = 0.01  # chance of a uniformly random action: a greedy game can stand still for good
RANDOM_STEPS = 5_000  # agent steps over which the chance of a random action falls linearly from 1 to EPSILON
REPETITION = 0.95  # chance of the last action again, from then on until the first reward (after Dabney et al. 2021)
DROPOUT = 0.5  # share of the features that is dropped in training; the heads are linear, so the mean of a value stays
DROPOUT_RISES = 50_000  # optimizer steps over which it rises linearly from 0, as steps are drawn again and again
SHIFTS = ((0, 0), (-2, -2), (-2, 2), (2, -2), (2, 2))  # shifts, rows and columns, by whose mean value it plays
INTENSITY = 0.05  # deviation of the random factor of the brightness in training (Kostrikov et al. 2021)


def dropout_rate(steps: int) -> float:
    """Share of the features that is dropped, after so many optimizer steps."""
    return DROPOUT * min(1.0, steps / DROPOUT_RISES)


class QNetwork(Policy):
    """CNN and two linear heads that start at zero, for a state's value and for how much better an action is (Wang et al. 2016).

    Its policy is epsilon-greedy, and uniform where all actions are worth the same, as at the start. Its recurrent state
    is not used: it remembers the last frames.
    """

    def __init__(self, network: config.Network, num_actions: int) -> None:
        super().__init__(FRAME_STACK, network.lstm_dim)
        self.num_actions = num_actions
        self.encoder = NatureEncoder(FRAME_STACK)
        self.value = zero(nn.Linear(self.encoder.features, 1))
        self.advantage = zero(nn.Linear(self.encoder.features, num_actions))

    def exploration(self, steps: int) -> float:
        return max(0.0, 1 - steps / RANDOM_STEPS)  # `forward` adds EPSILON

    def repetition(self, steps: int) -> float:
        return REPETITION if steps >= RANDOM_STEPS else 0.0

    def values(self, frames: Tensor) -> Tensor:
        """uint8 or int16 (B, n, H, W), grey levels, oldest first -> Q of each action, float (B, A)."""
        return self._values(self._features(self.seen(frames)))

    def mean_values(self, frames: Tensor) -> Tensor:
        """The same, as the mean of SHIFTS. It learns from shifted frames, and yet much of what tells two actions apart is noise that
        depends on the shift. (Kostrikov et al. 2021 average such values in training.)"""
        shifted = shifted_by(frames, SHIFTS)  # (B, S, n, H, W)
        return self.values(shifted.flatten(0, 1)).reshape(len(frames), len(SHIFTS), -1).mean(1)

    @staticmethod
    def seen(frames: Tensor) -> Tensor:
        """uint8 or int16 (B, n, H, W) -> float of the same shape: the newest frame in [-1, 1], and the changes that led to it."""
        return with_changes(to_float(frames), FRAME_STACK)[:, 0]

    def _features(self, seen: Tensor) -> Tensor:
        return self.encoder(seen).float()

    def _values(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):  # actions differ by less than bfloat16 tells apart
            value, advantage = self.value(features), self.advantage(features)
        return value + advantage - advantage.mean(-1, keepdim=True)

    def forward(self, obs: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor, Hidden]:
        b, t = obs.shape[:2]
        frames = self.with_past(obs, hidden)
        stacks = frames.unfold(1, self.frame_stack, 1).movedim(-1, 2)  # (B, T, n, H, W)
        q = self.mean_values(stacks.flatten(0, 1)).reshape(b, t, -1)  # (B, T, A)
        best = q.amax(-1, keepdim=True)
        greedy = (q == best).float()
        chances = (1 - EPSILON) * greedy / greedy.sum(-1, keepdim=True) + EPSILON / self.num_actions
        return chances.log(), best[..., 0], Hidden(hidden.h, hidden.c, frames[None, :, t:].to(torch.int16))

    def valid_steps(self, batch: QBatch) -> Tensor:
        """bool (B,): which steps the loss is a mean over."""
        return batch.mask

    def loss(self, batch: QBatch, generator: Random) -> tuple[Tensor, Metrics]:
        """The Huber loss of the values of the actions that were taken (Mnih et al. 2015), with dropout: a return of n steps is
        mostly luck, which the network would otherwise learn by heart."""
        bright = 1 + INTENSITY * normal((len(batch.obs), 1, 1, 1), generator).clamp(-2, 2)
        seen = self.seen(batch.obs).mul_(bright)
        seen[:, :1] += bright - 1  # as if grey levels from 0 on had been multiplied
        q = self._values(dropout(self._features(seen), batch.dropout[:, None], generator))
        taken = q.gather(-1, batch.action[:, None])[:, 0]
        loss = masked_mean(F.smooth_l1_loss(taken, batch.target, reduction="none"), batch.mask)
        return loss, {"mean_q": masked_mean(taken, batch.mask), "mean_target": masked_mean(batch.target, batch.mask)}
