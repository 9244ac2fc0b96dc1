"""Which run and which checkpoint play.py opens."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adamas.config import Config
from adamas.config.arguments import help_text, read
from adamas.config.files import load_config, save_config
from adamas.play import load
from adamas.play.load import open_agent
from adamas.play.settings import Options, Settings, change, describe
from adamas.training import checkpoint
from adamas.utils.errors import UserError


@pytest.fixture
def runs(made_run: Path, tmp_path: Path) -> Path:
    """Three runs, the newest first: Breakout/b, Breakout/a, Pong/c."""
    for age, name in enumerate(["Breakout/b", "Breakout/a", "Pong/c"]):
        run = tmp_path / "runs" / name
        shutil.copytree(made_run, run)
        (run / "config.yaml").write_text(
            (run / "config.yaml").read_text().replace("env: Breakout", f"env: {name[:-2]}")
        )
        set_age(run, 10 * age)
    return tmp_path / "runs"


def edit_config(run: Path, edit: Callable[[Config], None]) -> None:
    config = load_config(run / "config.yaml")
    edit(config)
    save_config(config, run / "config.yaml")


def set_age(run: Path, seconds: int) -> None:
    for path in (run / "checkpoints").iterdir():
        os.utime(path, (time.time() - seconds, time.time() - seconds))


def opened(runs: Path, shipped: Path = Path("none"), **options: str) -> Path:
    """The run folder that is played."""
    return open_agent(Options(device="cpu", **options), runs, shipped).folder.path


def test_the_newest_run_is_found(runs: Path, made_run: Path, tmp_path: Path) -> None:
    (runs / "Breakout" / "unfinished").mkdir()
    assert opened(runs) == runs / "Breakout/b"
    set_age(runs / "Breakout/a", -10)
    assert opened(runs, env="Breakout") == runs / "Breakout/a"
    assert opened(tmp_path / "nothing", made_run) == made_run  # the agent that ships
    with pytest.raises(UserError, match="train one with"):
        opened(tmp_path / "nothing", made_run, env="Pong")
    with pytest.raises(UserError, match="train one with"):
        opened(tmp_path / "nothing")


def empty_config(run: Path) -> None:
    (run / "config.yaml").write_text("")


def binary_config(run: Path) -> None:
    (run / "config.yaml").write_bytes(b"\xff\xfe\x00")


def unknown_setting(run: Path) -> None:
    (run / "config.yaml").write_text("tomorrow: 1\n")


def damaged_checkpoints(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"x")
    set_age(run, 0)


def other_networks(run: Path) -> None:
    edit_config(run, lambda config: setattr(config.network, "lstm_dim", 16))


@pytest.mark.parametrize("fault", [empty_config, binary_config, unknown_setting, damaged_checkpoints, other_networks])
def test_a_run_that_cannot_be_opened_does_not_hide_the_one_before_it(
    runs: Path, fault: Callable[[Path], None], capsys: pytest.CaptureFixture
) -> None:
    fault(runs / "Breakout/b")
    assert opened(runs) == runs / "Breakout/a"
    lines = capsys.readouterr().err.splitlines()
    assert "Breakout/b" in lines[-1]
    assert lines[-1].endswith("; trying the run before it")
    with pytest.raises(UserError):  # the run that was asked for is not replaced by another one
        opened(runs, run=str(runs / "Breakout/b"))
    with pytest.raises(UserError):
        opened(runs, checkpoint="3")


def test_a_model_free_run_is_passed_over(runs: Path, capsys: pytest.CaptureFixture) -> None:
    edit_config(runs / "Breakout/b", lambda config: setattr(config, "policy", "model_free"))
    assert opened(runs) == runs / "Breakout/a"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", [None, "3"])
def test_a_checkpoint_is_read_once(made_run: Path, name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    read, torch_load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda path, **options: read.append(path) or torch_load(path, **options))
    open_agent(Options(run=str(made_run), checkpoint=name, device="cpu"))
    assert len(read) == 1


def save_changed(run: Path, change: Callable[[dict], object]) -> Path:
    """Replaces the checkpoint of a run by a changed one."""
    (path,) = (run / "checkpoints").iterdir()
    state = checkpoint.load(path)
    change(state)
    return checkpoint.save(run / "checkpoints", 4, state, keep=1)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("models"),
        lambda state: state.pop("progress"),
        lambda state: state["models"].pop("reward_end"),
        lambda state: state["models"]["reward_end"].popitem(),
        lambda state: state["models"]["actor_critic"].update(one_more=torch.zeros(1)),
        lambda state: state.update(models=[1]),
        lambda state: state.update(progress=None),
    ],
)
def test_a_checkpoint_with_other_parts_is_of_another_version(
    made_run: Path, tmp_path: Path, change: Callable[[dict], object]
) -> None:
    run = shutil.copytree(made_run, tmp_path / "run")
    path = save_changed(run, change)
    with pytest.raises(UserError, match="written by another version of adamas") as caught:
        open_agent(Options(run=str(run), device="cpu"))
    assert path.name in str(caught.value)
    assert "sizes" not in str(caught.value)


def test_a_checkpoint_of_other_sizes_is_said_to_be_that(made_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(made_run, tmp_path / "run")
    other_networks(run)
    with pytest.raises(UserError, match=r"does not fit .*config.yaml: its networks have other sizes"):
        open_agent(Options(run=str(run), device="cpu"))


@pytest.mark.parametrize("name", ["3", "00000003", None])
def test_a_checkpoint_is_found_by_its_number(made_run: Path, name: str | None) -> None:
    (path,) = (made_run / "checkpoints").iterdir()
    wanted = name if name != "00000003" else path.name
    assert open_agent(Options(run=str(made_run), checkpoint=wanted)).checkpoint == path.name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prt=1"], "unknown key 'prt': did you mean port?"),
        (["port=x"], "port=x: a whole number is needed"),
        (["port=70000"], "the most is 65535"),
        (["run"], "write run=run"),
        (["checkpoint=4"], "there are 3"),
        (["env=Pong"], "is of Breakout, not of env=Pong"),
        (["env=Breakot"], "did you mean Breakout?"),
    ],
)
def test_a_wrong_word_on_the_command_line_is_one_line(made_run: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(UserError) as caught:
        open_agent(read(Options, [f"run={made_run}", *arguments]))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_option_and_setting_is_described() -> None:
    assert all(f"{field.name}=" in help_text(Options, "") for field in dataclasses.fields(Options))
    kinds = {field["kind"] for field in describe(Settings())}
    assert kinds == {"int", "float", "bool", "str"}
    assert change(Settings(), "s_churn", 1).s_churn == 1.0
    for number in (10**400, -(10**400)):
        with pytest.raises(UserError, match=r"^s_churn=-?10+: a number of fewer digits is needed$"):
            change(Settings(), "s_churn", number)
    assert load.SHIPPED.parts[-3:] == ("results", "breakout-cpu", "agent")
