"""Runs of this project beside the published systems of Atari 100k: figures, tables and pictures."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from adamas.benchmark import aggregates, figures
from adamas.benchmark.aggregates import AGGREGATES, Estimate, Published, read_published
from adamas.benchmark.figures import Line
from adamas.benchmark.report_tables import RUN_COLUMNS, Report, System, run_rows, to_markdown
from adamas.benchmark.systems import name_of, newest_of_each_seed, settings_of, systems
from adamas.training.run_folder import origin
from adamas.training.run_records import Outcome, find_outcomes, run_folders
from adamas.utils.console import say, warn
from adamas.utils.errors import UserError

YARDSTICK = "DIAMOND"  # what this project is compared with
NAMED = (YARDSTICK, "Simulus", "dreamerv3", "IRIS")  # published systems with a colour of their own


def report(folders: Sequence[Path], out: Path) -> None:
    """Writes all there is to say of the runs in and below the folders."""
    runs = find_outcomes(folders, warn)
    if folders and not runs:
        raise UserError(f"there is no run that can be read in {', '.join(map(str, folders))}")
    write(make_report(runs, read_published()), out)


def make_report(runs: list[Outcome], published: Published) -> Report:
    groups = systems(runs)
    mine = {name: newest_of_each_seed(group) for name, group in groups.items()}
    scores = {
        name: {game: [run.end["return"] for run in seeds.values()] for game, seeds in table.items()}
        for name, table in mine.items()
    }
    compared = {name: make_system(s, published, name in mine) for name, s in {**scores, **published.runs}.items()}
    whole = {name: system.matrix for name, system in compared.items() if system.matrix is not None}
    estimates = {name: aggregates.estimate(AGGREGATES, matrix) for name, matrix in whole.items()}
    reference = next((name for name in mine if name in whole), YARDSTICK)
    improvement = {
        name: aggregates.improvement(whole[reference], matrix) for name, matrix in whole.items() if name != reference
    }
    named = [(name, run) for name, group in groups.items() for run in group]
    return Report(published, compared, estimates, reference, improvement, named)


def make_system(scores: dict[str, list[float]], published: Published, ours: bool) -> System:
    normal = published.normalised(scores)
    return System(ours, scores, normal, aggregates.matrix(normal, published.games))


def write(report: Report, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "atari100k.md").write_text(to_markdown(report, YARDSTICK), encoding="utf-8")
    (out / "atari100k.json").write_text(json.dumps(to_json(report), indent=1) + "\n", encoding="utf-8")
    with open(out / "atari100k.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(to_csv(report))
    plot(report, out)
    for path in sorted(out.glob("atari100k*")):
        say(str(path))


def plot(report: Report, out: Path) -> None:
    ours = [name for name, system in report.systems.items() if system.ours]
    colours = figures.palette([*NAMED, *report.systems], ours)
    bars = {name: report.systems[name].normal for name in [YARDSTICK, *ours]}
    whole = {name: s.matrix for name, s in report.systems.items() if s.matrix is not None}
    figures.plot_games(bars, report.published.games, colours, out / "atari100k-games.png")
    figures.plot_intervals(report.aggregates, colours, out / "atari100k-intervals.png")
    figures.plot_profiles(whole, colours, out / "atari100k-profiles.png")
    figures.plot_improvement(report.reference, report.improvement, out / "atari100k-improvement.png")


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
            known: dict[str, Any] = {
                "system": name,
                "game": game,
                "seed": f"mean of {len(scores)}",
                "state": "published",
            }
            known |= {"return": fmean(scores), "hns": fmean(normal)}
            rows.append([known.get(column) for column in RUN_COLUMNS])
    return rows


def plot_reference(folders: Sequence[Path], game: str, out: Path) -> None:
    """The newest run of `game` in the first folder over all others of that game with the same settings."""
    if not folders:
        raise UserError("reference= needs a folder of runs: adamas report runs=runs reference=Breakout out=DIR")
    published = read_published()
    outcomes = [run for run in find_outcomes(folders, warn) if run.config.env == game and run.curve]
    in_first = {path.resolve() for path in run_folders(folders[0])}
    found = [run for run in outcomes if run.path.resolve() in in_first]
    if not found:
        raise UserError(f"{folders[0]} holds no evaluated run of {game}")
    newest = found[-1]
    others = [run for run in outcomes if settings_of(run.config) == settings_of(newest.config)]
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
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"reference-{game}.png"
    title = f"{game}, preset {newest.config.preset}: {newest.path.name} over {len(lines) - 1} others"
    figures.plot_reference(lines, levels, title, path)
    say(f"{title}\n{path}")
