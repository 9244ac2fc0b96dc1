"""Is preset diamond the published system? `python scripts/studies/published.py CLONE`, with a clone of eloialonso/diamond.

Builds both from the same random weights, those that start at zero included, in float32 on the CPU at 84x84 grey, and prints
how far they differ at most: networks, sampler, losses, gradients, schedule, initial weights and draws of the replay. The
last column is of the published code as it comes, the others of that code without the faults that ours leaves out on
purpose (docs/published.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import published_clone as clone
import torch
from published_rows import Row, compared, distance
from published_sides import Both

from adamas.config import Config
from adamas.data import sampling
from adamas.training.learners import WARMUP_UPDATES
from adamas.training.optimizer import Optimizer
from adamas.utils.errors import exit_code
from adamas.utils.markdown import markdown_table

SIGMAS = (2e-3, 2e-2, 0.1, 0.3, 1.0, 2.0, 5.0, 20.0)
LENGTHS = (
    18,
    40,
    351,
    25,
    120,
    60,
    18,
    90,
    33,
    200,
    351,
    47,
    18,
    75,
    150,
    22,
    300,
    64,
    18,
    110,
    351,
    40,
)  # of episodes
DRAWS = 1_000_000


def replay_draws(config: Config) -> Iterator[Row]:
    """Which share of the draws each episode gets, and each step of the shortest and the longest ones."""
    from data import BatchSampler, Dataset

    np.random.seed(0)
    lengths, weights = np.array(LENGTHS), config.replay.age_weights
    dataset = Dataset(Path("unused"), "draws", save_on_disk=False)
    dataset.lengths, dataset.num_episodes, dataset.num_steps = lengths, len(lengths), int(lengths.sum())
    ids = [segment.episode_id for segment in BatchSampler(dataset, 0, 1, DRAWS, 1, list(weights)).sample()]
    other = torch.tensor(ids).bincount(minlength=len(lengths)) / DRAWS
    bounds = torch.tensor([0, *lengths.cumsum()])
    rows = sampling.by_age(bounds, torch.tensor(weights).double(), DRAWS, torch.Generator().manual_seed(0))
    mine = (torch.searchsorted(bounds, rows, right=True) - 1).bincount(minlength=len(lengths)) / DRAWS
    chance = float(4 * (2 * other * (1 - other) / DRAWS).sqrt().max())
    yield Row(
        "replay: share of an episode", float(mine.max()), f"{distance(mine, other):.1e} (chance: up to {chance:.0e})"
    )
    for length in (min(LENGTHS), max(LENGTHS)):
        a, b = (1e6 * share[lengths == length].mean() / length for share in (mine, other))
        yield Row(f"replay: draws of a step, episodes of {length}, in a million", f"{a:.0f}", f"{a - b:.0f}")


def schedule(both: Both) -> Iterator[Row]:
    """The learning rate of the first updates."""
    from utils import configure_opt, get_lr_sched

    for part in Config().parts:
        ours, theirs = both.part(part)
        c = getattr(both.config, part).optimization
        mine, other = (
            Optimizer(part, ours, c, warmup_updates=WARMUP_UPDATES),
            configure_opt(theirs, c.learning_rate, 0, 1e-8),
        )
        warm_up, rates = get_lr_sched(other, 100), []
        for update in range(2 * WARMUP_UPDATES):
            mine.updates = update
            rates.append((mine.learning_rate, other.param_groups[0]["lr"]))
            other.step()
            warm_up.step()
        yield compared(f"{part}: learning rate", *torch.tensor(rates).unbind(1))


def rows(config: Config) -> Iterator[Row]:
    both = Both(config)
    yield from both.parameters()
    yield from both.initial
    yield both.network()
    yield from map(both.denoised, SIGMAS)
    yield both.sampled()
    yield both.first_frames()
    for work in (both.reward_end, both.policy, both.denoiser_loss, both.reward_end_loss, both.policy_loss):
        yield from work()
    yield from schedule(both)
    yield from replay_draws(config)


def table(found: Iterable[Row]) -> str:
    head = ["compared", "largest of ours", "largest difference", "on the last row and column", "faults included"]
    body = [[f"{cell:.2g}" if isinstance(cell, float) else cell for cell in row] for row in found]
    return markdown_table(head, body, "lrrrr")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path, help="a clone of eloialonso/diamond")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of what the networks are shown")
    parser.add_argument("--out", type=Path, help="a file to write the table to, as Markdown")
    arguments = parser.parse_args()
    clone.import_clone(arguments.clone)
    torch.use_deterministic_algorithms(True)
    text = table(rows(Config(seed=arguments.seed)))
    print(text)
    if arguments.out:
        command = f"python scripts/studies/published.py CLONE --seed {arguments.seed} --out FILE"
        arguments.out.write_text(
            f"`{command}`, torch {torch.__version__}, on a CPU ([what it says](../../docs/published.md))\n\n{text}\n"
        )


if __name__ == "__main__":
    sys.exit(exit_code(main))
