"""Draws the TensorBoard curves of a run as one picture: `python scripts/curves.py RUN PICTURE.png`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from adamas.training.run_records import read_scalars
from adamas.utils.errors import exit_code

COLUMNS = 4
X_AXIS = {"collect": "agent steps", "evaluation": "epoch", "final_evaluation": "epoch", "frechet": "epoch"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    arguments = parser.parse_args()
    if not (arguments.run / "tensorboard").is_dir():
        parser.error(f"{arguments.run} is not a run folder: it has no tensorboard folder")
    draw(arguments.run, arguments.picture)


def draw(run: Path, picture: Path) -> None:
    """One panel a scalar, and one a figure of detail: that of random play, with a line a horizon."""
    scalars = read_scalars(run / "tensorboard")
    shown = panels(list(scalars))
    rows = -(-len(shown) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(4 * COLUMNS, 2.4 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(shown) :]:
        axis.remove()
    for axis, (title, tags) in zip(axes.flat, shown.items(), strict=False):
        for tag in tags:
            points = scalars[tag]
            label = f"step {tag.rpartition('_')[2]}"
            axis.plot(
                [p.step for p in points],
                [p.value for p in points],
                marker="." if len(points) < 30 else None,
                label=label,
            )
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(
            "epoch" if title.startswith("detail_") else X_AXIS.get(title.partition("/")[0], "updates"), fontsize=8
        )
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
        if title.startswith("detail_"):
            axis.legend(fontsize=6)
    figure.suptitle(f"{run.parent.name} {run.name}")
    figure.savefig(picture, dpi=80)


def panels(tags: list[str]) -> dict[str, list[str]]:
    """The title of each panel and the tags that it shows, their horizons in order."""
    grouped: dict[str, list[str]] = {}
    for tag in sorted(tags, key=lambda tag: (tag.partition("_at_")[0], len(tag), tag)):
        title, found, _ = tag.partition("/random_play_at_")
        if found:
            grouped.setdefault(f"{title} (random play)", []).append(tag)
        elif not tag.startswith(("speed/", "detail_")):
            grouped[tag] = [tag]
    return grouped


if __name__ == "__main__":
    sys.exit(exit_code(main))
