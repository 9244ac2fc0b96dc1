"""Films and folders of pictures, one an episode, with a table of actions beside them or without."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong with a film is said in one line, by us
import cv2
import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from adamas.config import SIZE
from adamas.conversion.settings import ImportOptions
from adamas.conversion.source import Source
from adamas.conversion.steps import Arrays, understand
from adamas.conversion.tables import table_beside
from adamas.data.frames import to_frame
from adamas.utils.errors import UserError

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".gif")
EXACT = (".mp4", ".m4v", ".mov")  # containers that tell how many frames they hold
BLOCK = 256  # frames that are in memory at once
Films = Iterator[np.ndarray]  # of frames, uint8 (H, W) or (H, W, 3)


def open_video(path: Path, options: ImportOptions) -> Source:
    """UserError when it is no film, or what lies beside it does not fit."""
    count, size = _measure_gif(path) if path.suffix.lower() == ".gif" else _measure(path)
    read = _gif_frames if path.suffix.lower() == ".gif" else _film_frames
    return _source(path, count, size, lambda: read(path), options)


def open_pictures(folder: Path, options: ImportOptions) -> Source:
    """One episode: the PNG files of a folder, in the order of the numbers in their names."""
    files = picture_files(folder)
    first = _picture(files[0])
    size = f"{first.shape[1]}x{first.shape[0]} PNG"

    def frames() -> Films:
        for file in files:
            picture = _picture(file)
            if picture.shape[:2] != first.shape[:2]:
                expected, found = ("x".join(map(str, p.shape[1::-1])) for p in (first, picture))
                raise UserError(f"{file} is {found}, but the first picture of its folder is {expected}")
            yield picture

    return _source(folder, len(files), size, frames, options)


def picture_files(folder: Path) -> list[Path]:
    files = [path for path in folder.glob("*") if path.suffix.lower() == ".png" and not path.name.startswith(".")]
    return sorted(files, key=lambda path: (_numbers(path.stem), path.name))


def _numbers(stem: str) -> list[int]:
    return [int(part) for part in "".join(c if c.isdecimal() else " " for c in stem).split()]


def _source(path: Path, count: int, size: str, frames: Callable[[], Films], options: ImportOptions) -> Source:
    beside, given = table_beside(path, options)
    steps = understand(count, given, options, beside or str(path))
    meaning = [f"frames are {size}", *steps.meaning]
    return Source(path, count, meaning, lambda: _rows(path, count, frames(), steps.columns))


def _rows(path: Path, count: int, frames: Films, columns: Arrays) -> Iterator[Arrays]:
    first = 0
    while block := list(islice(frames, BLOCK)):
        rows = slice(first, first + len(block))
        first += len(block)
        if first > count:
            break
        obs = np.empty((len(block), SIZE, SIZE), np.uint8)
        for i, frame in enumerate(block):
            obs[i] = to_frame(frame)
        yield {"obs": obs, **{key: column[rows] for key, column in columns.items()}}
    if first != count:
        raise UserError(f"{path} is damaged: {first} frames can be read, but it should hold {count}")


def _measure(path: Path) -> tuple[int, str]:
    """How many frames a film holds, and what they are."""
    film = cv2.VideoCapture(str(path))
    try:
        if not film.isOpened():
            raise UserError(f"{path} cannot be read as a film: {' '.join(SUFFIXES)} of a usual codec expected")
        count = int(film.get(cv2.CAP_PROP_FRAME_COUNT))
        width, height = (int(film.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        rate = film.get(cv2.CAP_PROP_FPS)
        if path.suffix.lower() not in EXACT or count <= 0:
            count = 0
            while film.grab():
                count += 1
    finally:
        film.release()
    return count, f"{width}x{height} at {rate:g} a second"


def _film_frames(path: Path) -> Films:
    film = cv2.VideoCapture(str(path))
    try:
        while (read := film.read())[0]:
            yield cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
    finally:
        film.release()


def _measure_gif(path: Path) -> tuple[int, str]:
    try:
        with Image.open(path) as film:
            return getattr(film, "n_frames", 1), f"{film.width}x{film.height} GIF"
    except (OSError, EOFError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as a GIF: {' '.join(str(error).split())}") from error


def _gif_frames(path: Path) -> Films:
    try:
        with Image.open(path) as film:
            for frame in ImageSequence.Iterator(film):
                yield np.asarray(frame.convert("RGB"))
    except (OSError, EOFError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as a GIF: {' '.join(str(error).split())}") from error


def _picture(path: Path) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3)."""
    found = cv2.imread(str(path), cv2.IMREAD_ANYCOLOR)
    if found is None:
        raise UserError(f"{path} cannot be read as a picture: a PNG expected")
    return found if found.ndim == 2 else cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
