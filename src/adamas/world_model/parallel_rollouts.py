"""Dreams side by side that begin and end each at its own time: what the Gymnasium envs are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from adamas.utils.random import seeded
from adamas.world_model.world_model import Prediction, WorldModel, WorldState


class Contexts(NamedTuple):
    """N stretches of play that a dream can go on from."""

    obs: Tensor  # uint8 (N, n, H, W): the last n frames, oldest first
    action: Tensor  # int64 (N, n-1): what was done after each of them but the last


class Dreaming:
    """`count` dreams, each with its own clock and its own randomness. A batch of one dream or of many is one call.

    Args:
        starts: what dreams begin with, on the device of the world.
        horizon: steps after which a dream is truncated.
        precision: entered around the world's work; autocast, for instance.

    Raises:
        ValueError: there would be no dream, or no step of it.
    """

    def __init__(
        self,
        world: WorldModel,
        starts: Contexts,
        count: int,
        horizon: int,
        precision: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        if horizon < 1 or count < 1:
            raise ValueError(f"horizon={horizon} and num_envs={count}: at least one step of one dream is needed")
        self.world, self.starts, self.horizon, self.precision = world, starts, horizon, precision
        self.device = starts.obs.device
        self.generators = seeded(range(count), self.device)
        self.clock = torch.zeros(count, dtype=torch.int64, device=self.device)
        self.state = self._start(Contexts(*(column[:1].expand(count, *column.shape[1:]) for column in starts)))

    @property
    def obs(self) -> Tensor:
        """The newest frames, uint8 (count, H, W)."""
        return self.state.obs[:, -1]

    def begin(self, places: Sequence[int], seeds: Sequence[int], contexts: Contexts | None = None) -> None:
        """New dreams at `places`, one seed each, from `contexts` or else from starts that the seeds draw."""
        for place, seed in zip(places, seeds, strict=True):
            self.generators[place].manual_seed(seed)
        fresh = self._start(contexts or self._draw(places))
        index = torch.tensor(places, device=self.device)
        self.clock = self.clock.index_fill(0, index, 0)
        self.state = WorldState(
            self.state.obs.index_copy(0, index, fresh.obs),
            self.state.action.index_copy(0, index, fresh.action),
            tuple(old.index_copy(1, index, new) for old, new in zip(self.state.hidden, fresh.hidden, strict=True)),
        )

    def step(self, action: Tensor) -> tuple[Prediction, Tensor]:
        """One step of each with action int64 (count,). Returns what it brings, and which dreams are truncated: bool
        (count,). What has ended goes on until it begins anew."""
        with self.precision():
            self.state, prediction = self.world.step(self.state, action.to(self.device), self.generators)
        self.clock = self.clock + 1
        return prediction, ((self.clock >= self.horizon) | prediction.truncated) & ~prediction.terminated

    def _start(self, contexts: Contexts) -> WorldState:
        with self.precision():
            return self.world.start(*contexts)

    def _draw(self, places: Sequence[int]) -> Contexts:
        rows = [
            torch.randint(len(self.starts.obs), (1,), generator=self.generators[place], device=self.device)
            for place in places
        ]
        return Contexts(*(column[torch.cat(rows)] for column in self.starts))
