"""Trains an agent inside a diffusion world model of an Atari game: `python src/main.py env=Breakout`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from adamas import cli
from adamas.config import Config, UserError
from adamas.config_file import save_config


def check_here(config: Config) -> None:
    """Raises UserError if the game or the device is not to be had on this machine."""
    from adamas import device  # torch takes seconds to import: not before the config is known to be right
    from adamas.envs.atari import check_game

    check_game(config.env)
    device.pick_device(config.device)


def run(config: Config) -> None:
    """Composes the parts of a run and sets it going."""
    from adamas import device
    from adamas.training.estimate import announce, measure_costs
    from adamas.training.run_folder import RunFolder
    from adamas.training.trainer import Trainer

    chip = device.pick_device(config.device)
    folder = RunFolder(Path(config.resume)) if config.resume else RunFolder.create(config.runs, config.env)
    try:
        trainer = Trainer(config, folder, chip)
        if config.resume:
            trainer.resume()
        elif config.initialize["from"]:
            trainer.initialize(config.initialize["from"], config.initialize["parts"])
    except UserError:
        folder.discard()
        raise
    save_config(replace(config, resume=None), folder.config)
    folder.add_origin()
    costs = measure_costs(config, trainer.models.action_meanings, chip)
    print(announce(config, folder.path, device.describe(chip), trainer.progress, costs), flush=True)
    finished = trainer.run(costs)
    print("done" if finished else f"stopped and saved: go on with python src/main.py resume={folder.path}", flush=True)


if __name__ == "__main__":
    sys.exit(cli.launch(run, check_here))
