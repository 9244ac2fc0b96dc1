"""Clusters of the features of frames: k-means, and what its labels say of a dataset."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CLUSTERS = 24  # at most
FITTED = 10_000  # frames to which the centres are fitted
ROUNDS = 25
NEAREST = 1_000  # frames whose nearest neighbour is searched among as many others
APART = 20  # rows: a nearest neighbour in time does not count


class Clusters(NamedTuple):
    """K clusters of N frames."""

    label: np.ndarray  # int64 (N,)
    share: np.ndarray  # float64 (K,), largest first
    medoid: np.ndarray  # int64 (K,): the row that is nearest to each centre


def cluster(features: np.ndarray, distinct: int) -> Clusters:
    """k-means (Lloyd 1982) on features of variance 1, started as k-means++ (Arthur & Vassilvitskii 2007). The same frames
    have the same clusters each time.

    Args:
        features: float32 (N, D).
        distinct: frames that differ: of fewer than CLUSTERS each has its own.
    """
    x = standardized(features)
    some = x[np.linspace(0, len(x) - 1, min(len(x), FITTED)).astype(int)]
    centres = _fitted(some, min(CLUSTERS, max(1, distinct)))
    label, distance = _nearest(x, centres)
    count = np.bincount(label, minlength=len(centres))
    order = [k for k in np.argsort(-count, kind="stable") if count[k]]
    medoid = np.array([np.flatnonzero(label == k)[distance[label == k].argmin()] for k in order])
    rank = np.zeros(len(centres), int)
    rank[order] = np.arange(len(order))
    return Clusters(rank[label], count[order] / len(x), medoid)


def standardized(features: np.ndarray) -> np.ndarray:
    """Of mean 0, and of variance 1 on average: a feature keeps its weight."""
    x = features - features.mean(0)
    return x / max(float(np.sqrt(np.square(x).mean())), 1e-9)


def _fitted(x: np.ndarray, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = x[rng.integers(len(x))][None]
    distance = np.square(x - centres[0]).sum(1)
    while len(centres) < count and distance.max() > 1e-6:
        new = x[rng.choice(len(x), p=distance / distance.sum())]
        centres = np.concatenate([centres, new[None]])
        distance = np.minimum(distance, np.square(x - new).sum(1))
    for _ in range(ROUNDS):
        label, _ = _nearest(x, centres)
        means = [x[label == k].mean(0) if (label == k).any() else centres[k] for k in range(len(centres))]
        centres, before = np.stack(means), centres
        if np.allclose(centres, before):
            break
    return centres


def _nearest(x: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centre of each point, int64 (N,), and how far it is, squared, float (N,)."""
    squares = np.square(centres).sum(1) - 2 * x @ centres.T  # less |x|^2, which is the same for all centres
    label = squares.argmin(1)
    return label, squares[np.arange(len(x)), label] + np.square(x).sum(1)


def entropy(share: np.ndarray) -> float:
    """In bits."""
    p = share[share > 0]
    return float(-(p * np.log2(p)).sum()) + 0.0


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon, in bits: 0 for equal shares, 1 for shares that have nothing in common."""
    return entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2


def nearest_distances(features: np.ndarray) -> np.ndarray:
    """How far the nearest other frame is, APART rows away or more, for some frames spread over all: float (M,), in units of
    the distance of two frames drawn at random."""
    x = standardized(features)
    row = np.linspace(0, len(x) - 1, min(len(x), 2 * NEAREST)).astype(int)
    asked, others = row[::2], row[1::2] if len(row) > 1 else row
    a, b = x[asked], x[others]
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T
    distance = np.sqrt(np.maximum(squares, 0))
    near = np.abs(asked[:, None] - others) < APART
    usual = distance[~near].mean() if (~near).any() else 0.0
    distance[near] = np.inf
    nearest = distance.min(1)
    return nearest[np.isfinite(nearest)] / max(usual, 1e-9)
