"""Rows that training is better off without, in stages: each stage sees what the ones before it left."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from adamas.data_card.scan import Scan
from adamas.data_card.source import Source

FLAT = 4  # grey levels from the darkest to the brightest pixel of a flat frame, at most
CORRUPT = 0.2  # share of the pixels that are another in one frame alone
EDGES = 1.5  # x the edges of its neighbours, or a part of them: a flash of a game changes its brightness, not its edges
FROZEN = 60  # equal frames in a row: 4 seconds of play
COPIED = 16  # rows in a row that were there before
REPEATED = 0.05  # share of the rows, beyond chance, from which repeated rows are taken for a fault

MEANING = {
    "not finite": "rewards that are NaN or infinite",
    "unknown action": "actions that the game does not have",
    "flat": f"frames of one grey, up to {FLAT} levels",
    "corrupt": "single frames unlike the two beside them, which are alike",
    "frozen": f"stretches of {FROZEN} equal frames or more",
    "repeated": "steps that are in the log twice: same frame, action and reward, while all else moves",
    "copied": f"stretches of {COPIED} steps or more that were there before",
    "short": "episodes, or what is left of them, without a step from frame to frame",
}

JOINS = list(MEANING).index("repeated")  # without such a row its neighbours are a step; without others an episode ends


class Stage(NamedTuple):
    """What one stage drops."""

    name: str  # a key of MEANING
    dropped: np.ndarray  # bool (rows,)


def stages(source: Source, scan: Scan, num_actions: int | None) -> list[Stage]:
    """Every stage of MEANING, in its order. No row is in two of them."""
    column, kept, found = source.columns, np.ones(source.rows, bool), []

    def stage(name: str, rows: np.ndarray) -> None:
        found.append(Stage(name, rows & kept))
        kept[rows] = False

    stage("not finite", ~np.isfinite(column["reward"]))
    unknown = np.zeros(source.rows, bool) if num_actions is None else column["action"] >= num_actions
    stage("unknown action", unknown & ~column["final"])
    stage("flat", scan.high - scan.low <= FLAT)
    stage("corrupt", corrupt(source, scan))
    same = same_frame(source, scan)
    stage("frozen", frozen(same))
    repeats, excess = repeated(source, same)
    stage("repeated", repeats if excess > REPEATED else np.zeros(source.rows, bool))
    stage("copied", copied(source, scan, kept))
    stage("short", short(source, kept, joined=found[JOINS].dropped))
    return found


def same_frame(source: Source, scan: Scan) -> np.ndarray:
    """bool (rows,): whether the frame is the one before it in its episode."""
    return np.append(False, (scan.digest[1:] == scan.digest[:-1]) & source.leads_on[:-1])


def corrupt(source: Source, scan: Scan) -> np.ndarray:
    """bool (rows,): frames of which much is another than in both neighbours, and that have other edges than both."""
    inside = np.append(False, source.leads_on[:-1]) & source.leads_on
    edges = np.log(scan.edges + 1)
    before, after = edges - np.roll(edges, 1), edges - np.roll(edges, -1)
    unlike = np.minimum(np.abs(before), np.abs(after)) > np.log(EDGES)
    return inside & (scan.reverted > CORRUPT) & unlike & (before * after > 0)


def frozen(same: np.ndarray) -> np.ndarray:
    """bool (rows,): rows of a stretch of at least FROZEN equal frames."""
    stretch = np.cumsum(~same)  # of equal frames
    return np.bincount(stretch)[stretch] >= FROZEN


def repeated(source: Source, same: np.ndarray) -> tuple[np.ndarray, float]:
    """bool (rows,): rows that say again what the row before says, while the frames before and after move; and the share of
    all rows by which they are more than chance would have it.

    A game that stands still for a step shows the same frame too, but with another action as often as when it moves. With
    p the chance that two actions in a row are equal, s such rows of another action stand for s p / (1 - p) of the same one.
    """
    action, reward, final = (source.columns[name] for name in ("action", "reward", "final"))
    moves = np.append(~same[1:], True) & np.append(
        True, ~same[:-1]
    )  # of the rows beside: a stretch of two equal frames
    single = same & moves & ~final & ~source.columns["terminated"] & ~source.columns["truncated"]
    again = np.append(False, (action[1:] == action[:-1]) & (reward[1:] == reward[:-1]))
    inside = np.append(False, source.leads_on[:-1]) & ~same & ~final
    p = min(again[inside].mean(), 0.95) if inside.any() else 0.95
    by_chance = (single & ~again).sum() * p / (1 - p)
    return single & again, float(((single & again).sum() - by_chance) / source.rows)


def copied(source: Source, scan: Scan, kept: np.ndarray) -> np.ndarray:
    """bool (rows,): rows of stretches of COPIED kept rows, frames and actions, that were there before. Stretches in which
    less than half of the frames differ from the one before do not count: a game may wait in one way only."""
    rows = np.flatnonzero(kept)
    found = np.zeros(source.rows, bool)
    if len(rows) < 2 * COPIED:
        return found
    step = scan.digest[rows] * np.uint64(6364136223846793005) + source.columns["action"][rows].astype(np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(step, COPIED)
    powers = np.array([pow(0x9E3779B97F4A7C15, i + 1, 2**64) for i in range(COPIED)], np.uint64)
    key = (windows * powers).sum(1, dtype=np.uint64)
    episode = source.episode[rows]
    whole = episode[COPIED - 1 :] == episode[: 1 - COPIED]
    moved = np.append(0, np.cumsum(scan.digest[rows][1:] != scan.digest[rows][:-1]))
    lively = moved[COPIED - 1 :] - moved[: 1 - COPIED] >= COPIED // 2
    _, first = np.unique(key, return_index=True)
    again = np.ones(len(key), bool)
    again[first] = False
    again &= whole & lively
    covered = np.zeros(len(rows) + 1, int)
    np.add.at(covered, np.flatnonzero(again), 1)
    np.add.at(covered, np.flatnonzero(again) + COPIED, -1)
    found[rows[np.cumsum(covered)[:-1] > 0]] = True
    return found


def short(source: Source, kept: np.ndarray, joined: np.ndarray) -> np.ndarray:
    """bool (rows,): kept rows that no kept row of their episode follows or precedes.

    Args:
        joined: bool (rows,): dropped rows without which their neighbours follow each other.
    """
    rows = np.flatnonzero(~joined)
    on = np.append(steps_on(source.episode[rows], kept[rows]), False)
    alone = np.zeros(source.rows, bool)
    alone[rows] = kept[rows] & ~on & ~np.append(False, on[:-1])
    return alone


def steps_on(episode: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """bool (N - 1,): whether a row and the next one are of one episode and both kept."""
    return (episode[1:] == episode[:-1]) & kept[1:] & kept[:-1]


def flicker(source: Source, scan: Scan) -> float:
    """Share of the pixels that change which change back in the next frame."""
    inside = np.append(False, source.leads_on[:-1]) & source.leads_on
    return float(scan.reverted[inside].sum() / max(scan.changed[inside].sum(), 1e-9))
