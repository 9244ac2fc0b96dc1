"""The Fréchet distance between frames that a world model imagined and real ones, seen through an encoder.

A distance means something only at its encoder and its count of frames: the fewer, the larger (Chong & Forsyth 2020). So it
is reported beside the distance between two sets of real frames at the same count. It looks at single frames, whatever
their order: films that are right frame by frame and wrong as films have a ratio of 1.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adamas.utils.files import publish


class Statistics(NamedTuple):
    """Mean and covariance of the features of `count` frames, on the CPU."""

    mean: Tensor  # float64 (D,)
    covariance: Tensor  # float64 (D, D), over count - 1
    count: int


class Frechet(NamedTuple):
    """How far imagined frames are from real ones, in the squared units of the encoder's features."""

    distance: float  # from imagined to real
    real_distance: float  # from other real frames to the same real ones
    ratio: float  # of the two: 1 is right
    count: int  # frames in each of the three sets
    encoder: str  # its name


@torch.no_grad()
def statistics(batches: Iterable[Tensor], encode: Callable[[Tensor], Tensor]) -> Statistics:
    """Mean and covariance of the features of a stream of frames, in one pass and in the memory of one batch.

    A batch is added by its own mean and scatter (Chan, Golub & LeVeque 1983), which a large mean does not spoil as it
    would a sum of squares.

    Args:
        batches: each uint8 (B, H, W), B >= 1.
        encode: uint8 (B, H, W) -> float (B, D).
    """
    count, mean, scatter = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        features = encode(batch).cpu().double()  # (B, D)
        total = count + len(features)
        batch_mean = features.mean(dim=0)
        centred, step = features - batch_mean, batch_mean - mean
        scatter = scatter + centred.T @ centred + step.outer(step) * (count * len(features) / total)
        mean = mean + step * (len(features) / total)
        count = total
    if count < 2:
        raise ValueError(f"a covariance takes at least 2 frames, not {count}")
    return Statistics(mean, scatter / (count - 1), count)


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Between two normal distributions (Dowson & Landau 1982), squared, as in the FID of Heusel et al. 2017:

        |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    The trace of the root is the sum of the singular values of A^T B where A A^T = C_a and B B^T = C_b. That takes no root
    of a matrix that isn't symmetric, and loses no digits where a covariance is singular, as it is when count <= D.
    """
    overlap = torch.linalg.svdvals(_root(a.covariance).T @ _root(b.covariance)).sum()
    spread = a.covariance.trace() + b.covariance.trace() - 2 * overlap
    return max(0.0, ((a.mean - b.mean).square().sum() + spread).item())


def _root(covariance: Tensor) -> Tensor:
    """A (D, rank) with A A^T = covariance: directions without variance, up to rounding, are left out."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    return vectors[:, kept] * values[kept].sqrt()


def compare(imagined: Statistics, other: Statistics, real: Statistics, encoder: str) -> Frechet:
    """How far `imagined` is from `real`, beside how far `other` is: frames as real as those, but of other games.

    The frames must have been imagined from contexts and actions of `other`, so that a perfect world model has ratio 1.
    Imagined from those of `real` they would have a twin each among the real ones, and a ratio near 0.

    Args:
        encoder: the name of what made the features.
    """
    if not imagined.count == other.count == real.count:
        raise ValueError(f"counts of frames differ: {imagined.count}, {other.count}, {real.count}")
    distance, real_distance = frechet_distance(imagined, real), frechet_distance(other, real)
    ratio = distance / real_distance if real_distance else math.inf
    return Frechet(distance, real_distance, ratio, real.count, encoder)


def cached_statistics(path: Path, key: dict[str, Any], compute: Callable[[], Statistics]) -> Statistics:
    """What `path` holds for `key`, else what `compute()` gives, which is then kept there for the next time.

    Args:
        path: an .npz file. One that is damaged, or that is about something else, is replaced.
        key: all that the statistics depend on (encoder and its digest, game, count, seed, ...), as JSON takes it.
    """
    wanted = json.dumps(key, sort_keys=True)
    cached = _read(path, wanted)
    if cached is None:
        cached = compute()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        with open(temporary, "wb") as file:
            np.savez(file, key=wanted, mean=cached.mean, covariance=cached.covariance, count=cached.count)
        publish(temporary, path)
    return cached


def _read(path: Path, wanted: str) -> Statistics | None:
    try:
        with np.load(path, allow_pickle=False) as file:  # each part carries a checksum
            if file["key"].item() != wanted:
                return None
            mean, covariance = torch.from_numpy(file["mean"]), torch.from_numpy(file["covariance"])
            return Statistics(mean, covariance, int(file["count"]))
    except Exception:  # absent, or damaged in any of the ways in which an archive can be
        return None
