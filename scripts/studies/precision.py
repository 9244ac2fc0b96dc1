"""Does bfloat16 learn what float32 learns? `python scripts/studies/precision.py env=GAME dataset=REPLAY --held-out OTHER`.

Trains the denoiser in both precisions from the same weights on the same batches with the same noise, once a seed, and prints
the loss of its averaged weights, computed in float32, on the same segments of play that it has not seen. If the precisions
differ by no more than the seeds do, bfloat16 is good enough. Any setting of `adamas train` can be given as name=value.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import fmean, stdev

import torch
from tqdm import trange

from adamas.config import Config, command_line
from adamas.data.replay import Replay
from adamas.envs.make import action_meanings
from adamas.training.datasets import read_experience
from adamas.training.models import Models
from adamas.training.updates import Updates
from adamas.utils.device import pick_device
from adamas.utils.errors import UserError
from adamas.utils.markdown import markdown_table

PRECISIONS = ("float32", "bfloat16")
BATCHES = 64  # of held-out segments


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="name=value", help="as `adamas train` takes them")
    parser.add_argument("--held-out", type=Path, required=True, help="a dataset that dataset= is no part of")
    parser.add_argument("--updates", type=int, default=1000, help="of the denoiser")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each precision")
    arguments = parser.parse_intermixed_args()
    if arguments.seeds < 1 or arguments.updates < 1:
        parser.error("--seeds and --updates: whole numbers from 1 on are needed")
    sys.argv = [sys.argv[0], *arguments.settings]
    return command_line.launch(lambda config: compare(config, arguments))


def compare(config: Config, arguments: argparse.Namespace) -> None:
    if not config.dataset:
        raise UserError("dataset= is missing: give the replay folder of a run, and another one to --held-out")
    device = pick_device(config.device)
    train, held_out = (read_experience(path, config, device) for path in (config.dataset, arguments.held_out))
    losses: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for seed in range(config.seed, config.seed + arguments.seeds):
        for precision in PRECISIONS:
            config.seed, config.precision = seed, precision
            models = trained(config, train, arguments.updates, device)
            losses[precision].append(held_out_loss(models, held_out))
    print(table(losses))


def trained(config: Config, replay: Replay, count: int, device: torch.device) -> Models:
    torch.manual_seed(config.seed)
    models = Models(config, action_meanings(config), device)
    updates = Updates.without_run(models, replay)
    updates.measure_changes()
    for _ in trange(count, unit="update", desc=f"{config.precision}, seed {config.seed}"):
        updates.make("denoiser")
    return models


@torch.no_grad()
def held_out_loss(models: Models, replay: Replay) -> float:
    """Mean over the same segments with the same noise each time."""
    c, random, noise = models.config.denoiser, torch.Generator().manual_seed(0), torch.Generator(models.device)
    noise.manual_seed(0)
    segments = (replay.sample(c.optimization.batch_size, c.context + 1, random, c.context) for _ in range(BATCHES))
    return fmean(float(models.world.denoiser.loss(segment, noise)[0]) for segment in segments)


def table(losses: dict[str, list[float]]) -> str:
    """Markdown: the loss of each seed, their mean and how far they scatter."""
    count = len(losses[PRECISIONS[0]])
    head = ["loss on held-out play", *(f"run {i + 1}" for i in range(count)), "mean", "standard deviation"]
    differences = [b - a for a, b in zip(*losses.values(), strict=True)]
    rows = []
    for name, values in {**losses, "difference": differences}.items():
        scatter = f"{stdev(values):.5f}" if count > 1 else "-"
        rows.append([name, *(f"{value:.5f}" for value in values), f"{fmean(values):.5f}", scatter])
    return markdown_table(head, rows, "l" + "r" * (count + 2))


if __name__ == "__main__":
    sys.exit(main())
