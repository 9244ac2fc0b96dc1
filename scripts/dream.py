"""Draws dreams of a run beside reality: `python scripts/dream.py RUN PICTURE.gif [--seed S] [--dreams N] [--steps T]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from adamas import checkpoint
from adamas.config import UserError
from adamas.config_file import load_config
from adamas.envs.atari import action_meanings
from adamas.evaluation.evaluate import evaluate_world
from adamas.frames import gif
from adamas.training.models import Models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("picture", type=Path, help="the GIF to write")
    parser.add_argument("--seed", type=int, default=0, help="of the real games and of the dreams' noise")
    parser.add_argument("--dreams", type=int, default=6)
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args()
    try:
        draw(arguments)
    except UserError as error:
        sys.exit(f"error: {error}")


def draw(arguments: argparse.Namespace) -> None:
    """Real above imagined above their difference; prints the PSNR at some steps."""
    config = load_config(arguments.run / "config.yaml")
    config.evaluation.dreams, config.evaluation.dream_steps = arguments.dreams, arguments.steps
    state, path = checkpoint.load_newest(arguments.run / "checkpoints", warn=print)
    models = Models(config, action_meanings(config.env), torch.device("cpu"))
    models.load_state_dict(state["models"])
    with models.autocast():
        dreams = evaluate_world(models.world, models.actor_critic, config, arguments.seed)
    arguments.picture.write_bytes(gif(dreams.film))
    shown = ", ".join(f"{dreams.psnr[t - 1]:.1f} dB at {t}" for t in (1, 5, 15, 50) if t <= len(dreams.psnr))
    print(f"{arguments.picture}: {path.name}, seed {arguments.seed}, {arguments.dreams} dreams: {shown}")


if __name__ == "__main__":
    main()
