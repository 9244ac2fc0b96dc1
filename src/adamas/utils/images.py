"""Pictures made of frames: side by side, as PNG, as GIF and as MP4."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adamas.utils.errors import UserError

FPS = 15  # of films: the speed of the game


def difference(mine: Tensor, theirs: Tensor) -> Tensor:
    """uint8 (...) twice -> a picture of how far the first departs from the second, uint8 (...): grey where they agree."""
    return ((mine.short() - theirs.short()) / 2 + 127.5).round().to(torch.uint8)


def tile(rows: list[Tensor], gap: int = 2, scale: int = 1) -> Tensor:
    """Films side by side, rows of films above each other.

    Args:
        rows: each uint8 (T, N, H, W): N films of T frames.
        gap: dark pixels between neighbours.
        scale: each pixel becomes a square of this many pixels a side.

    Returns:
        uint8 (T, height, width): one film of the whole grid.
    """
    pad = torch.nn.functional.pad
    lines = [pad(row, (0, gap, 0, gap)).permute(0, 2, 1, 3).flatten(2) for row in rows]  # (T, H+gap, N*(W+gap))
    grid = torch.cat(lines, dim=1)[:, : -gap or None, : -gap or None]
    return grid.repeat_interleave(scale, 1).repeat_interleave(scale, 2)


def png(picture: Tensor) -> bytes:
    """uint8 (H, W) -> a greyscale PNG."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture.cpu().numpy())).save(file, "PNG")
    return file.getvalue()


def gif(film: Tensor, fps: float = FPS) -> bytes:
    """uint8 (T, H, W) or (T, H, W, 3) -> an endlessly looping GIF, which counts time in hundredths of a second. What stands
    still takes next to no room. Of more than 256 colours those that are alike become one."""
    index, palette = _grey_levels(film.cpu()) if film.dim() == 3 else _colours(film.cpu())
    options = {"save_all": True, "duration": 10 * round(100 / fps), "loop": 0, "optimize": False}
    see_through = len(palette)
    if see_through < 256:  # a colour is left to say: as before
        index[1:][index[1:] == index[:-1]] = see_through
        options["transparency"] = see_through
        palette = np.append(palette, [[0, 0, 0]], 0).astype(np.uint8)
    images = [Image.fromarray(frame) for frame in index]
    for image in images:
        image.putpalette(palette.tobytes())
    file = io.BytesIO()
    images[0].save(file, "GIF", append_images=images[1:], **options)
    return file.getvalue()


def write_mp4(film: np.ndarray, path: Path, options: Sequence[str] = ()) -> None:
    """uint8 (T, H, W) -> a file in H.264 that any player shows. UserError when ffmpeg did not write it whole."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        ffmpeg = get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise UserError("mp4 needs ffmpeg: pip install 'adamas[video]'") from error
    height, width = (side - side % 2 for side in film.shape[1:])  # H.264 stores colour in squares of 2x2 pixels
    frames = memoryview(np.ascontiguousarray(film[:, :height, :width])).cast("B")
    source = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{height}", "-r", str(FPS), "-i", "-"]
    target = ["-c:v", "libx264", "-pix_fmt", "yuv420p", *options, "-f", "mp4", f"file:{path}"]
    done = subprocess.run([ffmpeg, "-v", "error", "-y", *source, *target], input=frames, stderr=subprocess.PIPE)
    if done.returncode:
        said = done.stderr.decode(errors="replace").splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"ffmpeg cannot write the mp4 ({said[0].split('] ')[-1]}): is there room on the disk?")


def _grey_levels(film: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (T, H, W) -> the place of each pixel's level among those there are, and these levels, uint8 (N, 3)."""
    found = film.flatten().bincount(minlength=256) > 0
    place = (found.cumsum(0) - 1).byte().numpy()
    return place[film.numpy()], found.nonzero().byte().expand(-1, 3).numpy()


def _colours(film: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The same of uint8 (T, H, W, 3)."""
    shifts = torch.tensor([16, 8, 0], dtype=torch.int32)
    found = torch.zeros(1 << 24, dtype=torch.bool)
    for frame in film:
        found[(frame.int() << shifts).sum(-1)] = True
    colours = found.nonzero()
    if len(colours) > 256:
        reduced = Image.fromarray(film.flatten(0, 1).numpy()).quantize(256, dither=Image.Dither.NONE)
        palette = np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)
        return np.array(reduced).reshape(film.shape[:3]), palette
    place = torch.zeros(1 << 24, dtype=torch.uint8)
    place[colours[:, 0]] = torch.arange(len(colours), dtype=torch.uint8)
    index = torch.stack([place[(frame.int() << shifts).sum(-1)] for frame in film])
    return index.numpy(), (colours >> shifts & 255).byte().numpy()
