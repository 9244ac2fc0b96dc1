"""The phases of a run: how many units each has, where a run stands in them, and what they are said to cost."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import CPU, small_config
from torch.optim.swa_utils import AveragedModel

from adamas import config
from adamas.config import Config
from adamas.training import rehearsal
from adamas.training.generators import Generators
from adamas.training.phases import COLLECT, Phase, measure_costs, plan, units_left
from adamas.training.progress import Progress
from adamas.training.rehearsal import Rehearsal
from adamas.training.run_folder import RunFolder
from adamas.training.schedule import epochs_left, updates_left
from adamas.training.trainer import Trainer
from adamas.utils.threads import Threads
from adamas.utils.torchrun import SET


def test_the_published_plan() -> None:
    """5k steps, then 100 an epoch up to 100k, then 50 epochs: 1 + 950 + 50."""
    units = {phase.name: count for phase, count in plan(Config()).items()}
    assert units["collect"] == 100_000
    assert units["denoiser"] == units["reward_end"] == 10_000 + 1_000 * 400
    assert units["actor_critic"] == 5_000 + 1_000 * 400
    assert units["evaluation"] == 101
    assert units["first dream"] == units["final evaluation"] == 1


def test_a_run_in_the_real_game_alone_plays_and_is_evaluated() -> None:
    units = {phase.name: count for phase, count in plan(Config(policy="model_free")).items()}
    assert units == {"collect": 100_000, "evaluation": 96, "final evaluation": 1}


def test_epochs_that_collect_nothing_after_the_first_are_final() -> None:
    progress = Progress()
    for collected in (0, 100, 0, 0):
        progress.tick("collect", collected)
        progress.next_epoch()
    assert (progress.epoch, progress.final_epochs, progress.total["collect"]) == (4, 2, 100)


def test_generators_saved_on_another_kind_of_chip_start_a_new_stream() -> None:
    saved = Generators.seeded(0, CPU)
    state = {**saved.state_dict(), "noise": torch.zeros(16, dtype=torch.uint8)}  # the size of a CUDA generator's
    loaded = Generators.seeded(1, CPU)
    loaded.load_state_dict(state)
    assert torch.equal(torch.rand(3, generator=loaded.data), torch.rand(3, generator=saved.data))
    assert not torch.equal(torch.rand(3, generator=loaded.noise), torch.rand(3, generator=saved.noise))


def test_three_new_streams_depend_on_the_whole_key() -> None:
    """Of one seed, one rank, one part and one update: those of two ranks or of two updates have nothing in common."""
    drawn = []
    for key in ((0, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 0, 0, 0)):
        random = Generators.seeded(7, CPU)
        random.reseed(*key)
        drawn += [float(torch.rand((), generator=each)) for each in vars(random).values()]
    assert len(set(drawn)) == len(drawn)
    again = Generators.seeded(8, CPU)
    again.reseed(1, 0, 0, 0)
    assert [float(torch.rand((), generator=each)) for each in vars(again).values()] == drawn[-3:]


# What they cost


class Clock:
    """Updates that cost `seconds(config, batch)`, the first one of each a second more; and the time."""

    def __init__(self, seconds: Callable[[Config, int], float]) -> None:
        self.now, self.seconds, self.batches = 0.0, seconds, []

    def updates(self, _: object, part: str, batch: int, c: Config, threads: Threads) -> Callable[[], None]:
        runs: list[float] = []

        def update() -> None:
            runs.append(self.seconds(c, batch) + (not runs))
            self.now += runs[-1]
            self.batches.append(batch)

        return update


def small(**denoiser: object) -> Config:
    """What is rehearsed are not these networks, but they are made."""
    levels = {"channels": [8], "depths": [1]}
    return Config(
        network=config.Network(condition_channels=8, lstm_dim=8, patch=4),
        denoiser=config.Denoiser(**{**levels, **denoiser}),
        reward_end=config.RewardEnd(**levels),
        actor_critic=config.ActorCritic(channels=[8]),
    )


def rehearse(c: Config) -> Rehearsal:
    return Rehearsal(c, ("NOOP",), CPU, Threads(1))


def seconds(monkeypatch: pytest.MonkeyPatch, part: str, c: Config, cost: Callable[[Config, int], float]) -> tuple:
    """What an update is said to take, and the batches of the rehearsal."""
    clock = Clock(cost)
    monkeypatch.setattr(Rehearsal, "updates", lambda *args: clock.updates(*args))
    monkeypatch.setattr(rehearsal.time, "perf_counter", lambda: clock.now)
    return rehearse(c).update(part), clock.batches


def test_a_quick_update_is_timed_at_its_full_size_and_without_its_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    found, batches = seconds(monkeypatch, "actor_critic", small(), lambda c, batch: 0.1 + batch / 1000)
    assert found == pytest.approx(0.132)
    assert set(batches) == {4, 32}


def test_of_a_slow_update_a_smaller_batch_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found, batches = seconds(monkeypatch, "actor_critic", small(), lambda c, batch: batch / 3)
    assert found == pytest.approx(32 / 3)
    assert batches == [4, 4]


def test_what_a_small_batch_takes_beside_its_rows_is_not_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    found, batches = seconds(monkeypatch, "actor_critic", small(), lambda c, batch: 0.4 + batch / 40)
    assert found == pytest.approx(1.2)
    assert batches[-1] == 32


def test_what_takes_very_long_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found, batches = seconds(monkeypatch, "actor_critic", small(), lambda c, batch: 10.0 * batch)
    assert found == pytest.approx(32 * 10, rel=0.05)
    assert batches == [4]


def test_one_of_several_processes_makes_its_share_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(SET, ("0", "2", "localhost", "1"), strict=True):
        monkeypatch.setenv(name, value)
    found, batches = seconds(monkeypatch, "actor_critic", small(), lambda c, batch: batch / 1000)
    assert found == pytest.approx(0.016)
    assert set(batches) == {2, 16}


def test_kinds_of_updates_are_mixed_as_the_run_mixes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def cost(c: Config, batch: int) -> float:
        fed_back = 0.02 * c.denoiser.autoregressive_steps * (c.denoiser.autoregressive_after == 0)
        return 0.01 + fed_back + 0.03 * c.reward_end.imagined_share

    updates = config.Optimization(first_updates=100, updates=0)
    c = small(autoregressive_steps=2, autoregressive_after=75, optimization=updates)
    assert seconds(monkeypatch, "denoiser", c, cost)[0] == pytest.approx(0.75 * 0.01 + 0.25 * 0.05)
    c = small(autoregressive_steps=0)
    c.reward_end.imagined_share = 0.25
    assert seconds(monkeypatch, "reward_end", c, cost)[0] == pytest.approx(0.75 * 0.01 + 0.25 * 0.04)


def test_every_planned_phase_has_a_cost_and_random_numbers_are_left_alone() -> None:
    c = small()
    for part in (c.denoiser, c.reward_end, c.actor_critic):
        part.optimization.batch_size = 1
    before = torch.get_rng_state()
    costs = measure_costs(rehearse(c))
    assert costs.keys() == {phase.name for phase in plan(c)}
    assert all(cost > 0 for cost in costs.values())
    assert torch.equal(torch.get_rng_state(), before)


def test_what_a_resume_with_other_settings_may_have_ahead_has_a_cost_too() -> None:
    """The denoiser's only updates are in an epoch that a new run of these settings would not have."""
    c = small()
    c.collection.steps, c.final_epochs, c.denoiser.optimization.first_updates = c.collection.first_steps, 0, 0
    c.resume = "runs/Breakout/2026-12-01_00-00-00"
    for part in (c.denoiser, c.reward_end, c.actor_critic):
        part.optimization.batch_size = 1
    begun = Progress(epoch=1, done=Counter({"evaluation": 1}), total=Counter(collect=c.collection.steps))
    ahead = {name for name, units in units_left(c, begun).items() if units}
    assert "denoiser" in ahead
    assert "denoiser" not in {phase.name for phase in plan(c)}
    assert ahead <= measure_costs(rehearse(c)).keys()


