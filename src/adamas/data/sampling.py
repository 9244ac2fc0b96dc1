"""Which rows of a replay a batch is drawn around. All on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """int64 (count,) of `rows` with repetition; none where there are none."""
    return rows[torch.randint(len(rows), (count,), generator=generator)] if count and len(rows) else rows[:0]


def by_age(bounds: Tensor, age_weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """int64 (count,): rows of age groups of episodes, oldest first, drawn by their weights; uniformly within a group,
    which is a range of rows, as rows are in the order of play.

    Args:
        bounds: int64 (episodes + 1,): the rows at which episodes start, and the number of rows.
        age_weights: float64 (groups,).
    """
    groups = _group_bounds(bounds, len(age_weights))
    first, size = groups[:-1], groups.diff()
    weights = age_weights * (size > 0)
    if not weights.any():  # as yet only groups of weight 0 have episodes
        weights = (size > 0).double()
    group = torch.multinomial(weights, count, replacement=True, generator=generator)
    fraction = torch.rand(count, dtype=torch.float64, generator=generator)
    return first[group] + (fraction * size[group]).long()


def _group_bounds(bounds: Tensor, num_groups: int) -> Tensor:
    """int64 (groups + 1,): rows between which the age groups lie. As even as can be, counted in episodes; the older
    groups take what is left over."""
    groups = torch.arange(num_groups + 1)
    each, left = divmod(len(bounds) - 1, num_groups)
    return bounds[groups * each + groups.clamp(max=left)]
