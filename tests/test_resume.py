"""Runs that end too soon: killed, stopped, out of room. They go on where they were, bit for bit."""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    ALWAYS,
    SELDOM,
    TINY,
    adamas,
    exit_code_of,
    final_parts,
    launch,
    mostly_slow,
    only_run,
    same,
    start,
    train,
    wait_for_saves,
)

from adamas.training import checkpoint
from adamas.training.phases import PHASES
from adamas.training.run_loop import RunLoop

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # on Windows both end a process at once


def dies_soon(folder: Path, words: list[str], rounds: int, seconds: float) -> None:
    """`adamas train`, for which it is time to save at every 6th chance, and which gets a SIGKILL so many seconds after so many
    rounds of work."""
    work, check_stop, done, chances = RunLoop._work, RunLoop.check_stop, itertools.count(1), itertools.count(1)

    def work_and_die(self: RunLoop, *phase: Any) -> None:
        work(self, *phase)
        if next(done) == rounds:
            threading.Timer(seconds, os.kill, (os.getpid(), KILL)).start()

    def check_stop_and_save(self: RunLoop) -> None:
        self.config = replace(self.config, every_minutes=-1.0 if next(chances) % 6 == 0 else 10.0)
        check_stop(self)

    RunLoop._work, RunLoop.check_stop = work_and_die, check_stop_and_save
    sys.exit(adamas("train", *words, cwd=folder).returncode)


def test_a_run_killed_at_random_moments_ends_like_one_that_was_not(tiny_run: Path, tmp_path: Path) -> None:
    """SIGKILL after a random number of rounds, of the 117 of a run, and a random moment more; first while it collects."""
    draw, stopped_in = random.Random(0), []
    arguments = ["env=Breakout", *TINY, SELDOM]
    for _ in range(40):
        rounds = draw.randrange(10, 28)
        code = exit_code_of(dies_soon, tmp_path, arguments, rounds, 0.05 * draw.random())
        if code == 0:
            break
        assert abs(code) == KILL
        parts, _ = checkpoint.load_newest(only_run(tmp_path) / "checkpoints", warn=print)
        stopped_in.append(max(parts["progress"]["done"], key=[phase.name for phase in PHASES].index, default="start"))
        arguments = [f"resume={only_run(tmp_path)}", SELDOM]
    assert len(stopped_in) >= 4
    assert stopped_in[0] == "collect"
    assert len({*stopped_in}) >= 2
    assert same(final_parts(only_run(tmp_path)), final_parts(tiny_run))


def dies_in_the_last_epoch(folder: Path, words: list[str]) -> None:
    """`adamas train`, which saves once all steps are collected, and is gone."""
    check_stop = RunLoop.check_stop

    def check_stop_and_die(self: RunLoop) -> None:
        check_stop(self)
        if self.progress.epoch > 0 and self.progress.steps >= 90:
            self.save()
            os._exit(9)

    RunLoop.check_stop = check_stop_and_die
    adamas("train", *words, cwd=folder)


@pytest.mark.parametrize("policy", mostly_slow(["imagined", "model_free"], ["model_free"]))
def test_a_run_killed_in_its_last_epoch_ends_that_epoch_first(policy: str, tmp_path: Path) -> None:
    """Also when no step is left to collect and no epoch comes after the last collection."""
    folders = [tmp_path / "killed", tmp_path / "whole"]
    for folder in folders:
        folder.mkdir()
    arguments = ["env=Breakout", *TINY, "final_epochs=0", "evaluation.every_epochs=1", f"policy={policy}"]
    assert exit_code_of(dies_in_the_last_epoch, folders[0], arguments) == 9
    code, _, err = adamas("train", f"resume={only_run(folders[0])}", cwd=folders[0])
    assert code == 0, err
    assert same(final_parts(only_run(folders[0])), final_parts(train(*arguments, cwd=folders[1])))


def test_ctrl_c_saves_and_ends_with_0(tiny_run: Path, tmp_path: Path) -> None:
    """The program as a user runs it."""
    process = start("env=Breakout", *TINY, cwd=tmp_path)
    wait_for_saves(lambda: process.poll() is None, tmp_path, 1)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert f"resume=runs/Breakout/{only_run(tmp_path).name}" in out
    code, _, err = adamas("train", f"resume={only_run(tmp_path)}", cwd=tmp_path)
    assert code == 0, err
    assert same(final_parts(only_run(tmp_path)), final_parts(tiny_run))