def test_a_rehearsal_leaves_no_networks_behind() -> None:
    def alive() -> int:
        return sum(type(thing) is AveragedModel for thing in gc.get_objects())

    c = small(ema_decay=0.9)
    c.denoiser.optimization.batch_size = 2
    rehearsed = rehearse(c)
    gc.collect()
    before = alive()
    gc.disable()
    try:
        rehearsed.update("denoiser")
        assert alive() == before
    finally:
        gc.enable()


# What is ahead


class Counts:
    """A run loop that does nothing but count, and notes after each round what was said to be ahead."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.progress = trainer, trainer.progress
        self.bars = SimpleNamespace(say=lambda line: None)
        self.ahead: list[dict[str, int]] = []
        self.behind: list[dict[str, int]] = []

    def run(self, phase: Phase, target: Callable[[], int], work: Callable[[], int | None]) -> None:
        while left := max(0, target() - self.progress.done[phase.name]):
            steps = min(30, left) if phase == COLLECT else 1
            self.progress.tick(phase.name, steps)
            self.ahead.append(units_left(self.trainer.config, self.progress))
            self.behind.append(dict(self.progress.total))

    def save(self) -> None:
        pass


STEPS = {"steps": 500, "first_steps": 90, "first_steps_most": 90, "steps_per_epoch": 70}
WHOLE_RUNS = {
    "imagined": {},
    "the first collection waits for rewards": {"collection": {**STEPS, "first_steps_most": 300}},
    "no epochs at the end": {"final_epochs": 0},
    "a dataset": {"dataset": "somewhere"},
    "the real game alone": {"policy": "model_free"},
    "collected steps too": {"policy": "dyna"},
}


@pytest.mark.parametrize("name", WHOLE_RUNS)
def test_what_is_ahead_of_a_run_is_what_it_will_do(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = {"collection": STEPS, "final_epochs": 3, "dataset": None, "policy": "imagined", **WHOLE_RUNS[name]}
    c = small_config()
    c.collection = config.Collection(**case["collection"])
    c.final_epochs, c.policy, c.evaluation.every_epochs = case["final_epochs"], case["policy"], 3
    for part, first, later in (("denoiser", 7, 4), ("reward_end", 5, 3), ("actor_critic", 8, 8), ("q_network", 6, 5)):
        optimization = getattr(c, part).optimization
        optimization.first_updates, optimization.updates = first, later
    trainer = Trainer(c, RunFolder(tmp_path), CPU)
    trainer.config = replace(c, dataset=case["dataset"])
    monkeypatch.setattr(Trainer, "look_at_the_data", lambda self, loop: None)
    planned = units_left(trainer.config, Progress())
    trainer.train(loop := Counts(trainer))
    made = loop.behind[-1]
    assert set(loop.ahead[-1].values()) == {0}
    rounds = list(zip(loop.ahead, loop.behind, strict=True))
    if "waits" in name:
        assert planned["denoiser"] > made["denoiser"], "fewer epochs than it would have had"
        rounds = [(ahead, behind) for ahead, behind in rounds if behind["collect"] >= 300]
    else:
        rounds.insert(0, (planned, {}))
    assert len(rounds) > 10
    for ahead, behind in rounds:
        assert {n: ahead[n] + behind.get(n, 0) for n in planned} == {n: made.get(n, 0) for n in planned}


def test_a_final_epoch_that_was_begun_is_ended_though_fewer_are_wanted_by_now() -> None:
    c = small_config()
    c.final_epochs, c.denoiser.optimization.updates = 3, 4
    begun = Progress(epoch=41, final_epochs=6, done=Counter(denoiser=1), total=Counter(collect=c.collection.steps))
    assert epochs_left(c, begun) == 1
    assert updates_left(c, begun, "denoiser") == 3


def test_what_is_ahead_of_a_finished_run_that_gets_more_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More steps, after which its final epochs come again; or more final epochs alone."""
    c = small_config()
    c.collection, c.final_epochs = config.Collection(**STEPS), 3
    c.denoiser.optimization.first_updates, c.denoiser.optimization.updates = 7, 4
    monkeypatch.setattr(Trainer, "look_at_the_data", lambda self, loop: None)
    trainer = Trainer(c, RunFolder(tmp_path), CPU)
    trainer.train(Counts(trainer))
    assert set(units_left(c, trainer.progress).values()) == {0}
    for change in ({"final_epochs": 5}, {"collection": config.Collection(**{**STEPS, "steps": 640})}):
        trainer.config = replace(trainer.config, **change)
        before, planned = dict(trainer.progress.total), units_left(trainer.config, trainer.progress)
        trainer.train(Counts(trainer))
        assert planned == {name: trainer.progress.total[name] - before.get(name, 0) for name in planned}
        assert planned["denoiser"] > 0
        assert planned["final evaluation"] == 1
