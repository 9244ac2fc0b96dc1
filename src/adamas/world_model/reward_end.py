"""The model of reward and episode end."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamas import config
from adamas.config import SIZE
from adamas.data.batch import Segment, masked_mean
from adamas.data.frames import to_float, with_changes
from adamas.networks.blocks import zero
from adamas.networks.encoders import ConditionedEncoder
from adamas.networks.lstm import LSTM, State
from adamas.utils.logger import Metrics, Ratio
from adamas.utils.random import Random

REWARDS = 3  # classes of the reward's sign: -1, 0, +1
CONTINUE, TERMINATED, DIVERGED = 0, 1, 2  # classes of the end


class RewardEnd(nn.Module):
    """Reads transitions (frame, action, next frame) in order; predicts the reward's sign and the end of each.

    With `predict_divergence` the end has a third class: the imagined frame has lost track of what moves, so that nothing
    should be learned from it.
    """

    def __init__(self, c: config.RewardEnd, network: config.Network, num_actions: int) -> None:
        super().__init__()
        self.config, width = c, network.condition_channels // 2
        self.published = published = network.architecture == "diamond"
        self.action_embedding = nn.Embedding(num_actions, width)
        self.encoder = ConditionedEncoder(2, width, c.channels, c.depths, network.patch, SIZE, published)
        features = self.encoder.features
        self.norm = nn.Identity() if published else nn.LayerNorm(features)
        self.shortcut = None if published else nn.Linear(features, network.lstm_dim)
        self.lstm = LSTM(features if published else features + width, network.lstm_dim)
        self.ends = 3 if c.predict_divergence else 2
        logits = nn.Linear(network.lstm_dim, REWARDS + self.ends, bias=False)
        self.head = nn.Sequential(
            nn.Linear(network.lstm_dim, network.lstm_dim), nn.SiLU(), logits if published else zero(logits)
        )

    def forward(
        self, obs: Tensor, action: Tensor, next_obs: Tensor, hidden: State | None = None
    ) -> tuple[Tensor, Tensor, State]:
        """obs, next_obs uint8 (B, T, H, W), action int64 (B, T) -> reward logits (B, T, 3), end logits (B, T, ends), hidden."""
        b, t = action.shape
        condition = self.action_embedding(action.flatten())  # (B*T, D)
        pair = torch.stack([to_float(obs), to_float(next_obs)], dim=2).flatten(0, 1)  # (B*T, 2, H, W)
        pair = pair if self.published else with_changes(pair, 2)[:, 0]
        features = self.norm(self.encoder(pair, condition).float())
        with torch.autocast(features.device.type, enabled=False):
            seen = features if self.published else torch.cat([features, condition], dim=1)
            output, hidden = self.lstm(seen.unflatten(0, (b, t)), hidden)
            if self.shortcut is not None:
                output = output + self.shortcut(features).unflatten(0, (b, t))
            reward, end = self.head(output).split([REWARDS, self.ends], dim=-1)
        return reward, end, hidden

    def valid_steps(self, segment: Segment) -> Tensor:
        """bool (B, T-1): which transitions the loss is a mean over."""
        return segment.valid

    def loss(self, segment: Segment, generator: Random) -> tuple[Tensor, Metrics]:
        """Mean cross-entropy of reward and end over real transitions; and recall and precision of rewards, ends and
        divergence, which are rare.

        The reward of a step that diverges says nothing.
        """
        valid = self.valid_steps(segment)
        rewards, ends, _ = self(segment.obs[:, :-1], segment.action[:, :-1], segment.obs[:, 1:])
        diverged = segment.diverged[:, :-1] & self.config.predict_divergence
        reward = segment.reward[:, :-1].sign().long() + 1
        end = torch.where(diverged, DIVERGED, segment.terminated[:, :-1].long())
        loss = F.cross_entropy(rewards.flatten(0, 1), reward.flatten(), reduction="none") * ~diverged.flatten()
        loss = loss + F.cross_entropy(ends.flatten(0, 1), end.flatten(), reduction="none")
        tracked = valid & ~diverged
        return masked_mean(loss, valid.flatten()), {
            **_recall_and_precision("reward", rewards.argmax(-1), reward, 1, tracked),
            **_recall_and_precision("end", ends[..., :DIVERGED].argmax(-1), end, CONTINUE, tracked),
            **_recall_and_precision("diverged", ends.argmax(-1) == DIVERGED, diverged, False, valid),
        }


def _recall_and_precision(name: str, guess: Tensor, label: Tensor, common: int, mask: Tensor) -> Metrics:
    """Recall and precision of all classes but the common one, over the steps of mask."""
    actual, predicted = (label != common) & mask, (guess != common) & mask
    both = (predicted & actual & (guess == label)).sum()
    return {f"{name}_recall": Ratio(both, actual.sum()), f"{name}_precision": Ratio(both, predicted.sum())}