@pytest.mark.parametrize("name", mostly_slow(["SIGTERM", "SIGUSR1"], ["SIGUSR1"]))
def test_a_signal_saves_and_ends_with_0(name: str, tmp_path: Path) -> None:
    process = launch("train", "env=Breakout", *TINY, ALWAYS, cwd=tmp_path)
    wait_for_saves(process.is_alive, tmp_path, 5)
    os.kill(process.pid, getattr(signal, name))
    process.join()
    assert process.exitcode == 0, (tmp_path / "stderr").read_text()
    assert f"resume=runs/Breakout/{only_run(tmp_path).name}" in (tmp_path / "stdout").read_text()
    parts, _ = checkpoint.load_newest(only_run(tmp_path) / "checkpoints", warn=pytest.fail)
    assert parts["progress"]["epoch"] < 3


def copied(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / "run"))


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tiny_run: Path, tmp_path: Path) -> None:
    folder = copied(tiny_run, tmp_path)
    newest = sorted((folder / "checkpoints").glob("*.pt"))[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    code, out, err = adamas("train", f"resume={folder}", cwd=tmp_path)
    assert code == 0, err
    assert f"checkpoint {newest} is damaged" in out + err
    assert same(final_parts(folder), final_parts(tiny_run))


def test_a_resumed_run_takes_new_settings(tiny_run: Path, tmp_path: Path) -> None:
    folder = copied(tiny_run, tmp_path)
    code, _, err = adamas("train", f"resume={folder}", "final_epochs=2", cwd=tmp_path)
    assert code == 0, err
    assert final_parts(folder)["progress"]["epoch"] == final_parts(tiny_run)["progress"]["epoch"] + 1


def test_a_finished_run_that_is_extended_runs_its_final_epochs_again(tiny_run: Path, tmp_path: Path) -> None:
    folder = copied(tiny_run, tmp_path)
    code, _, err = adamas("train", f"resume={folder}", "collection.steps=120", cwd=tmp_path)
    assert code == 0, err
    before, after = final_parts(tiny_run)["progress"], final_parts(folder)["progress"]
    assert (after["epoch"], after["final_epochs"]) == (before["epoch"] + 2, 1)  # one that collects, and a final one
    assert after["total"]["collect"] == 120
    for part in ("denoiser", "reward_end", "actor_critic"):
        assert after["total"][part] == before["total"][part] + 2 * 2


@pytest.mark.slow
def test_model_free_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir(), parted.mkdir()
    arguments = ["env=Breakout", *TINY, "policy=model_free", "collection.steps=150"]
    expected = final_parts(train(*arguments, cwd=whole))
    process = launch("train", *arguments, ALWAYS, cwd=parted)
    wait_for_saves(process.is_alive, parted, 4)
    process.kill()
    process.join()
    assert adamas("train", f"resume={only_run(parted)}", SELDOM, cwd=parted).returncode == 0
    found = final_parts(only_run(parted))
    for key in ("models", "random", "player"):
        assert same(found[key], expected[key])


def writes_no_larger_file(folder: Path, words: list[str], most: int) -> None:
    """`adamas train` where no file may have more bytes."""
    import resource  # not on Windows

    os.dup2(os.open(folder / "said", os.O_CREAT | os.O_WRONLY), 2)  # to its very end
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    done = adamas("train", *words, cwd=folder)
    os.write(2, done.stderr.encode())
    sys.exit(done.returncode)


@pytest.mark.skipif(sys.platform == "win32", reason="no ulimit")
def test_a_disk_that_is_full_costs_one_line_and_nothing_that_was_saved(tiny_run: Path, tmp_path: Path) -> None:
    run = copied(tiny_run, tmp_path)
    before = sorted(path.name for path in (run / "checkpoints").iterdir())
    room = min(path.stat().st_size for path in (run / "checkpoints").iterdir()) // 2  # half of one
    assert exit_code_of(writes_no_larger_file, tmp_path, [f"resume={run}", "final_epochs=2"], room) == 2
    said = (tmp_path / "said").read_text()
    assert re.search(r"^error: .*File too large; make room: what was saved last is good$", said, re.M)
    assert "Traceback" not in said
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == before
    assert adamas("train", f"resume={run}", "final_epochs=2", cwd=tmp_path).returncode == 0
