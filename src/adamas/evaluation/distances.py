"""Fréchet distances of a world model's dreams, by each encoder that there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from adamas.config import Config
from adamas.data.batch import Trajectory
from adamas.evaluation.dreams import dream, ticks
from adamas.evaluation.evaluate import record_clip
from adamas.evaluation.frechet import Frechet, Statistics, cached_statistics, compare, statistics
from adamas.evaluation.inception import NAME as INCEPTION
from adamas.evaluation.inception import load_inception
from adamas.evaluation.random_encoder import NAME, SHA256, load_encoder
from adamas.utils.files import sha256
from adamas.world_model.world_model import WorldModel

REAL_SEED, OTHER_SEED = 1_100_000_007, 1_200_000_007  # of two sets of uniformly random play
BATCH = 64  # frames that an encoder sees at once


class Encoder(NamedTuple):
    """An encoder with its name and a digest of its weights."""

    name: str
    digest: str
    network: nn.Module


def measure_frechet(
    world: WorldModel,
    config: Config,
    cache: Path,
    frames: int,
    inception: Path | None = None,
    each_step: Callable[[], None] = lambda: None,
) -> list[Frechet]:
    """How far `frames` imagined frames are from as many real ones: by the random encoder, and by Inception where the file of
    its weights is given.

    The dreams start from the contexts of one set of random play and go on with its actions; another set is what they are
    compared with.

    Args:
        cache: folder that keeps the statistics of the real frames.
        each_step: called after each step of a group of dreams, `frechet_ticks` times in all; may raise to give up.

    Raises:
        UserError: the weights of Inception cannot be used.
    """
    device = world.denoiser.sigma_data.device
    encoders = [Encoder(e.name, e.digest, e.network.to(device)) for e in load_encoders(inception)]
    clip = _clip(config, frames, OTHER_SEED)
    imagined = dream(world, clip, config.denoiser.context, OTHER_SEED, each_step).imagined
    return [
        compare(
            statistics(_batches(imagined, frames, device), encoder.network),
            _real(encoder, OTHER_SEED, config, frames, cache, device),
            _real(encoder, REAL_SEED, config, frames, cache, device),
            encoder.name,
        )
        for encoder in encoders
    ]


def frechet_ticks(config: Config, frames: int) -> int:
    """How often `measure_frechet` calls `each_step`."""
    return ticks(_count_clips(config, frames), config.evaluation.dream_steps)


def load_encoders(inception: Path | None) -> list[Encoder]:
    """UserError where weights are given that cannot be used."""
    encoders = [Encoder(NAME, SHA256, load_encoder())]
    if inception:
        encoders.append(Encoder(INCEPTION, sha256(inception), load_inception(inception)))
    return encoders


def _count_clips(config: Config, frames: int) -> int:
    return -(-frames // config.evaluation.dream_steps)


def _clip(config: Config, frames: int, seed: int) -> Trajectory:
    evaluation = dataclasses.replace(config.evaluation, dreams=_count_clips(config, frames))
    return record_clip(None, dataclasses.replace(config, evaluation=evaluation), seed)


def _real(encoder: Encoder, seed: int, config: Config, frames: int, cache: Path, device: torch.device) -> Statistics:
    key = {
        "encoder": [encoder.name, encoder.digest],
        "seed": seed,
        "game": config.env,
        "atari": dataclasses.asdict(config.atari),
        **({"env_kwargs": config.env_kwargs} if config.env_kwargs else {}),
        "frames": frames,
        "steps": config.evaluation.dream_steps,
        "context": config.denoiser.context,
    }

    def compute() -> Statistics:
        films = _clip(config, frames, seed).obs[:, config.denoiser.context :]
        return statistics(_batches(films, frames, device), encoder.network)

    return cached_statistics(cache / f"{encoder.name}-{seed}.npz", key, compute)


def _batches(films: Tensor, frames: int, device: torch.device) -> Iterator[Tensor]:
    """The first `frames` frames of films uint8 (N, T, H, W)."""
    return (batch.to(device) for batch in films.flatten(0, 1)[:frames].split(BATCH))
