"""How much of the detail of reality an imagined film keeps.

A figure that averages over all pixels cannot tell: the ball of Breakout is 4 pixels of 7,056, and a film without it still
has 37 to 40 dB PSNR. So moving pixels and small objects are counted by themselves, in each frame and in its change since
the frame before. Films are uint8 (N, T, H, W), films of changes int16. Everything is pooled over the N films before it is
divided, and each figure is float32 (T,): one value a time step, NaN where there is nothing to count.

With b the background, x the imagined frame and y the real one, a pixel

    moves in x  if |x - b| > THRESHOLD        (in y likewise)
    is right    if |x - y| <= THRESHOLD

One threshold serves both, so what moves in y and is missing in x, or the other way round, is never right.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

THRESHOLD = 25  # grey levels: more than this from the background is "moving", at most this from the truth is "right"
LARGEST = 12  # pixels of a small object


class Detail(NamedTuple):
    """How much of the detail of reality films keep at each of their T steps: each float (T,), NaN without anything to count.

    1 is right in all but `psnr` and `small_objects`. The `change_` figures are those of the frames' changes since the step
    before, against a background of 0: a ghost that trails the ball, or a ball that stands still, shows there.
    """

    psnr: Tensor  # dB, at most 99
    ssim: Tensor
    moving_recall: Tensor  # of the real frames' moving pixels, the share that is right
    moving_precision: Tensor  # of the imagined frames' moving pixels, the share that is right
    small_object_recall: Tensor  # of the real frames' small objects, the share that is at least half right
    small_object_precision: Tensor  # of the imagined frames' small objects, the share that is at least half right
    small_objects: Tensor  # how many the real frames hold
    high_frequency_ratio: Tensor  # imagined / real: below 1 is blur, above 1 is noise
    change_recall: Tensor
    change_precision: Tensor
    change_object_recall: Tensor  # a small object that moves changes as a whole: where it was and where it is
    change_frequency_ratio: Tensor


def background(frames: Tensor) -> Tensor:
    """Median of each pixel: uint8 (..., H, W) -> uint8 (H, W). Of an even count, the lower of the two in the middle."""
    return frames.flatten(0, -3).median(dim=0).values


def measure(imagined: Tensor, real: Tensor, previous: Tensor, background: Tensor) -> Detail:
    """All figures at each step, worked out on the CPU one step at a time: about 1 ms a frame.

    Args:
        imagined, real: uint8 (N, T, H, W), H and W at least 6.
        previous: uint8 (N, H, W), the last real frame before both.
        background: uint8 (H, W).
    """
    background = background.cpu()
    imagined, real = (torch.cat([previous[:, None], film], dim=1).cpu() for film in (imagined, real))  # (N, T+1, H, W)
    steps = []
    for t in range(real.shape[1] - 1):
        x, y = imagined[:, t : t + 2], real[:, t : t + 2]  # two frames: one change, and the later frame
        steps.append(_measure(x[:, 1:], y[:, 1:], changes(x), changes(y), background))
    return Detail(*(torch.cat(column) for column in zip(*steps, strict=True)))


def _measure(x: Tensor, y: Tensor, dx: Tensor, dy: Tensor, background: Tensor) -> tuple[Tensor, ...]:
    still = torch.zeros_like(background)
    change_object_recall, _, _ = small_objects(dx, dy, still)
    return (
        psnr(x, y),
        ssim(x, y),
        *moving_pixels(x, y, background),
        *small_objects(x, y, background),
        high_frequency_ratio(x, y),
        *moving_pixels(dx, dy, still),
        change_object_recall,
        high_frequency_ratio(dx, dy),
    )


def changes(film: Tensor) -> Tensor:
    """What each frame adds to the one before, in grey levels -255..255: uint8 (N, T+1, H, W) -> int16 (N, T, H, W)."""
    return film.short().diff(dim=1)


def psnr(imagined: Tensor, real: Tensor) -> Tensor:
    """Peak signal-to-noise ratio 10 log10(255^2 / mean (x - y)^2) in dB, at most 99: (N, T, H, W) twice -> (T,)."""
    mse = (imagined.float() - real.float()).square().mean(dim=(0, 2, 3))
    return (10 * torch.log10(255**2 / mse)).clamp_max(99.0)


def ssim(imagined: Tensor, real: Tensor) -> Tensor:
    """Mean structural similarity of Wang et al. 2004, equation 13: uint8 (N, T, H, W) twice -> float (T,).

        (2 mx my + C1) (2 cov + C2) / ((mx^2 + my^2 + C1) (vx + vy + C2)),  C1 = (.01 * 255)^2,  C2 = (.03 * 255)^2

    Means, variances and covariance of each pixel's surroundings: a Gaussian window of 11x11 pixels and sigma 1.5 over the
    frame and its mirror image beyond the rim. So torchmetrics does it; the authors leave out the rim, where the score is.
    """
    x, y = imagined.double(), real.double()
    vertical, horizontal = _windows(x.shape[-2]), _windows(x.shape[-1])
    mx, my, mxy, squares = vertical @ torch.stack([x, y, x * y, x * x + y * y]) @ horizontal.T  # (N, T, H, W)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    product, mean_squares = mx * my, mx * mx + my * my
    luminance = (2 * product + c1) / (mean_squares + c1)
    structure = (2 * (mxy - product) + c2) / (squares - mean_squares + c2)
    return (luminance * structure).mean(dim=(0, 2, 3)).float()


def _windows(size: int) -> Tensor:
    """Float (size, size): row i holds the weights, of sum 1, of the window of 11 pixels around pixel i."""
    offset = torch.arange(-5, size + 5) - torch.arange(size)[:, None]  # (size, size+10)
    weights = torch.exp(-offset.double().square() / (2 * 1.5**2)) * (offset.abs() <= 5)
    mirror = torch.nn.functional.pad(torch.eye(size, dtype=torch.double)[None], (5, 5), mode="reflect")[0]
    return weights / weights.sum(dim=1, keepdim=True) @ mirror.T


def moving_pixels(imagined: Tensor, real: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
    """Recall and precision of moving pixels: integers (N, T, H, W) twice and (H, W) -> float (T,) twice.

        recall = #(moves in y and right) / #(moves in y),  precision = #(moves in x and right) / #(moves in x)

    A lost thing lowers recall, a false one precision, one in the wrong place both.
    """
    right = _right(imagined, real)
    moving = (_moves(film, background) for film in (real, imagined))
    recall, precision = ((m & right).sum(dim=(0, 2, 3)) / m.sum(dim=(0, 2, 3)) for m in moving)
    return recall, precision


def small_objects(imagined: Tensor, real: Tensor, background: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Recall and precision of small objects, and how many are real: as `moving_pixels`, plus float (T,).

    An object is an 8-connected component of moving pixels, small up to LARGEST of them. It counts if at least half of its
    pixels are right: objects of the real frames for recall, of the imagined ones for precision. A lost ball lowers recall,
    a second or a false one lowers precision, and one that is off by its own size or more lowers both.

    What to know when reading them:
        A ball that touches the paddle is part of a larger component, hence no small object in those frames.
        A ghost apart from the ball is a false object. One that touches it makes the two a single object, false if the ghost
        is the larger part, and not small any more above LARGEST: `moving_precision` and the figures of change see it too.
        A ball in front of a false patch of its own grey is found: `moving_precision` sees the patch.
        What is fainter than 2 * THRESHOLD may lose half its contrast and count as right, but may not vanish.
        Any small component counts, be it a digit of the score that differs from the background or the rim of the paddle.
    """
    right = _right(imagined, real)
    found, there = _count_objects(_moves(real, background), right)
    true, claimed = _count_objects(_moves(imagined, background), right)
    return found / there, true / claimed, there


