"""A trainer that was saved and resumed is the trainer that went on."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from helpers import CPU, PARTS, same, small_config

from adamas.config import Config
from adamas.training import checkpoint
from adamas.training.run_folder import RunFolder
from adamas.training.signals import Stopped
from adamas.training.trainer import Trainer
from adamas.utils.errors import UserError
from adamas.utils.threads import Threads

CONFIG: Config = small_config(reward_end={"imagined_share": 0.5}, ema_decay=0.9)


def live(trainer: Trainer) -> None:
    """Plays a little and makes an update of each part."""
    for _ in range(30):
        trainer._collect_step()
        trainer.progress.tick("collect")
    for part in PARTS:
        trainer.updates.make(part)
        trainer.progress.tick(part)


def save(trainer: Trainer) -> None:
    parts = {**trainer.state_dict(), "progress": trainer.progress.state_dict()}
    checkpoint.save(trainer.folder.checkpoints, 1, parts, keep=1)


@pytest.mark.parametrize("cores", [1, 2])
def test_a_resumed_trainer_goes_on_bit_for_bit(cores: int, tmp_path: Path) -> None:
    with Threads(cores, least_rows=4) as threads, Threads(cores, least_rows=4) as other_threads:
        trainer = Trainer(CONFIG, RunFolder(tmp_path), CPU, threads)
        live(trainer)
        save(trainer)
        resumed = Trainer(CONFIG, RunFolder(tmp_path), CPU, other_threads)
        resumed.resume()
        assert same(resumed.progress.state_dict(), trainer.progress.state_dict())
        for each in (trainer, resumed):
            live(each)
    one, other = (each.state_dict() for each in (trainer, resumed))
    assert one.keys() == other.keys()
    assert [key for key in one if not same(one[key], other[key])] == []


def test_a_fault_of_the_env_at_a_resume_is_not_taken_for_one_of_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(CONFIG, RunFolder(tmp_path), CPU)
    live(trainer)
    save(trainer)

    def fail(state: object) -> bool:
        raise AttributeError("no score")

    resumed = Trainer(CONFIG, RunFolder(tmp_path), CPU)
    monkeypatch.setattr(resumed.env, "load_state_dict", fail)
    with pytest.raises(
        UserError, match=r"^env=Breakout fails where .* is played again: AttributeError: no score \(test_"
    ):
        resumed.resume()


def test_a_run_closes_its_env_also_when_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(CONFIG, RunFolder(tmp_path), CPU)
    closed: list[bool] = []

    def close() -> None:
        closed.append(True)
        raise RuntimeError("a fault of the env")

    monkeypatch.setattr(trainer.env, "close", close)

    def stop(loop: object) -> None:
        raise Stopped

    monkeypatch.setattr(trainer, "train", stop)
    assert not trainer.run(nullcontext())
    assert closed == [True]
