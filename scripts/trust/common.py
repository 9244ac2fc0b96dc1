"""What the parts of the campaign share: tiny runs, the program in forked processes, and rows of the table.

A forked process has torch imported already, and dies of a signal as any other does. Only the speed of the machine is not
measured in it, which takes longer than such a run and which no result depends on.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

T = TypeVar("T")
PARTS = ("denoiser", "reward_end", "actor_critic")
SMALL = [  # two epochs, of which each phase is a part
    "preset=smoke",
    "device=cpu",
    "final_epochs=0",
    "collection.steps=60",
    "collection.first_steps=40",
    "collection.first_steps_most=40",
    "collection.steps_per_epoch=20",
    "network.lstm_dim=16",
    "denoiser.channels=[16]",
    "denoiser.depths=[1]",
    "reward_end.channels=[8,8,8]",
    "actor_critic.channels=[8,16]",
    "actor_critic.horizon=4",
    "atari.max_episode_steps=60",
    "evaluation.games=1",
    "evaluation.final_games=1",
    "evaluation.every_epochs=2",
    "evaluation.dreams=2",
    "evaluation.dream_steps=4",
    *(f"{part}.optimization.{name}" for part in PARTS for name in ("first_updates=2", "updates=2", "batch_size=2")),
]
EVERY_STEP = "checkpoint.every_minutes=1e-9"  # a save after each


class Row(NamedTuple):
    """A line of the table."""

    promise: str
    tried: str
    found: str
    good: bool


class Done(NamedTuple):
    """How a process ended."""

    code: int  # negative: of that signal
    out: str
    err: str

    @property
    def is_one_line(self) -> bool:
        """Whether it says what is wrong, and with which exit code, as the program promises."""
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return len(errors) == 1 and self.code in (1, 2) and "Traceback" not in self.err


class Forked:
    """`adamas WORD ...` in a forked process, with stdout and stderr in files.

    Args:
        before: called there first, to break something.
        measured: whether the machine is measured as usual.
    """

    def __init__(
        self, *words: str, cwd: Path, before: Callable[[], object] = lambda: None, measured: bool = False
    ) -> None:
        self.files = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2)]  # noqa: SIM115
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            self._run(words, cwd, before, measured)
        self.code: int | None = None

    def _run(self, words: Iterable[str], cwd: Path, before: Callable[[], object], measured: bool) -> None:
        code = 1
        try:
            os.setsid()
            for number, file in enumerate(self.files, 1):
                os.dup2(file.fileno(), number)
            sys.stdout, sys.stderr = (os.fdopen(n, "w", 1, encoding="utf-8", closefd=False) for n in (1, 2))
            os.chdir(cwd)
            sys.argv = ["adamas", *words]
            signal.signal(signal.SIGINT, signal.default_int_handler)
            from adamas.cli.main import main

            if not measured:
                skip_measuring()
            before()
            code = main([*words])
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float = 600) -> Done:
        until = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > until:
                self.kill()
            time.sleep(0.01)
        texts = []
        for file in self.files:
            file.seek(0)
            texts.append(file.read())
        return Done(self.code, *texts)


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """What the function returns in a forked process, whose state is gone with it."""
    read, write = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        try:
            answer = (function(*arguments), None)
        except BaseException as error:
            answer = (None, f"{type(error).__name__}: {error}")
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(answer, pipe)
        sys.stdout.flush()
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    found, error = pickle.loads(data) if data else (None, "it died")
    if error:
        raise RuntimeError(error)
    return found


def skip_measuring() -> None:
    from adamas.training import phases

    phases.measure_costs = lambda rehearsal: {phase.name: 1.0 for phase in phases.plan(rehearsal.config)}


def adamas(*words: str, cwd: Path, **how: Any) -> Done:
    """Runs to the end."""
    return Forked(*words, cwd=cwd, **how).wait()


def train(*words: str, cwd: Path) -> Path:
    """A run to its end. Returns its folder."""
    cwd.mkdir(parents=True, exist_ok=True)
    done = adamas("train", "env=Breakout", *SMALL, *words, cwd=cwd)
    if done.code:
        raise RuntimeError(done.err)
    return only_run(cwd)


def only_run(cwd: Path) -> Path:
    (folder,) = cwd.glob("runs/*/*")
    return folder


def ending(run: Path) -> dict[str, Any]:
    """What a run ended with, less what differs with the clock."""
    from adamas.training import checkpoint

    parts, _ = checkpoint.load_newest(run / "checkpoints", warn=lambda line: None)
    rows = [dict(np.load(chunk)) for chunk in sorted((run / "replay").glob("rows-*.npz"))]
    parts["replay"] = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]} if rows else None
    parts["progress"] = {k: v for k, v in parts["progress"].items() if k not in ("seconds", "saves")}
    return parts


def same(a: object, b: object) -> bool:
    """Whether two trees of plain data and tensors are equal to the bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
