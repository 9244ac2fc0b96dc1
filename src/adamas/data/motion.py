"""Small movers: where they are, when they change direction, and when an imagined rollout has lost track of them.

The ball, shots and pellets are small movers.

A ball of four pixels is a thousandth of a frame, and a loss that averages over pixels has as little to say about it.
Whether a pixel is near a small thing that moves depends on past frames alone, and so a weight on such pixels leaves the
best prediction what it was: it only says where to learn it first.

The ball of Breakout changes its direction in three frames of a hundred, and they are the ones that are hard to learn.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LENGTH = 6  # pixels: a thing is small if no row or column of it is this long
CONTRAST = 40  # grey levels by which it stands out
MOTION = 30  # grey levels by which a pixel changes where something moves
REACH = 5  # pixels around it that are near, a little farther than a ball flies in a step
BEND = 1.5  # pixels by which small things that turn miss the place where straight flight leads
LOOK_BACK = 3  # frames before one that say whether something turned in it


def near_small_movers(frames: Tensor) -> Tensor:
    """Frames in order, uint8 (B, T, H, W), T at least 2 -> bool (B, H, W): near where a small thing, bright or dark, was
    seen to have moved. Its whole trail counts: a ball that comes down behind the paddle flies up again from there."""
    return _near(_small_movers(frames).any(1))


def direction_changed(frames: Tensor) -> Tensor:
    """Frames in order, uint8 (T, H, W) -> bool (T,): whether the small things that move, taken together, did not fly
    straight on. With c their centre, |c[t] - 2 c[t-1] + c[t-2]| > BEND. False where one of these three frames shows none,
    and in the first LOOK_BACK."""
    movers = _small_movers(frames).float()  # (T-1, H, W)
    count = movers.sum((-2, -1))
    down, across = movers.sum(-1), movers.sum(-2)
    rows, columns = (torch.arange(float(n), device=frames.device) for n in frames.shape[-2:])
    centre = torch.stack([down @ rows, across @ columns], dim=-1) / count[:, None]  # (T-1, 2), NaN without movers
    bend = (centre[2:] - 2 * centre[1:-1] + centre[:-2]).norm(dim=-1)
    return F.pad(bend > BEND, (LOOK_BACK, 0))[: len(frames)]


def lost_track(frames: Tensor, imagined: Tensor) -> Tensor:
    """What happened and how it was imagined, uint8 (B, T, H, W) each -> bool (B, T-1): whether most of the small things that
    moved into frame t+1 are nowhere near in the dream, REACH pixels around. Where none moved, nothing is lost."""
    movers, found = _small_movers(frames), _near(_small_movers(imagined))
    return 2 * (movers & ~found).sum((-2, -1)) > movers.sum((-2, -1))


def small_movers_seen(frames: Tensor) -> Tensor:
    """Frames in order, uint8 (B, T, H, W) -> bool (B, T-1): whether any small thing moved into frame t+1."""
    return _small_movers(frames).flatten(-2).any(-1)


def _near(pixels: Tensor) -> Tensor:
    """bool (..., H, W) -> those that have one of `pixels` at most REACH away, down and across."""
    padded = F.pad(pixels.byte(), (REACH, REACH, REACH, REACH))
    return _running_max(_running_max(padded, -2, 2 * REACH + 1), -1, 2 * REACH + 1).bool()


def _small_movers(frames: Tensor) -> Tensor:
    """uint8 (..., T, H, W) -> bool (..., T-1, H, W): the pixels of small things, where they have moved to."""
    before, now = frames[..., :-1, :, :], frames[..., 1:, :, :]
    moving = before.maximum(now) - before.minimum(now) > MOTION
    return moving & (top_hat(now).maximum(top_hat(255 - now)) > CONTRAST)


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
