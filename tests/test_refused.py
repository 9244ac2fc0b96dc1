"""What cannot be trained costs one line, and leaves nothing behind. The command is run in this process, and once as a
user runs it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers import ROOT, TINY, adamas, change_config, main

from adamas.cli import train as train_command
from adamas.config import Config
from adamas.training import phases
from adamas.utils.errors import UserError
from adamas.utils.locks import take_lock


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["env=Brekout"], "unknown game 'Brekout': did you mean Breakout?"),
        (["device=cdua"], "unknown device 'cdua': did you mean cuda?"),
        (["device=cuda:99"], "device=cuda:99: this machine shows"),
        (["densoier.context=3"], "unknown key 'densoier.context': did you mean denoiser.context?"),
        (["dataset=nowhere"], "dataset nowhere is neither a folder nor a .npz file"),
        (["initialize.from=nowhere"], "nowhere"),
        (["evaluation.dream_steps=2000"], "evaluation.dream_steps=2000 takes games of 2003 steps"),
        (["denoiser.channels=[]", "denoiser.depths=[]"], "denoiser.channels is empty"),
        (["actor_critic.channels=[8,8,8,8,8]"], "actor_critic.channels has 5 levels, too many to halve 21 pixels"),
        (["resume=nowhere"], "resume=nowhere is not a run folder"),
        (["resume='${x}'"], "resume=${x} is not a run folder"),
        (["initialize.from="], "initialize.from= must be the path of a run folder"),
        (["initialize.parts=[]"], "initialize.parts=[] must be a list of some of denoiser"),
        (["dataset="], "dataset=: write dataset=FOLDER"),
        (["atari.max_episode_steps=1000000000"], "atari.max_episode_steps=1000000000 is too large"),
        (["q_network.replay_ratio=inf"], "q_network.replay_ratio=inf is no finite number"),
        (["denoiser.P_mean=nan"], "denoiser.P_mean=nan is no finite number"),
        (["env_kwargs={a:[{1:2}]}"], "env_kwargs={a:[{1:2}]} must be arguments and their values"),
    ],
)
def test_an_error_costs_one_line_and_leave_nothing_behind(arguments: list[str], line: str, tmp_path: Path) -> None:
    preset = [] if arguments[0].startswith("resume=") else ["preset=smoke"]
    code, _, err = adamas("train", *preset, *arguments, cwd=tmp_path)
    assert code == 2
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_error_is_one_line_of_the_program_too(tmp_path: Path) -> None:
    code, out, err = main("preset=smoke", "env=Brekout", cwd=tmp_path)
    assert (code, out, err) == (2, "", "error: unknown game 'Brekout': did you mean Breakout?\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["play", "run=free"],
        ["evaluate", "run=free"],
        ["export", "run=free", "web=page"],
        ["export", "run=free", "safetensors=hub"],
        ["data", "card", "free/replay", "run=free", "out=card"],
    ],
)
def test_a_run_without_a_world_model_is_refused_wherever_one_is_needed(
    words: list[str], tiny_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "free")
    change_config(tmp_path / "free", policy="model_free")
    code, _, err = adamas(*words, cwd=tmp_path)
    assert code == 2
    assert err.endswith("error: free has policy=model_free, and so no world model: choose a run that has one\n")
    assert [path.name for path in tmp_path.iterdir()] == ["free"]


def test_a_dataset_of_another_game_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    code, _, err = adamas("train", "env=Freeway", *TINY, f"dataset={tiny_run / 'replay'}", cwd=tmp_path)
    assert code == 2
    assert "holds action 3 but Freeway has 3 actions" in err


def test_a_resume_that_changes_sizes_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    code, _, err = adamas("train", f"resume={run}", "denoiser.channels=[8]", cwd=tmp_path)
    assert code == 2
    assert "does not fit the sizes that this command asks for" in err
    assert err.rstrip().endswith(": drop such settings")


@pytest.mark.parametrize(
    ("setting", "value", "other"),
    [
        ("denoiser.target", "change", "frame"),
        ("denoiser.offset_noise", "0.0", "0.3"),
        ("network.architecture", "adamas", "diamond"),
    ],
)
def test_weights_that_mean_something_else_are_refused(
    setting: str, value: str, other: str, tiny_run: Path, tmp_path: Path
) -> None:
    code, _, err = adamas(
        "train", "env=Breakout", *TINY, f"{setting}={other}", f"initialize.from={tiny_run}", cwd=tmp_path
    )
    assert (code, err) == (2, f"error: initialize.from={tiny_run}: its {setting} is {value}; set {setting}={value}\n")
    assert not list(tmp_path.glob("runs/*/*"))


def test_of_older_weights_it_is_known_what_they_diffuse(tmp_path: Path) -> None:
    old = ROOT / "results/breakout-cpu/agent"
    code, _, err = adamas(
        "train", "env=Breakout", *TINY, "denoiser.target=frame", f"initialize.from={old}", cwd=tmp_path
    )
    assert (code, err.endswith("its denoiser.target is change; set denoiser.target=change\n")) == (2, True)


def test_a_run_is_trained_by_one_process_at_a_time(tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    lock = take_lock(run / "lock")
    code, _, err = adamas("train", f"resume={run}", cwd=tmp_path)
    os.close(lock)
    assert (code, err) == (2, f"error: {run} is being trained by another process: stop that one first\n")
    assert adamas("train", f"resume={run}", cwd=tmp_path).returncode == 0


def test_a_chip_without_room_costs_one_line_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure_costs(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(phases, "measure_costs", measure_costs)
    with pytest.raises(UserError, match=r"^the memory of cpu is full: set micro_batch"):
        train_command.run(Config(device="cpu", runs=str(tmp_path)))
    assert not list(tmp_path.iterdir())


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = adamas("train", "env=Breakout", *TINY, "runs=file", cwd=tmp_path)
    assert (code, err) == (2, "error: runs=file: no folder can be made there (Not a directory)\n")
    (tmp_path / "link").symlink_to("nowhere")
    code, _, err = adamas("train", "env=Breakout", *TINY, "runs=link", cwd=tmp_path)
    assert (code, err) == (2, "error: runs=link: no folder can be made there (link is none)\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["frechet=1"], "frechet=1 has no covariance"),
        (["inception=somewhere"], "inception= is for a Fréchet distance: give frechet=5000 too"),
        (["frechet=20", "inception=somewhere"], "somewhere"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_dreams(words: list[str], line: str, tiny_run: Path) -> None:
    code, out, err = adamas("evaluate", f"run={tiny_run}", *words, cwd=tiny_run)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {line}")
