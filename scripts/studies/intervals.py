"""Which games a run stands above random play in: `python scripts/studies/intervals.py results/q-learning`.

Prints the mean return of the full games at the end of each run, of one seed, with its 95% interval, beside those of random play
in this emulator (results/random-play.json). Two means differ where their intervals lie apart, and each is of 20
games or more. Several folders stand side by side, and each is compared with the first too. With --first the runs of one folder are compared with their own
first evaluation, such as that after the real steps and before the first dream. --published human 'DrQ(eps)' adds published
scores, each the mean over its seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from adamas.benchmark.aggregates import mean_with_interval, read_published
from adamas.benchmark.systems import newest_of_each_seed, systems
from adamas.training.run_records import find_outcomes
from adamas.utils.console import warn
from adamas.utils.errors import UserError, exit_code
from adamas.utils.markdown import markdown_table

RESULTS = Path(__file__).resolve().parents[2] / "results"
RANDOM = "random play"
# Of fewer the intervals are too narrow: 4 and 100 games of one policy that scores 1 in a fifth of them, else 0, lay apart in 124 of 300 draws.
LEAST_GAMES = 20
ABOVE, BELOW, NEITHER, FEW = "above", "below", "not apart", "too few games"


class Mean(NamedTuple):
    """Of the returns of full games, with its 95% interval."""

    value: float
    low: float
    high: float
    games: int

    @classmethod
    def of(cls, returns: Sequence[float]) -> Mean:
        return cls(*mean_with_interval([returns]), len(returns))

    def __str__(self) -> str:
        return f"{self.value:,.2f} [{self.low:,.2f}, {self.high:,.2f}]"

    def beside(self, other: Mean) -> str:
        """ABOVE or BELOW where the intervals lie apart."""
        if min(self.games, other.games) < LEAST_GAMES:
            return FEW
        return ABOVE if self.low > other.high else BELOW if self.high < other.low else NEITHER


Means = dict[str, Mean]  # by game


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folders", type=Path, nargs="+", help="finished runs, of one seed each, or folders that hold some"
    )
    parser.add_argument("--first", action="store_true", help="the first evaluation of each run stands beside its end")
    parser.add_argument("--published", nargs="+", default=[], metavar="NAME", help="human, or a published system")
    parser.add_argument("--random", type=Path, default=RESULTS / "random-play.json")
    arguments = parser.parse_args()
    chance = {game: Mean.of(played["returns"]) for game, played in json.loads(arguments.random.read_text()).items()}
    if arguments.first and len(arguments.folders) > 1:
        raise UserError("--first compares the runs of one folder with themselves: give one folder")
    columns = {str(folder): read(folder) for folder in arguments.folders}
    if arguments.first:
        (folder,) = arguments.folders
        columns = {f"{folder}, first evaluation": read(folder, first=True), **columns}
    print(table(columns, chance, {name: published(name) for name in arguments.published}))


def read(folder: Path, first: bool = False) -> Means:
    """Of the newest finished run of each game, at its end or at its first evaluation."""
    finished = [run for run in find_outcomes([folder], warn) if run.final is not None]
    if not finished:
        raise UserError(f"{folder} holds no finished run that this version can read")
    if len(names := systems(finished)) > 1:
        raise UserError(f"{folder} holds runs with other settings, {', '.join(names)}: give those of one at a time")
    means = {}
    for game, seeds in newest_of_each_seed(finished).items():
        if len(seeds) > 1:
            raise UserError(f"{folder} has several seeds of {game}: give one folder a seed")
        (run,) = seeds.values()
        means[game] = Mean.of((run.curve[0] if first else run.end)["returns"])
    return means


def published(name: str) -> dict[str, float]:
    """{game: score}. UserError when nothing of that name is published here."""
    found = read_published()
    if name == "human":
        return found.human
    if name not in found.runs:
        raise UserError(f"--published {name}: there are human, {', '.join(found.runs)}")
    return {game: fmean(scores) for game, scores in found.runs[name].items()}


def table(columns: dict[str, Means], chance: Means, known: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """`known`: published scores, {name: {game: score}}."""
    known, (first, *others) = known or {}, columns
    head = ["game", RANDOM, *(f"{name}, published" for name in known)]
    for name in columns:
        head += [name, f"beside {RANDOM}", *([f"beside {first}"] if name != first else [])]
    rows = []
    for game in read_published().games:
        row = [game, str(chance[game]) if game in chance else "-"]
        row += [f"{scores[game]:,.1f}" for scores in known.values()]
        for name, means in columns.items():
            mean = means.get(game)
            row += [str(mean) if mean else "-", _verdict(mean, chance.get(game))]
            row += [_verdict(mean, columns[first].get(game))] if name != first else []
        rows.append(row)
    lines = [_count(name, RANDOM, means, chance) for name, means in columns.items()]
    lines += [_count(name, first, columns[name], columns[first]) for name in others]
    return "\n".join([markdown_table(head, rows, "l" + "r" * (len(head) - 1)), "", *lines])


def _verdict(mean: Mean | None, other: Mean | None) -> str:
    return mean.beside(other) if mean and other else "-"


def _count(name: str, other: str, means: Means, others: Means) -> str:
    found = [means[game].beside(others[game]) for game in means if game in others]
    told = ", ".join(
        f"{found.count(verdict)} {verdict}"
        for verdict in (ABOVE, NEITHER, BELOW, FEW)
        if verdict != FEW or FEW in found
    )
    return f"{name} beside {other}, {len(found)} games: {told}"


if __name__ == "__main__":
    sys.exit(exit_code(main))
