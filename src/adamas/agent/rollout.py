"""Rollouts, and what an actor-critic learns from them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from adamas.agent.ppo import normalized

NO_FRAME = -1  # in place of the grey levels of a frame before the first one


class Hidden(NamedTuple):
    """What a policy remembers of B episodes; dimension 1 counts them."""

    h: Tensor  # float (1, B, lstm_dim)
    c: Tensor  # float (1, B, lstm_dim)
    past: Tensor  # int16 (1, B, frame_stack - 1, H, W): the last frames, oldest first; NO_FRAME before the first one


class Rollout(NamedTuple):
    """B rollouts of T steps, as they were played. A rollout ends where its episode does; `mask` leaves out the rest."""

    hidden: Hidden  # the policy's state before obs[:, 0]
    obs: Tensor  # uint8 (B, T+1, H, W)
    action: Tensor  # int64 (B, T)
    log_p: Tensor  # float (B, T): log-probability of each action when it was drawn
    value: Tensor  # float (B, T+1): the policy's value of each frame when it acted
    reward: Tensor  # float32 (B, T)
    terminated: Tensor  # bool (B, T)
    truncated: Tensor  # bool (B, T)
    mask: Tensor  # bool (B, T): the step was taken

    def rows(self, index: Tensor | slice) -> Rollout:
        """Some of the B rollouts."""
        hidden = Hidden(*(h[:, index] for h in self.hidden))
        return Rollout(hidden, *(column[index] for column in self[1:]))


class PolicyBatch(NamedTuple):
    """Rollouts and what a policy learns from them."""

    rollout: Rollout
    returns: Tensor  # float (B, T): what the value is to become
    advantage: Tensor  # float (B, T): how much better an action was than expected, in units of the loss

    @property
    def obs(self) -> Tensor:
        return self.rollout.obs

    def rows(self, index: Tensor | slice) -> PolicyBatch:
        """Some of the B rollouts."""
        return PolicyBatch(self.rollout.rows(index), self.returns[index], self.advantage[index])

    def normalized(self) -> PolicyBatch:
        """With advantages as PPO scales them, over this batch."""
        return self._replace(advantage=normalized(self.advantage, self.rollout.mask))


def joined(rollouts: list[Rollout]) -> Rollout:
    """All of them in one batch."""
    if len(rollouts) == 1:
        return rollouts[0]
    hidden = Hidden(*(torch.cat(h, dim=1) for h in zip(*(rollout.hidden for rollout in rollouts), strict=True)))
    return Rollout(hidden, *(torch.cat(column) for column in zip(*(rollout[1:] for rollout in rollouts), strict=True)))
