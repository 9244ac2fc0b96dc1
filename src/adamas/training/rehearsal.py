"""What work costs on this machine, measured with random frames before a run."""

from __future__ import annotations

import copy
import gc
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch

from adamas.config import SIZE, Config
from adamas.data.batch import Trajectory
from adamas.data.replay import Replay
from adamas.envs.make import step_seconds
from adamas.evaluation.dreams import GROUP
from adamas.training.compiling import records
from adamas.training.cuda_graphs import WARM_UP
from adamas.training.generators import Generators
from adamas.training.learners import Learners
from adamas.training.models import Models
from adamas.training.schedule import planned_updates
from adamas.training.updates import Updates
from adamas.utils.logger import NullLogger
from adamas.utils.threads import Threads
from adamas.utils.torchrun import launched

FRACTION = 8  # a batch this much smaller is tried first
ENOUGH = 0.4  # seconds: work that takes longer is timed once
PATIENCE = 8.0  # seconds: a smaller batch stands for a full one that would take longer
LONG = 3.0  # seconds: beside work that takes longer, what its first run sets up is little


class Rehearsal:
    """Times each kind of work of a run, of one process alone with its rows of each batch. Leaves no trace in any random
    state that the run uses."""

    def __init__(
        self, config: Config, action_meanings: tuple[str, ...], device: torch.device, threads: Threads
    ) -> None:
        self.config, self.action_meanings, self.device, self.threads = config, action_meanings, device, threads
        with torch.random.fork_rng(devices=[]):
            self._models = Models(config, action_meanings, device)

    def update(self, part: str) -> float:
        """Seconds of an update of a part, on average over the run."""
        with torch.random.fork_rng(devices=[]):
            seconds = sum(share * self._update(part, variant) for share, variant in self.variants(part) if share)
        more = self.config.q_network.steps_per_update - 1 if part == "q_network" else 0
        return seconds + (more * self._q_step if more else 0.0)

    @property
    def replaying(self) -> float:
        """Seconds of the updates of a Q-network that follow a collected step."""
        return 0.0 if self.config.policy == "imagined" else self.config.q_network.replay_ratio * self._q_step

    @cached_property
    def _q_step(self) -> float:
        """Seconds of an optimizer step of a Q-network."""
        with torch.random.fork_rng(devices=[]):
            batch = self.config.q_network.optimization.batch_size
            updates = self._updates("q_network", batch, self.config, self.threads)
            if self.config.has_world_model:
                updates.imagine_steps()  # which join each batch
            try:
                return _seconds(updates.after_step, self.device, self._set_up)
            finally:
                del updates
                gc.collect()  # networks and their averages refer to themselves

    @property
    def _set_up(self) -> int:
        """How often work is done before it is timed."""
        return WARM_UP + 1 if records(self.config, self.device) else 1

    def acting(self, games: int) -> float:
        """Seconds of a step of one of so many games played at once."""
        return _seconds(self._acting(games), self.device) / games + step_seconds(self.config)

    def _acting(self, games: int) -> Callable[[], None]:
        policy = self._models.policy
        obs, random = torch.zeros(games, SIZE, SIZE, dtype=torch.uint8), torch.Generator().manual_seed(0)

        def act() -> None:
            with self._models.autocast():
                policy.act(obs, policy.initial_hidden(games), random)

        return act

    @cached_property
    def dreaming(self) -> float:
        """Seconds of a step of a group of dreams, where as many are dreamed side by side as an evaluation has."""
        groups = math.ceil(self.config.evaluation.dreams / GROUP)
        together = min(self.threads.count, groups)
        return _seconds(self._dreaming(together), self.device) * math.ceil(groups / together) / groups

    def _dreaming(self, groups: int) -> Callable[[], None]:
        n, world = self.config.denoiser.context, self._models.world
        obs = torch.zeros(GROUP, n, SIZE, SIZE, dtype=torch.uint8, device=self.device)
        action = torch.zeros(GROUP, n, dtype=torch.int64, device=self.device)

        def one(seed: int) -> None:
            random = torch.Generator(self.device).manual_seed(seed)
            world.step(world.start(Trajectory(obs, action[:, 1:])), action[:, 0], random)

        def step() -> None:
            with self._models.autocast():
                self.threads.map(one, range(groups))

        return step

    def variants(self, part: str) -> list[tuple[float, Config]]:
        """What a run makes updates of in turn, and which share of them: the denoiser before and after it is shown its own
        frames, reward and end with frames that are real and that are imagined. Of a Q-network, with a single optimizer step."""
        c = self.config
        if part == "denoiser" and c.denoiser.autoregressive_steps:
            early = replace(c.denoiser, autoregressive_steps=0)
            late = replace(c.denoiser, autoregressive_after=0)
            share = min(1.0, c.denoiser.autoregressive_after / max(1, planned_updates(c, part)))
            return [(share, replace(c, denoiser=early)), (1 - share, replace(c, denoiser=late))]
        if part == "reward_end":
            real, imagined = (replace(c.reward_end, imagined_share=share) for share in (0.0, 1.0))
            share = c.reward_end.imagined_share
            return [(1 - share, replace(c, reward_end=real)), (share, replace(c, reward_end=imagined))]
        if part == "q_network":
            return [(1.0, replace(c, q_network=replace(c.q_network, steps_per_update=1)))]
        return [(1.0, c)]

    def _update(self, part: str, config: Config) -> float:
        full = getattr(config, part).optimization.batch_size // launched().size
        batch = max(1, full // FRACTION)
        try:
            if self.device.type == "cpu" and batch < full:
                threads = self.threads
                with Threads(threads.cores, threads.count, max(1, threads.least_rows // FRACTION)) as few_rows:
                    seconds = _seconds(self.updates(part, batch, config, few_rows), self.device)
                if seconds * full / batch > PATIENCE:  # too much by a share, as a small batch keeps a core less busy
                    return seconds * full / batch
            return _seconds(self.updates(part, full, config, self.threads), self.device, self._set_up)
        finally:
            gc.collect()  # networks and their averages refer to themselves

    def updates(self, part: str, batch: int, config: Config, threads: Threads) -> Callable[[], object]:
        """Makes an update of the part with `batch` segments of random frames."""
        updates = self._updates(part, batch, config, threads)
        return lambda: updates.make(part)

    def _updates(self, part: str, batch: int, config: Config, threads: Threads) -> Updates:
        config = with_batch(config, part, batch)
        learners, random = (
            Learners(Models(config, self.action_meanings, self.device), threads),
            Generators.seeded(0, self.device),
        )
        replay, frames = Replay(64, device=self.device), np.random.default_rng(0)
        for _ in range(64):
            frame = frames.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
            replay.add(frame, 0, 0.0, False, False, frame)
        return Updates(learners, replay, random, NullLogger())


def with_batch(config: Config, part: str, batch: int) -> Config:
    """A copy whose part learns from so many segments or rollouts at once, in no more minibatches than it has rollouts."""
    config = copy.deepcopy(config)
    getattr(config, part).optimization.batch_size = batch
    if part == "actor_critic":
        config.actor_critic.minibatches = min(config.actor_critic.minibatches, batch)
    return config


def _seconds(work: Callable[[], object], device: torch.device, set_up: int = 1) -> float:
    """Mean seconds of the last one or two of several runs: those before set things up."""
    for _ in range(set_up):
        first = _stopwatch(work, 1, device)
    if device.type == "cpu" and first > LONG:
        return first
    once = _stopwatch(work, 1, device)
    return once if once > ENOUGH else _stopwatch(work, 2, device)


def _stopwatch(work: Callable[[], object], times: int, device: torch.device) -> float:
    """Mean seconds of running it so many times."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(times):
        work()
    _wait(device)
    return (time.perf_counter() - start) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
