"""What a run is made of, what it is said to cost, and what it says before it begins: a rehearsal whose clock is known."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import CPU, MEANINGS, small_config
from torch.optim.swa_utils import AveragedModel

from adamas import config
from adamas.config import PARTS, Config
from adamas.training import phases, rehearsal
from adamas.training.announcement import announce, in_words
from adamas.training.phases import measure_costs, plan
from adamas.training.progress import Progress
from adamas.training.rehearsal import Rehearsal
from adamas.training.schedule import epochs, planned_updates
from adamas.utils.threads import Threads
from adamas.utils.torchrun import SET


class Clock:
    """Stand-ins for updates that cost `seconds(config, batch)`, the first one of each a second more; and the clock."""

    def __init__(self, seconds: Callable[[Config, int], float]) -> None:
        self.now, self.seconds, self.batches = 0.0, seconds, []

    def updates(self, _: Rehearsal, part: str, batch: int, c: Config) -> Callable[[], None]:
        runs: list[float] = []

        def update() -> None:
            runs.append(self.seconds(c, batch) + (not runs))
            self.now += runs[-1]
            self.batches.append(batch)

        return update


def measure(
    monkeypatch: pytest.MonkeyPatch, part: str, c: Config, cost: Callable[[Config, int], float]
) -> tuple[float, list[int]]:
    """What an update is said to take, and the batches of the rehearsal."""
    clock = Clock(cost)
    monkeypatch.setattr(Rehearsal, "_updates", lambda *arguments: clock.updates(*arguments))
    monkeypatch.setattr(rehearsal, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return Rehearsal(c, MEANINGS, CPU, Threads()).update(part), clock.batches


def batches_of_32() -> Config:
    return small_config(actor_critic={"optimization": config.Optimization(batch_size=32)})


# The rehearsal


def test_a_quick_update_is_timed_at_its_full_size_and_without_its_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    found, batches = measure(monkeypatch, "actor_critic", batches_of_32(), lambda c, batch: 0.1 + batch / 1000)
    assert found == pytest.approx(0.132)
    assert set(batches) == {4, 32}


def test_of_a_slow_update_a_smaller_batch_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found, batches = measure(monkeypatch, "actor_critic", batches_of_32(), lambda c, batch: batch / 4)
    assert found == pytest.approx(8.0)
    assert batches == [4, 4]


def test_what_takes_very_long_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found, batches = measure(monkeypatch, "actor_critic", batches_of_32(), lambda c, batch: 10.0 * batch)
    assert found == pytest.approx(32 * 10, rel=0.05)
    assert batches == [4]


def test_one_of_several_processes_makes_its_share_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(SET, ("0", "2", "localhost", "1"), strict=True):
        monkeypatch.setenv(name, value)
    found, batches = measure(monkeypatch, "actor_critic", batches_of_32(), lambda c, batch: batch / 1000)
    assert found == pytest.approx(0.016)
    assert set(batches) == {2, 16}


def test_kinds_of_updates_are_mixed_as_the_run_mixes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def cost(c: Config, batch: int) -> float:
        generated = 0.02 * c.denoiser.autoregressive_steps * (c.denoiser.autoregressive_after == 0)
        return 0.01 + generated + 0.03 * c.reward_end.imagined_share

    updates = config.Optimization(first_updates=100, updates=0)
    c = small_config(autoregressive_steps=2, autoregressive_after=75, optimization=updates)
    assert measure(monkeypatch, "denoiser", c, cost)[0] == pytest.approx(0.75 * 0.01 + 0.25 * 0.05)
    c = small_config(autoregressive_steps=0, reward_end={"imagined_share": 0.25})
    assert measure(monkeypatch, "reward_end", c, cost)[0] == pytest.approx(0.75 * 0.01 + 0.25 * 0.04)


def test_a_rehearsal_times_all_that_a_run_does_and_leaves_no_trace() -> None:
    """Neither networks nor another random state."""

    def alive() -> int:
        return sum(type(thing) is AveragedModel for thing in gc.get_objects())

    c = small_config(reward_end={"imagined_share": 0.5}, ema_decay=0.9)
    before = torch.get_rng_state()
    trial = Rehearsal(c, MEANINGS, CPU, Threads())
    averages = alive()
    gc.disable()
    try:
        costs = measure_costs(trial)
        assert alive() == averages
    finally:
        gc.enable()
    assert torch.equal(torch.get_rng_state(), before)
    assert costs.keys() == {phase.name for phase in plan(c)}
    assert all(seconds > 0 for seconds in costs.values())


# The plan


def units(c: Config) -> dict[str, int]:
    return {phase.name: count for phase, count in plan(c).items()}


def test_the_published_plan() -> None:
    """5k steps, then 100 an epoch up to 100k, then 50 epochs: 1 + 950 + 50."""
    found = units(Config())
    assert found["collect"] == 100_000
    assert found["denoiser"] == found["reward_end"] == 10_000 + 1_000 * 400
    assert found["actor_critic"] == 5_000 + 1_000 * 400
    assert found["evaluation"] == 101
    assert found["first dream"] == found["final evaluation"] == 1
    assert "play" not in found


def test_other_plans() -> None:
    stored = Config(dataset="somewhere")
    assert epochs(stored) == 1 + 50
    assert "collect" not in units(stored)
    assert units(stored)["denoiser"] == 10_000 + 50 * 400
    free = Config(policy="model_free")
    assert epochs(free) == 1 + 950
    assert units(free) == {"play": 100_000, "evaluation": 96, "final evaluation": 1}
    assert [planned_updates(free, part) for part in PARTS] == [0, 0, 0]
    short = Config(collection=config.Collection(steps=100))
    assert (epochs(short), units(short)["collect"]) == (51, 100)


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


def test_an_evaluation_costs_its_games_and_two_sets_of_dreams() -> None:
    c = Config(evaluation=config.Evaluation(games=4, final_games=100, dreams=9, dream_steps=50))
    trial: Any = Measured(c)
    played = 0.01 * phases.STEPS_A_GAME  # however many games share the time
    dreamed = 2 * 2 * 50 * 0.5  # two sets of two groups
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
    assert measure_costs(free) == {"play": 0.02, "evaluation": played, "final evaluation": played}


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
    assert in_words(seconds) == words


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


def test_epochs_that_collect_nothing_after_the_first_are_final() -> None:
    progress = Progress()
    for collected in (0, 100, 0, 0):
        progress.tick("collect", collected)
        progress.next_epoch()
    assert (progress.epoch, progress.final_epochs, progress.total["collect"]) == (4, 2, 100)
