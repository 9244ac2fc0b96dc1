"""Detail figures as tables: for TensorBoard, for a terminal and for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from adamas.evaluation.detail import Detail
from adamas.evaluation.dreams import HORIZONS
from adamas.evaluation.frechet import Frechet

COLUMNS = {  # short enough for a terminal
    "psnr": "PSNR",
    "ssim": "SSIM",
    "moving_recall": "moving recall",
    "moving_precision": "moving prec.",
    "small_object_recall": "object recall",
    "small_object_precision": "object prec.",
    "small_objects": "objects",
    "high_frequency_ratio": "fine energy",
    "change_recall": "change recall",
    "change_precision": "change prec.",
    "change_object_recall": "change obj. recall",
    "change_frequency_ratio": "change energy",
}


def at_horizons(detail: Detail) -> dict[str, dict[str, float | None]]:
    """{figure: {horizon: value}}, None where there was nothing to count."""
    return {name: each_horizon(values) for name, values in detail._asdict().items()}


def each_horizon(values: Tensor) -> dict[str, float | None]:
    """{horizon: value} of float (T,), None where there was nothing to count."""
    return {str(t): _number(values[t - 1].item()) for t in HORIZONS if t <= len(values)}


def at_all_steps(detail: Detail) -> dict[str, list[float | None]]:
    """{figure: [value at step 1, 2, ...]}."""
    return {name: each_step(values) for name, values in detail._asdict().items()}


def each_step(values: Tensor) -> list[float | None]:
    """[value at step 1, 2, ...] of float (T,)."""
    return [_number(value) for value in values.tolist()]


def spread_in_words(spread: Tensor) -> str:
    """One line on `dreams.spread`."""
    known = {t: value for t, value in each_horizon(spread).items() if value is not None}
    if not known:
        return "Dreams that differ in their noise alone change nothing"
    levels, steps = (", ".join(texts) for texts in ([f"{value:.1f}" for value in known.values()], known))
    return (
        f"Dreams that differ in their noise alone are {levels} grey levels apart at {steps} steps, where either changes"
    )


def plain(distance: Frechet) -> dict[str, float | str | None]:
    """As JSON takes it: no ratio where all real frames are the same."""
    ratio = distance.ratio if math.isfinite(distance.ratio) else None
    return {**distance._asdict(), "ratio": ratio}


def markdown(rows: Mapping[str, Detail]) -> str:
    """A Markdown table with a line for each horizon and each of `rows`, named by its key."""
    lines = [["steps ahead", "film", *COLUMNS.values()]]
    for t in HORIZONS:
        for name, detail in rows.items():
            if t <= len(detail.psnr):
                lines.append([str(t), name, *(_text(key, getattr(detail, key)[t - 1].item()) for key in COLUMNS)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _text(figure: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    digits = {"psnr": 1, "small_objects": 0}.get(figure, 3)
    return f"{value:.{digits}f}"
