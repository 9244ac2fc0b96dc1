"""actor_critic.real_share: the policy learns from the steps that are collected, and imagination gives way to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import CPU, mostly_slow, same, small_config
from test_trainer import save
from test_updates import CountingLoop

from adamas.config import Config
from adamas.config.rules import check
from adamas.config.schema import Collection
from adamas.training.phases import Phase
from adamas.training.run_folder import RunFolder
from adamas.training.schedule import planned_updates, updates_left
from adamas.training.trainer import Trainer
from adamas.utils.errors import UserError

STEPS = 80  # of the first epoch: two updates of 8 rollouts of 4 steps, and 16 steps that are left


class Loop:
    """A run loop without bars, curves and saves, that stops after so many rounds."""

    def __init__(self, trainer: Trainer, rounds: int = 1000) -> None:
        self.progress, self.rounds = trainer.progress, rounds

    def run(self, phase: Phase, target: Callable[[], int], work: Callable[[], int | None]) -> None:
        while self.rounds and self.progress.done[phase.name] < target():
            self.progress.tick(phase.name, work() or 1)
            self.rounds -= 1


def config_of(share: float = 0.25) -> Config:
    c = small_config(actor_critic={"real_share": share, "ema_decay": 0.9})
    c.collection = Collection(steps=100, first_steps=STEPS, first_steps_most=STEPS, steps_per_epoch=20)
    c.actor_critic.optimization.first_updates = c.actor_critic.optimization.updates = 12
    return check(c)


def imagined(trainer: Trainer) -> int:
    """Updates in imagination that this epoch has."""
    trainer.fit("actor_critic", loop := CountingLoop())
    return loop.units[-1]


def test_imagination_gives_way_by_the_share_that_diverges_or_the_least_share(tmp_path: Path) -> None:
    trainer = Trainer(config_of(share=0.25), RunFolder(tmp_path), CPU)
    assert imagined(trainer) == 9
    trainer.progress.count_rollouts(imagined=16, diverged=1)
    assert imagined(trainer) == 9
    trainer.progress.count_rollouts(imagined=16, diverged=15)
    assert imagined(trainer) == 6
    trainer.progress.next_epoch()
    assert imagined(trainer) == 9
    later = 4 + trainer.config.final_epochs  # epochs; half of all rollouts diverged so far
    assert updates_left(trainer.config, trainer.progress, "actor_critic") == 9 + later * 6
    assert planned_updates(trainer.config, "actor_critic") == 9 * (2 + trainer.config.final_epochs)


@pytest.mark.parametrize(("share", "dataset"), [(0.0, None), (0.25, "somewhere")])
def test_without_a_share_or_without_collecting_all_updates_are_imagined(
    share: float, dataset: str | None, tmp_path: Path
) -> None:
    trainer = Trainer(config_of(share), RunFolder(tmp_path), CPU)
    trainer.config = replace(trainer.config, dataset=dataset)
    trainer.progress.count_rollouts(imagined=16, diverged=16)
    assert imagined(trainer) == 12


def test_all_collected_steps_are_learned_from_and_none_is_too_many(tmp_path: Path) -> None:
    trainer = Trainer(config_of(), RunFolder(tmp_path), CPU)
    trainer.collect(Loop(trainer))
    assert trainer.progress.steps == trainer.replay.num_steps == STEPS
    assert trainer.learners.updates("actor_critic") == 3
    assert int(trainer.models.averages["actor_critic"].n_averaged) == 3


def test_diverged_rollouts_are_counted(tmp_path: Path) -> None:
    trainer = Trainer(config_of(), RunFolder(tmp_path), CPU)
    trainer.collect(Loop(trainer))
    trainer.fit("actor_critic", Loop(trainer))
    assert trainer.progress.done["imagined rollouts"] == 8 * 9
    assert trainer.progress.done["diverged rollouts"] == 0, "this model does not predict divergence"


@pytest.mark.parametrize("rounds", mostly_slow([1, 2, 6], ["2"]))
def test_a_run_that_was_saved_goes_on_bit_for_bit(rounds: int, tmp_path: Path) -> None:
    """While it collects, and while it imagines."""
    trainer = Trainer(config_of(), RunFolder(tmp_path), CPU)
    first = Loop(trainer, rounds)
    trainer.collect(first)
    trainer.fit("actor_critic", first)
    save(trainer)
    resumed = Trainer(config_of(), RunFolder(tmp_path), CPU)
    resumed.resume()
    for each in (trainer, resumed):
        each.collect(Loop(each))
        each.fit("actor_critic", Loop(each))
    assert same(trainer.progress.state_dict(), resumed.progress.state_dict())
    one, other = (each.state_dict() for each in (trainer, resumed))
    assert [key for key in one if not same(one[key], other[key])] == []


def test_more_minibatches_than_real_rollouts_are_refused() -> None:
    c = small_config(actor_critic={"real_share": 0.5})
    c.actor_critic.minibatches, c.actor_critic.optimization.batch_size = 9, 16
    with pytest.raises(UserError, match="an update from collected steps has 8 rollouts"):
        check(c)
