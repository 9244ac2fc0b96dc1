"""Atari 100k: runs beside the published systems, `python scripts/report.py RUNS ...`, where RUNS holds run folders.

Writes to results/ aggregates.md (tables), aggregates.json and aggregates.csv (every figure, every run) and pictures:
atari100k-games.png, -intervals.png, -profiles.png and -improvement.png. Without RUNS it reports on the published systems.

`python scripts/report.py RUNS ... --reference GAME` draws the newest run of GAME in the first of RUNS over all others that
differ from it in the seed alone: is it on track?
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from report_tables import RUN_COLUMNS, run_rows, to_markdown

from adamas.benchmark import aggregates, figures
from adamas.benchmark.aggregates import AGGREGATES, Array, Estimate, Published
from adamas.benchmark.figures import Line
from adamas.training.run_folder import origin
from adamas.training.run_records import Outcome, find_outcomes, name_of, newest_of_each_seed, settings_of, systems
from adamas.utils.errors import UserError, exit_code

RESULTS = Path(__file__).resolve().parents[1] / "results"
YARDSTICK = "DIAMOND"  # what this project is compared with
NAMED = (YARDSTICK, "Simulus", "dreamerv3", "IRIS")  # published systems with a colour of their own


class System(NamedTuple):
    """A published system, or runs of this project that belong together."""

    ours: bool
    scores: dict[str, list[float]]  # {game: mean return of each seed}
    normal: dict[str, list[float]]  # human-normalised
    matrix: Array | None  # the same; None while games or seeds are missing


class Report(NamedTuple):
    """All that is written."""

    published: Published
    systems: dict[str, System]
    aggregates: dict[str, dict[str, Estimate]]  # of the systems of which nothing is missing
    reference: str  # the system that `improvement` is about
    improvement: dict[str, Estimate]
    runs: list[tuple[str, Outcome]]  # each with the name of its system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", help="run folders, or folders that hold some at any depth")
    parser.add_argument("--reference", metavar="GAME", help="learning curves of this game alone")
    parser.add_argument("--draws", type=int, default=aggregates.DRAWS, help="of the bootstrap")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where to write (results/)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    published = aggregates.read_published(RESULTS / "published" / "atari100k_scores.json")
    if arguments.reference:
        draw_reference(arguments.runs, arguments.reference, published, arguments.out)
        return
    runs = find_outcomes(arguments.runs, warn)
    if arguments.runs and not runs:
        raise UserError(f"there is no run that can be read in {', '.join(map(str, arguments.runs))}")
    write(make_report(runs, published, arguments.draws), arguments.out)


def warn(line: str) -> None:
    print(line, file=sys.stderr)


def make_report(runs: list[Outcome], published: Published, draws: int) -> Report:
    groups = systems(runs)
    mine = {name: newest_of_each_seed(group) for name, group in groups.items()}
    scores = {
        name: {game: [run.score for run in seeds.values()] for game, seeds in table.items()}
        for name, table in mine.items()
    }
    compared = {name: make_system(s, published, name in mine) for name, s in {**scores, **published.runs}.items()}
    whole = {name: system.matrix for name, system in compared.items() if system.matrix is not None}
    aggregates = {name: aggregates.estimate(AGGREGATES, matrix, draws=draws) for name, matrix in whole.items()}
    reference = next((name for name in mine if name in whole), YARDSTICK)
    improvement = {
        name: aggregates.improvement(whole[reference], matrix, draws=draws)
        for name, matrix in whole.items()
        if name != reference
    }
    named = [(name, run) for name, group in groups.items() for run in group]
    return Report(published, compared, aggregates, reference, improvement, named)


def make_system(scores: dict[str, list[float]], published: Published, ours: bool) -> System:
    normal = published.normalised(scores)
    return System(ours, scores, normal, aggregates.matrix(normal, published.games))


def write(report: Report, out: Path) -> None:
    (out / "atari100k.md").write_text(to_markdown(report, YARDSTICK))
    (out / "atari100k.json").write_text(json.dumps(to_json(report), indent=1) + "\n")
    with open(out / "atari100k.csv", "w", newline="") as file:
        csv.writer(file).writerows(to_csv(report))
    draw(report, out)
    for path in sorted(out.glob("atari100k*")):
        print(path)


def draw(report: Report, out: Path) -> None:
    ours = [name for name, system in report.systems.items() if system.ours]
    colours = figures.palette([*NAMED, *report.systems], ours)
    bars = {name: report.systems[name].normal for name in [YARDSTICK, *ours]}
    whole = {name: report.systems[name].matrix for name in report.aggregates}
    figures.draw_games(bars, report.published.games, colours, out / "atari100k-games.png")
    figures.draw_intervals(report.aggregates, colours, out / "atari100k-intervals.png")
    figures.draw_profiles(whole, colours, out / "atari100k-profiles.png")
    figures.draw_improvement(report.reference, report.improvement, out / "atari100k-improvement.png")


def to_json(report: Report) -> dict[str, Any]:
    return {
        **origin(),
        "systems": {
            name: {
                "ours": system.ours,
                "aggregates": plain(report.aggregates.get(name, {})),
                "games_above_human": None if system.matrix is None else aggregates.above_human(system.matrix),
                "missing_games": [game for game in report.published.games if not system.scores.get(game)],
                **({"scores": system.scores, "human_normalised": system.normal} if system.ours else {}),
            }
            for name, system in report.systems.items()
        },
        "improvement": {"of": report.reference, "over": plain(report.improvement)},
        "runs": [dict(zip(RUN_COLUMNS, row, strict=True)) for row in run_rows(report)],
    }


def plain(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    return {name: e._asdict() for name, e in estimates.items()}


def to_csv(report: Report) -> list[list[Any]]:
    """A row a run of this project, with all that is known of it, then one a game of each published system."""
    rows = [list(RUN_COLUMNS), *run_rows(report)]
    for name, of_game in report.published.runs.items():
        for game, scores in of_game.items():
            normal = report.systems[name].normal[game]
            known = {"system": name, "game": game, "seed": f"mean of {len(scores)}", "state": "published"}
            known |= {"return": fmean(scores), "hns": fmean(normal)}
            rows.append([known.get(column) for column in RUN_COLUMNS])
    return rows


def draw_reference(folders: Sequence[Path], game: str, published: Published, out: Path) -> None:
    """The newest run of `game` in the first folder over all others of that game with the same settings."""
    if not folders:
        raise UserError("--reference needs a folder of runs: python scripts/report.py runs --reference Breakout")
    found = [run for run in find_outcomes(folders[:1], warn) if run.config.env == game and run.curve]
    if not found:
        raise UserError(f"{folders[0]} holds no evaluated run of {game}")
    newest = found[-1]
    others = [
        run
        for run in find_outcomes(folders, warn)
        if run.config.env == game and run.curve and settings_of(run.config) == settings_of(newest.config)
    ]
    lines = [
        Line(
            f"{name_of(run.config)}, seed {run.config.seed}, {run.path.name}",
            [record["epoch"] for record in run.curve],
            [record["return"] for record in run.curve],
            run.path == newest.path,
        )
        for run in others
    ]
    levels = published.levels(game)
    if levels:
        levels[YARDSTICK] = round(fmean(published.runs[YARDSTICK][game]), 1)
    path = out / f"reference-{game}.png"
    title = f"{game}, preset {newest.config.preset}: {newest.path.name} over {len(lines) - 1} others"
    figures.draw_reference(lines, levels, title, path)
    print(title, path, sep="\n")


if __name__ == "__main__":
    sys.exit(exit_code(main))
