"""The world model of a run folder as a Gymnasium env: what `gymnasium.make("adamas:WorldModel-v0", run=PATH)` makes.

Dreams begin with stretches of the run's own experience, or where the folder has none (an agent that was sent without
it), of real games that its agent plays when the env is made.
"""

from __future__ import annotations

import multiprocessing
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import torch

from adamas.data.batch import Trajectory
from adamas.data.replay import read_files
from adamas.envs.make import make_env
from adamas.evaluation.clips import record
from adamas.training.load_run import OpenedRun, SavedRun
from adamas.training.models import Models
from adamas.utils.device import pick_device
from adamas.world_model.gym_env import WorldModelEnv
from adamas.world_model.gym_vector_env import WorldModelVectorEnv
from adamas.world_model.parallel_rollouts import ParallelRollouts

HORIZON = 50  # steps: as far as evaluations look; a dream drifts ever further from the game
STORED, PLAYED = 1024, 32  # contexts from the replay, and from play, which takes time
APART = 8  # steps of play from one such context to the next


class SavedWorldEnv(WorldModelEnv):
    """One dream in the world model of `run`.

    Args:
        run: a run folder. Its newest good checkpoint is used.
        horizon: steps after which a dream is truncated.
        device: as the setting `device`.

    Raises:
        UserError: `run` is no run folder, or has no world model or no good checkpoint.
    """

    def __init__(
        self, run: str | Path, horizon: int = HORIZON, device: str = "auto", render_mode: str | None = None
    ) -> None:
        saved = open_world(Path(run), pick_device(device))
        super().__init__(saved.rollouts(1, horizon), saved.models.action_meanings, render_mode)


class SavedWorldVectorEnv(WorldModelVectorEnv):
    """`num_envs` dreams in one batch in the world model of `run`. Arguments and errors are those of `SavedWorldEnv`."""

    def __init__(
        self,
        num_envs: int,
        run: str | Path,
        horizon: int = HORIZON,
        device: str = "auto",
        render_mode: str | None = None,
    ) -> None:
        saved = open_world(Path(run), pick_device(device))
        super().__init__(num_envs, saved.rollouts(num_envs, horizon), saved.models.action_meanings, render_mode)


class SavedWorld(NamedTuple):
    """The models of a run, and where dreams can begin."""

    models: Models
    starts: Trajectory

    def rollouts(self, count: int, horizon: int) -> ParallelRollouts:
        return ParallelRollouts(self.models.world, self.starts, count, horizon, self.models.autocast)


def open_world(path: Path, device: torch.device) -> SavedWorld:
    """The newest good checkpoint of a run folder, and start contexts, the same each time."""
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # a forked process has none of its parent's OpenMP threads, and would wait for them
    run = SavedRun(path).open(device)
    starts = _stored_contexts(run) if run.replay_files else _played_contexts(run)
    return SavedWorld(run.models, Trajectory(*(column.to(device) for column in starts)))


def _stored_contexts(run: OpenedRun) -> Trajectory:
    replay = read_files(run.replay_files, run.config.replay.age_weights)
    return replay.sample_contexts(STORED, run.config.denoiser.context, torch.Generator().manual_seed(0))


def _played_contexts(run: OpenedRun) -> Trajectory:
    c, n = run.config, run.config.denoiser.context
    with closing(make_env(c)) as env, run.models.autocast():
        clip = record(run.models.policy, env, PLAYED, max(APART, n - 1), seed=0)
    return Trajectory(clip.obs[:, -n:], clip.action[:, 1 - n :])
