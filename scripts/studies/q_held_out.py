"""Does a Q-network learn, or learn by heart? `python scripts/studies/q_held_out.py env=GAME --replay REPLAY --held-out OTHER`.

Trains the Q-network of policy=model_free on REPLAY alone, and prints for REPLAY and for other play of the same game: the loss, and
how far the value of a state and the advantage of the action that was taken go along with the rewards of the next n steps
(correlations, of the averaged weights). What holds for REPLAY alone was learned by heart. Any setting of `adamas train` can be
given as name=value.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from adamas.agent.q_learning import transitions
from adamas.agent.q_network import FRAME_STACK
from adamas.config import Config, command_line
from adamas.data.replay import Replay
from adamas.envs.make import action_meanings
from adamas.training.datasets import read_experience
from adamas.training.learners import Learners
from adamas.training.models import Models
from adamas.training.updates import Updates
from adamas.utils.device import pick_device
from adamas.utils.markdown import markdown_table

STEPS = 2_048  # of each kind of play that are looked at
HEAD = ["updates", "loss", "held out", "value", "held out", "advantage", "held out", "mean value"]


class Measured(NamedTuple):
    """On some play."""

    loss: float
    value: float  # correlation with the rewards of n steps, as that of `advantage`
    advantage: float
    mean_value: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="name=value", help="as `adamas train` takes them")
    parser.add_argument("--replay", required=True, help="the replay folder of a run, or another dataset")
    parser.add_argument("--held-out", required=True, help="a dataset that --replay is no part of")
    parser.add_argument("--updates", type=int, default=12_000, help="of the Q-network")
    parser.add_argument("--looks", type=int, default=3, help="at it, evenly spread")
    arguments = parser.parse_intermixed_args()
    if not 1 <= arguments.looks <= arguments.updates:
        parser.error("--looks and --updates: whole numbers from 1 on are needed, and no more looks than updates")
    sys.argv = [sys.argv[0], "policy=model_free", *arguments.settings]
    return command_line.launch(lambda config: study(config, arguments))


def study(config: Config, arguments: argparse.Namespace) -> None:
    device = pick_device(config.device)
    own, other = (read_experience(path, config, device) for path in (arguments.replay, arguments.held_out))
    torch.manual_seed(config.seed)
    models = Models(config, action_meanings(config), device)
    updates = Updates.without_run(models, own)
    rows = []
    with tqdm(total=arguments.updates, unit="update") as bar:
        for look in range(1, arguments.looks + 1):
            while bar.n < arguments.updates * look // arguments.looks:
                updates.after_step()
                bar.update()
            rows.append(_row(bar.n, measure(updates.learners, own), measure(updates.learners, other)))
    print(markdown_table(HEAD, rows, "r" * len(HEAD)))


@torch.no_grad()
def measure(learners: Learners, replay: Replay) -> Measured:
    """The same steps of the replay each time."""
    c, random = learners.models.config.q_network, torch.Generator().manual_seed(0)
    batch = transitions(replay.sample_steps(STEPS, FRAME_STACK - 1, c.n_step, random), FRAME_STACK, c.discount)
    batch = batch.rows(batch.mask)
    target_network: Any = learners.models.policy
    with learners.models.autocast():
        values = target_network.values(batch.obs)
    taken, mean = values.gather(-1, batch.action[:, None])[:, 0], values.mean(-1)
    loss = F.smooth_l1_loss(taken, learners.q_targets(batch, random))
    value, advantage = (_correlation(x, batch.reward) for x in (mean, taken - mean))
    return Measured(float(loss), value, advantage, float(values.amax(-1).mean()))


def _correlation(x: Tensor, y: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1])


def _row(updates: int, own: Measured, other: Measured) -> list[str]:
    pairs = [(f"{a:.3f}", f"{b:.3f}") for a, b in zip(own[:3], other[:3], strict=True)]
    return [f"{updates:,}", *(figure for pair in pairs for figure in pair), f"{own.mean_value:.2f}"]


if __name__ == "__main__":
    sys.exit(main())
