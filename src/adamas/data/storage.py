"""Rows of experience on disk: `.npz` files with one array for each column.

A replay is saved as chunks `rows-00000000-00000100.npz` (first row, one past the last) that never change.
Each is an ordinary compressed `.npz`, so `numpy.load` reads it and a person can write such files by hand.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from adamas.utils.console import warn
from adamas.utils.errors import MissingFile, UserError
from adamas.utils.files import publish, sha256

DTYPES = {
    "obs": "uint8",
    "action": "uint8",
    "reward": "float32",
    "terminated": "bool",
    "truncated": "bool",
    "final": "bool",
}
SMALL_COLUMNS = tuple(name for name in DTYPES if name != "obs")  # obs is nearly all of a file
Rows = TypeVar("Rows", np.ndarray, Tensor)  # a column
UNREADABLE = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)


def write(folder: Path, first: int, columns: dict[str, np.ndarray]) -> dict[str, Any]:
    """Writes the rows `first, first + 1, ...` as one chunk, whole or not at all. Returns its line of the manifest."""
    rows = len(columns["obs"])
    path = folder / f"rows-{first:08d}-{first + rows:08d}.npz"
    temporary = path.with_suffix(".tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **columns)  # type: ignore[arg-type]  # numpy's stub takes a name for its flag
        digest = sha256(temporary)
        publish(temporary, path)
    except OSError:  # such as a full disk, which needs the room
        temporary.unlink(missing_ok=True)
        raise
    return {"name": path.name, "rows": rows, "sha256": digest}


def remove_beyond(folder: Path, row: int) -> None:
    """Removes chunks that hold rows from `row` on: a process wrote them, then was killed before its checkpoint."""
    for path in folder.glob("rows-*.npz"):
        span = row_span(path)
        if span and span[1] > row:
            path.unlink()
    for path in folder.glob("rows-*.tmp"):
        path.unlink()


def verify(path: Path, digest: str) -> None:
    """Raises MissingFile unless the file is there, and UserError unless it is what was written."""
    if not path.is_file():
        raise MissingFile(f"{path} is missing: this replay cannot be restored without it")
    if sha256(path) != digest:
        raise UserError(f"{path} is damaged: its content is not what was saved")


def row_span(path: Path) -> tuple[int, int] | None:
    """(first row, one past the last) of a chunk, by its name; None for a file of another name."""
    match = re.fullmatch(r"rows-(\d{8,})-(\d{8,})\.npz", path.name)
    return (int(match[1]), int(match[2])) if match else None


def dataset_files(path: Path) -> list[Path]:
    """The `.npz` files of a folder, sorted by name, or the one file that `path` is."""
    if path.is_file() and path.suffix == ".npz":
        return [path]
    if not path.is_dir():
        raise UserError(f"dataset {path} is neither a folder nor a .npz file")
    files = visible_files(path)
    if hidden := sorted({*path.glob("*.npz")} - {*files}):
        warn(f"{path}: skipped {len(hidden)} hidden files such as {hidden[0].name}")
    if not files:
        refuse_run(path)
        raise UserError(f"dataset {path} holds no .npz file")
    return files


def refuse_run(path: Path) -> None:
    """UserError where it is a run folder, which holds a dataset and is none."""
    if (path / "config.yaml").is_file() and (path / "replay").is_dir():
        raise UserError(f"{path} is a run: the dataset that it has played is {path / 'replay'}")


def visible_files(folder: Path) -> list[Path]:
    """The `.npz` files of a folder, sorted by name, but for hidden ones: macOS adds a `._NAME` to each file it copies."""
    return sorted(path for path in folder.glob("*.npz") if not path.name.startswith("."))


def continues(path: Path, previous: Path | None) -> bool:
    """Whether the rows of `path` go on where those of `previous` stop. UserError if a chunk between them is missing."""
    before, span = row_span(previous) if previous else None, row_span(path)
    if not (previous and before and span):
        return False
    if before[1] != span[0]:
        raise UserError(f"{path} does not go on where {previous.name} stops: a chunk is missing or is there twice")
    return True


def after_end(ended: Rows, final: Rows) -> Rows:
    """Which rows but the first start an episode, bool (N - 1,): those after its end, which usually is a final frame.

    Args:
        ended, final: bool (N,), arrays or tensors; `ended` is terminated or truncated. An episode of a dataset may lack
            its final frame.
    """
    return final[:-1] | (ended[:-1] & ~final[1:])


def episode_starts(
    terminated: np.ndarray, truncated: np.ndarray, final: np.ndarray, breaks: Sequence[int]
) -> np.ndarray:
    """int64 (episodes,): the first row of each episode.

    Args:
        terminated, truncated, final: bool (N,).
        breaks: rows that do not go on where the row before them stops.
    """
    return np.unique([0, *breaks, *np.flatnonzero(after_end(terminated | truncated, final)) + 1])


def count_rows(path: Path) -> int:
    """How many rows the file holds. Reads the smallest column alone."""
    return len(_arrays(path, ["final"])["final"])


def read(
    path: Path, frame_shape: tuple[int, int], names: Sequence[str] = tuple(DTYPES), finite: bool = True
) -> dict[str, np.ndarray]:
    """The columns of a file, checked: obs uint8 (N, H, W), the others (N,) with the dtypes of `DTYPES`.

    Args:
        names: which columns to read: all, or SMALL_COLUMNS.
        finite: whether a reward that is not finite is refused.
    """
    columns = _arrays(path, list(names))
    rows = columns["final"].shape[:1]
    for name in names:
        dtype = DTYPES[name]
        shape = (*rows, *frame_shape) if name == "obs" else rows
        found = columns[name]
        if (found.dtype, found.shape) != (np.dtype(dtype), shape):
            raise UserError(f"{path}: column '{name}' is {found.dtype} {found.shape}, but must be {dtype} {shape}")
    if rows == (0,):
        raise UserError(f"{path} holds no rows")
    if finite and not np.isfinite(columns["reward"]).all():
        raise UserError(f"{path}: column 'reward' holds a number that is not finite")
    _check_final(path, columns)
    return columns


def _arrays(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as file:  # numpy would take a file that is not a zip for a pickle
            missing = [name for name in names if f"{name}.npy" not in file.namelist()]
        if not missing:
            with np.load(path, allow_pickle=False) as file:
                return {name: np.atleast_1d(file[name]) for name in names}
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    raise UserError(f"{path}: column '{missing[0]}' is missing: `adamas data import` makes datasets of other files")


def _check_final(path: Path, columns: dict[str, np.ndarray]) -> None:
    """A final frame follows a step of its episode, which may be in the chunk before. That step need not be an end: an episode
    can be broken off."""
    ended, final = columns["terminated"] | columns["truncated"], columns["final"]
    span = row_span(path)
    first_follows = span is not None and span[0] > 0
    follows = np.concatenate([[first_follows], ~final[:-1]])
    wrong = np.flatnonzero(final & (ended | ~follows))
    if len(wrong):
        raise UserError(
            f"{path}: row {wrong[0]} is 'final', but no step of its episode comes before it or it ends one itself"
        )
