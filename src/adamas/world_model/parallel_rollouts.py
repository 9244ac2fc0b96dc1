"""Imagined rollouts side by side that begin and end each at its own time: what the Gymnasium envs are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from adamas.data.batch import Trajectory
from adamas.utils.random import seeded
from adamas.utils.transfer import to_device
from adamas.world_model.world_model import Prediction, WorldModel, WorldState


class ParallelRollouts:
    """`count` imagined rollouts, each with its own clock and its own randomness. A batch of one or of many is one call.

    Args:
        starts: contexts that rollouts begin with, on the device of the world.
        horizon: steps after which a rollout is truncated.
        precision: entered around the world's work; autocast, for instance.

    Raises:
        ValueError: there would be no rollout, or no step of it.
    """

    def __init__(
        self,
        world: WorldModel,
        starts: Trajectory,
        count: int,
        horizon: int,
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        if horizon < 1 or count < 1:
            raise ValueError(f"horizon={horizon} and num_envs={count}: at least one step of one dream is needed")
        self.world, self.starts, self.horizon, self.precision = world, starts, horizon, precision
        self.device = starts.obs.device
        self.generators = seeded(range(count), self.device)
        self.clock = torch.zeros(count, dtype=torch.int64, device=self.device)
        self.state = self._start(Trajectory(*(column[:1].expand(count, *column.shape[1:]) for column in starts)))

    @property
    def obs(self) -> Tensor:
        """The newest frames, uint8 (count, H, W)."""
        return self.state.obs

    def begin(self, indices: Sequence[int], seeds: Sequence[int], contexts: Trajectory | None = None) -> None:
        """New rollouts at `indices`, one seed each, from `contexts` or else from starts that the seeds draw."""
        for i, seed in zip(indices, seeds, strict=True):
            self.generators[i].manual_seed(seed)
        fresh = self._start(contexts or self._draw(indices))
        index = to_device(torch.tensor(indices), self.device)
        self.clock = self.clock.index_fill(0, index, 0)
        old, new = self.state, fresh
        context = (a.index_copy(0, index, b) for a, b in zip(old.context, new.context, strict=True))
        h, c = (a.index_copy(1, index, b) for a, b in zip(old.hidden, new.hidden, strict=True))
        self.state = WorldState(Trajectory(*context), (h, c))

    def step(self, action: Tensor) -> tuple[Prediction, Tensor]:
        """One step of each with action int64 (count,). Returns what it brings, and which rollouts are truncated: bool
        (count,). What has ended goes on until it begins anew."""
        with self.precision():
            self.state, prediction = self.world.step(self.state, to_device(action, self.device), self.generators)
        self.clock = self.clock + 1
        return prediction, ((self.clock >= self.horizon) | prediction.diverged) & ~prediction.terminated

    def _start(self, contexts: Trajectory) -> WorldState:
        with self.precision():
            return self.world.start(contexts)

    def _draw(self, indices: Sequence[int]) -> Trajectory:
        count = len(self.starts.obs)
        rows = [torch.randint(count, (1,), generator=self.generators[i], device=self.device) for i in indices]
        return self.starts.rows(torch.cat(rows))
