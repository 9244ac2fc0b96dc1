"""What came out of runs: their folders, read for a report."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from adamas.config import Config
from adamas.config.files import config_of_run, load_config
from adamas.training.run_folder import RunFolder
from adamas.utils.console import warn as warn_on_stderr
from adamas.utils.errors import UserError
from adamas.utils.records import read_records

KINDS = ("evaluation", "final_evaluation")


class Outcome(NamedTuple):
    """One run."""

    path: Path
    config: Config
    curve: list[dict[str, Any]]  # its evaluations of full games, one an epoch, the final one last
    final: dict[str, Any] | None  # the evaluation at its end; None as long as it is not finished
    origin: dict[str, Any]  # of its start, with what all starts together say (`_whole`); empty where not known

    @property
    def score(self) -> float | None:
        """Mean return of the full games at the end."""
        return None if self.final is None else self.final["return"]

    @property
    def end(self) -> dict[str, Any]:
        """`final` of a finished run."""
        assert self.final is not None
        return self.final

    @property
    def age(self) -> tuple[float, str]:
        """Sorts runs by their start, whatever their folders are called by now."""
        try:
            return datetime.fromisoformat(self.origin["started"]).timestamp(), self.path.name
        except (KeyError, TypeError, ValueError):  # not known, or of an older version
            return 0.0, self.path.name


def find_outcomes(folders: Iterable[Path], warn: Callable[[str], None]) -> list[Outcome]:
    """Every run in or below the folders, oldest first, also behind symbolic links; one that cannot be read costs a line to
    `warn`. UserError for a folder that is not there."""
    found: dict[Path, Path] = {}  # by its true path, since links may lead to a run twice
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: give run folders, or folders that hold some")
        for path in run_folders(folder):
            found.setdefault(path.resolve(), path)
    outcomes = []
    for path in sorted(found.values()):
        try:
            outcomes.append(read_outcome(path, warn))
        except UserError as error:
            warn(f"{error}; this run is left out")
    return sorted(outcomes, key=lambda outcome: outcome.age)


def run_folders(folder: Path) -> Iterator[Path]:
    """The run folders in or below a folder. A cycle of links is walked once."""
    seen: set[Path] = set()
    for parent, below, files in os.walk(folder, followlinks=True):
        true_path = Path(parent).resolve()
        if true_path in seen:
            below.clear()
            continue
        seen.add(true_path)
        below.sort()
        if "config.yaml" in files and _is_run(Path(parent)):
            yield Path(parent)


def read_outcome(path: Path, warn: Callable[[str], None] = warn_on_stderr) -> Outcome:
    """A damaged line of a record costs one to `warn`. UserError when the path is no run folder or its config is damaged."""
    config, folder = load_config(config_of_run(path)), RunFolder(path)
    curve = read_curve(folder, warn)
    starts = [start for start in read_records(folder.origin, warn) if _is_start(start)]
    return Outcome(path, config, curve, final_of(curve, config), _whole(starts) if starts else {})


def _is_start(start: Mapping[str, Any]) -> bool:
    command = start.get("command")
    return isinstance(command, list) and all(isinstance(word, str) for word in command)


def _whole(starts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The origin of the start, its command with the settings that a resume changed: what a person types for such a run.
    "resumed_with" are those settings."""
    first, *resumes = starts
    words = (word for start in resumes for word in start["command"][1:])
    changed = [word for word in words if "=" in word and not word.startswith("resume=")]
    commits = dict.fromkeys(start["commit"] for start in starts if start.get("commit"))
    return {**first, "command": [*first["command"], *changed], "resumed_with": changed, "commits": [*commits]}


def read_curve(folder: RunFolder, warn: Callable[[str], None] = warn_on_stderr) -> list[dict[str, Any]]:
    """The run's evaluations of full games, one an epoch, the final one last. A damaged line costs one to `warn`."""
    by_epoch: dict[tuple[str, int], dict[str, Any]] = {}
    for record in read_records(folder.evaluations, warn):
        if _is_evaluation(record):
            by_epoch[record["kind"], record["epoch"]] = record  # the later line of an epoch counts
        else:
            warn(f"{folder.evaluations}: a line holds no evaluation, and is left out")
    return sorted(by_epoch.values(), key=lambda record: (record["epoch"], record["kind"] == "final_evaluation"))


def has_final_evaluation(folder: RunFolder, epoch: int, games: int) -> bool:
    """Whether the records hold one of so many games or more that was made in this epoch."""
    final = (line for line in read_curve(folder) if line["kind"] == "final_evaluation" and line["epoch"] == epoch)
    return any(len(line["returns"]) >= games for line in final)


def _is_evaluation(record: Mapping[str, Any]) -> bool:
    """Older lines have no digest: what else tells that one is damaged."""
    returns, score = record.get("returns"), record.get("return", "")
    if not isinstance(returns, list) or not all(isinstance(x, (int, float)) for x in [score, *returns]):
        return False
    whole = (
        isinstance(record.get("epoch"), int) and isinstance(record.get("steps"), int) and record.get("kind") in KINDS
    )
    return whole and bool(returns) and math.isclose(fmean(returns), score, abs_tol=1e-6)


def final_of(curve: Sequence[dict[str, Any]], config: Config) -> dict[str, Any] | None:
    """The evaluation at the end of a run; None as long as it is not finished, or if `config` has more ahead of it."""
    last: dict[str, Any] = curve[-1] if curve else {"kind": ""}
    if last["kind"] != "final_evaluation" or len(last["returns"]) < config.evaluation.final_games:
        return None
    collected = config.dataset is not None or last["steps"] >= config.collection.steps
    return last if collected and _final_epochs(curve, config) >= config.final_epochs else None


def _final_epochs(curve: Sequence[dict[str, Any]], config: Config) -> float:
    """How many epochs have collected nothing more. Older records do not say: then by how long collecting takes."""
    last, first = curve[-1], curve[0]
    if not config.has_world_model:
        return math.inf
    if "final_epochs" in last:
        return last["final_epochs"]
    if config.dataset is not None:
        return last["epoch"] - 1
    if first["epoch"] > 0:
        return math.inf
    return last["epoch"] - 1 - math.ceil((last["steps"] - first["steps"]) / config.collection.steps_per_epoch)


def _is_run(path: Path) -> bool:
    return (path / "evaluations.jsonl").is_file() or (path / "checkpoints").is_dir()
