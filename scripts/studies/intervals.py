"""Which games a run stands above random play in: `python scripts/studies/intervals.py results/model-free`.

Prints the mean return of the full games at the end of each run, of one seed, with its 95% interval, beside those of random play
in this emulator (results/random-play.json). Two means differ where their intervals lie apart. Several folders stand side by side,
and each is compared with the first too. With --first the runs of one folder are compared with their own
first evaluation, such as that after the real steps and before the first dream.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

from adamas.benchmark.aggregates import read_published
from adamas.benchmark.showcase import interval
from adamas.training.run_records import find_outcomes
from adamas.utils.console import warn
from adamas.utils.errors import UserError, exit_code
from adamas.utils.markdown import markdown_table

RESULTS = Path(__file__).resolve().parents[2] / "results"
RANDOM = "random play"
ABOVE, BELOW, NEITHER = "above", "below", "not apart"


class Mean(NamedTuple):
    """Of the returns of full games, with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:,.2f} [{self.low:,.2f}, {self.high:,.2f}]"

    def beside(self, other: Mean) -> str:
        """ABOVE or BELOW where the intervals lie apart."""
        return ABOVE if self.low > other.high else BELOW if self.high < other.low else NEITHER


Means = dict[str, Mean]  # by game


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folders", type=Path, nargs="+", help="finished runs, of one seed each, or folders that hold some"
    )
    parser.add_argument("--first", action="store_true", help="the first evaluation of each run stands beside its end")
    parser.add_argument("--random", type=Path, default=RESULTS / "random-play.json")
    arguments = parser.parse_args()
    chance = {
        game: Mean(*interval([played["returns"]])) for game, played in json.loads(arguments.random.read_text()).items()
    }
    if arguments.first and len(arguments.folders) > 1:
        raise UserError("--first compares the runs of one folder with themselves: give one folder")
    systems = {folder.name: read(folder) for folder in arguments.folders}
    if arguments.first:
        (folder,) = arguments.folders
        systems = {f"{folder.name}, first evaluation": read(folder, first=True), **systems}
    print(table(systems, chance))


def read(folder: Path, first: bool = False) -> Means:
    """Of the newest finished run of each game, at its end or at its first evaluation."""
    found: dict[str, tuple[int, Mean]] = {}
    for run in find_outcomes([folder], warn):
        if run.final is not None:
            seed = found.get(run.config.env, (run.config.seed,))[0]
            if seed != run.config.seed:
                raise UserError(f"{folder} has several seeds of {run.config.env}: give one folder a seed")
            found[run.config.env] = seed, Mean(*interval([(run.curve[0] if first else run.final)["returns"]]))
    if not found:
        raise UserError(f"{folder} holds no finished run")
    return {game: mean for game, (_, mean) in found.items()}


def table(systems: dict[str, Means], chance: Means) -> str:
    first, *others = systems
    head = ["game", RANDOM]
    for name in systems:
        head += [name, f"beside {RANDOM}", *([f"beside {first}"] if name != first else [])]
    rows = []
    for game in read_published().games:
        row = [game, str(chance[game]) if game in chance else "-"]
        for name, means in systems.items():
            mean = means.get(game)
            row += [str(mean) if mean else "-", _verdict(mean, chance.get(game))]
            row += [_verdict(mean, systems[first].get(game))] if name != first else []
        rows.append(row)
    lines = [_count(name, RANDOM, means, chance) for name, means in systems.items()]
    lines += [_count(name, first, systems[name], systems[first]) for name in others]
    return "\n".join([markdown_table(head, rows, "l" + "r" * (len(head) - 1)), "", *lines])


def _verdict(mean: Mean | None, other: Mean | None) -> str:
    return mean.beside(other) if mean and other else "-"


def _count(name: str, other: str, means: Means, others: Means) -> str:
    found = [means[game].beside(others[game]) for game in means if game in others]
    told = ", ".join(f"{found.count(verdict)} {verdict}" for verdict in (ABOVE, NEITHER, BELOW))
    return f"{name} beside {other}, {len(found)} games: {told}"


if __name__ == "__main__":
    sys.exit(exit_code(main))
