"""What a run is said to cost, in units and in seconds, and what it says before it begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import PARTS

from adamas import config
from adamas.config import Config
from adamas.training import phases
from adamas.training.announcement import announce
from adamas.training.phases import measure_costs, plan
from adamas.training.progress import Progress
from adamas.training.schedule import epochs_left, planned_updates
from adamas.utils.console import format_duration


def units(c: Config) -> dict[str, int]:
    return {phase.name: count for phase, count in plan(c).items()}


def test_other_plans() -> None:
    stored = Config(dataset="somewhere")
    assert epochs_left(stored, Progress()) == 1 + 50
    assert "collect" not in units(stored)
    assert units(stored)["denoiser"] == 10_000 + 50 * 400
    free = Config(policy="model_free")
    assert epochs_left(free, Progress()) == 1 + 950
    assert units(free) == {"collect": 100_000, "evaluation": 96, "final evaluation": 1}
    assert [planned_updates(free, part) for part in config.PARTS] == [0, 0, 0, 0]
    short = Config(collection=config.Collection(steps=100))
    assert (epochs_left(short, Progress()), units(short)["collect"]) == (51, 100)


def test_no_dream_is_shown_of_a_denoiser_that_has_learned_nothing() -> None:
    c = Config()
    c.denoiser.optimization.first_updates = 1
    assert "first dream" not in units(c)
    c.denoiser.optimization.first_updates = 1000
    assert phases.first_dream_after(c) == 500
    c.denoiser.optimization.first_updates = 10_000
    assert phases.first_dream_after(c) == phases.FIRST_DREAM_AFTER


class Measured:
    """A rehearsal with round numbers."""

    dreaming = 0.5

    def __init__(self, c: Config) -> None:
        self.config = c

    def update(self, part: str) -> float:
        return 1.0 + PARTS.index(part)

    def acting(self, games: int) -> float:
        return 0.01 / games

    @property
    def replaying(self) -> float:
        return 0.03 if self.config.policy != "imagined" else 0.0


def test_an_evaluation_costs_its_games_and_three_sets_of_dreams() -> None:
    c = Config(evaluation=config.Evaluation(games=4, final_games=100, dreams=9, dream_steps=50))
    trial: Any = Measured(c)
    played = 0.01 * phases.STEPS_A_GAME  # however many games share the time
    dreamed = 3 * 2 * 50 * 0.5  # three sets of two groups
    assert measure_costs(trial) == {
        "collect": 0.01,
        "denoiser": 1.0,
        "reward_end": 2.0,
        "actor_critic": 3.0,
        "first dream": dreamed,
        "evaluation": played + dreamed,
        "final evaluation": played + dreamed,
    }
    free: Any = Measured(replace(c, policy="model_free"))
    assert measure_costs(free) == {"collect": 0.04, "evaluation": played, "final evaluation": played}


# What is said


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "1 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3_600, "1 h"),
        (3_700, "1 h 2 min"),
        (86_400, "1 day"),
        (200_000, "2 days 7 h"),
    ],
)
def test_seconds_in_words(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


def test_a_run_says_what_it_will_do_and_how_long_what_is_left_takes() -> None:
    c = Config(evaluation=config.Evaluation(every_epochs=2000))
    costs = {name: 0.0 for name in units(c)} | {"collect": 0.036}  # seconds
    fresh = announce(c, Path("runs/Breakout/x y"), "cpu", Progress(), costs).splitlines()
    assert fresh[0] == "adamas learns Breakout (imagined, preset diamond, seed 0) from 100,000 agent steps"
    assert [line.split()[0] for line in fresh[1:]] == ["device", "run", "watch", "plan", "time", "stop"]
    assert "collect 100,000x, denoiser 410,000x" in fresh[4]
    assert fresh[5].startswith("  time         about 1 h (collect 1 h, ")
    assert "Ctrl-C saves; go on with: " in fresh[6]
    progress = Progress()
    progress.tick("collect", 50_000)
    resumed = announce(c, Path("runs/Breakout/x y"), "cpu", progress, costs).splitlines()
    assert resumed[5].startswith("  time         about 30 min (collect 1 h, ")
    stored = announce(Config(dataset="games"), Path("runs"), "cpu", Progress(), costs)
    assert stored.splitlines()[0].endswith("from no steps, but games")
