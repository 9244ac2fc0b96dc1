"""What a run will cost on this machine, measured by a rehearsal with random frames."""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from adamas.config import PARTS, SIZE, Config
from adamas.evaluation.distances import frechet_ticks
from adamas.evaluation.dreams import GROUP, ticks
from adamas.launched import launched, python
from adamas.logger import Logger
from adamas.replay import Replay
from adamas.threads import Threads, are_chosen, fastest_count, saved
from adamas.training.fit import UPDATES, Generators
from adamas.training.graphs import WARM_UP
from adamas.training.models import Models
from adamas.training.progress import Progress, plan

STEPS_A_GAME = 1_000  # agent steps: a guess, before any game was played
EMULATOR_SECONDS = 5e-4  # a step of one emulator, about
FRACTION = 8  # the rehearsal tries a batch this much smaller first
ENOUGH = 0.4  # seconds: work that takes longer is timed once; a smaller batch that does stands for the full one
LONG = 3.0  # seconds: beside work that takes longer, what its first run sets up is little


def total_seconds(units: Mapping[str, int], costs: Mapping[str, float]) -> float:
    """What so many units of each phase take."""
    return sum(count * costs[phase] for phase, count in units.items())


def in_words(seconds: float) -> str:
    """3_700 -> "1 h 2 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = max(1, round(seconds / 60))
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    named = [(days, "days" if days > 1 else "day"), (hours, "h"), (minutes if not days else 0, "min")]
    return " ".join(f"{n} {name}" for n, name in named if n)


def announce(config: Config, folder: Path, device: str, progress: Progress, costs: Mapping[str, float]) -> str:
    """What the run will do, where, and about how long it will take."""
    units = plan(config)
    phases = {name: total_seconds({name: count}, costs) for name, count in units.items() if count}
    left = sum(phases.values()) - total_seconds(progress.total, costs)
    steps = f"{config.collection.steps:,} agent steps" if not config.dataset else f"no steps, but {config.dataset}"
    return "\n".join(
        [
            f"adamas learns {config.env} ({config.policy}, preset {config.preset}, seed {config.seed}) from {steps}",
            f"  device       {device}",
            f"  run folder   {folder}",
            f"  watch        tensorboard --logdir {folder.parent.parent}",
            f"  plan         {', '.join(f'{name} {count:,}x' for name, count in units.items() if count)}",
            f"  time         about {in_words(left)} ({', '.join(f'{k} {in_words(v)}' for k, v in phases.items())})",
            f"  stop         Ctrl-C saves; go on with: {python()} src/main.py resume={folder}",
        ]
    )


def choose_threads(config: Config, action_meanings: tuple[str, ...], device: torch.device, path: Path) -> Threads:
    """Of each phase of a run whose file is `path`: those that it had, or measured now and written there."""
    if config.resume:
        return saved(path)
    if not are_chosen(device):
        threads = Threads()
    else:
        with torch.random.fork_rng(devices=[]):
            threads = Threads(_fastest_counts(config, action_meanings, device))
    threads.save(path)
    return threads


def _fastest_counts(config: Config, action_meanings: tuple[str, ...], device: torch.device) -> dict[str, int]:
    most, models = torch.get_num_threads(), Models(config, action_meanings, device)
    counts = {"collect": fastest_count(_acting(models, 1), most)}
    counts["games"] = fastest_count(_acting(models, config.evaluation.games), most)
    if config.policy == "imagined":
        counts["first look"] = fastest_count(_dreaming(models), most)
        for name in PARTS:
            batch = max(1, getattr(config, name).optimization.batch_size // FRACTION)
            small = fastest_count(_rehearsal(name, batch, config, action_meanings, device), most)
            full = FRACTION * batch
            seconds = _seconds(_rehearsal(name, batch, config, action_meanings, device), device) if small < most else 0
            again = 0 < seconds <= ENOUGH  # what gains in a small batch does so in a large one
            counts[name] = (
                fastest_count(_rehearsal(name, full, config, action_meanings, device), most) if again else small
            )
            gc.collect()  # networks and their averages refer to themselves
    return counts


def measure_costs(
    config: Config, action_meanings: tuple[str, ...], device: torch.device, threads: Threads
) -> dict[str, float]:
    """Seconds a unit of each phase, of one process alone with its rows of each batch. Leaves no trace in any random state
    that the run uses."""
    with torch.random.fork_rng(devices=[]):
        parts = PARTS if config.policy == "imagined" else ()
        costs = {}
        for name in parts:
            threads.use(name)
            costs[name] = _mean_update_seconds(name, config, action_meanings, device)
        models = Models(config, action_meanings, device)
    e = config.evaluation
    games = e.games, e.final_games
    acting = {}  # seconds of a step of one game
    for n in {1, *games}:
        threads.use("collect" if n == 1 else "games")
        acting[n] = _policy_seconds(models, n) / n + EMULATOR_SECONDS
    costs["collect"] = acting[1]
    costs["play"] = 2 * acting[1]  # acting, then learning from it
    costs["evaluation"], costs["final evaluation"] = (n * acting[n] * STEPS_A_GAME for n in games)
    if config.policy == "imagined":
        threads.use("first look")
        dream, sets = _dream_seconds(models), 2 * ticks(e.dreams, e.dream_steps)
        costs["first look"] = dream * sets
        costs["evaluation"] += dream * (
            sets + (frechet_ticks(config) / e.frechet_every if e.frechet == "every_n" else 0)
        )
        costs["final evaluation"] += dream * (sets + (frechet_ticks(config) if e.frechet != "off" else 0))
    return costs


def _mean_update_seconds(name: str, config: Config, action_meanings: tuple[str, ...], device: torch.device) -> float:
    return sum(
        share * _update_seconds(name, variant, action_meanings, device)
        for share, variant in _variants(name, config)
        if share
    )


def _variants(name: str, config: Config) -> list[tuple[float, Config]]:
    """What a run makes updates of in turn, and which share of them: the denoiser before and after it is fed its own frames,
    reward and end with frames that are real and that are dreamed."""
    if name == "denoiser" and config.denoiser.fed_back_frames:
        early, late = (replace(config.denoiser, **f) for f in ({"fed_back_frames": 0}, {"fed_back_after": 0}))
        share = min(1.0, config.denoiser.fed_back_after / max(1, plan(config)["denoiser"]))
        return [(share, replace(config, denoiser=early)), (1 - share, replace(config, denoiser=late))]
    if name == "reward_end":
        real, dreamed = (replace(config.reward_end, dreamed_share=share) for share in (0.0, 1.0))
        share = config.reward_end.dreamed_share
        return [(1 - share, replace(config, reward_end=real)), (share, replace(config, reward_end=dreamed))]
    return [(1.0, config)]


def _update_seconds(name: str, config: Config, action_meanings: tuple[str, ...], device: torch.device) -> float:
    full = getattr(config, name).optimization.batch_size // launched()[1]
    batch = max(1, full // FRACTION)
    set_up = WARM_UP + 1 if config.cuda_graphs else 1
    try:
        if device.type == "cpu" and batch < full:
            seconds = _seconds(_rehearsal(name, batch, config, action_meanings, device), device)
            if seconds > ENOUGH:
                return seconds * full / batch
        return _seconds(_rehearsal(name, full, config, action_meanings, device), device, set_up)
    finally:
        gc.collect()  # networks and their averages refer to themselves


def _rehearsal(
    name: str, batch: int, config: Config, action_meanings: tuple[str, ...], device: torch.device
) -> Callable[[], None]:
    """One update of the part `name` with `batch` segments of random frames."""
    config = with_batch(config, name, batch)
    models, generators = Models(config, action_meanings, device), Generators.seeded(0, device)
    replay, frames = Replay(64, device=device), np.random.default_rng(0)
    for _ in range(64):
        frame = frames.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        replay.add(frame, 0, 0.0, False, False, frame)
    logger = Logger(Path())  # never written
    return lambda: UPDATES[name](models, replay, generators, logger)


def with_batch(config: Config, name: str, batch: int) -> Config:
    """A copy whose part `name` learns from so many segments or rollouts at once, in no more minibatches than it has rollouts."""
    config = copy.deepcopy(config)
    getattr(config, name).optimization.batch_size = batch
    if name == "actor_critic":
        config.actor_critic.minibatches = min(config.actor_critic.minibatches, batch)
    return config


def _policy_seconds(models: Models, batch: int) -> float:
    return _seconds(_acting(models, batch), models.device)


def _acting(models: Models, batch: int) -> Callable[[], None]:
    policy = models.actor_critic
    obs = torch.zeros(batch, 1, SIZE, SIZE, dtype=torch.uint8, device=models.device)

    @torch.no_grad()
    def act() -> None:
        with models.autocast():
            policy(obs, policy.initial_hidden(batch))[0].cpu()

    return act


def _dream_seconds(models: Models) -> float:
    return _seconds(_dreaming(models), models.device)


def _dreaming(models: Models) -> Callable[[], None]:
    """A step of a group of dreams."""
    context = models.config.denoiser.context
    obs = torch.zeros(GROUP, context, SIZE, SIZE, dtype=torch.uint8, device=models.device)
    action = torch.zeros(GROUP, context, dtype=torch.int64, device=models.device)
    generator = torch.Generator(models.device).manual_seed(0)

    def step() -> None:
        with models.autocast():
            state = models.world.start(obs, action[:, 1:])
            models.world.step(state, action[:, 0], generator)

    return step


def _seconds(work: Callable[[], None], device: torch.device, set_up: int = 1) -> float:
    """Of the last one or two of several runs: those before set things up."""
    for _ in range(set_up):
        first = _stopwatch(work, 1, device)
    if device.type == "cpu" and first > LONG:
        return first
    once = _stopwatch(work, 1, device)
    return once if once > ENOUGH else _stopwatch(work, 2, device)


def _stopwatch(work: Callable[[], None], times: int, device: torch.device) -> float:
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
