"""Trains an agent inside a diffusion world model of an Atari game: `python src/main.py env=Breakout`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from adamas import cli
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is not installed here: pip install -e . where python is {sys.executable}")
from adamas.config import Config, UserError
from adamas.config_file import save_config
from adamas.launched import launched, python

if TYPE_CHECKING:
    import torch

    from adamas.threads import Threads
    from adamas.training.run_folder import RunFolder


def check_here(config: Config) -> None:
    """Raises UserError if something that the config names is not to be had on this machine."""
    from adamas import device, distributed  # torch takes seconds to import: not before the config is known to be right
    from adamas.chunks import dataset_files
    from adamas.envs.atari import check_game
    from adamas.evaluation.distances import load_encoders
    from adamas.training.saved import SavedRun

    check_game(config.env)
    if config.dataset:
        dataset_files(Path(config.dataset))
    source = config.initialize["from"]
    if source and not Path(source).is_file():
        SavedRun(Path(source)).checkpoints()
    distributed.check_processes(config)
    device.check_compiling(config, device.pick_device(config.device))
    if config.evaluation.frechet != "off":
        load_encoders(config)


def run(config: Config) -> bool:
    """Trains, or follows the process that does. Returns False if it was asked to stop before its end."""
    import torch

    from adamas import device
    from adamas.training.followers import follow

    device.keep_freed_memory()
    device.keep_to_granted_cores()
    chip = device.pick_device(config.device)
    if chip.type == "cuda":
        torch.cuda.set_device(chip)  # where graphs are recorded, and what processes say to each other
    try:
        return lead(config, chip) if launched()[0] == 0 else follow(config, chip)
    except RuntimeError as error:
        if not device.is_out_of_memory(error):
            raise
        parts = " and ".join(f"{part}.optimization.micro_batch" for part in ("denoiser", "reward_end"))
        raise UserError(f"the memory of {chip} is full: set {parts}, say to 8, or smaller batch sizes") from error


def lead(config: Config, chip: torch.device) -> bool:
    """The first process of a run, often its only one."""
    from adamas.distributed import joined
    from adamas.envs.atari import action_meanings
    from adamas.training.estimate import choose_threads, measure_costs
    from adamas.training.run_folder import RunFolder

    folder = RunFolder(Path(config.resume)) if config.resume else RunFolder.create(config.runs, config.env)
    with folder.held():
        print("measuring how fast this machine is", flush=True)
        threads = choose_threads(config, action_meanings(config.env), chip, folder.threads)
        costs = measure_costs(config, action_meanings(config.env), chip, threads)
        with joined(chip, str(folder.path)):
            finished = train(config, folder, chip, costs, threads)
    again = f"{python()} src/main.py resume={folder.path}"
    look = f": play its dream with {python()} src/play.py run={folder.path}" if config.policy == "imagined" else ""
    print(f"done{look}" if finished else f"stopped and saved: go on with {again}", flush=True)
    return finished


def train(config: Config, folder: RunFolder, chip: torch.device, costs: dict[str, float], threads: Threads) -> bool:
    """Composes the parts of a run and sets it going."""
    from adamas import device
    from adamas.training.estimate import announce
    from adamas.training.progress import plan
    from adamas.training.session import Session
    from adamas.training.trainer import Trainer

    trainer = Trainer(config, folder, chip)
    if config.resume:
        trainer.resume()
    elif config.initialize["from"]:
        trainer.initialize(config.initialize["from"], config.initialize["parts"])
    save_config(replace(config, resume=None), folder.config)
    folder.add_origin()
    chips = f"{chip} ({threads.describe()})" if chip.type == "cpu" else device.describe(chip)
    print(announce(config, folder.path, chips, trainer.progress, costs), flush=True)
    snapshot = trainer.state_dict
    session = Session(
        folder, config.checkpoint, trainer.progress, trainer.logger, snapshot, costs, plan(config), threads
    )
    return trainer.run(session)


if __name__ == "__main__":
    sys.exit(cli.launch(run, check_here))
