"""What `speed.py` times: the rows as this code does them, and as plain float32 eager code would. Each side is a process of
its own, so that its allocator and its peak of memory are its own too."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import speed_published
import torch
from speed_published import EPISODE_STEPS, EPISODES
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from adamas.config import PARTS, SIZE, Config
from adamas.data.replay import Replay
from adamas.envs.atari import AtariEnv, action_meanings
from adamas.networks import encoders
from adamas.training.collector import Collector
from adamas.training.cuda_graphs import WARM_UP
from adamas.training.estimate import with_batch
from adamas.training.models import Models
from adamas.training.updates import UPDATES, Generators, dream
from adamas.utils import device as chips
from adamas.utils.logger import Logger
from adamas.world_model import denoiser

ROWS = ("denoiser", "reward_end", "actor_critic", "frame", "imagine", "replay", "collect")
LEAST = 0.2  # seconds that a measurement of something quick goes on
MOST_REPEATS = 10_000
PEAK_SHAPE = (8, 64, 88, 88)  # float (B, C, H, W) of the convolution whose speed counts as the peak
PEAK_RUNS = 10
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}

Work = Callable[[], object]
Works = dict[str, tuple[Work, int]]  # what a row does, and how many units of it at once


class Sample(NamedTuple):
    """One measurement of a row."""

    seconds: float  # a unit, by the clock that was asked for
    waited: float  # seconds of wall-clock that measuring took


def serve(connection: Connection, side: str, config: Config, device: str, clock: str, path: Path | None) -> None:
    """Answers (method of Bench, arguments) with (True, result) or (False, one line), as long as it lives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks stops this one
    try:
        bench = Bench(SIDES[side](config, torch.device(device), path), torch.device(device), clock)
        connection.send((True, None))
        while True:
            method, arguments = connection.recv()
            connection.send((True, getattr(bench, method)(*arguments)))
    except Exception as error:  # whatever it is, a person gets one line
        lines = str(error).splitlines() or [""]
        connection.send((False, f"{type(error).__name__}: {lines[0]}"))


class Bench:
    """Times the rows of one side."""

    def __init__(self, works: Works, device: torch.device, clock: str) -> None:
        self.works, self.device, self.clock = works, device, CLOCKS[clock]
        self.repeats: dict[str, int] = {}

    def warm_up(self, row: str, count_flops: bool) -> tuple[float, float]:
        """Runs a row for the first time. Returns its floating point operations a unit (0: not counted) and the seconds of
        wall-clock that a measurement will take."""
        work, units = self.works[row]
        flops: list[int] = []
        _, waited = self._time((lambda: flops.append(count(work))) if count_flops else work, 1)
        for _ in range(WARM_UP + 1 if waited < LEAST or self.device.type == "cuda" else 0):
            _, waited = self._time(work, 1)  # most of the first ones was for the first time only
        self.repeats[row] = min(MOST_REPEATS, max(1, math.ceil(LEAST / waited)))
        return sum(flops) / units, waited * self.repeats[row]

    def has(self, row: str) -> bool:
        return row in self.works

    def measure(self, row: str) -> Sample:
        work, units = self.works[row]
        seconds, waited = self._time(work, self.repeats[row])
        return Sample(seconds / units / self.repeats[row], waited)

    def peak(self) -> tuple[float, str]:
        """Floating point operations a second of 3x3 convolutions at their best, and their type."""
        kind = torch.bfloat16 if chips.use_bfloat16("auto", self.device) else torch.float32
        conv = nn.Conv2d(PEAK_SHAPE[1], PEAK_SHAPE[1], 3, padding=1).to(
            self.device, kind, memory_format=torch.channels_last
        )
        x = torch.randn(PEAK_SHAPE, device=self.device, dtype=kind).contiguous(memory_format=torch.channels_last)

        @torch.no_grad()
        def work() -> None:
            conv(x)

        flops, repeats = count(work), 1 if self.device.type == "cpu" else 100
        return flops / min(self._time(work, repeats)[0] / repeats for _ in range(PEAK_RUNS)), str(kind).split(".")[1]

    def guess(self, config: Config, rows: list[str]) -> float:
        return guess(config, self.device, rows)

    def memory(self) -> int | None:
        """Bytes that this process has held at most, of the GPU's memory where it uses one."""
        used = chips.peak_usage()
        return used["gpu_bytes"] if self.device.type == "cuda" else used["ram_bytes"]

    def _time(self, work: Work, repeats: int) -> tuple[float, float]:
        self._wait()
        began = time.perf_counter()  # the first clock that is read, and the last: the other lies within
        start = self.clock()
        for _ in range(repeats):
            work()
        self._wait()
        return self.clock() - start, time.perf_counter() - began

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def guess(config: Config, device: torch.device, rows: list[str]) -> float:
    """About how long one run of each of the rows takes, in seconds, from batches of one row and rollouts of one step."""
    small = config
    for part in PARTS:
        small = with_batch(small, part, 1)
    small.actor_critic.horizon = 1
    sizes = {part: getattr(config, part).optimization.batch_size for part in PARTS}
    sizes["actor_critic"] *= config.actor_critic.horizon
    sizes["imagine"] = sizes["actor_critic"]
    works, total = ours(small, device, None), 0.0
    for row in rows:
        start = time.perf_counter()
        works[row][0]()
        seconds = time.perf_counter() - start
        total += max(seconds * (sizes.get(row, 1) if device.type == "cpu" else 1), LEAST)
    return total


