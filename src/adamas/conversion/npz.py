"""npz files of others, read a block of frames at a time: a set may be larger than memory."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adamas.config import SIZE
from adamas.conversion.names import find_columns
from adamas.conversion.pixels import Pixels, layout_of, values_of
from adamas.conversion.settings import ImportOptions
from adamas.conversion.source import Source
from adamas.conversion.steps import FLAGS, Arrays, insert_final, understand
from adamas.data import storage
from adamas.data.frame_files import header
from adamas.utils.errors import UserError

BLOCK_BYTES = 16 << 20


def open_npz(path: Path, options: ImportOptions) -> Source:
    """UserError when the file cannot be read, lacks frames, or could mean two things."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = find_columns([name.removesuffix(".npy") for name in archive.namelist()], options, str(path))
            if "obs" not in names:
                there = ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:8])
                raise UserError(
                    f"{path}: no array obs, observations, frames or images, but {there}: set columns=[obs:NAME]"
                )
            shape, dtype = _check_member(archive, names["obs"], path)
            if len(shape) < 3:
                raise UserError(f"{path}: {names['obs']} has shape {shape}, but frames (N, H, W, ...) are expected")
            if {f"{name}.npy" for name in storage.DTYPES} <= {*archive.namelist()}:
                return _ours(path)
        given = {key: _small(path, names[key]) for key in ("action", "reward", *FLAGS) if key in names}
        layout = layout_of(shape, options, str(path))
        pixels = Pixels(layout, values_of(dtype, _blocks(path, names["obs"]), options, str(path)))
        steps = understand(shape[0], given, options, str(path))
        meaning = [pixels.describe(shape, dtype), *steps.meaning]
        if "next_obs" not in names or steps.columns["final"].any():
            return Source(path, shape[0], meaning, lambda: _rows(path, names["obs"], pixels, steps.columns))
        with zipfile.ZipFile(path) as archive:
            if _check_member(archive, names["next_obs"], path) != (shape, dtype):
                raise UserError(f"{path}: {names['next_obs']} is not {dtype} {shape}, as {names['obs']} is")
        meaning.append(f"final frames are in {names['next_obs']}")
        return Source(path, shape[0], meaning, lambda: _rows_with_final(path, names, pixels, steps.columns))
    except storage.UNREADABLE as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _ours(path: Path) -> Source:
    """A file in our own format: taken as it is, but an episode ends with its file."""

    def rows() -> Iterator[Arrays]:
        columns = storage.read(path, (SIZE, SIZE))
        columns["truncated"][-1] |= not (columns["terminated"][-1] or columns["final"][-1])
        yield columns

    return Source(path, storage.count_rows(path), ["a dataset of adamas"], rows)


def _check_member(archive: zipfile.ZipFile, name: str, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an array, of which nothing but its header is read."""
    with archive.open(f"{name}.npy") as member:
        shape, dtype = header(member)
        there, promised = archive.getinfo(f"{name}.npy").file_size - member.tell(), dtype.itemsize * int(np.prod(shape))
        if there != promised:
            raise UserError(f"{path}: {name} has {there} bytes, but its header says {promised}")
    return shape, dtype


def _small(path: Path, name: str) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        _check_member(archive, name, path)
    with np.load(path, allow_pickle=False) as file:
        return np.asarray(file[name])


def _blocks(path: Path, name: str) -> Iterator[np.ndarray]:
    """The array, some rows at a time."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        shape, dtype = header(member)
        row = dtype.itemsize * int(np.prod(shape[1:]))
        step = max(1, BLOCK_BYTES // max(row, 1))
        for first in range(0, shape[0], step):
            count = min(step, shape[0] - first)
            yield np.frombuffer(member.read(count * row), dtype).reshape(count, *shape[1:])


def _rows(path: Path, obs: str, pixels: Pixels, columns: Arrays) -> Iterator[Arrays]:
    first = 0
    for block in _blocks(path, obs):
        rows = slice(first, first + len(block))
        yield {"obs": pixels.convert(block), **{key: column[rows] for key, column in columns.items()}}
        first += len(block)


def _rows_with_final(path: Path, names: dict[str, str], pixels: Pixels, columns: Arrays) -> Iterator[Arrays]:
    """The same, with the frame after the last step of each episode."""
    first = 0
    for block, after in zip(_blocks(path, names["obs"]), _blocks(path, names["next_obs"]), strict=True):
        part = {key: column[first : first + len(block)] for key, column in columns.items()}
        small, followed = insert_final(part)
        places = np.flatnonzero(followed)
        obs = pixels.convert(block)
        yield {
            "obs": np.insert(obs, places + 1, pixels.convert(after[places]), axis=0) if len(places) else obs,
            **small,
        }
        first += len(block)
