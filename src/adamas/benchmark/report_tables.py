"""The tables of a report, in Markdown."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from adamas.benchmark import aggregates
from adamas.benchmark.aggregates import Array, Estimate, Published
from adamas.benchmark.systems import GAMES, STEPS, changed_on_the_way, commits_of, differences
from adamas.training.run_records import Outcome
from adamas.utils.console import format_duration
from adamas.utils.markdown import markdown_table
from adamas.utils.quoting import as_typed

RUN_COLUMNS = (
    "system",
    "game",
    "seed",
    "state",
    "steps",
    "games",
    "return",
    "hns",
    "seconds",
    "gpu",
    "gpu_bytes",
    "ram_bytes",
    "path",
)
MISSING = "missing"
PROTOCOL = (
    f"Protocol: {STEPS:,} agent steps of real experience (4 emulator frames each), then the mean return of {GAMES} full games: "
    "a lost life ends none, an actor-critic samples its actions, a Q-network takes a random one in 100, no sticky actions, "
    "at most 27,000 steps each. HNS is (score - random) / (human - random). "
    "What departs from this says so in its name and stands alone. Intervals: 95% stratified bootstrap. An aggregate stands "
    "where every game has all its seeds, and nowhere else. Of several finished runs of one game and seed the newest counts."
)


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


def run_rows(report: Report) -> list[list[Any]]:
    """A row of RUN_COLUMNS for each run; None is what is not known."""
    return [_run_row(system, run, report.published) for system, run in report.runs]


def _run_row(system: str, run: Outcome, published: Published) -> list[Any]:
    c, last = run.config, run.curve[-1] if run.curve else {}
    normal = None
    if run.score is not None and c.env in published.human:
        normal = aggregates.normalise(run.score, published.random[c.env], published.human[c.env])
    state = "unfinished" if run.final is None else "finished"
    count = len(run.final["returns"]) if run.final else None
    taken = [last.get(name) for name in ("seconds", "gpu", "gpu_bytes", "ram_bytes")]
    return [system, c.env, c.seed, state, last.get("steps"), count, run.score, normal, *taken, str(run.path)]


def to_markdown(report: Report, yardstick: str) -> str:
    parts = [
        "# Atari 100k",
        f"`{as_typed(sys.argv)}`",
        PROTOCOL,
        "Published scores and their sources: [published/](published/README.md).",
        "## All games together",
        _aggregates(report),
        "![intervals](atari100k-intervals.png)\n![profiles](atari100k-profiles.png)\n![improvement](atari100k-improvement.png)",
        "## Game by game",
        _games(report, yardstick),
        "![games](atari100k-games.png)",
        "## Runs",
        _runs(report),
    ]
    return "\n\n".join(parts) + "\n"


def _aggregates(report: Report) -> str:
    head = ["system", "games", "seeds", "IQM", "median", "mean", "optimality gap", "above human"]
    rows = []
    order = sorted(
        report.systems, key=lambda name: -report.aggregates[name]["iqm"].value if name in report.aggregates else 1
    )
    for name in order:
        system = report.systems[name]
        label = f"**{name}**" if system.ours else name
        there = sum(bool(system.scores.get(game)) for game in report.published.games)
        games = f"{there} of {len(report.published.games)}"
        if system.matrix is None:
            rows.append([label, games, _seeds(system), *[MISSING] * 5])
            continue
        figures = [_with_interval(report.aggregates[name][key]) for key in ("iqm", "median", "mean", "optimality_gap")]
        rows.append([label, games, _seeds(system), *figures, str(aggregates.above_human(system.matrix))])
    return markdown_table(head, rows, "llrrrrrr")


def _games(report: Report, yardstick: str) -> str:
    shown = [yardstick, *(name for name, system in report.systems.items() if system.ours)]
    head, rows = ["game", "random", "human", *(text for name in shown for text in (name, "HNS", "seeds"))], []
    most = {name: max((len(s) for s in report.systems[name].normal.values()), default=0) for name in shown}
    for game in report.published.games:
        row = [game, f"{report.published.random[game]:,.1f}", f"{report.published.human[game]:,.1f}"]
        for name in shown:
            row += _cell(report.systems[name], game, most[name])
        rows.append(row)
    return markdown_table(head, rows, "lrr" + "rrr" * len(shown))


def _cell(system: System, game: str, most: int) -> list[str]:
    scores = system.scores.get(game, [])
    if not scores:
        return [MISSING, MISSING, f"0 of {most}"]
    normal = system.normal[game]
    return [f"{sum(scores) / len(scores):,.1f}", f"{sum(normal) / len(normal):.3f}", f"{len(scores)} of {most}"]


def _runs(report: Report) -> str:
    if not report.runs:
        return "None yet."
    shared = RUN_COLUMNS[: RUN_COLUMNS.index("hns")]
    head = [*shared, "HNS", "wall-clock", "GPU", "memory", "folder"]
    rows = []
    for system, game, seed, state, steps, games, score, normal, seconds, gpu, gpu_bytes, ram, path in run_rows(report):
        taken = "not known" if seconds is None else format_duration(seconds)
        memory = [f"{in_gib(count)} {kind}" for count, kind in ((gpu_bytes, "GPU"), (ram, "RAM")) if count]
        cells = [
            system,
            game,
            seed,
            state,
            _number(steps, ",.0f"),
            games,
            _number(score, ",.1f"),
            _number(normal, ".3f"),
        ]
        cells = [MISSING if cell is None else cell for cell in cells]
        rows.append([*cells, taken, gpu or "none known", ", ".join(memory) or "not known", path])
    groups: dict[str, list[Outcome]] = {}
    for system, run in report.runs:
        groups.setdefault(system, []).append(run)
    notes = [f"{system} differs from #1 in `{settings}`." for system, settings in differences(groups).items()]
    for system, commits in commits_of(groups).items():
        notes.append(f"{system} holds runs of several commits: {', '.join(map(short, commits))}.")
    for _, run in report.runs:
        if changed := changed_on_the_way(run):
            notes.append(f"{run.path} began with other settings, and was resumed with `{' '.join(changed)}`.")
    return "\n\n".join([markdown_table(head, rows, "llrlrrrrrlll"), *notes])


def short(commit: str) -> str:
    """The first seven digits, and "+" for code that was changed since."""
    return commit[:7] + "+" * commit.endswith("+")


def in_gib(count: float) -> str:
    """Bytes as text: "2.0 GiB"."""
    return f"{count / 2**30:.1f} GiB"


def _seeds(system: System) -> str:
    counts = sorted({len(scores) for scores in system.normal.values()}) or [0]
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _with_interval(e: Estimate) -> str:
    return f"{e.value:.3f}" + ("" if e.low is None else f" [{e.low:.3f}, {e.high:.3f}]")


def _number(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)
