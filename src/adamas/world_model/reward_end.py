"""The model of reward and episode end."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamas import config
from adamas.config import SIZE
from adamas.data.batch import Segment
from adamas.data.frames import to_float, with_changes
from adamas.networks.blocks import zero
from adamas.networks.encoders import ConditionedEncoder
from adamas.networks.lstm import LSTM, State
from adamas.training.distributed import masked_mean

REWARDS = 3  # classes of the reward's sign: -1, 0, +1
TERMINATED, ASTRAY = 1, 2  # classes of the end, beside 0: the episode goes on, and so does the dream


class Counts(NamedTuple):
    """How often a step something rare was there, was predicted, and both; each float ()."""

    actual: Tensor
    predicted: Tensor
    both: Tensor


class RewardEnd(nn.Module):
    """Reads transitions (frame, action, next frame) in order; predicts the reward's sign and the end of each.

    If it learns from dreams where they go astray, the end has a third class: what a dream shows from here on is not what
    would happen, so that nothing should be learned from it.
    """

    def __init__(self, c: config.RewardEnd, num_actions: int) -> None:
        super().__init__()
        self.config = c
        self.action_embedding = nn.Embedding(num_actions, c.condition_channels)
        self.encoder = ConditionedEncoder(2, c.condition_channels, c.channels, c.depths, c.attention, c.patch, SIZE)
        self.norm = nn.LayerNorm(self.encoder.features) if c.shortcut else nn.Identity()
        self.shortcut = nn.Linear(self.encoder.features, c.lstm_dim) if c.shortcut else None
        self.lstm = LSTM(self.encoder.features + c.condition_channels, c.lstm_dim)
        self.ends = 3 if c.astray else 2
        self.head = nn.Sequential(
            nn.Linear(c.lstm_dim, c.lstm_dim), nn.SiLU(), zero(nn.Linear(c.lstm_dim, REWARDS + self.ends, bias=False))
        )

    def forward(
        self, obs: Tensor, action: Tensor, next_obs: Tensor, hidden: State | None = None
    ) -> tuple[Tensor, Tensor, State]:
        """obs, next_obs uint8 (B, T, H, W), action int64 (B, T) -> reward logits (B, T, 3), end logits (B, T, ends), hidden."""
        b, t = action.shape
        condition = self.action_embedding(action.flatten())  # (B*T, D)
        pair = torch.stack([to_float(obs), to_float(next_obs)], dim=2).flatten(0, 1)  # (B*T, 2, H, W)
        pair = with_changes(pair, 2)[:, 0] if self.config.input == "changes" else pair
        features = self.norm(self.encoder(pair, condition).float())
        with torch.autocast(features.device.type, enabled=False):
            output, hidden = self.lstm(torch.cat([features, condition], dim=1).unflatten(0, (b, t)), hidden)
            if self.shortcut:
                output = output + self.shortcut(features).unflatten(0, (b, t))
            reward, end = self.head(output).split([REWARDS, self.ends], dim=-1)
        return reward, end, hidden

    def steps(self, segment: Segment) -> Tensor:
        """bool (B, T-1): which steps the loss is a mean over."""
        return segment.known

    def loss(self, segment: Segment) -> tuple[Tensor, Counts, Counts, Counts]:
        """Mean cross-entropy of reward and end over real transitions; and counts of rewards, ends and steps that lead astray.

        A step that is truncated leads astray, and its reward says nothing.
        """
        known = self.steps(segment)
        reward_logits, end_logits, _ = self(segment.obs[:, :-1], segment.action[:, :-1], segment.obs[:, 1:])
        reward = segment.reward[:, :-1].sign().long() + 1
        astray = segment.truncated[:, :-1] & self.config.astray
        end = torch.where(astray, ASTRAY, segment.terminated[:, :-1].long())
        entropies = F.cross_entropy(reward_logits.flatten(0, 1), reward.flatten(), reduction="none") * ~astray.flatten()
        entropies = entropies + F.cross_entropy(end_logits.flatten(0, 1), end.flatten(), reduction="none")
        loss, told = masked_mean(entropies, known.flatten()), known & ~astray
        return (
            loss,
            _count(reward_logits.argmax(-1), reward, 1, told, known),
            _count(end_logits[..., :ASTRAY].argmax(-1), end, 0, told, known),
            _count(end_logits.argmax(-1) == ASTRAY, astray, False, known, known),
        )


def _count(guess: Tensor, label: Tensor, common: int, told: Tensor, known: Tensor) -> Counts:
    actual, predicted = (label != common) & told, (guess != common) & told
    return Counts(*(masked_mean(x.float(), known) for x in (actual, predicted, predicted & actual & (guess == label))))
