"""Where a world model loses small movers, cluster by cluster: there more data would help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from adamas.data.batch import Trajectory
from adamas.data.motion import lost_track, small_movers_seen
from adamas.data_card.clusters import Clusters
from adamas.data_card.source import Source
from adamas.evaluation.dreams import dream
from adamas.utils.errors import UserError
from adamas.world_model.world_model import WorldModel

LENGTH = 10  # steps of a dream
PER_CLUSTER = 16  # dreams that start in each cluster, at most
FEWEST = 20  # dreamed steps that say something about a cluster
SEED = 0


def measure(
    source: Source, groups: Clusters, world: WorldModel, context: int, each_step: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Dreams what the dataset holds from its own frames and actions, and counts in which clusters the dream has lost most of
    the small things that moved. A step belongs to the cluster of its real frame."""
    first = initial_rows(source, groups, context)
    rows = first[:, None] + np.arange(context + LENGTH)  # (N, T)
    obs = source.frames(rows.ravel())
    obs = obs.reshape(*rows.shape, *obs.shape[1:])
    clip = Trajectory(torch.from_numpy(obs), torch.from_numpy(source.columns["action"][rows[:, :-1]].astype(np.int64)))
    dreams = dream(world, clip, context, SEED, each_step)
    real, imagined = (torch.cat([dreams.previous[:, None], film], 1) for film in (dreams.real, dreams.imagined))
    moved, lost = small_movers_seen(real).numpy(), lost_track(real, imagined).numpy()  # (N, LENGTH)
    label, count = groups.label[rows[:, context:]], len(groups.share)
    steps = np.bincount(label[moved], minlength=count)
    gone = np.bincount(label[moved & lost], minlength=count)
    share = [round(float(g / n), 4) if n >= FEWEST else None for g, n in zip(gone, steps, strict=True)]
    figures = {"dreams": len(first), "length": LENGTH, "steps": steps.tolist(), "lost": share}
    return {**figures, **advice(groups.share, share)}


def initial_rows(source: Source, groups: Clusters, context: int) -> np.ndarray:
    """Rows from which context and dream fit in one episode, up to PER_CLUSTER for each cluster, int64 (N,).

    Raises:
        UserError: every episode is too short.
    """
    length = context + LENGTH
    rows = np.arange(source.rows - length + 1)
    rows = rows[source.episode[rows] == source.episode[rows + length - 1]]
    if not len(rows):
        raise UserError(f"no episode has {length} rows, which a dream of {LENGTH} steps takes")
    rng, label = np.random.default_rng(SEED), groups.label[rows + context]
    chosen = [rng.permutation(rows[label == k])[:PER_CLUSTER] for k in range(len(groups.share))]
    return np.sort(np.concatenate(chosen))


def advice(share: np.ndarray, lost: list[float | None]) -> dict[str, Any]:
    """How the share of a cluster goes with that of its steps that diverge, and which clusters want more data: those that are
    rarer than the median and diverge more often than the median."""
    known = [k for k, value in enumerate(lost) if value is not None]
    if len(known) < 3:
        return {
            "rank_correlation": None,
            "more_data": [],
            "text": "Too few steps with small movers to compare clusters.",
        }
    x, y = share[known], np.array([lost[k] for k in known], float)
    correlation = rank_correlation(x, y)
    wanted = [k for k, a, b in zip(known, x, y, strict=True) if a <= np.median(x) and b > np.median(y)]
    names = ", ".join(str(k + 1) for k in wanted) or "none"
    text = (
        f"Rank correlation of a cluster's share and its diverged steps: {correlation:+.2f}. "
        f"Rare, and diverging more than the median: clusters {names}. More data of these would help most."
    )
    return {"rank_correlation": round(correlation, 3), "more_data": [k + 1 for k in wanted], "text": text}


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's; equal values share their mean rank. 0 where either is constant."""
    a, b = _ranks(x), _ranks(y)
    if not (a.std() and b.std()):
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(x: np.ndarray) -> np.ndarray:
    return np.array([(x < value).sum() + ((x == value).sum() - 1) / 2 for value in x])
