"""What came out of runs: their folders, read for a report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator, ScalarEvent

from adamas.config import Config
from adamas.config.files import config_of_run, load_config
from adamas.config.help import knobs, shown
from adamas.training.run_folder import RunFolder
from adamas.utils.errors import UserError

STEPS, GAMES = 100_000, 100  # of the benchmark: agent steps of experience, and full games at the end
NEUTRAL = {"env", "seed", "runs", "resume", "device", "precision", "checkpoint", "preset", "micro_batch"}  # same system


class Outcome(NamedTuple):
    """One run."""

    path: Path
    config: Config
    curve: list[dict[str, Any]]  # its evaluations of full games, one an epoch, the final one last
    final: dict[str, Any] | None  # the evaluation at its end; None as long as it is not finished
    origin: dict[str, Any]  # of its start: version, commit, machine, and a command for all of it; empty where not known

    @property
    def score(self) -> float | None:
        """Mean return of the full games at the end."""
        return None if self.final is None else self.final["return"]

    @property
    def age(self) -> tuple[str, str]:
        """Sorts runs by their start, whatever their folders are called by now."""
        return self.origin.get("started", ""), self.path.name


def find_outcomes(folders: Iterable[Path], warn: Callable[[str], None]) -> list[Outcome]:
    """Every run in or below the folders, oldest first; one that cannot be read costs a line to `warn`.
    UserError for a folder that is not there."""
    found: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: give run folders, or folders that hold some")
        found |= {path.parent for path in folder.rglob("config.yaml") if _is_run(path.parent)}
    outcomes = []
    for path in sorted(found):
        try:
            outcomes.append(read_outcome(path))
        except UserError as error:
            warn(f"{error}; this run is left out")
    return sorted(outcomes, key=lambda outcome: outcome.age)


def read_outcome(path: Path) -> Outcome:
    """UserError when the path is no run folder or a file of the run cannot be read."""
    config, folder = load_config(config_of_run(path)), RunFolder(path)
    curve, starts = read_curve(folder), _lines(folder.origin)
    return Outcome(path, config, curve, final_of(curve), _whole(starts) if starts else {})


def _whole(starts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The origin of the start, its command with the knobs that a resume changed: what a person types to have such a run."""
    first, *resumes = starts
    changed = [word for start in resumes for word in start["command"][1:] if not word.startswith("resume=")]
    return {**first, "command": [*first["command"], *changed]}


def read_curve(folder: RunFolder) -> list[dict[str, Any]]:
    """The run's evaluations of full games, one an epoch, the final one last. UserError when the file is damaged."""
    by_epoch: dict[tuple[str, int], dict[str, Any]] = {}
    for record in _lines(folder.evaluations):
        by_epoch[record["kind"], record["epoch"]] = record  # the later line of an epoch counts
    return sorted(by_epoch.values(), key=lambda record: (record["epoch"], record["kind"] == "final_evaluation"))


def read_scalars(folder: Path) -> dict[str, list[ScalarEvent]]:
    """{name: (wall_time, step, value) in the order in which they were written}; nothing where there is no such folder."""
    if not folder.is_dir():
        return {}
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {name: events.Scalars(name) for name in events.Tags()["scalars"]}


def final_of(curve: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The evaluation at the end of a run; None as long as it is not finished."""
    return curve[-1] if curve and curve[-1]["kind"] == "final_evaluation" else None


def systems(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Runs that differ in game and seed alone belong together, under a name that says how they depart from the benchmark.

    Where one name stands for several settings they are numbered.
    """
    groups: dict[str, dict[tuple[tuple[str, str], ...], list[Outcome]]] = {}
    for outcome in outcomes:
        settings = tuple(settings_of(outcome.config).items())
        groups.setdefault(name_of(outcome.config), {}).setdefault(settings, []).append(outcome)
    return {
        name if len(group) == 1 else f"{name} #{i}": runs
        for name, group in groups.items()
        for i, runs in enumerate(group.values(), start=1)
    }


def differences(groups: Mapping[str, Sequence[Outcome]]) -> dict[str, str]:
    """{"adamas cpu #2": "sampler.sigma_max=1.5 ..."}: the knobs in which a system of `systems` differs from #1 of its name."""
    told, of_first = {}, {}
    for system, (run, *_) in groups.items():
        settings = settings_of(run.config)
        first = of_first.setdefault(name_of(run.config), settings)
        if apart := settings.items() - first.items():
            told[system] = " ".join(f"{knob}={value}" for knob, value in sorted(apart))
    return told


def name_of(config: Config) -> str:
    """ "adamas diamond", "adamas cpu (20,000 steps, 20 games)"."""
    there = ", ".join(departures(config))
    return f"adamas {config.preset}" + (f" ({there})" if there else "")


def departures(config: Config) -> list[str]:
    """How a run differs from the benchmark, in words."""
    known = [
        ("model-free", config.policy == "model_free"),
        ("stored dataset", config.dataset is not None),
        ("other run's weights", config.initialize["from"] is not None),
        (f"{config.collection.steps:,} steps", config.collection.steps != STEPS and config.dataset is None),
        (f"{config.evaluation.final_games} games", config.evaluation.final_games != GAMES),
        (f"games of {config.atari.max_episode_steps:,} steps", config.atari.max_episode_steps != 27_000),
        ("sticky actions", config.atari.repeat_action_probability > 0),
    ]
    return [words for words, departs in known if departs]


def newest_of_each_seed(runs: Sequence[Outcome]) -> dict[str, dict[int, Outcome]]:
    """{game: {seed: finished run}}, both in order. Of several runs of one game and seed the newest counts."""
    table: dict[str, dict[int, Outcome]] = {}
    for run in sorted(runs, key=lambda run: (run.config.env, run.config.seed, run.age)):
        if run.final is not None:
            table.setdefault(run.config.env, {})[run.config.seed] = run
    return table


def _is_run(path: Path) -> bool:
    return (path / "evaluations.jsonl").is_file() or (path / "checkpoints").is_dir()


def _lines(path: Path) -> list[dict[str, Any]]:
    """The records of a `.jsonl` file; none where there is no file. A last line that was cut off by a kill is left."""
    if not path.is_file():
        return []
    lines = path.read_text().split("\n")
    try:
        return [json.loads(line) for line in lines[:-1] if line.strip()]
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def settings_of(config: Config) -> dict[str, str]:
    """{knob: its value as one would type it}: the same for runs that differ in game and seed alone."""
    told = (knob for knob in knobs(config) if knob.kind is not None and not NEUTRAL & set(knob.name.split(".")))
    return {knob.name: shown(knob.default) for knob in told}
