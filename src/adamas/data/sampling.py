"""Which rows of a replay a batch is drawn around. All on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK = 512  # steps whose frames are looked at together


def uniform(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """int64 (count,) of `rows` with repetition; none where there are none."""
    return rows[torch.randint(len(rows), (count,), generator=generator)] if count and len(rows) else rows[:0]


def by_age(bounds: Tensor, age_weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """int64 (count,): rows, as DIAMOND draws them. First an age group of episodes by its weight, then an episode of the
    group uniformly, then a row of the episode uniformly: a short episode counts as much as a long one.

    Groups have as many episodes as each other; the newest takes what is left over. While there are fewer episodes than
    groups, all rows count the same.

    Args:
        bounds: int64 (episodes + 1,): the rows at which episodes start, and the number of rows.
        age_weights: float64 (groups,), oldest first.
    """
    groups, episodes = len(age_weights), len(bounds) - 1
    if episodes < groups:
        return torch.randint(int(bounds[-1]), (count,), generator=generator)
    group = torch.multinomial(age_weights, count, replacement=True, generator=generator)
    first = group * (episodes // groups)
    size = torch.where(group == groups - 1, episodes - first, episodes // groups)
    episode = first + _below(size, generator)
    return bounds[episode] + _below(bounds.diff()[episode], generator)


def transitions(obs: Tensor, bounds: Tensor, most: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
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


def _below(limit: Tensor, generator: torch.Generator) -> Tensor:
    """int64, uniform from 0 to below each limit, int64 of any shape."""
    return (torch.rand(limit.shape, dtype=torch.float64, generator=generator) * limit).long()
