"""Where small things move: the ball, shots, pellets.

A ball of four pixels is a thousandth of a frame, and a loss that averages over pixels has as little to say about it.
Whether a pixel is near a small thing that moves depends on past frames alone, and so a weight on such pixels leaves the
best prediction what it was: it only says where to learn it first.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

LENGTH = 6  # pixels: a thing is small if no row or column of it is this long
CONTRAST = 40  # grey levels by which it stands out
MOTION = 30  # grey levels by which a pixel changes where something moves
REACH = 5  # pixels around it that are near, a little farther than a ball flies in a step


def near_small_movers(frames: Tensor) -> Tensor:
    """Frames in order, uint8 (B, T, H, W), T at least 2 -> bool (B, H, W): near where a small thing, bright or dark, was
    seen to have moved. Its whole trail counts: a ball that comes down behind the paddle flies up again from there."""
    before, now = frames[:, :-1], frames[:, 1:]
    moving = before.maximum(now) - before.minimum(now) > MOTION
    small = top_hat(now).maximum(top_hat(255 - now)) > CONTRAST
    trail = F.pad((moving & small).any(1).byte(), (REACH, REACH, REACH, REACH))
    return _running_max(_running_max(trail, -2, 2 * REACH + 1), -1, 2 * REACH + 1).bool()


def top_hat(frame: Tensor) -> Tensor:
    """uint8 (..., H, W) -> what is left of a frame without its bright lines of LENGTH pixels down or across, uint8
    (..., H, W): the top-hat transform, the frame less its opening by either line."""
    return frame - _opening(frame, -2).maximum(_opening(frame, -1))


def _opening(frame: Tensor, dim: int) -> Tensor:
    """The brightest grey that a line of LENGTH pixels through each pixel has throughout."""
    least = 255 - _running_max(255 - frame, dim, LENGTH)
    ends = (LENGTH - 1, LENGTH - 1)
    return _running_max(F.pad(least, ends if dim == -1 else (0, 0, *ends)), dim, LENGTH)


def _running_max(x: Tensor, dim: int, size: int) -> Tensor:
    """The largest of each `size` neighbours along `dim`, which becomes size - 1 shorter."""
    seen = 1
    while seen < size:
        step = min(seen, size - seen)
        rest = x.size(dim) - step
        x = x.narrow(dim, 0, rest).maximum(x.narrow(dim, step, rest))
        seen += step
    return x
