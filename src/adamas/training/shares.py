"""Shares of a batch, on which the threads of a CPU work side by side."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

from adamas.utils.random import Random, split
from adamas.utils.threads import Threads

Result = TypeVar("Result")


def in_shares(threads: Threads, work: Callable[[Any, Random], Result], batch: Any, generator: Random) -> list[Result]:
    """What `work` makes of each share of the batch, in order: one for each thread, none of less than `least_rows`.

    Args:
        batch: has `obs` and `rows`: a Segment, a Trajectory, a QBatch, ...
        generator: decides on the random numbers of each share.
    """
    rows = len(batch.obs)
    count = max(1, min(threads.count, rows // threads.least_rows))
    if count == 1:
        return [work(batch, generator)]
    bounds = [rows * i // count for i in range(count + 1)]
    shares = [batch.rows(slice(first, end)) for first, end in pairwise(bounds)]
    return threads.map(work, shares, split(generator, [len(share.obs) for share in shares]))
