"""Dreams beside reality: what the world model makes of actions whose real outcome is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from adamas.evaluation.clips import Clip
from adamas.frames import tile, to_float
from adamas.randomness import Random, seeded
from adamas.world_model.denoiser import Trace
from adamas.world_model.world_model import WorldModel

HORIZONS = (1, 5, 10, 15, 50)  # steps into a dream at which it is shown and measured
LONG_TRAJECTORY = 10  # denoising steps


class Dreams(NamedTuple):
    """N dreams of T steps and what really happened, all uint8 on the CPU."""

    previous: Tensor  # (N, H, W): the last real frame before both
    real: Tensor  # (N, T, H, W)
    imagined: Tensor  # (N, T, H, W)


@torch.no_grad()
def dream(
    world: WorldModel, clip: Clip, context: int, generator: Random, each_step: Callable[[], None] = lambda: None
) -> Dreams:
    """Imagines what follows the first `context` frames of each clip, open-loop: nothing else of it but its actions.

    Args:
        each_step: called after each step; may raise to give up.
    """
    device = world.denoiser.sigma_data.device
    obs, action = (column.to(device) for column in clip)
    state = world.start(obs[:, :context], action[:, : context - 1])
    frames = []
    for t in range(context - 1, action.shape[1]):
        state, prediction = world.step(state, action[:, t], generator)
        frames.append(prediction.obs)
        each_step()
    imagined = torch.stack(frames, dim=1).cpu()
    return Dreams(clip.obs[:, context - 1], clip.obs[:, context:], imagined)


@torch.no_grad()
def trajectory(world: WorldModel, clip: Clip, context: int, seed: int) -> Tensor:
    """How the first imagined frame of the first clip comes out of the noise: uint8 (height, width).

    Two pairs of rows: at the sampler's own number of denoising steps, and at LONG_TRAJECTORY. The upper row of a pair is
    what the network is shown at each call, the lower one what it makes of it.
    """
    device = world.denoiser.sigma_data.device
    obs, action = clip.obs[:1, :context].to(device), clip.action[:1, :context].to(device)
    rows: list[Tensor] = []
    for steps in (world.sampler.steps, LONG_TRAJECTORY):
        trace: Trace = []
        world.denoiser.sample(obs, action, replace(world.sampler, steps=steps), seeded([seed], device), trace)
        rows += [torch.stack(column).transpose(0, 1).cpu() for column in zip(*trace, strict=True)]  # (1, calls, H, W)
    most = max(row.shape[1] for row in rows)
    return tile([torch.nn.functional.pad(row, (0, 0, 0, 0, 0, most - row.shape[1])) for row in rows])[0]


def film(sets: list[Dreams], shown: int, scale: int = 2) -> Tensor:
    """The first `shown` dreams of each set as a moving picture, uint8 (T, height, width).

    A set is three rows, and the sets are above each other: real, imagined, and their difference (grey is none).
    """
    return tile([row[:shown].transpose(0, 1) for dreams in sets for row in _rows(dreams)], scale=scale)


def grid(sets: list[Dreams], shown: int, scale: int = 2) -> Tensor:
    """The first `shown` dreams of each set as a still picture, uint8 (height, width).

    A dream is three rows, real, imagined and their difference, with a column a step of HORIZONS.
    """
    steps = torch.tensor([step - 1 for step in HORIZONS if step <= sets[0].real.shape[1]])
    rows = [
        row[i : i + 1, steps] for dreams in sets for i in range(min(shown, len(dreams.real))) for row in _rows(dreams)
    ]
    return tile(rows, scale=scale)[0]


def _rows(dreams: Dreams) -> tuple[Tensor, Tensor, Tensor]:
    difference = ((to_float(dreams.imagined) - to_float(dreams.real)) * 63.75 + 127.5).round().to(torch.uint8)
    return dreams.real, dreams.imagined, difference
