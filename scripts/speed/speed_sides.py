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
from typing import Any
from unittest.mock import patch

import numpy as np
import speed_published
import torch
from speed_published import EPISODE_STEPS, EPISODES
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from adamas.config import SIZE, Config
from adamas.data.replay import Replay
from adamas.envs.atari import AtariEnv, action_meanings
from adamas.networks import encoders
from adamas.training.collector import Collector
from adamas.training.cuda_graphs import WARM_UP
from adamas.training.generators import Generators
from adamas.training.learners import Learners
from adamas.training.models import Models, training_models
from adamas.training.updates import Updates
from adamas.utils import device as chips
from adamas.utils.logger import NullLogger
from adamas.utils.threads import Threads, threads_of
from adamas.world_model import denoiser

PARTS = Config().parts
ROWS = (*PARTS, "frame", "imagine", "replay", "collect")
LEAST = 0.2  # seconds that a measurement of something quick goes on
MOST_REPEATS = 10_000
PEAK_SHAPES = {  # float (B, C, H, W) of the convolution whose speed counts as the peak: a GPU needs milliseconds of work
    "cpu": (8, 64, 88, 88),
    "cuda": (128, 256, 88, 88),
}
PEAK_RUNS = 10
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}

Work = Callable[[], object]
Works = dict[str, tuple[Work, int]]  # what a row does, and how many units of it at once


def serve(connection: Connection, side: str, config: Config, device: torch.device, clock: str, path: Path) -> None:
    """Answers (method of Bench, arguments) with (True, result) or (False, one line), as long as it lives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks stops this one
    try:
        cores = torch.get_num_threads()
        bench = Bench(SIDES[side](config, device, path), device, clock, cores)
        connection.send((True, None))
        while True:
            method, arguments = connection.recv()
            connection.send((True, getattr(bench, method)(*arguments)))
    except Exception as error:  # whatever it is, a person gets one line
        lines = str(error).splitlines() or [""]
        connection.send((False, f"{type(error).__name__}: {lines[0]}"))


class Bench:
    """Times the rows of one side."""

    def __init__(self, works: Works, device: torch.device, clock: str, cores: int = 1) -> None:
        self.works, self.device, self.clock, self.cores = works, device, CLOCKS[clock], cores
        self.repeats: dict[str, int] = {}

    def has(self, row: str) -> bool:
        return row in self.works

    def warm_up(self, row: str, count_flops: bool) -> float:
        """Runs a row for the first time. Returns its floating point operations a unit; 0: not counted."""
        work, units = self.works[row]
        flops: list[int] = []
        _, waited = self._time((lambda: flops.append(count(work))) if count_flops else work, 1)
        for _ in range(WARM_UP + 1 if waited < LEAST or self.device.type == "cuda" else int(count_flops)):
            _, waited = self._time(
                work, 1
            )  # most of the first ones was for the first time only; what counts is not compiled
        self.repeats[row] = min(MOST_REPEATS, max(1, math.ceil(LEAST / waited)))
        return sum(flops) / units

    def measure(self, row: str) -> float:
        """Seconds a unit."""
        work, units = self.works[row]
        return self._time(work, self.repeats[row])[0] / units / self.repeats[row]

    def peak(self) -> tuple[float, str]:
        """Floating point operations a second of 3x3 convolutions at their best, and their type."""
        kind = torch.bfloat16 if chips.use_bfloat16("auto", self.device) else torch.float32
        layout = {"device": self.device, "dtype": kind, "memory_format": torch.channels_last}
        shape = PEAK_SHAPES.get(self.device.type, PEAK_SHAPES["cpu"])
        conv, x = nn.Conv2d(shape[1], shape[1], 3, padding=1).to(**layout), torch.randn(shape).to(**layout)

        @torch.no_grad()
        def work() -> None:
            conv(x)

        flops, repeats = count(work), 1 if self.device.type == "cpu" else 20
        had = torch.get_num_threads()
        torch.set_num_threads(self.cores)
        seconds = min(self._time(work, repeats)[0] / repeats for _ in range(PEAK_RUNS))
        torch.set_num_threads(had)
        return flops / seconds, str(kind).split(".")[1]

    def compiled(self) -> int:
        """Graphs that torch has compiled."""
        return torch._dynamo.utils.counters["stats"]["unique_graphs"]

    def memory(self) -> int | None:
        """Bytes that this process has held at most, of the GPU's memory where it uses one."""
        return chips.peak_usage()["gpu_bytes" if self.device.type == "cuda" else "ram_bytes"]

    def _time(self, work: Work, repeats: int) -> tuple[float, float]:
        """Seconds by the clock that was asked for, and of wall-clock."""
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


