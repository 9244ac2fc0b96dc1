"""Trains an agent inside a diffusion world model of an Atari game: `python src/main.py env=Breakout`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from adamas import cli
from adamas.config import Config, UserError
from adamas.config_file import save_config


def check_here(config: Config) -> None:
    """Raises UserError if the game, the device or the weights of an encoder are not to be had on this machine."""
    from adamas import device  # torch takes seconds to import: not before the config is known to be right
    from adamas.envs.atari import check_game
    from adamas.evaluation.distances import load_encoders

    check_game(config.env)
    device.pick_device(config.device)
    if config.evaluation.frechet != "off":
        load_encoders(config)


def run(config: Config) -> bool:
    """Composes the parts of a run and sets it going. Returns False if it was asked to stop before its end."""
    from adamas import device
    from adamas.envs.atari import action_meanings
    from adamas.training.estimate import announce, measure_costs, total_seconds
    from adamas.training.progress import plan
    from adamas.training.run_folder import RunFolder
    from adamas.training.session import Session
    from adamas.training.trainer import Trainer

    device.keep_freed_memory()
    chip = device.pick_device(config.device)
    print("measuring how fast this machine is", flush=True)
    costs = measure_costs(config, action_meanings(config.env), chip)
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
    print(announce(config, folder.path, device.describe(chip), trainer.progress, costs), flush=True)
    total = total_seconds(plan(config), costs)
    snapshot = trainer.state_dict
    session = Session(folder, config.checkpoint, trainer.progress, trainer.logger, snapshot, costs, total)
    finished = trainer.run(session)
    print("done" if finished else f"stopped and saved: go on with python src/main.py resume={folder.path}", flush=True)
    return finished


if __name__ == "__main__":
    sys.exit(cli.launch(run, check_here))
