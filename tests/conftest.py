"""Shared by all tests: one thread a process, since the tests run side by side; and runs that many of them look at."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

os.environ["OMP_NUM_THREADS"] = "1"  # also for the processes that the tests start

import torch

if TYPE_CHECKING:
    from playing import SharedStart

    from adamas.play.session import Session
    from adamas.training.load_run import OpenedRun

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and hands that down


def pytest_collection_finish() -> None:
    gc.freeze()  # what was imported lives as long as the tests: no use in looking through it again and again


@pytest.fixture
def default_hangup() -> Iterator[None]:
    """SIGHUP ends a process, also where nohup started the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A run of Breakout that was trained for some seconds. Not to be changed: copy it. One for all processes of the tests."""
    from helpers import TINY, only_run, train  # not for the tests that train nothing

    root = tmp_path_factory.getbasetemp()
    folder = (root if worker_id == "master" else root.parent) / "tiny"
    with FileLock(f"{folder}.lock"):
        if not (done := folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that did not come to its end
            folder.mkdir()
            train("env=Breakout", *TINY, cwd=folder)
            done.touch()
    return only_run(folder)


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder to play with."""
    from playing import make_run  # not for the tests that do not play

    return make_run(tmp_path_factory.mktemp("played") / "run")


@pytest.fixture(scope="module")
def agent(made_run: Path) -> OpenedRun:
    """Of `made_run`, opened to play."""
    from adamas.play.load import open_agent
    from adamas.play.settings import Options

    return open_agent(Options(run=str(made_run), device="cpu"))


@pytest.fixture(scope="module")
def start_beside_real(agent: OpenedRun) -> SharedStart:
    """Where the sessions of `agent` begin."""
    from playing import SharedStart

    return SharedStart(agent)


@pytest.fixture(scope="module")
def start_alone(agent: OpenedRun) -> SharedStart:
    """The same without the real game beside it."""
    from playing import SharedStart

    return SharedStart(agent, beside_real=False)


@pytest.fixture
def session(agent: OpenedRun, start_beside_real: SharedStart, tmp_path: Path) -> Session:
    """Of play, whose recordings go to `tmp_path`."""
    from playing import new_session

    return new_session(agent, tmp_path, start_beside_real)
