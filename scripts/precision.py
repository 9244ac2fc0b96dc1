"""Does bfloat16 learn what float32 learns? `python scripts/precision.py env=GAME dataset=REPLAY --held-out OTHER`.

Trains the denoiser in both precisions from the same weights on the same batches with the same noise, once a seed, and prints
the loss of its averaged weights, computed in float32, on the same segments of play that it has not seen. If the precisions
differ by no more than the seeds do, bfloat16 is good enough. Any knob of src/main.py can be given as knob=value.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from adamas.config import Config, command_line
from adamas.data.datasets import read_experience
from adamas.data.replay import Replay
from adamas.envs.atari import action_meanings
from adamas.training.models import Models
from adamas.training.updates import Generators, measure_changes, update_denoiser
from adamas.utils.device import describe, pick_device
from adamas.utils.errors import UserError
from adamas.utils.logger import Logger
from adamas.utils.markdown import markdown_table

PRECISIONS = ("float32", "bfloat16")
BATCHES = 64  # of held-out segments


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("knobs", nargs="*", metavar="knob=value", help="as src/main.py takes them")
    parser.add_argument("--held-out", type=Path, required=True, help="a dataset that dataset= is no part of")
    parser.add_argument("--updates", type=int, default=1000, help="of the denoiser")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each precision")
    arguments = parser.parse_args()
    if arguments.seeds < 1 or arguments.updates < 1:
        parser.error("--seeds and --updates: whole numbers from 1 on are needed")
    sys.argv = [sys.argv[0], *arguments.knobs]
    return command_line.launch(lambda config: compare(config, arguments))


def compare(config: Config, arguments: argparse.Namespace) -> None:
    if not config.dataset:
        raise UserError("dataset= is missing: give the replay folder of a run, and another one to --held-out")
    device = pick_device(config.device)
    train, held_out = (read_experience(path, config, device) for path in (config.dataset, arguments.held_out))
    seeds = range(config.seed, config.seed + arguments.seeds)
    print(f"{arguments.seeds} x {arguments.updates:,} updates in each precision, on {describe(device)}", flush=True)
    losses: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    with tqdm(total=len(PRECISIONS) * len(seeds) * arguments.updates, unit="update") as bar:
        for seed in seeds:
            for precision in PRECISIONS:
                config.precision, config.seed = precision, seed
                models = trained(config, train, arguments.updates, device, bar)
                losses[precision].append(held_out_loss(models, held_out, device))
    print(table(losses, seeds))


def trained(config: Config, replay: Replay, updates: int, device: torch.device, bar: tqdm) -> Models:
    torch.manual_seed(config.seed)
    models = Models(config, action_meanings(config.env), device)
    measure_changes(models, replay)
    random = Generators.seeded(config.seed, device)
    with TemporaryDirectory() as folder:
        logger = Logger(Path(folder))
        for _ in range(updates):
            update_denoiser(models, replay, random, logger)
            bar.update()
        logger.close()
    return models


@torch.no_grad()
def held_out_loss(models: Models, replay: Replay, device: torch.device) -> float:
    """Mean over the same segments with the same noise each time."""
    c, draw = models.config.denoiser, torch.Generator().manual_seed(0)
    noise, total = torch.Generator(device).manual_seed(0), 0.0
    for _ in range(BATCHES):
        segment = replay.sample(c.optimization.batch_size, c.context + 1, draw, c.context)
        total += float(sum(models.world.denoiser.losses(segment, noise)))
    return total / BATCHES


def table(losses: dict[str, list[float]], seeds: Sequence[int]) -> str:
    """Markdown: the loss of each seed, their mean and how far they scatter."""
    head = ["loss on held-out play", *(f"seed {seed}" for seed in seeds), "mean", "standard deviation"]
    differences = [b - a for a, b in zip(*losses.values(), strict=True)]
    rows = []
    for name, values in {**losses, "difference": differences}.items():
        scatter = f"{stdev(values):.5f}" if len(seeds) > 1 else "-"
        rows.append([name, *(f"{value:.5f}" for value in values), f"{fmean(values):.5f}", scatter])
    return markdown_table(head, rows, "l" + "r" * (len(seeds) + 2))


if __name__ == "__main__":
    sys.exit(main())
