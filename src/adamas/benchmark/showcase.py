"""What finished runs of one game took and reached, and a film of the agent."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import numpy as np
import torch

from adamas.benchmark.aggregates import Published, mean_with_interval, read_published
from adamas.benchmark.figures import Curve, plot_curves
from adamas.benchmark.report_tables import in_gib, short
from adamas.benchmark.systems import differences, systems
from adamas.config import Config
from adamas.envs.make import action_meanings, make_env
from adamas.evaluation.games import Games, UniformPlay, play_games
from adamas.training.checkpoint import usable
from adamas.training.load_run import SavedRun
from adamas.training.run_folder import RunFolder
from adamas.training.run_records import Outcome, find_outcomes, read_outcome
from adamas.training.scalars import read_scalars
from adamas.utils.console import format_duration, progress_bar, say, warn
from adamas.utils.errors import UserError
from adamas.utils.images import FPS, gif
from adamas.utils.markdown import markdown_table
from adamas.utils.quoting import as_typed, assignment
from adamas.utils.torchrun import command

COLUMNS = ("system", "seed", "kind", "epoch", "steps", "score")  # of curve.csv; what was collected has no epoch
UNKNOWN = "not known"
RANDOM_GAMES = 100
FILM = 60 * FPS  # frames, a step each
SCALE = 2


def finished(folders: Sequence[Path]) -> list[Outcome]:
    """The run folders, each of which must be finished; of a folder that holds runs, those that are."""
    if not folders:
        raise UserError("runs= is needed: run folders, [A,B]")
    return [run for folder in folders for run in _finished(folder)]


def _finished(folder: Path) -> list[Outcome]:
    if not (folder / "config.yaml").is_file():
        if found := [run for run in find_outcomes([folder], warn) if run.final]:
            return found
        raise UserError(f"{folder} is not a run folder, and holds no finished run")
    run = read_outcome(folder, warn)
    if run.final is None:
        raise UserError(f"{folder} is not finished: go on with {command('train', assignment('resume', folder))}")
    return [run]


def show(runs: Sequence[Outcome], out: Path, seed: int) -> None:
    games = {run.config.env for run in runs}
    if len(games) > 1:
        raise UserError(f"these runs are of {', '.join(sorted(games))}: give those of one game at a time")
    (game,) = games
    groups = systems(runs)
    told = differences(groups)
    groups = {f"{system}: {told[system]}" if system in told else system: group for system, group in groups.items()}
    for system, group in groups.items():
        twice = [seed for seed, count in Counter(run.config.seed for run in group).items() if count > 1]
        if twice:
            raise UserError(f"{system}: seed {twice[0]} is there more than once: give one run a seed")
    agent = agent_of(runs)
    out.mkdir(parents=True, exist_ok=True)
    shown = film(agent, seed)
    chance = random_games(runs[0].config, seed).returns
    published = read_published()
    (out / "runs.md").write_text(table(groups, game, chance, published), encoding="utf-8")
    lined = [(run, curve_of(run, system)) for system, group in groups.items() for run in group]
    with open(out / "curve.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *(row for run, curve in lined for row in rows(run, curve))])
    levels = {**published.levels(game), "random": fmean(chance)}
    plot_curves([curve for _, curve in lined], levels, game, out / "curve.png")
    (out / "agent.gif").write_bytes(shown)
    for name in ("runs.md", "curve.csv", "curve.png", "agent.gif"):
        say(str(out / name))


def random_games(config: Config, seed: int) -> Games:
    """Full games of uniformly random actions."""
    policy = UniformPlay(len(action_meanings(config)))
    with progress_bar(None, "step", desc=f"{RANDOM_GAMES} games of random play", disable=None) as bar:
        return play_games(policy, config, RANDOM_GAMES, seed, each_step=bar.update)


def agent_of(runs: Sequence[Outcome]) -> Path:
    for run in runs:
        if usable(RunFolder(run.path).checkpoints):
            return run.path
    raise UserError("none of these runs has its weights: give one that was not exported with records=true")


def curve_of(run: Outcome, system: str) -> Curve:
    """What it scored in the order of its steps."""
    collected: list[tuple[int, float]] = []
    for event in read_scalars(RunFolder(run.path).tensorboard).get("collect/game_return", []):
        while collected and collected[-1][0] >= event.step:  # played again, after a resume
            collected.pop()
        collected.append((event.step, event.value))
    *evaluated, (steps, _) = [(record["steps"], record["return"]) for record in run.curve]
    return Curve(system, run.config.seed, collected, evaluated, (steps, *mean_with_interval([run.end["returns"]])))


def rows(run: Outcome, curve: Curve) -> Iterator[tuple[str | int | float | None, ...]]:
    """Lines of curve.csv."""
    for steps, score in curve.collected:
        yield curve.system, curve.seed, "collected", None, steps, score
    for record in run.curve:
        for score in record["returns"]:
            yield curve.system, curve.seed, record["kind"], record["epoch"], record["steps"], score


def table(groups: Mapping[str, Sequence[Outcome]], game: str, chance: Sequence[float], published: Published) -> str:
    """Markdown: what each run took and reached, what its system reaches over all its seeds, and what random play does."""
    head = ["run", "seed", "steps", "wall-clock", "memory", "full games", "mean return"]
    body = [row_of(run, system) for system, group in groups.items() for run in group]
    for system, group in groups.items():
        if len(group) > 1:
            games = [run.end["returns"] for run in group]
            body.append([f"**{system}, all**", f"{len(group)} seeds", "", "", "", sum(map(len, games)), mean(games)])
    body.append(["random play, here", "", "", "", "", len(chance), mean([chance])])
    lines = [f"# {game}", f"`{as_typed(sys.argv)}`", ""]
    if game in published.human:
        lines += [f"Random play {published.random[game]:g}, a human {published.human[game]:g} (published).", ""]
    lines += [markdown_table(head, body, "lrrrrrr"), ""]
    lines += ["With 95% intervals: a bootstrap over games, and over seeds where there are several.", ""]
    origins = [run.origin for group in groups.values() for run in group if run.origin]
    lines += dict.fromkeys(f"- `{as_typed(origin['command'])}`{commit_of(origin)}" for origin in origins)
    return "\n".join(lines) + "\n"


def commit_of(origin: Mapping[str, Any]) -> str:
    commits = origin.get("commits", [])
    return f", commit{'s' * (len(commits) > 1)} {', '.join(map(short, commits))}" if commits else ""


def row_of(run: Outcome, system: str) -> list[str | int]:
    end = run.end
    taken = format_duration(end["seconds"]) if "seconds" in end else UNKNOWN
    memory = in_gib(end["ram_bytes"]) if end.get("ram_bytes") else UNKNOWN
    games = end["returns"]
    return [system, run.config.seed, f"{end['steps']:,}", taken, memory, len(games), mean([games])]


def mean(returns: Sequence[Sequence[float]]) -> str:
    value, low, high = mean_with_interval(returns)
    return f"{value:,.2f} [{low:,.2f}, {high:,.2f}]"


@torch.no_grad()
def film(run: Path, seed: int) -> bytes:
    """The first minute of a full game, in colour."""
    saved = SavedRun(run)
    models, _ = saved.load_newest(torch.device("cpu"))
    policy, generator = models.policy, torch.Generator().manual_seed(seed)
    env = make_env(saved.config, render_mode="rgb_array")
    obs, _ = env.reset(seed=seed)
    screens, hidden, over = [env.render()], policy.initial_hidden(1), False
    while not over and len(screens) < FILM:
        with models.autocast():
            action, _, _, hidden = policy.act(torch.from_numpy(obs)[None], hidden, generator)
        obs, _, terminated, truncated, _ = env.step(int(action))
        screens.append(env.render())
        over = terminated or truncated
    shown = torch.from_numpy(np.stack(cast(list[np.ndarray], screens)))
    return gif(shown.repeat_interleave(SCALE, 1).repeat_interleave(SCALE, 2))
