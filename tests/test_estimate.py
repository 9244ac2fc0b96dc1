"""What a run is said to cost: a rehearsal whose clock is known."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from adamas import config
from adamas.config import Config
from adamas.training import estimate

CPU = torch.device("cpu")


class Rehearsals:
    """Stand-ins for updates that cost `seconds(config, batch)`, the first one of each a second more; and the clock."""

    def __init__(self, seconds: Callable[[Config, int], float]) -> None:
        self.now, self.seconds, self.batches = 0.0, seconds, []

    def __call__(self, name: str, batch: int, c: Config, *_: object) -> Callable[[], None]:
        runs: list[float] = []

        def update() -> None:
            runs.append(self.seconds(c, batch) + (not runs))
            self.now += runs[-1]
            self.batches.append(batch)

        return update


def seconds(monkeypatch: pytest.MonkeyPatch, name: str, c: Config, cost: Callable[[Config, int], float]) -> tuple:
    """What an update is said to take, and the batches of the rehearsal."""
    rehearsals = Rehearsals(cost)
    monkeypatch.setattr(estimate, "_rehearsal", rehearsals)
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: rehearsals.now)
    return estimate._mean_update_seconds(name, c, ("NOOP",), CPU), rehearsals.batches


def test_a_quick_update_is_timed_at_its_full_size_and_without_its_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    found, batches = seconds(monkeypatch, "actor_critic", Config(), lambda c, batch: 0.1 + batch / 1000)
    assert found == pytest.approx(0.132)
    assert set(batches) == {4, 32}


def test_of_a_slow_update_a_smaller_batch_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found, batches = seconds(monkeypatch, "actor_critic", Config(), lambda c, batch: batch / 4)
    assert found == pytest.approx(8.0)
    assert batches == [4, 4]


def test_what_takes_very_long_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found, batches = seconds(monkeypatch, "actor_critic", Config(), lambda c, batch: 10.0 * batch)
    assert found == pytest.approx(32 * 10, rel=0.05)
    assert batches == [4]


def test_kinds_of_updates_are_mixed_as_the_run_mixes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def cost(c: Config, batch: int) -> float:
        fed_back = 0.02 * c.denoiser.fed_back_frames * (c.denoiser.fed_back_after == 0)
        return 0.01 + fed_back + 0.03 * c.reward_end.dreamed_share

    updates = config.Optimization(first_updates=100, updates=0)
    c = Config(denoiser=config.Denoiser(fed_back_frames=2, fed_back_after=75, optimization=updates))
    assert seconds(monkeypatch, "denoiser", c, cost)[0] == pytest.approx(0.75 * 0.01 + 0.25 * 0.05)
    c = Config(denoiser=config.Denoiser(fed_back_frames=0), reward_end=config.RewardEnd(dreamed_share=0.25))
    assert seconds(monkeypatch, "reward_end", c, cost)[0] == pytest.approx(0.75 * 0.01 + 0.25 * 0.04)


def test_a_rehearsal_leaves_no_networks_behind() -> None:
    def alive() -> int:
        return sum(type(thing) is AveragedModel for thing in gc.get_objects())

    small = {"optimization": config.Optimization(batch_size=2)}
    denoiser = config.Denoiser(channels=[8], depths=[1], condition_channels=8, ema_decay=0.9, **small)
    before = alive()
    gc.disable()
    try:
        estimate._update_seconds("denoiser", Config(denoiser=denoiser), ("NOOP",), CPU)
        assert alive() == before
    finally:
        gc.enable()
