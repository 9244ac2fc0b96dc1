"""The figures of Atari 100k: closed forms, the published ones of DIAMOND, and rliable's on the published data."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import change_config

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts" / "studies"))
import intervals
from made_runs import make_run

from adamas.benchmark import aggregates as figures
from adamas.config import Config, Denoiser
from adamas.utils.errors import UserError

RESULTS = Path(__file__).parents[1] / "results"
PUBLISHED = figures.read_published(RESULTS / "published/atari100k_scores.json")
GAMES = PUBLISHED.games
RLIABLE = json.loads((Path(__file__).parent / "data" / "rliable.json").read_text())  # which names its version and calls


def published(system: str) -> np.ndarray:
    return figures.matrix(PUBLISHED.normalised(PUBLISHED.runs[system]), GAMES)


def random_scores(seeds: int = 5, games: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1.0, 1.0, (seeds, games))


# Against the literature


def test_diamond_comes_out_as_published() -> None:
    found = figures.estimate(figures.AGGREGATES, published("DIAMOND"))
    assert {name: round(e.value, 3) for name, e in found.items()} == {
        "mean": 1.459,
        "median": 0.373,
        "iqm": 0.641,
        "optimality_gap": 0.480,
    }
    assert figures.above_human(published("DIAMOND")) == 11
    assert all(e.low < e.value < e.high for e in found.values())


def test_the_published_data_is_whole() -> None:
    assert (len(GAMES), len(PUBLISHED.runs)) == (26, 19)
    assert all(np.isfinite(published(system)).all() for system in PUBLISHED.runs)
    assert published("SPR").shape == (100, 26)


@pytest.mark.parametrize("system", PUBLISHED.runs)
def test_aggregates_are_those_of_rliable(system: str) -> None:
    found = {name: figure(published(system)) for name, figure in figures.AGGREGATES.items()}
    assert found == pytest.approx(RLIABLE["aggregates"][system], abs=1e-12)


def test_profiles_and_improvement_are_those_of_rliable() -> None:
    a, b = published("DIAMOND"), published("SPR")
    assert figures.improvement(a, b).value == pytest.approx(RLIABLE["improvement of DIAMOND over SPR"], abs=1e-12)
    profile = figures.performance_profile(a, np.linspace(0, 8, 33))
    assert profile == pytest.approx(np.array(RLIABLE["profile of DIAMOND at 0 to 8"]), abs=1e-12)


def test_intervals_are_those_of_rliable() -> None:
    for name, mine in figures.estimate(figures.AGGREGATES, published("DIAMOND"), draws=4000).items():
        low, high = RLIABLE["intervals of DIAMOND"][name]
        assert (mine.low, mine.high) == pytest.approx((low, high), abs=0.06 * (high - low))


# Closed forms


def test_normalise_maps_random_to_0_and_human_to_1() -> None:
    assert [figures.normalise(s, -20.7, 14.6) for s in (-20.7, 14.6)] == [0, 1]
    assert figures.normalise(32.0, 2.0, 12.0) == 3


def test_aggregates_by_hand() -> None:
    scores = np.array([[0.0, 1.0, 2.0], [0.5, 3.0, 2.0]])  # two seeds of three games
    assert figures.mean(scores) == pytest.approx(8.5 / 6)
    assert figures.median(scores) == 2.0  # of .25, 2, 2
    assert figures.iqm(scores) == pytest.approx((0.5 + 1 + 2 + 2) / 4)  # without 0 and 3
    assert figures.optimality_gap(scores) == pytest.approx((1 + 0.5) / 6)
    assert figures.above_human(scores) == 2
    assert figures.above_human(np.ones((3, 4))) == 0


def test_the_median_is_one_of_games_not_of_runs() -> None:
    scores = np.array([[0.0, 0.0, 9.0], [3.0, 0.0, 9.0]])
    assert figures.median(scores) == 1.5
    assert figures.median(np.array([[0.0, 1.0, 2.0], [9.0, 1.0, 2.0]])) == 2.0


@pytest.mark.parametrize("name", figures.AGGREGATES)
def test_aggregates_take_batches(name: str) -> None:
    figure, scores = figures.AGGREGATES[name], np.stack([random_scores(seed=s) for s in range(4)])
    assert figure(scores) == pytest.approx([figure(each) for each in scores])


def test_a_bootstrap_draws_within_games() -> None:
    scores = np.arange(15.0).reshape(3, 5)
    drawn = figures.resample(scores, 200, np.random.default_rng(0))
    assert drawn.shape == (200, 3, 5)
    assert np.array_equal(drawn % 5, np.broadcast_to(np.arange(5), drawn.shape))  # a score stays in its game
    counts = np.bincount(drawn.astype(int).ravel(), minlength=15)
    assert counts.min() > 140  # of 200 each
    assert counts.max() < 260
    assert len(np.unique(drawn[:, :, 0] // 5 * 5 + drawn[:, :, 1] // 5, axis=0)) > 20  # games apart from each other


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    scores = np.random.default_rng(1).normal(0, 1, (40, 10))
    e = figures.estimate({"mean": figures.mean}, scores, draws=4000)["mean"]
    deviation = math.sqrt((scores.var(axis=0) / 40).mean() / 10)
    assert (e.high - e.low) / 2 == pytest.approx(1.96 * deviation, rel=0.06)
    assert (e.high + e.low) / 2 == pytest.approx(e.value, abs=0.1 * deviation)


def test_intervals_have_a_seed() -> None:
    first, again, other = (figures.estimate(figures.AGGREGATES, random_scores(), seed=s) for s in (0, 0, 1))
    assert first == again
    assert first != other


def test_one_seed_has_no_interval() -> None:
    assert figures.estimate(figures.AGGREGATES, random_scores(1))["mean"][1:] == (None, None)
    assert figures.profile_band(random_scores(1), np.zeros(1)) is None
    assert figures.improvement(random_scores(1), random_scores(5))[1:] == (None, None)
    assert figures.improvement(random_scores(5), random_scores(1))[1:] == (None, None)


def test_what_is_missing_leaves_no_matrix() -> None:
    assert figures.matrix({"A": [1, 2], "B": [3, 4]}, ["B", "A"]).tolist() == [[3, 1], [4, 2]]
    assert figures.matrix({"A": [1, 2]}, ["A", "B"]) is None
    assert figures.matrix({"A": [1, 2], "B": [3]}, ["A", "B"]) is None
    assert figures.matrix({}, ["A"]) is None


def test_a_profile_is_a_share_of_scores_above() -> None:
    scores = np.array([[0.0, 1.0], [2.0, 1.0]])
    assert figures.performance_profile(scores, np.array([-1, 0, 1, 1.5, 2])).tolist() == [1, 0.75, 0.25, 0.25, 0]
    low, high = figures.profile_band(random_scores(), np.linspace(0, 3, 7))
    shown = figures.performance_profile(random_scores(), np.linspace(0, 3, 7))
    assert (low <= shown).all()
    assert (shown <= high).all()


def test_improvement_by_hand() -> None:
    x, y = np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[2.0, 5.0], [0.0, 6.0], [1.0, 4.0]])
    by_pairs = [
        np.mean([float(a > b) + 0.5 * (a == b) for a in x[:, g] for b in y[:, g]]) for g in range(2)
    ]  # 4.5 of 6 and 1.5 of 3
    assert figures.improvement(x, y).value == pytest.approx(np.mean(by_pairs))
    assert figures.improvement(y, x).value == pytest.approx(1 - np.mean(by_pairs))


def test_the_interval_of_improvement_is_that_of_drawing_seeds_anew() -> None:
    x, y = (
        random_scores(n, seed=n) + 0.6 * np.arange(n)[:, None] for n in (5, 4)
    )  # a seed is good at all games, or bad
    random = np.random.default_rng(5)
    slow = [
        figures.improvement(*(figures.resample(z, 1, random)[0] for z in (x, y)), draws=1).value for _ in range(1000)
    ]
    found = figures.improvement(x, y, draws=3000)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.03)


# Beside random play


def test_games_above_random_play_are_those_whose_intervals_lie_apart() -> None:
    chance = {
        "Boxing": intervals.Mean(0, -1, 1, games=100),
        "Breakout": intervals.Mean(0, -1, 1, games=100),
        "Pong": intervals.Mean(0, -1, 1, games=100),
    }
    ours = {
        "Boxing": intervals.Mean(-3, -4, -1.1, games=100),
        "Breakout": intervals.Mean(2, 1.1, 3, games=100),
        "Pong": intervals.Mean(2, 1, 3, games=100),
    }
    told = intervals.table(
        {"ours": ours, "theirs": {"Breakout": intervals.Mean(9, 8, 10, games=100)}}, chance
    ).splitlines()
    assert told[-3:] == [
        "ours beside random play, 3 games: 1 above, 1 not apart, 1 below",
        "theirs beside random play, 1 games: 1 above, 0 not apart, 0 below",
        "theirs beside ours, 1 games: 1 above, 0 not apart, 0 below",
    ]
    assert len(told) == 2 + 26 + 1 + 3
    beside = intervals.table({"ours": ours}, chance, {name: intervals.published(name) for name in ("human", "DIAMOND")})
    assert "| Breakout | 0.00 [-1.00, 1.00] | 30.5 | 132.5 | 2.00 [1.10, 3.00] | above |" in beside
    with pytest.raises(UserError, match="--published diamond: there are human, DIAMOND"):
        intervals.published("diamond")


def test_few_games_tell_nothing() -> None:
    few = intervals.Mean.of([0.0] * (intervals.LEAST_GAMES - 1))
    many = intervals.Mean.of([1.0] * intervals.LEAST_GAMES)
    assert (few.beside(many), many.beside(few), many.beside(many)) == ("too few games", "too few games", "not apart")


def test_the_first_evaluation_of_a_run_stands_for_itself(tmp_path: Path) -> None:
    make_run(tmp_path, Config(env="Pong"), score=3.0)
    assert intervals.read(tmp_path, first=True)["Pong"].value == 1.0
    assert intervals.read(tmp_path)["Pong"].value == 3.0


def test_the_mean_of_a_game_is_that_of_its_games_at_the_end(tmp_path: Path) -> None:
    ours = RESULTS / "krull-cpu" / "agent"
    found = intervals.read(ours)["Krull"]
    returns = json.loads((ours / "evaluations.jsonl").read_text().splitlines()[-1])["returns"]
    assert found.value == pytest.approx(sum(returns) / len(returns))
    assert found.low < found.value < found.high
    for seed in (0, 1):
        shutil.copytree(ours, tmp_path / str(seed))
        change_config(tmp_path / str(seed), seed=seed)
    with pytest.raises(UserError, match="has several seeds of Krull: give one folder a seed"):
        intervals.read(tmp_path)
    (tmp_path / "empty").mkdir()
    change_config(tmp_path / "1", seed=0, denoiser=Denoiser(context=2))
    with pytest.raises(UserError, match="holds runs with other settings, adamas cpu #1, adamas cpu #2"):
        intervals.read(tmp_path)
    with pytest.raises(UserError, match="empty holds no finished run"):
        intervals.read(tmp_path / "empty")
