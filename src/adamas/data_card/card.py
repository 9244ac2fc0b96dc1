"""The data card: all figures of a dataset as plain data, and what is wrong with it in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adamas.data_card import alignment, clusters, coverage, findings, quality
from adamas.data_card.alignment import Alignment
from adamas.data_card.clusters import Clusters
from adamas.data_card.quality import Stage
from adamas.data_card.scan import Scan, scan
from adamas.data_card.source import Source


@dataclass
class Card:
    """What was found. `figures` is plain data, as JSON takes it; the rest is for pictures and for the filter."""

    figures: dict[str, Any]
    findings: list[str]
    clusters: Clusters
    stages: list[Stage]
    thumbnails: dict[str, np.ndarray] = field(
        default_factory=dict
    )  # uint8 (N, 84, 84): of "clusters", and of each stage

    def plain(self) -> dict[str, Any]:
        return {"findings": self.findings, **self.figures}


def make_card(
    source: Source,
    action_names: Sequence[str] | None = None,
    random_steps: int = 0,
    tick: Callable[[int], object] = lambda rows: None,
) -> Card:
    """Reads all frames twice: to look at each, and for the pictures.

    Args:
        action_names: of the game, if it is known: what the actions 0, 1, ... do.
        random_steps: the first steps, of an untrained policy, that are compared with those after them; 0: none.
        tick: called with the number of rows after each block.
    """
    seen = scan(source, tick)
    found = quality.stages(source, seen, len(action_names) if action_names else None)
    kept = ~np.any([stage.dropped for stage in found], axis=0)
    groups = clusters.cluster(seen.features, len(np.unique(seen.digest)))
    figures = {
        "rows": source.rows,
        "steps": int((~source.columns["final"]).sum()),
        "episodes": len(source.starts),
        "broken_files": source.broken,
        "coverage": coverage.measure(source, seen, groups, action_names),
        "quality": _quality(source, seen, found),
        "diversity": coverage.diversity(source, seen, groups, random_steps),
        "alignment": align(source, seen, kept).plain(),
    }
    card = Card(figures, findings.of(figures), groups, found)
    card.thumbnails = _thumbnails(source, card)
    return card


def align(source: Source, seen: Scan, kept: np.ndarray) -> Alignment:
    """Of the steps that were looked at, and that have two neighbours on either side in their episode."""
    t = seen.probed
    reach = max(alignment.LAGS)
    inside = (t >= reach) & (t < source.rows - reach - 1)
    row = np.where(inside, t, reach)  # of those outside any row: they don't count
    if source.rows <= 2 * reach + 1:
        return alignment.probe(seen.changes[:0], np.zeros((0, len(alignment.LAGS)), int), t[:0])
    final = source.columns["final"]
    good = inside & (source.episode[row - reach] == source.episode[row + reach]) & ~final[row + reach]
    good &= (source.episode[row] == source.episode[row + 1]) & kept[row] & kept[row + 1]
    actions = np.stack([source.columns["action"][row + lag] for lag in alignment.LAGS], 1).astype(int)
    return alignment.probe(seen.changes[good], actions[good], row[good] // alignment.STRETCH)


def _quality(source: Source, seen: Scan, found: list[Stage]) -> dict[str, Any]:
    same = quality.same_frame(source, seen)
    steps = np.bincount(source.episode, ~source.columns["final"])
    return {
        "grey_levels": [int(seen.low.min()), int(seen.high.max())],
        "same_frame_as_before": round(float(same.mean()), 4),
        "flicker": round(quality.flicker(source, seen), 4),
        "one_step_episodes": int((steps <= 1).sum()),
        "dropped": {stage.name: int(stage.dropped.sum()) for stage in found},
    }


def _thumbnails(source: Source, card: Card) -> dict[str, np.ndarray]:
    """The medoid of each cluster, and frames from all over what each stage drops."""
    rows = {"clusters": card.clusters.medoid}
    for stage in card.stages:
        dropped = np.flatnonzero(stage.dropped)
        if len(dropped):
            rows[stage.name] = dropped[np.linspace(0, len(dropped) - 1, min(len(dropped), 8)).astype(int)]
    frames = source.frames(np.concatenate(list(rows.values())))
    return dict(zip(rows, np.split(frames, np.cumsum([len(x) for x in rows.values()])[:-1]), strict=True))
