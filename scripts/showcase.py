"""What trained agents have to show: `python scripts/showcase.py RUN [RUN ...] --out DIR`, finished runs of one game.

Writes to DIR:
  runs.md    each run with its command, wall-clock, memory and returns; and the mean over the seeds with its interval
  curve.csv  the returns of all games, collected and evaluated, against agent steps
  curve.png  the same as a picture
  agent.gif  the first minute of a real game, played by the first run's agent; --seed picks another game
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from markdown_table import markdown_table
from report_tables import in_gib

from adamas.config import UserError
from adamas.envs.atari import AtariEnv
from adamas.evaluation.atari100k import Published, read_published
from adamas.evaluation.atari100k_figures import Curve, draw_curves
from adamas.frames import gif
from adamas.logger import read_scalars
from adamas.networks.categorical import draw
from adamas.training.estimate import in_words
from adamas.training.outcomes import Outcome, name_of, read_outcome, systems
from adamas.training.run_folder import RunFolder
from adamas.training.saved import SavedRun

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("system", "seed", "kind", "epoch", "steps", "score")  # of curve.csv; what was collected has no epoch
FPS = 15
FILM = 60 * FPS  # frames, a step each
SCALE = 2
DRAWS = 20_000  # of the bootstrap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--out", type=Path, required=True, help="where to write")
    parser.add_argument("--seed", type=int, default=0, help="of the game that is filmed")
    arguments = parser.parse_args()
    try:
        show([finished(path) for path in arguments.runs], arguments.out, arguments.seed)
    except UserError as error:
        sys.exit(f"error: {error}")


def finished(path: Path) -> Outcome:
    outcome = read_outcome(path)
    if outcome.final is None:
        raise UserError(f"{path} is not finished: go on with python src/main.py resume={path}")
    return outcome


def show(runs: Sequence[Outcome], out: Path, seed: int) -> None:
    games = {run.config.env for run in runs}
    if len(games) > 1:
        raise UserError(f"these runs are of {', '.join(sorted(games))}: give those of one game at a time")
    (game,) = games
    out.mkdir(parents=True, exist_ok=True)
    published = read_published(ROOT / "results" / "published" / "atari100k_scores.json")
    (out / "runs.md").write_text(table(runs, game, published))
    curves = [curve_of(run) for run in runs]
    with open(out / "curve.csv", "w", newline="") as file:
        lines = (line for run, curve in zip(runs, curves, strict=True) for line in rows(run, curve))
        csv.writer(file).writerows([COLUMNS, *lines])
    draw_curves(curves, levels(game, published), game, out / "curve.png")
    (out / "agent.gif").write_bytes(film(runs[0].path, seed))
    for name in ("runs.md", "curve.csv", "curve.png", "agent.gif"):
        print(out / name)


def curve_of(run: Outcome) -> Curve:
    """What it scored in the order of its steps."""
    played = read_scalars(RunFolder(run.path).tensorboard).get("collect/game_return", [])
    collected = {event.step: event.value for event in played}  # what was played again after a resume counts
    evaluated = [(record["steps"], record["return"]) for record in run.curve]
    return Curve(name_of(run.config), run.config.seed, sorted(collected.items()), evaluated)


def rows(run: Outcome, curve: Curve) -> Iterator[tuple[str | int | float | None, ...]]:
    """Lines of curve.csv, a game each."""
    for steps, score in curve.collected:
        yield curve.system, curve.seed, "collected", None, steps, score
    for record in run.curve:
        for score in record["returns"]:
            yield curve.system, curve.seed, record["kind"], record["epoch"], record["steps"], score


def levels(game: str, published: Published) -> dict[str, float]:
    return {"random": published.random[game], "human": published.human[game]} if game in published.human else {}


def table(runs: Sequence[Outcome], game: str, published: Published) -> str:
    """Markdown: what each run took and reached, and what its system reaches over all its seeds."""
    head = ["run", "seed", "steps", "wall-clock", "memory", "full games", "mean return"]
    body = [row_of(run) for run in runs]
    for name, group in systems(runs).items():
        if len(group) > 1:
            games = [run.final["returns"] for run in group]
            body.append([f"**{name}, all**", f"{len(group)} seeds", "", "", "", sum(map(len, games)), mean(games)])
    lines = [f"# {game}", f"`python {shlex.join(sys.argv)}`", ""]
    if game in published.human:
        lines += [f"Random play {published.random[game]:g}, a human {published.human[game]:g} (published).", ""]
    lines += [markdown_table(head, body, "lrrrrrr"), ""]
    lines += ["With 95% intervals: a bootstrap over games, and over seeds where there are several.", ""]
    lines += [f"- `{command}`" for command in dict.fromkeys(command_of(run) for run in runs)]
    return "\n".join(lines) + "\n"


def row_of(run: Outcome) -> list[str | int]:
    end = run.final
    memory = in_gib(end["ram_bytes"]) if end.get("ram_bytes") else "not known"
    taken = [f"{end['steps']:,}", in_words(end["seconds"]), memory]
    return [name_of(run.config), run.config.seed, *taken, len(end["returns"]), mean([end["returns"]])]


def command_of(run: Outcome) -> str:
    """The command that started the run."""
    first = RunFolder(run.path).origin.read_text().partition("\n")[0]
    return f"python {shlex.join(json.loads(first)['command'])}"


def mean(returns: Sequence[Sequence[float]]) -> str:
    """The mean over seeds of returns, one list a seed, and the interval of a bootstrap over seeds and their games."""
    rng = np.random.default_rng(0)
    games = [np.array(of_seed) for of_seed in returns]
    drawn = np.zeros(DRAWS)
    for seed in rng.integers(len(games), size=(len(games), DRAWS)):
        means = np.stack([rng.choice(of_seed, (DRAWS, len(of_seed))).mean(1) for of_seed in games])
        drawn += means[seed, np.arange(DRAWS)] / len(games)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{fmean(of_seed.mean() for of_seed in games):.2f} [{low:.2f}, {high:.2f}]"


@torch.no_grad()
def film(run: Path, seed: int) -> bytes:
    """The first minute of a full game, in colour."""
    saved = SavedRun(run)
    models, _ = saved.load_newest(torch.device("cpu"))
    policy, generator = models.actor_critic, torch.Generator().manual_seed(seed)
    env = AtariEnv(saved.config.env, saved.config.atari, episodic_life=False, render_mode="rgb_array")
    obs, _ = env.reset(seed=seed)
    screens, hidden, over = [env.render()], policy.initial_hidden(1), False
    while not over and len(screens) < FILM:
        with models.autocast():
            logits, _, hidden = policy(torch.from_numpy(obs)[None, None], hidden)
        obs, _, terminated, truncated, _ = env.step(int(draw(logits[0], generator)))
        screens.append(env.render())
        over = terminated or truncated
    shown = torch.from_numpy(np.stack(screens))
    return gif(shown.repeat_interleave(SCALE, 1).repeat_interleave(SCALE, 2), FPS)


if __name__ == "__main__":
    main()
