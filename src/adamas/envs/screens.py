"""What a game shows: which observations are pictures, and how they become screens. `adamas.data.frames` makes a screen a frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box

LEAST_SIDE = 16  # pixels: an observation with shorter sides is a table of numbers, not a picture


def to_rgb(screen: np.ndarray) -> np.ndarray:
    """uint8 (height, width) or (height, width, 3) -> (height, width, 3)."""
    return screen if screen.ndim == 3 else np.repeat(screen[..., None], 3, axis=2)


def holds_pictures(space: Any) -> bool:
    """Whether observations of this space are pictures: HW, HWC or CHW with 1 or 3 channels, uint8, or floats in 0..1."""
    if not isinstance(space, Box) or _plane(space.shape) is None or min(_plane(space.shape)) < LEAST_SIDE:
        return False
    floats = np.issubdtype(space.dtype, np.floating) and space.low.min() >= 0 and space.high.max() <= 1
    return bool(space.dtype == np.uint8 or floats)


def is_picture(array: np.ndarray) -> bool:
    """The same of one array, whatever its size."""
    if _plane(array.shape) is None or not array.size:
        return False
    return array.dtype == np.uint8 or (array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1)


def to_screen(picture: np.ndarray) -> np.ndarray:
    """Such a picture as uint8 (height, width) or (height, width, 3)."""
    if picture.dtype != np.uint8:
        picture = (picture * 255).round().astype(np.uint8)
    if picture.ndim == 3 and picture.shape[-1] not in (1, 3):
        picture = np.moveaxis(picture, 0, -1)
    return np.ascontiguousarray(picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture)


def _plane(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Height and width of pictures of this shape; None where it is of no picture."""
    if len(shape) == 2:
        return shape
    if len(shape) != 3:
        return None
    if shape[-1] in (1, 3):
        return shape[:2]
    return shape[1:] if shape[0] in (1, 3) else None
