"""The data card of a run, made once: before its first update."""

from __future__ import annotations

from pathlib import Path

from adamas.config import Config
from adamas.data.replay import Replay
from adamas.data_card import output
from adamas.data_card.card import make_card
from adamas.data_card.source import ReplaySource
from adamas.utils.logger import Logger

MOST_ROWS = 10_000  # of a larger dataset, slices from everywhere: a few seconds


def show_card(replay: Replay, config: Config, action_names: tuple[str, ...], folder: Path, logger: Logger) -> list[str]:
    """Writes the card to `folder` and to TensorBoard, and returns its findings. Draws no random number of the run."""
    source = ReplaySource(replay, MOST_ROWS)
    card = make_card(source, action_names)
    of = f" of {replay.num_rows:,}" if source.rows < replay.num_rows else ""
    text = output.write(card, f"{config.dataset or config.env}: {source.rows:,}{of} rows", folder)
    logger.text("data/card", text, 0)
    logger.picture("data/card", (folder / "card.png").read_bytes(), 0)
    return card.findings