def count(work: Work) -> int:
    """Floating point operations of matrix products, convolutions and LSTMs, a multiplication and an addition being two."""
    extra = {
        torch.ops.aten.mkldnn_rnn_layer: lambda x, w, u, *_, **__: (
            2 * math.prod(x[:-1]) * (math.prod(w) + math.prod(u))
        ),
        torch.ops.aten.mkldnn_rnn_layer_backward: lambda x, w, u, *_, **__: (
            4 * math.prod(x[:-1]) * (math.prod(w) + math.prod(u))
        ),
    }
    with FlopCounterMode(display=False, custom_mapping=extra) as counter:
        work()
    return counter.get_total_flops()


def ours(config: Config, device: torch.device, path: Path | None) -> Works:
    """The rows as training and play do them."""
    chips.keep_freed_memory()
    return _works(config, Models(config, action_meanings(config.env), device))


def eager(config: Config, device: torch.device, path: Path | None) -> Works:
    """The same networks in float32 and torch's own layout, with the allocator as it comes."""
    encoders.patches = denoiser.patches = F.pixel_unshuffle
    models = Models(
        replace(config, precision="float32", compile=False, cuda_graphs=False), action_meanings(config.env), device
    )
    modules = [*(getattr(models, part) for part in PARTS), *models.averages.values()]
    for module in modules:
        module.to(memory_format=torch.contiguous_format)
    return _works(config, models)


def _works(config: Config, models: Models) -> Works:
    config.denoiser.fed_back_after = 0  # the longer updates, of which most of a run consists
    device, c = models.device, config.denoiser
    random, replay, logger = Generators.seeded(0, device), random_replay(config, device), Logger(Path())
    a, context = config.actor_critic, torch.randint(0, 256, (1, c.context, SIZE, SIZE), dtype=torch.uint8)
    context, action = context.to(device), torch.zeros(1, c.context, dtype=torch.int64, device=device)
    game = Collector(AtariEnv(config.env, config.atari, episodic_life=True), random_replay(config, device), seed=0)

    def update(name: str) -> Work:
        return lambda: UPDATES[name](models, replay, random, logger)

    def frame() -> Tensor:
        with models.autocast():
            return models.world.denoiser.sample(context, action, config.sampler, random.noise)

    def batch() -> object:
        length = c.context + 1 + c.fed_back_frames
        return replay.sample(c.optimization.batch_size, length, random.data, c.context, c.event_share, c.turn_share)

    def collect() -> object:
        with models.autocast():
            return game.step(models.actor_critic, config.collection.epsilon, random.act)

    return {
        **{name: (update(name), 1) for name in PARTS},
        "frame": (frame, 1),
        "imagine": (lambda: dream(models, replay, random), a.optimization.batch_size * a.horizon),
        "replay": (batch, 1),
        "collect": (collect, 1),
    }


def random_replay(config: Config, device: torch.device) -> Replay:
    """Episodes of random frames and actions; every fiftieth step is rewarded."""
    replay, random = Replay(EPISODES * EPISODE_STEPS, config.age_weights, device=device), np.random.default_rng(0)
    actions = len(action_meanings(config.env))
    for step in range(EPISODES * EPISODE_STEPS):
        frame = random.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        end = step % EPISODE_STEPS == EPISODE_STEPS - 1
        replay.add(frame, int(random.integers(actions)), float(step % 50 == 0), end, False, frame)
    return replay


def published(config: Config, device: torch.device, path: Path | None) -> Works:
    """The published code, out of a clone of it at `path`."""
    return speed_published.works(config, device, path)


SIDES: dict[str, Callable[[Config, torch.device, Path | None], Any]] = {
    "ours": ours,
    "eager": eager,
    "published": published,
}
