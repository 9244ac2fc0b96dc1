"""Recordings on disk: datasets, and the GIFs and videos made of them."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adamas.config import SIZE
from adamas.data import storage
from adamas.play.recorder import RecordedFrame, columns
from adamas.utils.errors import UserError
from adamas.utils.files import publish
from adamas.utils.images import difference, gif, tile, write_mp4

KINDS = ("npz", "gif", "mp4")
MOST_FRAMES = 1500  # of a GIF or video, 100 s: it is made in memory
SCALE = 3  # pixels of a GIF or video for each pixel of a frame
EXPORTING = threading.Lock()  # one at a time: each takes memory, and nothing is made twice


def save(episodes: list[list[RecordedFrame]], folder: Path) -> Path:
    """Writes FOLDER/DATE-TIME.npz, whole or not at all. UserError when nothing can be written there."""
    try:
        folder.mkdir(exist_ok=True)
        path = _free_name(folder)
        _write(path, lambda temporary: _write_npz(columns(episodes), temporary))
    except OSError as error:
        raise UserError(
            f"the recording cannot be written to {folder} ({error.strerror}): it is kept, try again"
        ) from error
    return path


def export(path: Path, kind: str) -> Path:
    """The recording `path`, an .npz file, as "gif" or "mp4" beside it. It is made at the first call.

    Any thread may call it. UserError when it cannot be made.
    """
    target = path.with_suffix(f".{kind}")
    with EXPORTING:
        if not target.exists():
            frames = video_frames(path)
            try:
                _write(target, lambda temporary: WRITERS[kind](frames, temporary))
            except OSError as error:
                raise UserError(f"{target.name} cannot be written ({error.strerror})") from error
    return target


def video_frames(path: Path) -> Tensor:
    """The first frames, uint8 (T, height, width): real game, world model and their difference, or the world model alone."""
    imagined = torch.from_numpy(storage.read(path, (SIZE, SIZE))["obs"])[:MOST_FRAMES]
    with np.load(path, allow_pickle=False) as file:
        real = torch.from_numpy(file["real_obs"])[:MOST_FRAMES] if "real_obs" in file else None
    if real is None:
        return tile([imagined[:, None]], scale=SCALE)
    return tile([torch.stack([real, imagined, difference(imagined, real)], dim=1)], scale=SCALE)


def _free_name(folder: Path) -> Path:
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = (folder / f"{name}{suffix}.npz" for suffix in ["", *(f"-{i}" for i in range(2, 100))])
    return next(path for path in names if not path.exists())


def _write(path: Path, write: Callable[[Path], None]) -> None:
    """Writes the file whole or not at all. The temporary name is random: another process may write the same file."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}.tmp")
    try:
        write(temporary)
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_npz(table: dict[str, np.ndarray], path: Path) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, **table)


def _write_gif(frames: Tensor, path: Path) -> None:
    path.write_bytes(gif(frames))


def _write_mp4(frames: Tensor, path: Path) -> None:
    write_mp4(frames.numpy(), path, ["-crf", "10"])


WRITERS: dict[str, Callable[[Tensor, Path], None]] = {"gif": _write_gif, "mp4": _write_mp4}
