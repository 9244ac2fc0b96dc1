"""`adamas data filter`: a copy of a dataset without what the stages of the card drop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from adamas.data import storage
from adamas.data_card.quality import JOINS, Stage, steps_on
from adamas.data_card.source import Source
from adamas.utils.errors import UserError
from adamas.utils.files import check_new, new_folder

CHUNK = 5_000  # rows of a file


def write_filtered(
    source: Source, stages: Sequence[Stage], out: Path, tick: Callable[[int], object] = lambda rows: None
) -> int:
    """Writes what the stages keep to `out`, a new folder, and returns how many rows that are. An episode ends, truncated,
    where a row of it was dropped; but where a row was there twice, its neighbours follow each other.

    Raises:
        UserError: `out` holds something already, or nothing would be left.
    """
    check_new(out)
    kept = ~np.any([stage.dropped for stage in stages], axis=0)
    if not kept.any():
        raise UserError("nothing would be left: see the data card")
    columns = _columns(source, kept, stages[JOINS].dropped)
    with new_folder(out) as folder:
        return _write_all(source, kept, columns, folder, tick)


def _write_all(
    source: Source, kept: np.ndarray, columns: dict[str, np.ndarray], folder: Path, tick: Callable[[int], object]
) -> int:
    """The kept rows, in files of CHUNK rows or a few more. Returns how many they are."""
    waiting, first, row = [], 0, 0
    for block in source.blocks():
        waiting.append(block[kept[row : row + len(block)]])
        row += len(block)
        tick(len(block))
        end = first + sum(map(len, waiting))
        if row == source.rows or (end - first >= CHUNK and not columns["final"][end : end + 1].any()):
            first = _write(folder, first, np.concatenate(waiting), columns)
            waiting = []
    return first


def _columns(source: Source, kept: np.ndarray, joined: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of the kept rows, with the new ends of episodes."""
    rows = np.flatnonzero(~joined)
    goes_on = np.append(steps_on(source.episode[rows], kept[rows]), False)
    column = {name: values[rows].copy() for name, values in source.columns.items()}
    column["truncated"] |= ~goes_on & ~column["terminated"] & ~column["final"]
    return {name: values[kept[rows]] for name, values in column.items()}


def _write(out: Path, first: int, obs: np.ndarray, columns: dict[str, np.ndarray]) -> int:
    if len(obs):
        some = {name: values[first : first + len(obs)] for name, values in columns.items()}
        storage.write(out, first, {"obs": obs, **some})
    return first + len(obs)
