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
from typing import NamedTuple

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adamas.config import UserError
from adamas.envs.atari import AtariEnv
from adamas.evaluation.atari100k import Published, read_published
from adamas.evaluation.atari100k_figures import Curve, draw_curves
from adamas.frames import gif
from adamas.networks.categorical import draw
from adamas.training.estimate import in_words
from adamas.training.outcomes import Outcome, name_of, read_outcome, systems
from adamas.training.run_folder import RunFolder
from adamas.training.saved import SavedRun

ROOT = Path(__file__).resolve().parents[1]
FPS = 15
FILM = 60 * FPS  # frames, a step each
SCALE = 2
DRAWS = 20_000  # of the bootstrap


class Point(NamedTuple):
    """A line of curve.csv: one game, or the mean of those that ended close together."""

    system: str
    seed: int
    kind: str  # collected | evaluation | final_evaluation
    epoch: int | None  # None of what was collected
    steps: int
    score: float


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
    if not (path / "config.yaml").is_file():
        raise UserError(f"{path} is not a run folder: it has no config.yaml")
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
    rows = [point for run in runs for point in points(run)]
    with open(out / "curve.csv", "w", newline="") as file:
        csv.writer(file).writerows([Point._fields, *rows])
    draw_curves(curves(rows), levels(game, published), game, out / "curve.png")
    (out / "agent.gif").write_bytes(film(runs[0].path, seed))
    for name in ("runs.md", "curve.csv", "curve.png", "agent.gif"):
        print(out / name)


def points(run: Outcome) -> Iterator[Point]:
    """The games of a run in the order of its steps."""
    name, seed = name_of(run.config), run.config.seed
    events = EventAccumulator(str(RunFolder(run.path).tensorboard), size_guidance={"scalars": 0}).Reload()
    if "collect/game_return" in events.Tags()["scalars"]:
        last = {
            event.step: event.value for event in events.Scalars("collect/game_return")
        }  # after a resume the later one
        yield from (Point(name, seed, "collected", None, step, value) for step, value in sorted(last.items()))
    for record in run.curve:
        at = (name, seed, record["kind"], record["epoch"], record["steps"])
        yield from (Point(*at, score) for score in record["returns"])


def curves(rows: Sequence[Point]) -> list[Curve]:
    """A curve for each seed of each system."""
    drawn = []
    for system, seed in dict.fromkeys((row.system, row.seed) for row in rows):
        of_run = [row for row in rows if (row.system, row.seed) == (system, seed)]
        collected = [(row.steps, row.score) for row in of_run if row.kind == "collected"]
        rounds: dict[tuple[int | None, str, int], list[float]] = {}
        for row in of_run:
            if row.kind != "collected":
                rounds.setdefault((row.epoch, row.kind, row.steps), []).append(row.score)
        evaluated = [(steps, fmean(scores)) for (_, _, steps), scores in rounds.items()]
        drawn.append(Curve(system, seed, collected, evaluated))
    return drawn


def levels(game: str, published: Published) -> dict[str, float]:
    return {"random": published.random[game], "human": published.human[game]} if game in published.human else {}


def table(runs: Sequence[Outcome], game: str, published: Published) -> str:
    """Markdown: what each run took and reached, and what its system reaches over all its seeds."""
    lines = [f"# {game}", f"`python {shlex.join(sys.argv)}`", ""]
    if game in published.human:
        lines += [f"Random play {published.random[game]:g}, a human {published.human[game]:g} (published).", ""]
    lines += [
        "| run | seed | steps | wall-clock | memory | full games | mean return |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for run in runs:
        steps, c, end = f"{run.final['steps']:,}", run.config, run.final
        memory = f"{end['ram_bytes'] / 2**30:.1f} GiB" if end.get("ram_bytes") else "not known"
        cells = [
            name_of(c),
            c.seed,
            steps,
            in_words(end["seconds"]),
            memory,
            len(end["returns"]),
            mean([end["returns"]]),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    for name, group in systems(runs).items():
        if len(group) > 1:
            returns = mean([run.final["returns"] for run in group])
            lines.append(
                f"| **{name}, all** | {len(group)} seeds | | | | {sum(len(r.final['returns']) for r in group)} | {returns} |"
            )
    lines += ["", "With 95% intervals: a bootstrap over games, and over seeds where there are several.", ""]
    lines += [f"- `{command}`" for command in dict.fromkeys(command_of(run) for run in runs)]
    return "\n".join(lines) + "\n"


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
