"""Random numbers for a batch: from one generator for all samples, or from one for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Random = torch.Generator | Sequence[torch.Generator]  # the latter: as many as the batch has samples


def seeded(seeds: Sequence[int], device: torch.device | str = "cpu") -> list[torch.Generator]:
    """A generator for each sample, so that what a sample draws does not depend on which others share its batch."""
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]


def normal(shape: Sequence[int], generator: Random) -> Tensor:
    """Standard normal, float32 `shape` = (B, ...), on the generator's device."""
    return _draw(lambda s, g: torch.randn(s, generator=g, device=g.device), shape, generator)


def exponential(shape: Sequence[int], generator: Random) -> Tensor:
    """Exponential with mean 1, float32 `shape` = (B, ...), on the generator's device."""
    return _draw(lambda s, g: torch.empty(s, device=g.device).exponential_(generator=g), shape, generator)


def uniform(shape: Sequence[int], generator: Random) -> Tensor:
    """Uniform in [0, 1), float32 `shape` = (B, ...), on the generator's device."""
    return _draw(lambda s, g: torch.rand(s, generator=g, device=g.device), shape, generator)


def categorical(logits: Tensor, generator: Random) -> Tensor:
    """float (B, ..., K) -> int64 (B, ...), each distributed as softmax(logits).

    The exponential race: with E ~ Exp(1), argmax(p / E) is k with probability p_k. It never waits for the device.
    """
    return (logits.float().softmax(-1) / exponential(logits.shape, generator)).argmax(-1)


def split(generator: Random, sizes: Sequence[int]) -> list[Random]:
    """One for each share of a batch, of so many samples each. A single generator draws a seed for each."""
    if isinstance(generator, torch.Generator):
        device = generator.device
        seeds = torch.randint(2**32, (len(sizes),), generator=generator, device=device).tolist()
        return [torch.Generator(device).manual_seed(seed) for seed in seeds]
    first = [sum(sizes[:i]) for i in range(len(sizes))]
    return [generator[at : at + size] for at, size in zip(first, sizes, strict=True)]


def _draw(one: Callable[[Sequence[int], torch.Generator], Tensor], shape: Sequence[int], generator: Random) -> Tensor:
    if isinstance(generator, torch.Generator):
        return one(shape, generator)
    if len(generator) != shape[0]:
        raise ValueError(f"{len(generator)} generators cannot serve a batch of {shape[0]}")
    return torch.stack([one(shape[1:], each) for each in generator])
