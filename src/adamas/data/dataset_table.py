"""A dataset of which only what is asked for is read: all columns but the frames at once, frames a block at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adamas.config import SIZE
from adamas.data import storage
from adamas.data.frame_files import read_frames
from adamas.utils.errors import UserError

BLOCK = 128  # frames that are read together, 0.9 MB


class FileVersion(NamedTuple):
    """A file as it was at one time. It is the key of every cache here: a file that has changed is read again."""

    path: Path
    size: int  # bytes
    modified: int  # nanoseconds


def open_table(files: Sequence[Path]) -> DatasetTable:
    """The rows of these files, in this order. UserError when there are none, or one is missing, damaged or no dataset."""
    if not files:
        raise UserError("this run has no stored experience")
    return _table(tuple(_version(file) for file in files))


class DatasetTable:
    """Rows of one or more files, and the episodes that they form.

    Attributes:
        action, reward, terminated, truncated, final: the columns of `adamas.data.storage`, (rows,) each.
        starts: the first row of each episode.
    """

    def __init__(self, files: Sequence[FileVersion]) -> None:
        self._files = files
        parts = [_small_columns(file) for file in files]
        previous = [None, *(file.path for file in files[:-1])]
        continues = [storage.continues(file.path, before) for file, before in zip(files, previous, strict=True)]
        self._firsts = np.cumsum([0, *(len(part["final"]) for part in parts)])
        self.rows = int(self._firsts[-1])
        self.action, self.reward, self.terminated, self.truncated, self.final = (
            np.concatenate([part[name] for part in parts]) for name in storage.SMALL_COLUMNS
        )
        breaks = [first for first, joined in zip(self._firsts[:-1], continues, strict=True) if not joined]
        self.starts = storage.episode_starts(self.terminated, self.truncated, self.final, breaks).tolist()

    def bounds(self, episode: int) -> tuple[int, int]:
        """(first row, one past the last) of an episode."""
        return self.starts[episode], [*self.starts, self.rows][episode + 1]

    def episode_of(self, row: int) -> int:
        return int(np.searchsorted(self.starts, row, side="right")) - 1

    def frame(self, row: int) -> np.ndarray:
        """uint8 (84, 84)"""
        number = int(np.searchsorted(self._firsts, row, side="right")) - 1
        block, index = divmod(row - int(self._firsts[number]), BLOCK)
        return _block(self._files[number], block)[index]


def _version(path: Path) -> FileVersion:
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    return FileVersion(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4)
def _table(files: tuple[FileVersion, ...]) -> DatasetTable:
    return DatasetTable(files)


@lru_cache(maxsize=1024)
def _small_columns(file: FileVersion) -> dict[str, np.ndarray]:
    return storage.read(file.path, (SIZE, SIZE), storage.SMALL_COLUMNS)


@lru_cache(maxsize=8)
def _block(file: FileVersion, number: int) -> np.ndarray:
    return read_frames(file.path, number * BLOCK, (number + 1) * BLOCK)
