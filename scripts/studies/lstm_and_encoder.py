"""Do DIAMOND's start of the LSTM, and no activation after the encoder, help preset cpu? `python scripts/studies/lstm_and_encoder.py`.

Trains the reward/end model of preset cpu on random play of Breakout, from the same weights but for what a variant changes and
on the same segments, and prints its loss on other play, and the recall of rewards there, after 75 and 150 updates.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import torch
from denoiser_budget import compose, random_play
from torch import nn

from adamas.config import Config
from adamas.data.replay import Replay
from adamas.envs.make import action_meanings
from adamas.training.models import Models
from adamas.training.updates import Updates
from adamas.utils.logger import Ratio
from adamas.utils.markdown import markdown_table
from adamas.world_model.reward_end import RewardEnd

CPU = torch.device("cpu")
AT = (75, 150)  # updates
SEEDS = (0, 1, 2)
SETTINGS = ["reward_end.imagined_share=0", "reward_end.predict_divergence=false"]
STEPS, BATCHES = 10_000, 12  # of play, each; of held-out segments


def torchs_lstm(part: RewardEnd) -> None:
    nn.LSTM.reset_parameters(part.lstm)


def no_activation(part: RewardEnd) -> None:
    part.encoder.published = True


VARIANTS: dict[str, Callable[[RewardEnd], None]] = {
    "as it is: DIAMOND's LSTM, an activation": lambda part: None,
    "the LSTM as torch starts it": torchs_lstm,
    "no activation after the encoder": no_activation,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/lstm-and-encoder.md"))
    out = parser.parse_args().out
    torch.set_num_threads(1)
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, change in VARIANTS.items():
        found = [trained(seed, change, out) for seed in SEEDS]
        for i, updates in enumerate(AT):
            losses, recalls = ([of_seed[i][j] for of_seed in found] for j in (0, 1))
            cells = (
                f"{fmean(values):.4f} ({', '.join(f'{value:.4f}' for value in values)})" for values in (losses, recalls)
            )
            rows.append([name, str(updates), *cells])
            print(rows[-1], flush=True)
    head = ["variant", "updates", "held-out loss, mean (seeds)", "recall of rewards, mean (seeds)"]
    out.write_text(markdown_table(head, rows, "lrrr") + "\n")


def trained(seed: int, change: Callable[[RewardEnd], None], out: Path) -> list[tuple[float, float]]:
    """Held-out loss and recall of rewards at each of AT."""
    config = compose("Breakout", argparse.Namespace(seed=seed, preset="cpu", set=SETTINGS, out=out))
    replay = random_play(config, STEPS)
    other = random_play(
        compose("Breakout", argparse.Namespace(seed=seed + 100, preset="cpu", set=SETTINGS, out=out)), STEPS
    )
    torch.manual_seed(seed)
    models = Models(config, action_meanings(config), CPU)
    change(models.reward_end)
    updates = Updates.without_run(models, replay)
    found = []
    for number in range(1, AT[-1] + 1):
        updates.make("reward_end")
        if number in AT:
            found.append(held_out(models, other, config))
    return found


@torch.no_grad()
def held_out(models: Models, replay: Replay, config: Config) -> tuple[float, float]:
    random, losses, recalls = torch.Generator().manual_seed(0), [], []
    for _ in range(BATCHES):
        segment = replay.sample(32, 19, random, event_share=config.replay.event_share)
        loss, metrics = models.reward_end.loss(segment, random)
        losses.append(float(loss))
        recall = metrics["reward_recall"]
        if isinstance(recall, Ratio) and recall[1]:
            recalls.append(float(recall[0] / recall[1]))
    return fmean(losses), fmean(recalls)


if __name__ == "__main__":
    main()
