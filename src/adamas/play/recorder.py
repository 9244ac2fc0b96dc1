"""What was played, kept as a dataset that training can read, and as films."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adamas.config import SIZE
from adamas.data import storage
from adamas.data.frames import difference, gif, tile
from adamas.play.step import Moment
from adamas.utils.errors import UserError
from adamas.utils.files import publish

FPS = 15  # of films: the speed of the game
KINDS = ("npz", "gif", "mp4")
MOST_FILMED = 1500  # frames, 100 s: a film is made in memory
SCALE = 3  # pixels of a film a pixel of a frame


class Shot(NamedTuple):
    """One frame of a recording."""

    step: int  # since the start of the dream
    obs: np.ndarray  # uint8 (84, 84)
    action: int  # the one that led here, as are the next two
    reward: float
    terminated: bool
    real: np.ndarray | None  # uint8 (84, 84): the real game at the same step


class Recorder:
    """The episodes of one recording. A step from an earlier moment takes the place of what came after it."""

    def __init__(self) -> None:
        self.episodes: list[list[Shot]] = [[]]

    @property
    def steps(self) -> int:
        return sum(max(len(shots) - 1, 0) for shots in self.episodes)

    def add(self, before: Moment, after: Moment) -> None:
        shots = self.up_to(before)
        if not shots:
            shots.append(_shot(before))
        shots.append(_shot(after))

    def up_to(self, moment: Moment) -> list[Shot]:
        """What of the last episode is not after `moment`."""
        shots = self.episodes[-1]
        while shots and shots[-1].step > moment.step:
            shots.pop()
        return shots

    def cut(self, moment: Moment) -> None:
        """Ends the episode at `moment`."""
        self.up_to(moment)
        self.episodes.append([])


def _shot(moment: Moment) -> Shot:
    real = moment.real.obs if moment.real else None
    return Shot(moment.step, moment.frame, moment.action or 0, moment.reward, moment.terminated, real)


def columns(episodes: list[list[Shot]]) -> dict[str, np.ndarray]:
    """The columns of `adamas.data.storage`; and "reality", the real frames beside them, where every frame has one.

    An episode that does not end with its last step counts as truncated there.
    """
    rows = [row for shots in episodes if len(shots) > 1 for row in _rows(shots)]
    real = [shot.real for shot, *_ in rows]
    obs, *values = zip(*((shot.obs, *row) for shot, *row in rows), strict=True)
    table = {
        name: np.array(column, storage.DTYPES[name])
        for name, column in zip(storage.DTYPES, [obs, *values], strict=True)
    }
    return table | ({} if any(frame is None for frame in real) else {"reality": np.stack(real)})


def _rows(shots: list[Shot]) -> list[tuple[Shot, int, float, bool, bool, bool]]:
    """(frame, action, reward, terminated, truncated, final) for each step, and for each frame that ends an episode."""
    rows = []
    for now, after in pairwise(shots):
        truncated = after is shots[-1] and not after.terminated
        rows.append((now, after.action, after.reward, after.terminated, truncated, False))
        if after.terminated or truncated:
            rows.append((after, 0, 0.0, False, False, True))
    return rows


def save(episodes: list[list[Shot]], folder: Path) -> Path:
    """Writes FOLDER/DATE-TIME.npz, whole or not at all. UserError when nothing can be written there."""
    try:
        folder.mkdir(exist_ok=True)
        path = _free_name(folder)
        temporary = path.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **columns(episodes))
        publish(temporary, path)
    except OSError as error:
        raise UserError(
            f"the recording cannot be written to {folder} ({error.strerror}): it is kept, try again"
        ) from error
    return path


def _free_name(folder: Path) -> Path:
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = (folder / f"{name}{suffix}.npz" for suffix in ["", *(f"-{i}" for i in range(2, 100))])
    return next(path for path in names if not path.exists())


def export(path: Path, kind: str) -> Path:
    """The recording `path`, an .npz file, as "gif" or "mp4" beside it, written when it is first asked for."""
    target = path.with_suffix(f".{kind}")
    if not target.exists():
        temporary = target.with_suffix(f".{kind}.tmp")
        frames = film(path)
        if kind == "gif":
            temporary.write_bytes(gif(frames, FPS))
        else:
            _write_mp4(frames, temporary)
        publish(temporary, target)
    return target


def film(path: Path) -> Tensor:
    """The first frames, uint8 (T, height, width): the real game, the dream and their difference, or the dream alone."""
    dream = torch.from_numpy(storage.read(path, (SIZE, SIZE))["obs"])[:MOST_FILMED]
    with np.load(path, allow_pickle=False) as file:
        real = torch.from_numpy(file["reality"])[:MOST_FILMED] if "reality" in file else None
    if real is None:
        return tile([dream[:, None]], scale=SCALE)
    return tile([torch.stack([real, dream, difference(dream, real)], dim=1)], scale=SCALE)


def _write_mp4(frames: Tensor, path: Path) -> None:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise UserError("mp4 needs one more package: pip install -e '.[video]'") from error
    height, width = (side - side % 2 for side in frames.shape[1:])  # H.264 counts colour in squares of 2x2
    size = {"size": (width, height), "pix_fmt_in": "gray", "macro_block_size": 2}
    writer = imageio_ffmpeg.write_frames(str(path), **size, fps=FPS, quality=8, output_params=["-f", "mp4"])
    writer.send(None)
    for frame in frames[:, :height, :width]:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
