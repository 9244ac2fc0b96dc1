"""Frames of others: which axis is which, which values are black and white, and from there to 84x84 grey."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np

from adamas.config import SIZE
from adamas.conversion.settings import ImportOptions
from adamas.conversion.steps import Unsettled
from adamas.data.frames import to_frame
from adamas.utils.errors import UserError

COLOURS = (1, 3, 4)  # grey, RGB, RGBA
RANGES = {"0..255": (0.0, 255.0), "0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0)}


class Pixels(NamedTuple):
    """How frames are stored."""

    layout: str
    values: str

    def convert(self, block: np.ndarray) -> np.ndarray:
        """(N, ...) as stored -> uint8 (N, 84, 84)."""
        frames = self._bytes(self._colours_last(block))
        if frames.shape[1:] == (SIZE, SIZE):
            return frames
        out = np.empty((len(frames), SIZE, SIZE), np.uint8)
        for i, frame in enumerate(frames):
            out[i] = to_frame(frame)
        return out

    def _colours_last(self, block: np.ndarray) -> np.ndarray:
        """(N, H, W), or (N, H, W, 3)."""
        if self.layout == "HW":
            return block
        if self.layout in ("HWS", "SHW"):
            return np.ascontiguousarray(block[..., -1] if self.layout == "HWS" else block[:, -1])
        colours = np.moveaxis(block, 1, -1) if self.layout == "CHW" else block
        return np.ascontiguousarray(colours[..., 0] if colours.shape[-1] < 3 else colours[..., :3])

    def _bytes(self, frames: np.ndarray) -> np.ndarray:
        if frames.dtype == np.uint8 and self.values == "0..255":
            return frames
        low, high = RANGES[self.values]
        return ((frames.astype(np.float32) - low) * (255 / (high - low))).round().clip(0, 255).astype(np.uint8)

    def describe(self, shape: tuple[int, ...], dtype: np.dtype) -> str:
        axes = dict(zip(self.layout, shape[1:], strict=True))
        colours = {1: "grey", 3: "RGB", 4: "RGBA"}[axes.get("C", 1)]
        stacked = f", the newest of {axes['S']} stacked frames" if "S" in axes else ""
        return f"obs is {axes['W']}x{axes['H']} {colours} ({self.layout}), {dtype} {self.values}{stacked}"


def layout_of(shape: tuple[int, ...], options: ImportOptions, name: str) -> str:
    """Of obs (N, ...). UserError for a shape that is no row of frames, or could be two."""
    if options.layout != "auto":
        if not _fits(shape[1:], options.layout):
            raise UserError(f"{name}: obs has shape {shape}, which is not N frames of layout={options.layout}")
        return options.layout
    fits = [layout for layout in ("HW", "HWC", "CHW", "HWS", "SHW") if _fits(shape[1:], layout, stacked=(4,))]
    if not fits:
        raise UserError(
            f"{name}: obs has shape {shape}, but frames (N, H, W), (N, H, W, C) or (N, C, H, W) are expected"
        )
    if len(fits) > 1:
        ways = " or ".join(f"layout={layout}" for layout in fits)
        raise Unsettled(f"{name}: obs of shape {shape} can be read in {len(fits)} ways: set {ways}")
    return fits[0]


def _fits(shape: tuple[int, ...], layout: str, stacked: Collection[int] = range(2, 17)) -> bool:
    """Whether (H, W), or (H, W, C) in some order, can be a frame: no side of fewer than 8 pixels."""
    if len(shape) != len(layout):
        return False
    axes = dict(zip(layout, shape, strict=True))
    if min(axes["H"], axes["W"]) < 8:
        return False
    return axes.get("C", 1) in COLOURS and axes.get("S", 4) in stacked


def values_of(dtype: np.dtype, blocks: Iterable[np.ndarray], options: ImportOptions, name: str) -> str:
    """Which numbers are black and white. UserError for values that are none of these, or not finite."""
    if dtype.kind not in "uifb":
        raise UserError(f"{name}: obs is {dtype}, but pixels are bytes or numbers")
    if dtype.kind == "b":
        return "0..1"
    if dtype == np.uint8 and options.values == "0..255":
        return options.values
    low, high = np.inf, -np.inf
    for block in blocks:
        ends = float(block.min()), float(block.max())  # NaN if any is
        if not np.isfinite(ends).all():
            raise UserError(f"{name}: obs holds a pixel that is not finite")
        low, high = min(low, ends[0]), max(high, ends[1])
        if dtype == np.uint8 and high > 1 and options.values == "auto":
            return "0..255"
    return _range_of(low, high, dtype, options, name)


def _range_of(low: float, high: float, dtype: np.dtype, options: ImportOptions, name: str) -> str:
    chosen = options.values
    if chosen == "auto":
        if dtype.kind != "f" and low >= 0 and high <= 1 and high > low:
            raise Unsettled(f"{name}: obs is {dtype} from 0 to 1: set values=0..1, or values=0..255 if it is that dark")
        kinds = RANGES if dtype.kind == "f" else ("0..255",)
        chosen = next((k for k in ("0..1", "-1..1", "0..255") if k in kinds and _within(low, high, k)), "0..255")
    if not _within(low, high, chosen):
        wanted = " or ".join(RANGES) if options.values == "auto" else f"values={chosen}"
        raise UserError(f"{name}: obs goes from {low:g} to {high:g}, but {wanted} is expected")
    return chosen


def _within(low: float, high: float, values: str) -> bool:
    least, most = RANGES[values]
    return least <= low and high <= most
