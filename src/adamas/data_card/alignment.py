"""Does the action of a step explain the change of the frame in that step, or does an action beside it?

A linear probe reads the action at t + lag from the change t -> t+1, for each lag of LAGS, and is scored on stretches of
play that it was not fitted to. What the actions before it tell of an action is taken off first, so that an action that
is held does not count for its neighbours.

An action cannot change a frame that was there before it, but it can go on to change later ones: a paddle that is slow to
start moves most one step later (Breakout, Pong). So the best lag says little. The *last* action that explains the change
is the one of this step, and in a dataset as it should be its lag is 0. Lag +1 means that each action is stored with the
frame that it led to, the commonest fault of logs.

The score is R^2 = 1 - sum |y - p|^2 / sum |y - m|^2 of the one-hot action less what the earlier ones tell of it, where m
is the mean of what the probe was fitted to. All probes see the same steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

LAGS = (-2, -1, 0, 1, 2)
STRETCH = 100  # steps in a row that are held out together: neighbours in time are alike
FOLDS = 5
FEWEST_STEPS = 500
RIDGES = (0.03, 0.3, 3.0, 30.0)  # x the number of steps, on features of variance 1
LEAST_Z = 3.0  # standard errors above 0 from which an action explains something
NOTHING = 0.1  # of the score of the last action that explains the change: those after it are surely below


class Alignment(NamedTuple):
    """What the probes found."""

    verdict: str  # "aligned", "shifted" or "cannot tell"
    lag: int | None  # of the last action that explains the change; None where that cannot be told
    scores: dict[int, float]  # R^2 of each lag, held out; empty where there was nothing to fit
    z: dict[int, float]  # the same in standard errors
    steps: int  # on which they were measured
    reason: str  # of the verdict

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        numbers = {name: {f"{k:+d}": v for k, v in getattr(self, name).items()} for name in ("scores", "z")}
        return {**self._asdict(), **numbers}


def probe(changes: np.ndarray, actions: np.ndarray, stretch: np.ndarray) -> Alignment:
    """Fits and scores a probe for each lag.

    Args:
        changes: float32 (N, C): what changed in each step, `adamas.data_card.scan.change_features`.
        actions: int64 (N, len(LAGS)): the action at t + lag.
        stretch: int64 (N,): steps of equal number are held out together.
    """
    if len(changes) < FEWEST_STEPS:
        return _cannot_tell(
            f"{len(changes)} steps with two neighbours on either side are too few", {}, {}, len(changes)
        )
    if len(np.unique(actions)) < 2:
        return _cannot_tell("there is only one action", {}, {}, len(changes))
    gains, squares = _gains(changes, actions, stretch)  # (stretches, lags), (lags,)
    error = gains.std(0, ddof=1) * np.sqrt(len(gains)) + 1e-9  # of the sum over the stretches
    scores, z = gains.sum(0) / squares, gains.sum(0) / error
    return judge(scores, z, len(changes))


def judge(scores: np.ndarray, z: np.ndarray, steps: int) -> Alignment:
    """The verdict on the scores of the lags."""
    shown = {lag: round(float(score), 5) for lag, score in zip(LAGS, scores, strict=True)}
    sure = {lag: round(float(value), 1) for lag, value in zip(LAGS, z, strict=True)}
    explaining = np.flatnonzero(z >= LEAST_Z)
    if not len(explaining):
        return _cannot_tell("no action explains what changes", shown, sure, steps)
    last = explaining[-1]
    error = np.abs(scores) / np.maximum(np.abs(z), 1e-9)
    if ((scores + 2 * error)[last + 1 :] > NOTHING * max(scores[last], scores.max())).any():
        return _cannot_tell("too few steps, or actions that answer to what changes", shown, sure, steps)
    lag = LAGS[last]
    if lag == 0:
        return Alignment(
            "aligned", 0, shown, sure, steps, "the action of a step explains its change, no later one does"
        )
    rows, way = "1 row" if abs(lag) == 1 else f"{abs(lag)} rows", "late" if lag > 0 else "early"
    reason = f"actions are stored {rows} too {way}: that of lag {lag:+d} is the one of the step"
    return Alignment("shifted", lag, shown, sure, steps, reason)


def _cannot_tell(reason: str, scores: dict[int, float], z: dict[int, float], steps: int) -> Alignment:
    return Alignment("cannot tell", None, scores, z, steps, reason)


def _gains(changes: np.ndarray, actions: np.ndarray, stretch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each probe explains of the held-out squares, at its best ridge: float (stretches, lags); and the squares, float
    (lags,)."""
    x = _standardized(changes)
    one_hot = [np.eye(actions.max() + 1, dtype=np.float32)[column] for column in actions.T]
    stretches, stretch = np.unique(stretch, return_inverse=True)
    fold = stretch % FOLDS
    explained, squares = np.zeros((len(RIDGES), len(x), len(LAGS))), np.zeros((len(x), len(LAGS)))
    for held in range(FOLDS):
        fit, test = fold != held, fold == held
        target = np.concatenate([_new(one_hot[:i], one_hot[i], fit) for i in range(len(LAGS))], 1)  # (N, lags * A)
        values, vectors = np.linalg.eigh(x[fit].T @ x[fit])
        weights, seen = vectors.T @ (x[fit].T @ target[fit]), x[test] @ vectors
        squares[test] = _squares(target[test])
        for i, ridge in enumerate(RIDGES):
            left = target[test] - seen @ (weights / (values + ridge * fit.sum())[:, None])
            explained[i, test] = squares[test] - _squares(left)
    best = explained.sum(1).argmax(0)  # ridge of each lag
    columns = [np.bincount(stretch, explained[best[i], :, i], len(stretches)) for i in range(len(LAGS))]
    return np.stack(columns, 1), squares.sum(0)


def _new(earlier: list[np.ndarray], action: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """The one-hot action less what the earlier ones tell of it, float32 (N, A): a least-squares fit to the rows `fit`."""
    known = np.concatenate([np.ones((len(action), 1), np.float32), *earlier], 1)
    gram = known[fit].T @ known[fit] + np.eye(known.shape[1], dtype=np.float32)
    return action - known @ np.linalg.solve(gram, known[fit].T @ action[fit])


def _squares(errors: np.ndarray) -> np.ndarray:
    """float (N, lags * A) -> (N, lags): summed over the actions."""
    return np.square(errors).reshape(len(errors), len(LAGS), -1).sum(2)


def _standardized(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(0)
    spread = x.std(0)
    return np.divide(x, spread, out=np.zeros_like(x), where=spread > 1e-6)
