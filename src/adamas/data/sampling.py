"""Which rows of a replay a batch is drawn around. All on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

CHUNK = 512  # steps whose frames are looked at together


class Mixture(NamedTuple):
    """Datasets one after the other in a replay, and the share of the samples that each of them gets."""

    edges: Tensor  # int64 (parts + 1,): the rows at which they start, and the number of rows
    shares: Tensor  # float64 (parts,)


def uniform(rows: Tensor, count: int, generator: torch.Generator, mixture: Mixture | None = None) -> Tensor:
    """int64 (count,) of `rows`, which are in order, with repetition; none where there are none, also in a part of a mixture."""

    def draw(first: int, stop: int, count: int) -> Tensor:
        return uniform(rows[(rows >= first) & (rows < stop)], count, generator)

    if mixture:
        return _of_parts(mixture, count, generator, draw)
    return rows[torch.randint(len(rows), (count,), generator=generator)] if count and len(rows) else rows[:0]


def by_age(
    bounds: Tensor, age_weights: Tensor, count: int, generator: torch.Generator, mixture: Mixture | None = None
) -> Tensor:
    """int64 (count,): rows, as DIAMOND draws them. First an age group of episodes by its weight, then an episode of the
    group uniformly, then a row of the episode uniformly: a short episode counts as much as a long one.

    Groups have as many episodes as each other; the newest takes what is left over. While there are fewer episodes than
    groups, all rows count the same.

    Args:
        bounds: int64 (episodes + 1,): the rows at which episodes start, and the row after the last.
        age_weights: float64 (groups,), oldest first.
        mixture: of parts that have age groups of their own.
    """

    def draw(first: int, stop: int, count: int) -> Tensor:
        return by_age(bounds[(bounds >= first) & (bounds <= stop)], age_weights, count, generator)

    if mixture:
        return _of_parts(mixture, count, generator, draw)
    groups, episodes = len(age_weights), len(bounds) - 1
    if episodes < groups:
        return torch.randint(int(bounds[0]), int(bounds[-1]), (count,), generator=generator)
    starts = bounds.numpy()  # its calls take a fraction of the time of torch's
    group = torch.multinomial(age_weights, count, replacement=True, generator=generator).numpy()
    first = group * (episodes // groups)
    size = np.where(group == groups - 1, episodes - first, episodes // groups)
    episode = first + _below(size, generator)
    return torch.from_numpy(starts[episode] + _below(starts[episode + 1] - starts[episode], generator))


def frame_pairs(obs: Tensor, bounds: Tensor, most: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """The frames before and after each step whose next frame is known, or `most` of these steps drawn without repetition.

    Args:
        obs: uint8 (rows or more, H, W), on any device.
        bounds: as for `by_age`.

    Yields:
        Two tensors uint8 (N, H, W), of at most CHUNK steps each.
    """
    followed = torch.ones(int(bounds[-1]), dtype=torch.bool)
    followed[bounds[1:] - 1] = False
    rows = followed.nonzero().flatten()
    if len(rows) > most:
        rows = rows[torch.randperm(len(rows), generator=generator)[:most]]
    for first in range(0, len(rows), CHUNK):
        index = rows[first : first + CHUNK].to(obs.device)
        yield obs[index], obs[index + 1]


def _of_parts(
    mixture: Mixture, count: int, generator: torch.Generator, draw: Callable[[int, int, int], Tensor]
) -> Tensor:
    """int64 (count,): how many rows come from which part is drawn by its share, then `draw(first, stop, count)` draws so many of
    the rows of a part."""
    if not count:
        return torch.empty(0, dtype=torch.int64)
    parts = torch.multinomial(mixture.shares, count, replacement=True, generator=generator)
    counts = torch.bincount(parts, minlength=len(mixture.shares)).tolist()
    edges = mixture.edges.tolist()
    return torch.cat([draw(first, stop, n) for first, stop, n in zip(edges[:-1], edges[1:], counts, strict=True) if n])


def _below(limit: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """int64, uniform from 0 to below each limit, int64 of any shape."""
    return (torch.rand(limit.shape, dtype=torch.float64, generator=generator).numpy() * limit).astype(np.int64)
