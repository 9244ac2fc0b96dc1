"""The folder of one run: runs/GAME/DATE-TIME."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from adamas.utils.console import warn
from adamas.utils.device import peak_usage
from adamas.utils.errors import NO_ROOM, UserError, is_passing, one_line
from adamas.utils.locks import take_lock
from adamas.utils.records import append_record, read_record, write_record


class RunFolder:
    """Where the parts of a run lie."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.origin = path / "origin.jsonl"
        self.checkpoints = path / "checkpoints"
        self.replay = path / "replay"
        self.tensorboard = path / "tensorboard"
        self.dreams = path / "dreams"
        self.frechet = path / "frechet"
        self.data_card = path / "data_card"
        self.evaluations = path / "evaluations.jsonl"
        self.progress = path / "progress.json"
        self.threads = path / "threads.json"
        self.lock = path / "lock"

    @classmethod
    def create(cls, runs: str, game: str) -> RunFolder:
        """A new folder; a second run within a second gets a name of its own."""
        name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        for suffix in ["", *(f"-{i}" for i in range(2, 1000))]:
            path = Path(runs) / folder_name(game) / (name + suffix)
            try:
                path.mkdir(parents=True)
            except FileExistsError as error:
                if not path.exists():  # a file, or a link that leads nowhere, is on the way
                    raise UserError(f"runs={runs}: no folder can be made there ({error.filename} is none)") from error
                continue
            except OSError as error:
                if is_passing(error):
                    raise
                raise UserError(f"runs={runs}: no folder can be made there ({error.strerror})") from error
            return cls(path)
        raise FileExistsError(f"{runs}/{game}/{name} and 999 more names are taken")

    def add_origin(self) -> None:
        """A line of origin.jsonl for the start and each resume: what a person needs to know to repeat the run."""
        append_record(self.origin, origin())

    @contextlib.contextmanager
    def held(self, new: bool = False) -> Iterator[None]:
        """Inside, no other process may train here: UserError where one does.

        Args:
            new: this process has made the folder, which goes if nothing is saved in it.
        """
        lock = None
        try:
            lock = take_lock(self.lock)
        except BlockingIOError as error:
            raise UserError(f"{self.path} is being trained by another process: stop that one first") from error
        except (ImportError, OSError):  # Windows, or a file system that has no locks
            pass
        try:
            yield
        except OSError as error:
            if error.errno in NO_ROOM:
                saved = "what was saved last is good" if self._is_saved() else "nothing was saved yet"
                raise UserError(f"{one_line(error)}: {saved}") from error
            if isinstance(error, FileNotFoundError):
                self.check_there()
            raise
        finally:
            if lock is not None:
                os.close(lock)
            if new and not self._is_saved():
                shutil.rmtree(self.path, ignore_errors=True)

    def check_there(self) -> None:
        """UserError when the folder was removed or moved: what is saved after that could not be resumed."""
        if not self.config.is_file():
            raise UserError(f"{self.path} is gone, or its config.yaml: somebody moved or removed it during the run")

    def _is_saved(self) -> bool:
        return any(self.checkpoints.glob("*.pt"))

    def write_progress(self, record: dict[str, Any]) -> None:
        """How far the run was at its last save, for a table of many."""
        write_record(self.progress, record)

    def read_progress(self) -> dict[str, Any]:
        """What was written; nothing where nothing was, and where it is damaged, which costs a line."""
        try:
            return read_record(self.progress)
        except ValueError:
            warn(f"{self.progress} is damaged, and is left out")
        except OSError:
            pass
        return {}

    def append_evaluation(self, record: dict[str, Any]) -> None:
        """One line of JSON an evaluation, with what the run has taken of the machine since its start or last resume.

        After a resume an epoch's line may come twice: the later one counts.
        """
        append_record(self.evaluations, {**record, **peak_usage()})


def folder_name(env: str) -> str:
    """The folder of the runs of an env: "MinAtar-Breakout-v1" for MinAtar/Breakout-v1."""
    return re.sub(r"[/:]", "-", env)


def origin() -> dict[str, Any]:
    return {
        "command": sys.argv,
        "adamas": _version("adamas"),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ale-py": _version("ale-py"),
        "machine": platform.platform(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the code, with "+" if it was changed since; None where the code is in no git checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    tracked = ["ls-files", "--error-unmatch", Path(__file__).name]  # not so in a venv inside somebody's checkout
    try:
        _, head, changes = [
            subprocess.run([*git, *command], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
            for command in (tracked, ["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changes else "")
