"""From the command line to an agent that can play: which run, which checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from adamas.envs.atari import check_game
from adamas.envs.make import is_atari
from adamas.play.settings import Options
from adamas.training import checkpoint
from adamas.training.load_run import OpenedRun, SavedRun
from adamas.training.run_folder import RunFolder, folder_name
from adamas.utils.console import warn
from adamas.utils.device import pick_device
from adamas.utils.errors import UserError
from adamas.utils.torchrun import command

RUNS = Path("runs")
SHIPPED = Path(__file__).resolve().parents[3] / "results" / "breakout-cpu" / "agent"


def open_agent(options: Options, runs: Path = RUNS, shipped: Path = SHIPPED) -> OpenedRun:
    """The agent that the options ask for.

    Without a run it is that of the newest run in `runs` (of the game) that can be opened; each newer one that cannot
    costs a line on stderr. Where there is none, it is the agent in `shipped`.

    Raises:
        UserError: there is no such agent, or it cannot be read.
    """
    device = pick_device(options.device)
    if options.env and is_atari(options.env):
        check_game(options.env)
    if options.run:
        return _open_run(Path(options.run), options, device)
    for path in _newest_runs(options.env, runs):
        try:
            if SavedRun(path).config.has_world_model:
                return _open_run(path, options, device)
        except UserError as error:
            if options.checkpoint:  # of this run, not of an older one
                raise
            warn(f"{error}; trying the run before it")
    if (shipped / "config.yaml").is_file() and options.env in (None, SavedRun(shipped).config.env):
        return _open_run(shipped, options, device)
    game = options.env or "Breakout"
    raise UserError(
        f"no trained run of {options.env or 'any game'} in {runs}/: train one with {command('train', f'env={game}')}"
    )


def _open_run(path: Path, options: Options, device: torch.device) -> OpenedRun:
    run = SavedRun(path)
    if options.env and run.config.env != options.env:
        raise UserError(f"run={path} is of {run.config.env}, not of env={options.env}: drop one of the two")
    return run.open(device, options.checkpoint)


def _newest_runs(env: str | None, runs: Path) -> Iterator[Path]:
    """The runs (of a game) that have a checkpoint, the one with the newest first."""
    times = {
        config.parent: _newest_time(config.parent)
        for config in runs.glob(f"{folder_name(env) if env else '*'}/*/config.yaml")
    }
    yield from sorted((run for run, time in times.items() if time), key=times.__getitem__, reverse=True)


def _newest_time(run: Path) -> int:
    """When its newest checkpoint was written, in nanoseconds; 0 if there is none."""
    times = [path.stat().st_mtime_ns for path in checkpoint.newest_first(RunFolder(run).checkpoints)]
    return max(times, default=0)
