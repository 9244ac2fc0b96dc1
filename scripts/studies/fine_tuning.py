"""What weights of another game save: `python scripts/studies/fine_tuning.py`.

Trains the denoiser of one game on random play twice, each for so many seconds of processor time on one core: from random
weights, and from those of an agent of another game (`initialize.from`). After every --every updates both dream one step of the
same held-out random play from real frames, with the same noise. Of the pixels that changed, change recall is the share that is
right in the dream. The trainings take turns. Prints a line a measurement, writes all to --out, a JSON Lines file, and two tables
beside it: recall against updates, and the updates to the same recall.

    taskset -c 0 nice -n 10 python scripts/studies/fine_tuning.py --seconds 190
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from denoiser_budget import random_play

from adamas.data.batch import Trajectory
from adamas.envs.make import action_meanings
from adamas.evaluation.dreams import dream
from adamas.evaluation.evaluate import FIXED_SEED, fixed_clip, measure_dreams
from adamas.training.load_run import SavedRun, read_state
from adamas.training.models import Models
from adamas.training.updates import Updates
from adamas.utils.device import keep_freed_memory
from adamas.utils.markdown import markdown_table

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]
PAIRS = ("results/breakout-cpu/agent:Pong", "results/krull-cpu/agent:Assault")
CLIPS, APART = 128, 15  # held-out steps, and how far they lie apart
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of recall
STARTS = ("random weights", "another game")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=PAIRS, metavar="RUN:GAME", help="weights of RUN, then learn GAME")
    parser.add_argument("--seconds", type=float, default=190, help="of processor time for each of the trainings")
    parser.add_argument("--steps", type=int, default=5_000, help="agent steps of random play to learn from")
    parser.add_argument("--every", type=int, default=20, help="updates from one measurement to the next")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/fine-tuning/recall.jsonl"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    trainings = [training for pair in arguments.pairs for training in start(*pair.rsplit(":", 1), arguments)]
    rows: list[dict[str, Any]] = []
    while trainings:  # in turn, so that what is there when it is stopped can be compared
        for training in trainings:
            rows.append(training.measure())
            print(json.dumps(rows[-1]), flush=True)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        arguments.out.write_text(text)
        arguments.out.with_suffix(".md").write_text(tables(rows))
        trainings = [training for training in trainings if training.seconds < arguments.seconds]
        for training in trainings:
            training.go_on(arguments.every)


def start(run: str, game: str, arguments: argparse.Namespace) -> list[Training]:
    """The two trainings of a game."""
    path = ROOT / run
    source = SavedRun(path).config
    evaluation = replace(source.evaluation, dreams=CLIPS, dream_steps=APART)
    config = replace(source, env=game, seed=arguments.seed, evaluation=evaluation)
    replay, clip = random_play(config, arguments.steps), fixed_clip(config)
    context = config.denoiser.context
    held_out = Trajectory(clip.obs[:, : context + 1], clip.action[:, :context])
    trainings = []
    for weights in STARTS:
        torch.manual_seed(config.seed)
        models = Models(config, action_meanings(config), CPU)
        updates = Updates.without_run(models, replay)
        if weights == STARTS[1]:
            models.initialize(read_state(path)["models"], ["denoiser"], run)
        else:
            updates.measure_changes()
        about = {"from": source.env, "game": game, "start": weights, "seed": config.seed}
        trainings.append(Training(about, models, updates, held_out))
    return trainings


@dataclass
class Training:
    """A denoiser, and how far it has come. What measurements take does not count."""

    about: dict[str, Any]
    models: Models
    updates: Updates
    held_out: Trajectory
    made: int = 0
    seconds: float = 0.0

    def go_on(self, count: int) -> None:
        begun = time.process_time()
        for _ in range(count):
            self.updates.make("denoiser")
        self.made, self.seconds = self.made + count, self.seconds + time.process_time() - begun

    def measure(self) -> dict[str, Any]:
        with self.models.autocast():
            imagined = dream(self.models.world, self.held_out, self.models.config.denoiser.context, FIXED_SEED)
        detail = measure_dreams(imagined)
        recall, precision = float(detail.change_recall[0]), float(detail.change_precision[0])
        figures = {"recall": round(recall, 4), "precision": round(precision, 4)}
        return self.about | {"updates": self.made, "seconds": round(self.seconds, 1)} | figures


def tables(rows: list[dict[str, Any]]) -> str:
    pairs = list(dict.fromkeys((row["from"], row["game"]) for row in rows))
    curves = {(*pair, start): curve(rows, pair, start) for pair in pairs for start in STARTS}
    grid = sorted({updates for curve in curves.values() for updates, _ in curve})
    grid = [u for u in grid if all(u <= curve[-1][0] for curve in curves.values())]
    shown = [u for u in grid if u in (0, 20, 40, 60, 80, 100, 120, 160, 200, 300, 400, 600, 800, 1000) or u == grid[-1]]
    recall = [
        [f"{source} -> {game}", start, *(f"{dict(curves[source, game, start])[u]:.2f}" for u in shown)]
        for source, game in pairs
        for start in STARTS
    ]
    saved = []
    for source, game in pairs:
        for level in LEVELS:
            plain, tuned = (first_reached(curves[source, game, start], level) for start in STARTS)
            ratio = f"{plain / tuned:.1f}x" if plain and tuned else ""
            cells = [f"{x:,}" if x is not None else "not reached" for x in (plain, tuned)]
            saved.append([f"{source} -> {game}", f"{level:.1f}", *cells, ratio])
    first = markdown_table(["pair", "start", *(f"{u:,}" for u in shown)], recall, "ll" + "r" * len(shown))
    second = markdown_table(["pair", "recall", *(f"updates from {s}" for s in STARTS), "fewer"], saved, "lrrrr")
    return f"Change recall at 1 step after so many updates:\n\n{first}\n\nUpdates to the same change recall at 1 step:\n\n{second}\n"


def curve(rows: list[dict[str, Any]], pair: tuple[str, str], start: str) -> list[tuple[int, float]]:
    return [
        (row["updates"], row["recall"]) for row in rows if (row["from"], row["game"], row["start"]) == (*pair, start)
    ]


def first_reached(curve: list[tuple[int, float]], level: float) -> int | None:
    """Updates of the first measurement of at least this recall that no later one falls short of by more than 0.02."""
    for i, (updates, _) in enumerate(curve):
        if curve[i][1] >= level and min(recall for _, recall in curve[i:]) >= level - 0.02:
            return updates
    return None


if __name__ == "__main__":
    main()
