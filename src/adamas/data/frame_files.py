"""The frames of a dataset file, of which only what is asked for is read."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from adamas.config import SIZE
from adamas.data import storage
from adamas.utils.errors import UserError

AREA = SIZE * SIZE


def read_frames(path: Path, first: int, stop: int) -> np.ndarray:
    """Frames first..stop-1 of a file, uint8 (N, 84, 84), fewer where it ends before. What lies after them is not read."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("obs.npy") as member:
            rows = _rows(member, path)
            member.seek(member.tell() + first * AREA)
            return _read(member, min(stop, rows) - first)
    except storage.UNREADABLE as error:
        raise _unreadable(path, error) from error


def frame_blocks(path: Path, size: int) -> Iterator[np.ndarray]:
    """All frames of a file, in order, `size` at a time: uint8 (N, 84, 84) each."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("obs.npy") as member:
            rows = _rows(member, path)
            for first in range(0, rows, size):
                yield _read(member, min(size, rows - first))
            member.read()  # to its end, where a damaged one shows
    except storage.UNREADABLE as error:
        raise _unreadable(path, error) from error


def _rows(member: IO[bytes], path: Path) -> int:
    """How many frames follow. UserError if they are no frames of ours."""
    shape, dtype = header(member)
    if dtype != np.uint8 or shape[1:] != (SIZE, SIZE):
        raise UserError(f"{path}: column 'obs' is {dtype} {shape}, but must be uint8 (N, {SIZE}, {SIZE})")
    return shape[0]


def _read(member: IO[bytes], rows: int) -> np.ndarray:
    return np.frombuffer(member.read(rows * AREA), np.uint8).reshape(rows, SIZE, SIZE)


def header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an array of numbers in a `.npz` file, left at its first byte of data. ValueError where it is none."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(member)
    if version not in read:
        raise ValueError(f"{member.name} is of version {'.'.join(map(str, version))} of npy: save it with numpy.savez")
    shape, column_major, dtype = read[version](member)
    if dtype.hasobject:
        raise ValueError(f"{member.name} holds Python objects, which only pickle reads: save it as an array of numbers")
    if column_major and len(shape) > 1:
        raise ValueError(f"{member.name} is stored column by column: save numpy.ascontiguousarray of it")
    if dtype.names:
        raise ValueError(f"{member.name} is {dtype}, but one number an entry is expected")
    return shape, dtype


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read: {' '.join(str(error).split())}")
