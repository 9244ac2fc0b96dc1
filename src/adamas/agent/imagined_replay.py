"""The imagined rollouts that a Q-network learns from, beside the replay of the real game (Dyna: Sutton 1991)."""

from __future__ import annotations

import torch
from torch import Tensor

from adamas.agent.q_learning import drawn_steps, imagined_segment
from adamas.agent.rollout import Hidden, Rollout, joined
from adamas.data.batch import Segment

BATCHES = 8  # of rollouts that are kept


class ImaginedReplay:
    """The newest imagined rollouts, from which steps are drawn as from a replay (the model's buffer of Janner et al. 2019)."""

    def __init__(self) -> None:
        self._rollouts: Rollout | None = None

    def __bool__(self) -> bool:
        return self._rollouts is not None

    def add(self, rollout: Rollout) -> None:
        """Copies B rollouts; those before the last BATCHES of so many are forgotten."""
        kept, count = [] if self._rollouts is None else [self._rollouts], len(rollout.obs)
        if kept:
            kept = [kept[0].rows(slice(max(0, len(kept[0].obs) - (BATCHES - 1) * count), None))]
        self._rollouts = joined([*kept, rollout.rows(torch.arange(count, device=rollout.obs.device))])

    def sample_steps(self, count: int, n: int, generator: torch.Generator) -> Segment:
        """The frames around `count` steps, for `transitions`, drawn uniformly with repetition from those that were taken."""
        assert self._rollouts is not None
        row, step = drawn_steps(self._rollouts.mask, count, generator)
        return imagined_segment(self._rollouts.rows(row), step, n)

    def state_dict(self) -> list[Tensor] | None:
        return None if self._rollouts is None else [*self._rollouts.hidden, *self._rollouts[1:]]

    def load_state_dict(self, state: list[Tensor] | None, device: torch.device) -> None:
        columns = [column.to(device) for column in state or []]
        self._rollouts = Rollout(Hidden(*columns[:3]), *columns[3:]) if columns else None
