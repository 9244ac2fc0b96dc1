"""The rows of a replay in which small movers change their direction, found as rows come."""

from __future__ import annotations

import torch
from torch import Tensor

from adamas.data.motion import LOOK_BACK, direction_changed

AFTER = 2  # frames after a change that show it still in what the next one is predicted from
SCAN = 2048  # rows that are searched at once


class DirectionChanges:
    """`rows`, int64 (N,) in order: the frames in which a small mover changed its direction, and the AFTER frames of their episode that
    follow each."""

    def __init__(self) -> None:
        self.rows = torch.empty(0, dtype=torch.int64)
        self._searched = 0

    def search(self, obs: Tensor, starts: Tensor) -> None:
        """Searches the rows that came since the last time.

        Args:
            obs: uint8 (N, H, W), all rows so far.
            starts: int64 (E,), the first row of each episode.
        """
        while self._searched < len(obs):
            first, last = self._searched, min(self._searched + SCAN, len(obs))
            seen_from = max(first - LOOK_BACK - AFTER, 0)
            changes = direction_changed(obs[seen_from:last]).cpu().nonzero() + seen_from  # (N, 1)
            rows = torch.unique(changes[_age(changes[:, 0], starts) >= LOOK_BACK] + torch.arange(AFTER + 1))
            rows = rows[(rows >= first) & (rows < last)]
            self.rows = torch.cat([self.rows, rows[_age(rows, starts) >= LOOK_BACK]])  # none of the next episode
            self._searched = last


def _age(row: Tensor, starts: Tensor) -> Tensor:
    """int64 (B,): how many rows of its episode come before each."""
    return row - starts[torch.searchsorted(starts, row, right=True) - 1]
