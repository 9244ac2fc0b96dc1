"""Figures with words on them: detail over a dream and over checkpoints, and a contact sheet of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from torch import Tensor

from adamas.evaluation.detail import Detail, background, small_objects
from adamas.evaluation.dreams import HORIZONS, Dreams

FIGURES = {  # what is drawn, and whether 1 is right
    "psnr": "PSNR (dB)",
    "moving_recall": "moving pixels found",
    "small_object_recall": "small objects found",
    "change_recall": "changes found",
    "ssim": "SSIM",
    "moving_precision": "moving pixels, precision",
    "small_object_precision": "small objects, precision",
    "change_frequency_ratio": "energy of fine change\n(1 right, below blur)",
}
GROWTH = ("small_object_recall", "moving_recall", "change_recall", "change_frequency_ratio", "psnr")
MOST_PICTURES = 10  # columns of a contact sheet
STYLES = {"copy": {"color": "grey", "linestyle": ":"}, "real": {"color": "black", "linestyle": "--", "linewidth": 0.8}}


class Column(NamedTuple):
    """One checkpoint."""

    checkpoint: str  # the name of its file
    updates: int  # of the denoiser
    dreams: Dreams
    detail: Detail


def detail_curves(rows: Mapping[str, Detail], title: str, path: Path) -> None:
    """Every figure of `FIGURES` over the steps into the dream, a line for each of `rows`."""
    columns = len(FIGURES) // 2
    figure, axes = plt.subplots(2, columns, figsize=(3.6 * columns, 6), layout="constrained")
    for axis, (name, label) in zip(axes.flat, FIGURES.items(), strict=True):
        for row, detail in rows.items():
            if (name, row) != ("psnr", "real"):  # nothing but its cap
                values = getattr(detail, name)
                axis.plot(
                    range(1, len(values) + 1),
                    values,
                    label=row,
                    marker="" if len(values) > 30 else ".",
                    **STYLES.get(row, {}),
                )
        _dress(axis, label, "steps into the dream", ratio=name != "psnr")
    axes.flat[0].legend(fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def contact_sheet(checkpoints: Sequence[Column], title: str, path: Path) -> None:
    """The liveliest dream by each checkpoint beside reality, a row a horizon; of many checkpoints MOST_PICTURES, as evenly as
    can be."""
    horizons = [t for t in HORIZONS if t <= checkpoints[0].dreams.real.shape[1]]
    films = {
        "real": checkpoints[0].dreams.real,
        **{f"{c.updates:,} updates": c.dreams.imagined for c in _spread(checkpoints)},
    }
    clip = _liveliest(checkpoints[0].dreams)
    size = 1.5 * len(films) + 0.6, 1.55 * len(horizons) + 0.4
    figure, axes = plt.subplots(len(horizons), len(films), squeeze=False, figsize=size, layout="constrained")
    for row, t in zip(axes, horizons, strict=True):
        for axis, (name, film) in zip(row, films.items(), strict=True):
            _show(axis, film[clip, t - 1], name if t == horizons[0] else "")
        row[0].set_ylabel(f"step {t}", fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def growth_curves(checkpoints: Mapping[int, Detail], title: str, path: Path) -> None:
    """The figures of `GROWTH` over the denoiser's updates, a line a horizon."""
    steps = min(len(detail.psnr) for detail in checkpoints.values())
    figure, axes = plt.subplots(1, len(GROWTH), figsize=(3.2 * len(GROWTH), 3.4), layout="constrained")
    for axis, name in zip(axes, GROWTH, strict=True):
        for t in (t for t in HORIZONS if t <= steps):
            values = [float(getattr(detail, name)[t - 1]) for detail in checkpoints.values()]
            axis.plot(list(checkpoints), values, marker=".", label=f"step {t}")
        _dress(axis, FIGURES[name], "denoiser updates", ratio=name != "psnr")
    axis.legend(fontsize=7)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _liveliest(dreams: Dreams) -> int:
    """The one whose last real frame holds most small objects that are elsewhere one step later: in Breakout, one in
    which the ball flies already, since no model can know that and where it is about to be served."""
    still = background(dreams.real)
    before, after = dreams.previous[:, None], dreams.real[:, :1]  # (N, 1, H, W)
    left = []
    for x, y in zip(after.split(1), before.split(1), strict=True):
        stayed, _, objects = small_objects(x, y, still)
        left.append(float((objects * (1 - stayed)).nan_to_num()))
    return left.index(max(left))


def _spread(checkpoints: Sequence[Column]) -> list[Column]:
    count = min(MOST_PICTURES, len(checkpoints))
    last = len(checkpoints) - 1
    return [checkpoints[round(i * last / max(count - 1, 1))] for i in range(count)]


def _show(axis: plt.Axes, frame: Tensor, title: str) -> None:
    axis.imshow(frame, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_title(title, fontsize=8)
    axis.set(xticks=[], yticks=[])


def _dress(axis: plt.Axes, title: str, x_label: str, ratio: bool) -> None:
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(x_label, fontsize=8)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.3)
    if ratio:
        low, high = axis.get_ylim()
        axis.set_ylim(min(low, 0), max(high, 1.05))
