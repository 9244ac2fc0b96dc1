"""`adamas data card` and `adamas data filter`: what is typed, and what is printed and written."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from adamas.config.arguments import MISSING, run_command, with_names
from adamas.config.schema import setting

CARD_USAGE = """
Says what a dataset covers, what is wrong with it, and where more data would help.

usage: adamas data card DIR [name=value ...]

  adamas data card runs/Breakout/DATE-TIME/replay
  adamas data card my-data env=Pong
  adamas data card my-data run=RUN        also where the dreams of that run diverge

DIR is a folder of .npz files, or one such file: a dataset, a run's replay, a run's recordings. Prints the card and writes
card.md, card.json and card.png to DIR/card. Findings are at the top: a dataset as it should be has none.
"""
FILTER_USAGE = """
Copies a dataset without the rows that its data card says are to be dropped. The dataset itself stays as it is.

usage: adamas data filter DIR OUT [name=value ...]
"""


@dataclass
class CardOptions:
    """What is looked at."""

    dir: str = setting(MISSING, "the dataset")
    env: Optional[str] = setting(
        None, "the game, for the names of its actions; null: that of the run that DIR belongs to"
    )
    run: Optional[str] = setting(None, "a run folder, whose world model dreams from the dataset")
    device: str = setting("auto", "of the dreams: auto, cpu, cuda, cuda:1, mps")
    out: Optional[str] = setting(None, "where to write; null: DIR/card")


@dataclass
class FilterOptions:
    """What is copied where."""

    dir: str = setting(MISSING, "the dataset")
    out: str = setting(MISSING, "a new folder")
    env: Optional[str] = setting(
        None, "the game, to know which actions it has; null: that of the run that DIR belongs to"
    )


def main(argv: list[str]) -> int:
    """The exit code. The first word is the command, `card` or `filter`."""
    command, *words = argv
    if command == "card":
        return run_command(CardOptions, with_names(words, ("dir",)), CARD_USAGE, run_card)
    return run_command(FilterOptions, with_names(words, ("dir", "out")), FILTER_USAGE, run_filter)


def run_card(options: CardOptions) -> None:
    from adamas.cli import dataset as named
    from adamas.data_card import output
    from adamas.utils.console import progress_bar, say
    from adamas.utils.quoting import as_typed

    path = Path(options.dir)
    dataset = named.open_dataset(path, options.env)
    with progress_bar(2 * dataset.source.rows, "row", delay=0.5) as bar:
        card = named.card_of(dataset, Path(options.run) if options.run else None, options.device, bar)
    title = f"{path}: {dataset.source.rows:,} rows"
    folder = Path(options.out) if options.out else (path if path.is_dir() else path.parent) / "card"
    text = output.write(card, title, folder, command=as_typed(sys.argv))
    say(f"{title}\n\n{text}\nsaved to {folder}")


def run_filter(options: FilterOptions) -> None:
    from adamas.cli import dataset as named
    from adamas.data_card import quality
    from adamas.data_card.filter import write_filtered
    from adamas.data_card.scan import scan
    from adamas.utils.console import progress_bar, say, warn

    dataset = named.open_dataset(Path(options.dir), options.env)
    source = dataset.source
    for line in source.broken:
        warn(f"{line}; left out")
    with progress_bar(2 * source.rows, "row", delay=0.5) as bar:
        names = dataset.action_names
        stages = quality.stages(source, scan(source, bar.update), len(names) if names else None)
        rows = write_filtered(source, stages, Path(options.out), bar.update)
    for stage in stages:
        say(f"{stage.name:<15} {int(stage.dropped.sum()):>9,} rows dropped: {quality.MEANING[stage.name]}")
    say(f"{'kept':<15} {rows:>9,} rows, in {options.out}")
    (Path(options.out) / "filter.json").write_text(
        json.dumps({"from": options.dir, "dropped": {stage.name: int(stage.dropped.sum()) for stage in stages}}) + "\n"
    )
