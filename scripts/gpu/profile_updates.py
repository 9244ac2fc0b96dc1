"""Where the time of an update goes on a GPU: `python scripts/gpu/profile_updates.py preset=fast`.

Prints, for two updates of each part, the operations that took the most time and how long the device was idle. Any setting of
`adamas train` can be given.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from adamas.config import SIZE, Config, command_line
from adamas.data.replay import Replay
from adamas.envs.make import action_meanings
from adamas.training.compiling import records
from adamas.training.cuda_graphs import WARM_UP
from adamas.training.models import training_models
from adamas.training.updates import Updates
from adamas.utils.device import pick_device

ROWS = 500  # of random frames, to draw batches from
SHOWN = 20  # operations


def run(config: Config) -> None:
    device = pick_device(config.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # where graphs are recorded
    updates = make_updates(config, device)
    for part in config.parts:
        for _ in range(WARM_UP + 2 if records(config, device) else 2):
            updates.make(part)
        show(part, lambda part=part: updates.make(part), device)


def make_updates(config: Config, device: torch.device) -> Updates:
    config.denoiser.autoregressive_after = 0  # the longer updates, of which most of a run consists
    models = training_models(config, action_meanings(config), device)
    replay, random = Replay(ROWS, device=device), np.random.default_rng(0)
    for step in range(ROWS):
        frame = random.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        replay.add(frame, 0, float(step % 50 == 0), step % 100 == 99, False, frame)
    return Updates.without_run(models, replay)


def show(part: str, work: Callable[[], None], device: torch.device) -> None:
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]
    with profile(activities=activities) as found:
        for _ in range(2):
            work()
        if cuda:
            torch.cuda.synchronize(device)
    order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    print(f"\n# two updates of {part}\n{found.key_averages().table(sort_by=order, row_limit=SHOWN)}", flush=True)


if __name__ == "__main__":
    sys.exit(command_line.launch(run))