def count(work: Work) -> int:
    """Floating point operations of matrix products, convolutions and LSTMs, a multiplication and an addition being two.

    Counted without compiled code: torch would take this run for its first, and never compile what it could not then.
    """

    def lstm(passes: int) -> Callable[..., int]:
        return lambda x, w, u, *_, **__: 2 * passes * math.prod(x[:-1]) * (math.prod(w) + math.prod(u))

    def cudnn(passes: int) -> Callable[..., int]:
        return lambda x, weights, *_, **__: 2 * passes * math.prod(x[:-1]) * sum(map(math.prod, weights[:2]))

    aten = torch.ops.aten
    extra = {
        aten.mkldnn_rnn_layer: lstm(1),
        aten.mkldnn_rnn_layer_backward: lstm(2),
        aten._cudnn_rnn: cudnn(1),
        aten._cudnn_rnn_backward: cudnn(2),
    }
    stance = torch.compiler.set_stance("force_eager")
    here = patch.object(Threads, "map", lambda _, work, *arguments: [*map(work, *arguments)])  # it sees one thread
    with stance, here, FlopCounterMode(display=False, custom_mapping=extra) as counter:
        work()
    return counter.get_total_flops()


def ours(config: Config, device: torch.device, path: Path) -> Works:
    """The rows as training and play do them."""
    chips.keep_freed_memory()
    threads = threads_of(device)
    torch.set_num_threads(threads.each)  # this process has no other work
    return _works(config, training_models(config, action_meanings(config.env), device), threads)


def eager(config: Config, device: torch.device, path: Path) -> Works:
    """The same networks in float32 and torch's own layout, with the allocator as it comes."""
    encoders.patches = denoiser.patches = F.pixel_unshuffle
    config = replace(config, precision="float32", cuda_graphs=False)
    models = Models(config, action_meanings(config.env), device)
    for module in (*(getattr(models, part) for part in PARTS), *models.averages.values()):
        module.to(memory_format=torch.contiguous_format)
    return _works(config, models, Threads(torch.get_num_threads(), most=1))


def _works(config: Config, models: Models, threads: Threads) -> Works:
    c, a, device = config.denoiser, config.actor_critic, models.device
    c.autoregressive_after = 0  # the longer updates, of which most of a run consists
    learners, random = Learners(models, threads), Generators.seeded(0, device)
    replay = random_replay(config, device)
    updates = Updates(learners, replay, random, NullLogger())
    context = torch.randint(0, 256, (1, c.context, SIZE, SIZE), dtype=torch.uint8).to(device)
    action = torch.zeros(1, c.context, dtype=torch.int64, device=device)
    game = Collector(AtariEnv(config.env, config.atari, episodic_life=True), random_replay(config, device), seed=0)
    size, batch = a.optimization.batch_size, c.optimization.batch_size
    length, shares = c.context + 1 + c.autoregressive_steps, config.replay

    def autocast(work: Work) -> Work:
        def inside() -> None:
            with models.autocast():
                work()

        return inside

    def frame() -> None:
        models.world.denoiser.sample(context, action, config.sampler, random.noise)

    return {
        **{part: (lambda part=part: updates.make(part), 1) for part in PARTS},
        "frame": (on_all_cores(autocast(frame), threads), 1),
        "imagine": (
            lambda: learners.imagine_rollout(replay.sample_contexts(size, c.context, random.data), random.noise),
            size * a.horizon,
        ),
        "replay": (
            lambda: replay.sample(
                batch, length, random.data, c.context, shares.event_share, shares.direction_change_share
            ),
            1,
        ),
        "collect": (autocast(lambda: game.step(models.policy, random.act)), 1),
    }


def on_all_cores(work: Work, threads: Threads) -> Work:
    """As a player's frame is drawn: there is nothing else to share out."""

    def inside() -> None:
        torch.set_num_threads(threads.cores)
        work()
        torch.set_num_threads(threads.each)

    return inside


def random_replay(config: Config, device: torch.device) -> Replay:
    """Episodes of random frames and actions; every fiftieth step is rewarded."""
    steps, random = EPISODES * EPISODE_STEPS, np.random.default_rng(0)
    replay, actions = Replay(steps, config.replay.age_weights, device=device), len(action_meanings(config.env))
    for step in range(steps):
        frame = random.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        end = step % EPISODE_STEPS == EPISODE_STEPS - 1
        replay.add(frame, int(random.integers(actions)), float(step % 50 == 0), end, False, frame)
    return replay


SIDES: dict[str, Callable[[Config, torch.device, Path], Any]] = {
    "ours": ours,
    "eager": eager,
    "published": speed_published.works,
}
