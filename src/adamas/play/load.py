"""From the command line to an agent that can play: which run, which checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adamas.agent.policy import Policy
from adamas.config import Config
from adamas.envs.atari import check_game
from adamas.envs.make import is_atari
from adamas.play.settings import Options
from adamas.training import checkpoint
from adamas.training.load_run import SavedRun, replay_files
from adamas.training.models import Models
from adamas.training.run_folder import RunFolder, folder_name
from adamas.utils.console import warn
from adamas.utils.device import pick_device
from adamas.utils.errors import UserError
from adamas.utils.torchrun import command
from adamas.world_model.world_model import WorldModel

RUNS = Path("runs")
SHIPPED = Path(__file__).resolve().parents[3] / "results" / "breakout-cpu" / "agent"


@dataclass(frozen=True)
class Agent:
    """A trained world model and the policy that learned in it."""

    folder: RunFolder
    config: Config
    checkpoint: str
    updates: int  # of the denoiser
    models: Models
    replay_files: list[Path]  # of the experience that the checkpoint was trained on, if it is still there

    @property
    def world(self) -> WorldModel:
        return self.models.world

    @property
    def policy(self) -> Policy:
        return self.models.policy

    @property
    def action_meanings(self) -> tuple[str, ...]:
        return self.models.action_meanings

    @property
    def can_churn(self) -> bool:
        """Only Euler steps can add noise back."""
        return self.config.sampler.method == "euler"

    def autocast(self) -> AbstractContextManager:
        return self.models.autocast()


def open_agent(options: Options, runs: Path = RUNS, shipped: Path = SHIPPED) -> Agent:
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


def _open_run(path: Path, options: Options, device: torch.device) -> Agent:
    run = SavedRun(path)
    if options.env and run.config.env != options.env:
        raise UserError(f"run={path} is of {run.config.env}, not of env={options.env}: drop one of the two")
    run.check_world_model()
    state, file = _read_checkpoint(run, options.checkpoint)
    models, progress = run.restore(state, file, device)
    replay = replay_files(run.folder, state)
    return Agent(run.folder, run.config, file.name, progress.total["denoiser"], models, replay)


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


def _read_checkpoint(run: SavedRun, name: str | None) -> tuple[dict[str, Any], Path]:
    """The checkpoint of that file name or number, or the newest one that is not damaged. It is read once."""
    if name is None:
        return checkpoint.load_newest(run.folder.checkpoints, warn)
    for path in run.checkpoints():
        if name in (path.name, path.stem) or (name.isdecimal() and int(name) == checkpoint.step_of(path)):
            return checkpoint.load(path), path
    numbers = ", ".join(str(checkpoint.step_of(path)) for path in run.checkpoints())
    raise UserError(f"checkpoint={name} is not in {run.folder.checkpoints}: there are {numbers}")
