"""Random numbers for a batch: from one generator for all samples, of which a process may keep some, or from one for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Some rows of what a generator draws for a batch that `step` processes share: first, first + step, ..."""

    generator: torch.Generator
    first: int
    step: int

    @property
    def device(self) -> torch.device:
        return self.generator.device


Random = torch.Generator | Rows | Sequence[torch.Generator]  # the last: as many as the batch has samples


def seeded(seeds: Sequence[int], device: torch.device | str = "cpu") -> list[torch.Generator]:
    """A generator for each sample, so that what a sample draws does not depend on which others share its batch."""
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]


def normal(shape: Sequence[int], generator: Random) -> Tensor:
    """Standard normal, float32 `shape` = (B, ...), on the generator's device."""
    return _draw(lambda s, g: torch.randn(s, generator=g, device=g.device), shape, generator)


def exponential(shape: Sequence[int], generator: Random) -> Tensor:
    """Exponential with mean 1, float32 `shape` = (B, ...), on the generator's device."""
    return _draw(lambda s, g: torch.empty(s, device=g.device).exponential_(generator=g), shape, generator)


def _draw(one: Callable[[Sequence[int], torch.Generator], Tensor], shape: Sequence[int], generator: Random) -> Tensor:
    if isinstance(generator, torch.Generator):
        return one(shape, generator)
    if isinstance(generator, Rows):
        whole = one((shape[0] * generator.step, *shape[1:]), generator.generator)
        return whole[generator.first :: generator.step]
    if len(generator) != shape[0]:
        raise ValueError(f"{len(generator)} generators cannot serve a batch of {shape[0]}")
    return torch.stack([one(shape[1:], each) for each in generator])
