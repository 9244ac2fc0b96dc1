"""What a dataset covers, and how varied it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adamas.data_card.clusters import Clusters, divergence, entropy, nearest_distances
from adamas.data_card.scan import Scan
from adamas.data_card.source import Source

POINTS = 50  # of the curve of new states


def measure(source: Source, seen: Scan, groups: Clusters, names: Sequence[str] | None) -> dict[str, Any]:
    """Distinct frames and states, how they grow, clusters, and what the actions brought."""
    states = growth(seen.state)
    actions = by_action(source, names)
    return {
        "distinct_frames": len(np.unique(seen.digest)),
        "distinct_states": int(states[-1]),
        "growth": [[int(row) + 1, int(states[row])] for row in _points(source.rows)],
        "new_in_last_tenth": round(float(states[-1] - states[-1 - source.rows // 10]) / max(source.rows // 10, 1), 4),
        "clusters": by_cluster(source, groups),
        "actions": actions,
        "actions_known": names is not None,
        "never_taken": [a["name"] for a in actions[: len(names or actions)] if not a["steps"]],
    }


def growth(state: np.ndarray) -> np.ndarray:
    """How many distinct states there are in the rows up to each, int64 (rows,)."""
    _, first = np.unique(state, return_index=True)
    return np.cumsum(np.bincount(first, minlength=len(state)))


def by_cluster(source: Source, groups: Clusters) -> list[dict[str, Any]]:
    """Of each cluster: its share of the rows, episodes that it is in, steps that brought a reward, and ends."""
    rewarded = np.nan_to_num(source.columns["reward"]) != 0
    table = []
    for k, share in enumerate(groups.share):
        rows = groups.label == k
        table.append(
            {
                "share": round(float(share), 5),
                "rows": int(rows.sum()),
                "episodes": len(np.unique(source.episode[rows])),
                "rewards": int(rewarded[rows].sum()),
                "ends": int(source.columns["terminated"][rows].sum()),
            }
        )
    return table


def by_action(source: Source, names: Sequence[str] | None) -> list[dict[str, Any]]:
    """Of each action: its steps, rewards above and below 0, their sum, and ends."""
    column = source.columns
    step = ~column["final"]
    action, reward = column["action"][step].astype(int), np.nan_to_num(column["reward"][step], posinf=0.0, neginf=0.0)
    count = max(int(action.max(initial=0)) + 1, len(names or ()))
    weights = {
        "steps": np.ones(len(action)),
        "positive": reward > 0,
        "negative": reward < 0,
        "reward": reward,
        "terminated": column["terminated"][step],
        "truncated": column["truncated"][step],
    }
    sums = {name: np.bincount(action, weight, count) for name, weight in weights.items()}
    named = [names[a] if names and a < len(names) else str(a) for a in range(count)]
    return [
        {"action": a, "name": named[a]}
        | {key: round(float(x[a]), 3) if key == "reward" else int(x[a]) for key, x in sums.items()}
        for a in range(count)
    ]


def diversity(source: Source, seen: Scan, groups: Clusters, random_steps: int) -> dict[str, Any]:
    """Entropy over the clusters and nearest-neighbour distances; and the first steps against the later ones."""
    distance, bits = nearest_distances(seen.features), entropy(groups.share)
    figures: dict[str, Any] = {
        "entropy": round(bits, 4),
        "most_entropy": round(float(np.log2(len(groups.share))), 4),
        "effective_clusters": round(2**bits, 2),
        "nearest_neighbour": [round(float(q), 4) for q in np.quantile(distance, (0.1, 0.5, 0.9))]
        if len(distance)
        else [],
        "seen_before": round(float((distance < 1e-3).mean()), 4) if len(distance) else None,
    }
    steps = np.cumsum(~source.columns["final"])
    if 0 < random_steps < steps[-1]:
        first = steps <= random_steps
        p, q = (np.bincount(groups.label[rows], minlength=len(groups.share)) / rows.sum() for rows in (first, ~first))
        figures["random_against_later"] = {
            "random_steps": random_steps,
            "entropy_random": round(entropy(p), 4),
            "entropy_later": round(entropy(q), 4),
            "divergence": round(divergence(p, q), 4),
            "new_later": round(float((~np.isin(seen.state[~first], seen.state[first])).mean()), 4),
        }
    return figures


def _points(rows: int) -> np.ndarray:
    return np.unique(np.linspace(0, rows - 1, min(POINTS, rows)).astype(int))
