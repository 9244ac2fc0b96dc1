"""The imagined rollouts that a Q-network learns from, beside the replay of the real game (Dyna: Sutton 1991)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from adamas.agent.policy import Policy
from adamas.agent.rollout import Rollout
from adamas.data.batch import Segment, frames_at

BATCHES = 8  # of rollouts that are kept


class ImaginedSteps(NamedTuple):
    """B imagined rollouts of T steps. A rollout ends where `mask` does."""

    obs: Tensor  # uint8 (B, k-1 + T+1, H, W): k-1 frames before the rollout, then its own, whose first stands for missing ones
    action: Tensor  # int64 (B, T)
    reward: Tensor  # float32 (B, T)
    terminated: Tensor  # bool (B, T)
    mask: Tensor  # bool (B, T): the step was taken

    @classmethod
    def of(cls, rollout: Rollout) -> ImaginedSteps:
        """What is needed of rollouts."""
        obs = Policy.with_past(rollout.obs, rollout.hidden).to(torch.uint8)
        return cls(obs, rollout.action, rollout.reward, rollout.terminated, rollout.mask)

    def segments(self, row: Tensor, step: Tensor, n: int) -> Segment:
        """The frames around some steps, k-1 before each and n after it, for `transitions`.

        Args:
            row, step: int64 (N,); `mask` must be true there.
        """
        horizon = self.mask.shape[1]
        frames, past = self.obs.shape[1], self.obs.shape[1] - horizon - 1
        length = self.mask.long().sum(1)[row, None]  # steps that were taken, one after the other
        index = step[:, None] + torch.arange(-past, n + 1, device=step.device)  # of frames, and of steps from them
        taken = (index >= 0) & (index < length)

        def column(x: Tensor) -> Tensor:
            return torch.where(taken, x[row[:, None], index.clamp(0, horizon - 1)], 0)

        at = row[:, None] * frames + index.clamp(max=horizon) + past
        return Segment(
            frames_at(self.obs.flatten(0, 1), at),
            column(self.action),
            column(self.reward),
            column(self.terminated).bool(),
            torch.zeros_like(taken),
            index <= length,
        )


class ImaginedReplay:
    """The newest imagined rollouts, from which steps are drawn as from a replay (the model's buffer of Janner et al. 2019)."""

    def __init__(self) -> None:
        self._steps: ImaginedSteps | None = None

    def __bool__(self) -> bool:
        return self._steps is not None

    def add(self, rollout: Rollout) -> None:
        """Keeps the newest BATCHES * B rollouts, and only those that are as long as these B."""
        new, old = ImaginedSteps.of(rollout), self._steps
        if old is not None and old.obs.shape[1:] == new.obs.shape[1:]:
            first = max(0, len(old.obs) - (BATCHES - 1) * len(new.obs))
            new = ImaginedSteps(*(torch.cat([before[first:], x]) for before, x in zip(old, new, strict=True)))
        self._steps = new

    def sample_steps(self, count: int, n: int, generator: torch.Generator) -> Segment:
        """The frames around `count` steps, for `transitions`, drawn uniformly with repetition from those that were taken."""
        assert self._steps is not None
        return self._steps.segments(*drawn_steps(self._steps.mask, count, generator), n)

    def state_dict(self) -> list[Tensor] | None:
        return None if self._steps is None else list(self._steps)

    def load_state_dict(self, state: list[Tensor] | None, device: torch.device) -> None:
        self._steps = None if state is None else ImaginedSteps(*(column.to(device) for column in state))


def drawn_steps(mask: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows and steps, int64 (count,), drawn uniformly with repetition from where mask, bool (B, T), is true; from anywhere
    if it is nowhere."""
    chances = mask.flatten().float().clamp_min(1e-12)
    flat = torch.multinomial(chances, count, replacement=True, generator=generator)
    return flat // mask.shape[1], flat % mask.shape[1]
