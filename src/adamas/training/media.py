"""Where the pictures and the detail figures of an evaluation go: TensorBoard and the run folder."""

from __future__ import annotations

from pathlib import Path

from adamas.evaluation.evaluate import Evaluation
from adamas.evaluation.tables import at_horizons, each_horizon, markdown, spread_in_words
from adamas.utils.images import gif, png
from adamas.utils.logger import Logger


def show(evaluation: Evaluation, logger: Logger, folder: Path, epoch: int) -> None:
    """Writes `epoch-0010.gif`, `.png` and `-trajectory.png` to the folder, and all of it to TensorBoard."""
    show_pictures(evaluation, logger, folder, f"epoch-{epoch:04d}", epoch)
    for name, detail in evaluation.detail.items():
        for figure, values in at_horizons(detail).items() if name != "real" else ():  # whose figures are in the table
            for horizon, value in values.items():
                if value is not None:
                    logger.scalar(f"detail_{figure}/{name}_at_{horizon}", value, epoch)
    for horizon, value in each_horizon(evaluation.spread).items():
        if value is not None:
            logger.scalar(f"detail_spread/random_play_at_{horizon}", value, epoch)
    logger.text("detail", f"{markdown(evaluation.detail)}\n\n{spread_in_words(evaluation.spread)}", epoch)


def show_pictures(evaluation: Evaluation, logger: Logger, folder: Path, name: str, epoch: int) -> None:
    """Writes `name.gif`, `name.png` and `name-trajectory.png` to the folder and to TensorBoard."""
    pictures = {
        "moving": (f"{name}.gif", gif(evaluation.film)),
        "still": (f"{name}.png", png(evaluation.grid)),
        "trajectory": (f"{name}-trajectory.png", png(evaluation.trajectory)),
    }
    folder.mkdir(exist_ok=True)
    for tag, (file, data) in pictures.items():
        (folder / file).write_bytes(data)
        logger.picture(f"dream/{tag}", data, epoch)
