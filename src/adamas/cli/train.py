"""`adamas train`: composes the parts of a run and sets it going."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from adamas.config import Config, command_line
from adamas.config.files import save_config
from adamas.config.hints import game_name
from adamas.utils.console import say
from adamas.utils.errors import UserError
from adamas.utils.quoting import assignment
from adamas.utils.torchrun import command, launched

if TYPE_CHECKING:
    import torch

    from adamas.training.run_folder import RunFolder
    from adamas.utils.threads import Threads


def main(argv: list[str]) -> int:
    """The exit code."""
    return command_line.launch(run, check_here, argv=argv, canonical=canonical)


def canonical(env: str) -> str:
    """The game's name where `env` is one of Gymnasium's ids of an Atari game. Most names can be told without the list of them."""
    if game_name(env) == env:
        return env
    from adamas.envs import make

    return make.canonical(env)


def check_here(config: Config) -> None:
    """Raises UserError if something that the config names is not to be had on this machine.

    Torch takes seconds to import: not before the config is known to be right.
    """
    from adamas.config.dataset_parts import parts_of
    from adamas.data.storage import dataset_files
    from adamas.envs.make import check_env, is_atari
    from adamas.evaluation.evaluate import fixed_clip
    from adamas.training import distributed
    from adamas.training.compiling import check_compiling
    from adamas.training.load_run import SavedRun, check_resumable
    from adamas.training.run_folder import RunFolder
    from adamas.utils.device import pick_device

    if config.resume:
        check_resumable(RunFolder(Path(config.resume)))
    check_env(config)
    if config.has_world_model and not is_atari(config.env):
        fixed_clip(config)  # games too short for a dream are told now, and not at the first evaluation
    for part in parts_of(config.dataset):
        if config.resume and not Path(part.path).exists():
            raise UserError(f"dataset {part.path} of this run is gone: say where it is now with dataset=")
        dataset_files(Path(part.path))
    source = config.initialize["from"]
    if source and not config.resume and not Path(source).is_file():
        SavedRun(Path(source)).checkpoints()
    distributed.check_processes(config)
    check_compiling(config, pick_device(config.device))


def run(config: Config) -> bool:
    """Trains, or follows the process that does. Returns False if it was asked to stop before its end."""
    import torch

    from adamas.training.workers import work
    from adamas.utils import device

    device.keep_freed_memory()
    device.keep_to_granted_cores()
    chip = device.pick_device(config.device)
    if chip.type == "cuda":
        torch.cuda.set_device(chip)  # where graphs are recorded, and what processes say to each other
    try:
        return lead(config, chip) if launched().rank == 0 else work(config, chip)
    except RuntimeError as error:
        if not device.is_out_of_memory(error):
            raise
        raise UserError(f"the memory of {chip} is full: set micro_batch, say to 8, or smaller batch sizes") from error


def lead(config: Config, chip: torch.device) -> bool:
    """The first process of a run, often its only one."""
    from adamas.envs.make import action_meanings
    from adamas.training.compiling import compiles
    from adamas.training.distributed import joined
    from adamas.training.phases import measure_costs
    from adamas.training.rehearsal import Rehearsal
    from adamas.training.run_folder import RunFolder
    from adamas.training.signals import ending_by_itself
    from adamas.utils.threads import saved_cores, threads_of

    say("measuring how fast this machine is")
    chosen = "OMP_NUM_THREADS" in os.environ  # by the user, also at a resume
    kept = saved_cores(RunFolder(Path(config.resume)).threads) if config.resume and not chosen else None
    with threads_of(chip, kept, compiles(config, chip)) as threads:
        costs = measure_costs(Rehearsal(config, action_meanings(config), chip, threads))
        folder = RunFolder(Path(config.resume)) if config.resume else RunFolder.create(config.runs, config.env)
        with ending_by_itself(), folder.held(new=not config.resume), joined(chip, str(folder.path)):
            if launched().size == 1:  # torchrun sets OMP_NUM_THREADS by itself
                threads.save(folder.threads)
            finished = train(config, folder, chip, costs, threads)
    again = command("train", assignment("resume", folder.path))
    look = f": play its dream with {command('play', assignment('run', folder.path))}" if config.has_world_model else ""
    say(f"done{look}" if finished else f"stopped and saved: go on with {again}")
    return finished


def with_absolute_paths(config: Config) -> Config:
    """What a resume from another folder finds too."""
    from adamas.config.dataset_parts import parts_of, with_paths

    dataset = with_paths(config.dataset, [str(Path(part.path).resolve()) for part in parts_of(config.dataset)])
    source = config.initialize["from"]
    initialize = {**config.initialize, "from": source and str(Path(source).resolve())}
    return replace(config, dataset=dataset, initialize=initialize)


def train(config: Config, folder: RunFolder, chip: torch.device, costs: dict[str, float], threads: Threads) -> bool:
    """Composes the parts of a run and sets it going."""
    from adamas.training.announcement import announce
    from adamas.training.phases import units_left
    from adamas.training.run_loop import RunLoop
    from adamas.training.trainer import Trainer
    from adamas.utils import device

    trainer = Trainer(config, folder, chip, threads)
    if config.resume:
        trainer.resume()
    elif config.initialize["from"]:
        trainer.initialize(config.initialize["from"], config.initialize["parts"])
    save_config(replace(with_absolute_paths(config), resume=None), folder.config)
    folder.add_origin()
    described = f"{chip} ({threads.describe()})" if chip.type == "cpu" else device.describe(chip)
    say(announce(config, folder.path, described, trainer.progress, costs))
    progress, logger, snapshot = trainer.progress, trainer.logger, trainer.state_dict
    left = partial(units_left, config, progress)
    return trainer.run(RunLoop(folder, config.checkpoint, progress, logger, snapshot, costs, left))
