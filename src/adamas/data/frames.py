"""From a screen to a frame, from frames as bytes to frames as floats, and how networks are shown changes."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from adamas.config import SIZE

INPUT_CHANGE_SCALE = 32.0  # of the changes that a network reads: on Breakout their standard deviation is 1/32


def to_frame(screen: np.ndarray) -> np.ndarray:
    """A picture, uint8 (height, width) or RGB (height, width, 3), as a frame, uint8 (84, 84): its luminance, resized. A larger one is
    averaged, and of one that is smaller on both sides the pixels become squares."""
    grey = screen if screen.ndim == 2 else cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY)
    if grey.shape == (SIZE, SIZE):
        return grey.copy()
    enlarged = max(grey.shape) < SIZE
    return cv2.resize(grey, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST if enlarged else cv2.INTER_AREA)


def to_float(frame: Tensor) -> Tensor:
    """uint8 or int16 (...), 0..255 -> float32 of the same shape in [-1, 1]."""
    return frame.to(torch.float32, copy=True).div_(127.5).sub_(1)


def to_uint8(x: Tensor) -> Tensor:
    """Float (...) in [-1, 1] -> uint8 of the same shape. Rounds: all 256 grey levels survive a round trip."""
    return (x.float().clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)


def with_changes(frames: Tensor, n: int) -> Tensor:
    """Float (B, T, H, W), in order -> (B, T-n+1, n, H, W): each n frames in a row as the newest one, then the scaled
    changes that led to it. The same numbers, but what moves no longer hides among what stands still."""
    changes = (frames[:, 1:] - frames[:, :-1]).mul_(INPUT_CHANGE_SCALE)
    return torch.cat([frames[:, n - 1 :, None], changes.unfold(1, n - 1, 1).movedim(-1, 2)], dim=2)
