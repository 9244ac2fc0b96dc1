"""Draws the TensorBoard curves of a run as one picture: `python scripts/curves.py RUN PICTURE.png`."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

COLUMNS = 4
X_AXIS = {"collect": "agent steps", "evaluation": "epoch", "final_evaluation": "epoch", "dream": "epoch"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    arguments = parser.parse_args()
    if not (arguments.run / "tensorboard").is_dir():
        parser.error(f"{arguments.run} is not a run folder: it has no tensorboard folder")
    draw(arguments.run, arguments.picture)


def draw(run: Path, picture: Path) -> None:
    """One panel a scalar, in the order of the phases."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    tags = sorted(tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/"))
    rows = -(-len(tags) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(4 * COLUMNS, 2.4 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(tags) :]:
        axis.remove()
    for axis, tag in zip(axes.flat, tags, strict=False):
        points = events.Scalars(tag)
        axis.plot([p.step for p in points], [p.value for p in points], marker="." if len(points) < 30 else None)
        axis.set_title(tag, fontsize=9)
        axis.set_xlabel(X_AXIS.get(tag.partition("/")[0], "updates"), fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    figure.suptitle(f"{run.parent.name} {run.name}")
    figure.savefig(picture, dpi=80)


if __name__ == "__main__":
    main()