def high_frequency_ratio(imagined: Tensor, real: Tensor) -> Tensor:
    """Energy of fine detail, imagined / real: below 1 is blur, above 1 is noise; integers (N, T, H, W) twice -> float (T,).

    The energy is the sum over the inner pixels of the square of the Laplacian 4 x - (left + right + above + below). Mind
    that still detail counts too, and in most games outweighs what moves: the ratio of the changes does not see it.
    """
    ours, theirs = _laplacian_energy(imagined), _laplacian_energy(real)
    return torch.where(theirs > 0, ours / theirs, torch.nan)


def _laplacian_energy(film: Tensor) -> Tensor:
    """Integers (N, T, H, W), -255..255 -> int64 (T,), in grey levels squared."""
    x = film.int()
    middle = x[..., 1:-1, 1:-1]
    around = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return (4 * middle - around).square().sum(dim=(0, 2, 3))


def _moves(film: Tensor, background: Tensor) -> Tensor:
    return (film.short() - background).abs() > THRESHOLD


def _right(imagined: Tensor, real: Tensor) -> Tensor:
    return (imagined.short() - real).abs() <= THRESHOLD


def _count_objects(moving: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """How many small objects are at least half right, and how many there are: bool (N, T, H, W) twice -> float (T,) twice."""
    counts = [_count_objects_at(moving[:, t], right[:, t]) for t in range(moving.shape[1])]
    good, total = torch.tensor(counts, dtype=torch.float32).T
    return good, total


def _count_objects_at(moving: Tensor, right: Tensor) -> tuple[int, int]:
    """Small objects of one step that are right, and all of them; both masks are bool (N, H, W).

    The N frames are one tall picture, with a still row between neighbours.
    """
    moving, right = (torch.nn.functional.pad(x, (0, 0, 0, 1)).flatten(0, 1).numpy() for x in (moving, right))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(moving.astype(np.uint8), connectivity=8)
    pixels, right_pixels = stats[:, cv2.CC_STAT_AREA], np.bincount(labels[right], minlength=count)
    small = pixels <= LARGEST
    small[0] = False  # what does not move
    return int((small & (2 * right_pixels >= pixels)).sum()), int(small.sum())
