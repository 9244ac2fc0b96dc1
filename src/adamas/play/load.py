"""From the command line to an agent that can play: which run, which checkpoint."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from adamas.agent.actor_critic import ActorCritic
from adamas.config import Config
from adamas.envs.atari import check_game
from adamas.play.settings import Options
from adamas.training import checkpoint
from adamas.training.load_run import SavedRun
from adamas.training.models import Models
from adamas.training.run_folder import RunFolder
from adamas.utils.device import pick_device
from adamas.utils.errors import UserError
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

    @property
    def world(self) -> WorldModel:
        return self.models.world

    @property
    def policy(self) -> ActorCritic:
        return self.models.agent

    @property
    def meanings(self) -> tuple[str, ...]:
        return self.models.action_meanings

    def autocast(self) -> AbstractContextManager:
        return self.models.autocast()


def open_agent(options: Options) -> Agent:
    """The agent that the options ask for. UserError when there is none."""
    device = pick_device(options.device)
    if options.env:
        check_game(options.env)
    run = SavedRun(Path(options.run) if options.run else find_run(options.env))
    if options.env and run.config.env != options.env:
        raise UserError(f"run={run.path} is of {run.config.env}, not of env={options.env}: drop one of the two")
    if run.config.policy == "model_free":
        raise UserError(f"{run.path} has policy=model_free, and so no world model to play in")
    path = find_checkpoint(run, options.checkpoint)
    models, progress = run.load(path, device)
    return Agent(run.folder, run.config, path.name, progress.total["denoiser"], models)


def find_run(env: str | None, runs: Path = RUNS, shipped: Path = SHIPPED) -> Path:
    """The run (of a game) with the newest checkpoint, or else the agent that ships with the code."""
    times = {config.parent: _newest_time(config.parent) for config in runs.glob(f"{env or '*'}/*/config.yaml")}
    for run in sorted((run for run, time in times.items() if time), key=times.__getitem__, reverse=True):
        if SavedRun(run).config.policy != "model_free":
            return run
    if (shipped / "config.yaml").is_file() and env in (None, SavedRun(shipped).config.env):
        return shipped
    game = env or "Breakout"
    raise UserError(f"no trained run of {env or 'any game'} in {runs}/: train one with python src/main.py env={game}")


def find_checkpoint(run: SavedRun, name: str | None) -> Path:
    """The checkpoint of that file name or number, or the newest one that is not damaged."""
    if name is None:
        return checkpoint.load_newest(run.folder.checkpoints, lambda line: print(line, file=sys.stderr))[1]
    for path in run.checkpoints():
        if name in (path.name, path.stem) or (name.isdecimal() and int(name) == checkpoint.step_of(path)):
            return path
    numbers = ", ".join(str(checkpoint.step_of(path)) for path in run.checkpoints())
    raise UserError(f"checkpoint={name} is not in {run.folder.checkpoints}: there are {numbers}")


def _newest_time(run: Path) -> int:
    """When its newest checkpoint was written, in nanoseconds; 0 if there is none."""
    times = [path.stat().st_mtime_ns for path in checkpoint.newest_first(RunFolder(run).checkpoints)]
    return max(times, default=0)
