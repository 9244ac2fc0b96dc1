"""Figures of the Atari 100k benchmark, as Agarwal et al. 2021 (arXiv 2108.13264) define them.

A system's scores are a matrix (S seeds, G games) of human-normalised scores: 0 is random play, 1 a human. There is no
such matrix while a seed of a game is missing, and so no aggregate: what is missing is never averaged away.

A bootstrap is stratified: it draws S seeds anew within each game. `R` is the number of its draws.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adamas.utils.errors import UserError
from adamas.utils.resources import resource

Array = NDArray[np.float64]
DRAWS = 2_000  # of a bootstrap
DRAWS_OF_GAMES = 20_000  # the same of `mean_with_interval`
CONFIDENCE = 0.95


class Published(NamedTuple):
    """Scores of the literature."""

    random: dict[str, float]  # {game: mean return}
    human: dict[str, float]
    runs: dict[str, dict[str, list[float]]]  # {system: {game: mean return of each seed}}

    @property
    def games(self) -> list[str]:
        """The 26 games of the benchmark, by name."""
        return sorted(self.human)

    def levels(self, game: str) -> dict[str, float]:
        """What random play and a human score; nothing of a game that is not of the benchmark."""
        return {"random": self.random[game], "human": self.human[game]} if game in self.human else {}

    def normalised(self, scores: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
        """Human-normalised scores of the games of the benchmark; other games are left out."""
        return {
            game: [normalise(score, self.random[game], self.human[game]) for score in of_game]
            for game, of_game in scores.items()
            if game in self.human
        }


class Estimate(NamedTuple):
    """A figure with its bootstrap interval, which is None where there is only one seed."""

    value: float
    low: float | None
    high: float | None


def read_published(path: Path | None = None) -> Published:
    """Reads results/published/atari100k_scores.json. UserError when it cannot be read."""
    path = path or resource("results/published") / "atari100k_scores.json"
    try:
        return Published(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}): it is part of this repository") from error


def normalise(score: float, random: float, human: float) -> float:
    """A score of a game as a share of the way from random play to a human."""
    return (score - random) / (human - random)


def matrix(scores: Mapping[str, Sequence[float]], games: Sequence[str]) -> Array | None:
    """float (S, G) of {game: one score a seed}; None if a game or a seed of a game is missing."""
    counts = {len(scores.get(game, ())) for game in games}
    if len(counts) != 1 or 0 in counts:
        return None
    return np.array([scores[game] for game in games], float).T


def mean(scores: Array) -> Array:
    """(..., S, G) -> (...): over games and seeds."""
    return scores.mean(axis=(-2, -1))


def median(scores: Array) -> Array:
    """(..., S, G) -> (...): the middle game, each with its mean over seeds."""
    return np.median(scores.mean(axis=-2), axis=-1)


def iqm(scores: Array) -> Array:
    """(..., S, G) -> (...): interquartile mean, of the middle half of all S*G scores."""
    ordered = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    count = ordered.shape[-1]
    return ordered[..., count // 4 : count - count // 4].mean(axis=-1)


def optimality_gap(scores: Array) -> Array:
    """(..., S, G) -> (...): how far, on average, a score is below a human's; 0 is right."""
    return 1 - np.minimum(scores, 1).mean(axis=(-2, -1))


AGGREGATES: dict[str, Callable[[Array], Array]] = {
    "mean": mean,
    "median": median,
    "iqm": iqm,
    "optimality_gap": optimality_gap,
}


def above_human(scores: Array) -> int:
    """Number of games whose mean over seeds is above a human's."""
    return int((scores.mean(axis=0) > 1).sum())


def resample(scores: Array, draws: int, random: np.random.Generator) -> Array:
    """(S, G) -> (R, S, G): seeds drawn anew within each game."""
    index = random.integers(len(scores), size=(draws, *scores.shape))
    return np.take_along_axis(scores[None], index, axis=1)


def estimate(
    figures: Mapping[str, Callable[[Array], Array]], scores: Array, seed: int = 0, draws: int = DRAWS
) -> dict[str, Estimate]:
    """Each of `figures` for the scores (S, G), with intervals from one bootstrap."""
    drawn = resample(scores, draws, np.random.default_rng(seed)) if len(scores) > 1 else None
    return {
        name: Estimate(float(figure(scores)), *_interval(None if drawn is None else figure(drawn)))
        for name, figure in figures.items()
    }


def performance_profile(scores: Array, thresholds: Array) -> Array:
    """(..., S, G), (T,) -> (..., T): share of all scores that are above each threshold."""
    ordered = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    flat = ordered.reshape(-1, ordered.shape[-1])
    above = np.stack([len(row) - np.searchsorted(row, thresholds, side="right") for row in flat])
    return above.reshape(*ordered.shape[:-1], len(thresholds)) / ordered.shape[-1]


def profile_band(scores: Array, thresholds: Array, seed: int = 0, draws: int = DRAWS) -> tuple[Array, Array] | None:
    """The pointwise bootstrap interval of a profile, (T,) each; None where there is only one seed."""
    if len(scores) == 1:
        return None
    drawn = performance_profile(resample(scores, draws, np.random.default_rng(seed)), thresholds)
    low, high = np.quantile(drawn, _tails(), axis=0)
    return low, high


def improvement(x: Array, y: Array, seed: int = 0, draws: int = DRAWS) -> Estimate:
    """Probability that a run of x scores higher than one of y on a game drawn at random; ties count half.

    Args:
        x, y: (S, G) and (S', G).
    """
    better = (x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])  # (S, S', G)
    if 1 in (len(x), len(y)):  # an interval of the other's seeds alone would look surer than it is
        return Estimate(float(better.mean()), None, None)
    random, games = np.random.default_rng(seed), x.shape[1]
    times_x, times_y = (  # (R, G, S): how often a draw holds each seed
        random.multinomial(len(z), np.full(len(z), 1 / len(z)), size=(draws, games)) / len(z) for z in (x, y)
    )
    drawn = np.einsum("rgi,ijg,rgj->r", times_x, better, times_y, optimize=True) / games
    return Estimate(float(better.mean()), *_interval(drawn))


def mean_with_interval(returns: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """The mean over seeds of returns, one list a seed, and the interval of a bootstrap over seeds and their games."""
    rng = np.random.default_rng(0)
    games = [np.array(of_seed) for of_seed in returns]
    drawn = np.zeros(DRAWS_OF_GAMES)
    for seed in rng.integers(len(games), size=(len(games), DRAWS_OF_GAMES)):
        means = np.stack([rng.choice(of_seed, (DRAWS_OF_GAMES, len(of_seed))).mean(1) for of_seed in games])
        drawn += means[seed, np.arange(DRAWS_OF_GAMES)] / len(games)
    low, high = np.quantile(drawn, _tails())
    return fmean(of_seed.mean() for of_seed in games), float(low), float(high)


def _interval(drawn: Array | None) -> tuple[float, float] | tuple[None, None]:
    if drawn is None:
        return None, None
    low, high = np.quantile(drawn, _tails())
    return float(low), float(high)


def _tails() -> tuple[float, float]:
    return (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
