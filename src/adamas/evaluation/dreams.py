"""Dreams beside reality: what the world model makes of actions whose real outcome is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from adamas.data.batch import Trajectory
from adamas.evaluation.detail import THRESHOLD
from adamas.utils.images import difference, tile
from adamas.utils.random import seeded
from adamas.utils.threads import SERIAL, Threads
from adamas.utils.transfer import to_device
from adamas.world_model.denoiser import Trace
from adamas.world_model.world_model import WorldModel

HORIZONS = (1, 5, 10, 15, 50)  # steps into a dream at which it is shown and measured
LONG_TRAJECTORY = 10  # denoising steps
GROUP = 8  # dreams in a batch


class Dreams(NamedTuple):
    """N dreams of T steps and what really happened, all uint8 on the CPU."""

    previous: Tensor  # (N, H, W): the last real frame before both
    real: Tensor  # (N, T, H, W)
    imagined: Tensor  # (N, T, H, W)


def dream(
    world: WorldModel,
    clip: Trajectory,
    context: int,
    seed: int,
    each_step: Callable[[], None] = lambda: None,
    threads: Threads = SERIAL,
) -> Dreams:
    """Imagines what follows the first `context` frames of each clip, open-loop: nothing else of it but its actions.

    Dream i draws from a generator of its own, seeded with seed + i, and is always i % GROUP in a batch of GROUP, so that
    its pixels do not depend on how many dreams there are, to the last bit.

    Args:
        each_step: called after each step of a group, `ticks` times in all; may raise to give up.
        threads: that dream a group each.
    """
    starts = torch.arange(0, len(clip.obs), GROUP)[:, None]
    groups = (starts + torch.arange(GROUP)).clamp(max=len(clip.obs) - 1)  # the last one repeats its last clip
    side_by_side = groups.split(threads.count)
    frames = [_imagine(world, clip, context, indices, seed, each_step, threads) for indices in side_by_side]
    imagined = torch.cat(frames)[: len(clip.obs)]
    return Dreams(clip.obs[:, context - 1], clip.obs[:, context:], imagined)


def ticks(count: int, steps: int) -> int:
    """How often `dream` calls `each_step` for so many dreams of so many steps."""
    return -(-count // GROUP) * steps


@torch.no_grad()
def _imagine(
    world: WorldModel,
    clip: Trajectory,
    context: int,
    groups: Tensor,
    seed: int,
    each_step: Callable[[], None],
    threads: Threads,
) -> Tensor:
    """Groups int64 (N, GROUP) of clips -> their frames, uint8 (N * GROUP, T, H, W)."""
    device = world.denoiser.sigma_data.device
    generators = [seeded((group + seed).tolist(), device) for group in groups]
    starts = [
        Trajectory(to_device(clip.obs[group, :context], device), to_device(clip.action[group, : context - 1], device))
        for group in groups
    ]
    states, frames = threads.map(world.start, starts), []
    for action in to_device(clip.action[groups], device).unbind(-1)[context - 1 :]:
        steps = threads.map(world.step, states, action, generators)
        states = [state for state, _ in steps]
        frames.append(torch.cat([prediction.obs for _, prediction in steps]))
        for _ in groups:
            each_step()
    return torch.stack(frames, dim=1).cpu()


def spread(one: Dreams, other: Dreams) -> Tensor:
    """How far two dreams of the same clips are apart at each step, float (T,): mean grey levels over the pixels that either of
    them has changed by more than THRESHOLD since the last real frame; NaN where there are none. Of dreams that differ in their
    noise alone it tells what the noise chooses: near 0, every dream is the mean."""
    x, y, before = one.imagined.short(), other.imagined.short(), one.previous[:, None].short()
    moved = ((x - before).abs() > THRESHOLD) | ((y - before).abs() > THRESHOLD)
    return ((x - y).abs() * moved).sum(dim=(0, 2, 3)) / moved.sum(dim=(0, 2, 3))


@torch.no_grad()
def trajectory(world: WorldModel, clip: Trajectory, context: int, seed: int) -> Tensor:
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
    return dreams.real, dreams.imagined, difference(dreams.imagined, dreams.real)
