"""A run that was saved, opened again to look at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adamas.config import Config
from adamas.config.files import config_of_run, load_config
from adamas.data.storage import dataset_files
from adamas.envs.make import action_meanings, is_atari
from adamas.training import checkpoint
from adamas.training.models import Models
from adamas.training.progress import Progress
from adamas.training.run_folder import RunFolder
from adamas.utils.console import warn
from adamas.utils.errors import UserError
from adamas.utils.quoting import assignment


@dataclass(frozen=True)
class OpenedRun:
    """The networks of a run with a world model, as one checkpoint has them."""

    folder: RunFolder
    config: Config
    models: Models
    checkpoint: str  # the name of its file
    updates: int  # of the denoiser
    replay_files: list[Path]  # of the experience that the checkpoint was trained on, if it is still there


@dataclass
class SavedRun:
    """The config and the checkpoints of a run folder.

    Raises:
        UserError: `path` is no run folder.
    """

    path: Path

    def __post_init__(self) -> None:
        self.folder = RunFolder(self.path)
        self.config: Config = load_config(config_of_run(self.path))

    def check_world_model(self) -> None:
        """UserError where it has none."""
        if not self.config.has_world_model:
            raise UserError(f"{self.path} has policy=model_free, and so no world model: choose a run that has one")

    def checkpoints(self) -> list[Path]:
        """All that are kept, oldest first. UserError when there is none."""
        paths = checkpoint.usable(self.folder.checkpoints)[::-1]
        if not paths:
            raise UserError(f"{self.folder.checkpoints} holds no checkpoint")
        return paths

    def read(self, name: str | None = None) -> tuple[dict[str, Any], Path]:
        """The parts and the path of the checkpoint of that file name or number; without one, of the newest good checkpoint: each
        damaged one that is newer costs a line on stderr. UserError when there is none."""
        if name is None:
            return checkpoint.load_newest(self.folder.checkpoints, warn=warn)
        paths = self.checkpoints()
        for path in paths:
            if name in (path.name, path.stem) or (name.isdecimal() and int(name) == checkpoint.step_of(path)):
                return checkpoint.load(path), path
        numbers = ", ".join(str(checkpoint.step_of(path)) for path in paths)
        raise UserError(f"checkpoint={name} is not in {self.folder.checkpoints}: there are {numbers}")

    def open(self, device: torch.device, name: str | None = None) -> OpenedRun:
        """What `read` finds, loaded. UserError where the run has no world model."""
        self.check_world_model()
        state, file = self.read(name)
        models, progress = self.restore(state, file, device)
        updates, files = progress.total["denoiser"], replay_files(self.folder, state)
        return OpenedRun(self.folder, self.config, models, file.name, updates, files)

    def load(self, path: Path, device: torch.device) -> tuple[Models, Progress]:
        """The models of one checkpoint, and how far the run was. UserError when it is damaged."""
        return self.restore(checkpoint.load(path), path, device)

    def load_newest(self, device: torch.device) -> tuple[Models, Progress]:
        """The same of the newest good checkpoint, as `read` finds it."""
        return self.restore(*self.read(), device)

    def restore(self, state: dict[str, Any], path: Path, device: torch.device) -> tuple[Models, Progress]:
        """The same of a checkpoint that has been read already. UserError when it is not of this config."""
        models, progress = Models(self.config, self._action_meanings(state), device), Progress()
        try:
            models.load_state_dict(state["models"])
            progress.load_state_dict(state["progress"])
        except checkpoint.MISFITS as error:
            raise UserError(f"{path} {_misfit(error, self.folder.config)}") from error
        return models, progress

    def _action_meanings(self, state: dict[str, Any]) -> tuple[str, ...]:
        """Of another env than Atari's those of the checkpoint: its package may not be installed here."""
        if is_atari(self.config.env):
            return action_meanings(self.config)
        try:
            return tuple(state["models"]["action_meanings"])
        except checkpoint.MISFITS:
            return action_meanings(self.config)


def read_state(path: Path) -> dict[str, Any]:
    """The parts of a checkpoint, or of the newest good one of a run folder."""
    return (
        checkpoint.load(path) if path.is_file() else checkpoint.load_newest(RunFolder(path).checkpoints, warn=warn)[0]
    )


def check_resumable(folder: RunFolder) -> None:
    """UserError for a run that was exported, before anything is written to it."""
    played = folder.replay.is_dir() or not checkpoint.usable(folder.checkpoints)
    if not played and "optimizers" not in read_state(folder.path)["models"]:
        raise UserError(
            f"{folder.path} was exported, without what training needs: "
            f"start a new run with {assignment('initialize.from', folder.path)}"
        )


def read_to_resume(folder: RunFolder, verify: Callable[[dict[str, Any]], None]) -> tuple[dict[str, Any], Path]:
    """The parts and the path of the newest checkpoint that is good with all that it needs; UserError with the way on."""
    if not checkpoint.newest_first(folder.checkpoints):
        raise UserError(f"{folder.path} has no checkpoint to go on from: start a new run")
    try:
        return checkpoint.load_newest(folder.checkpoints, warn=warn, verify=verify)
    except UserError as error:
        again = assignment("initialize.from", folder.path)
        raise UserError(f"{error}; if the weights are good, a new run can start from them with {again}") from error


def chunks_of(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of the replay that a checkpoint names; UserError if that is no manifest."""
    try:
        chunks = [] if state.get("replay") is None else state["replay"]["chunks"]
        for chunk in chunks:
            if Path(chunk["name"]).name != chunk["name"] or not isinstance(chunk["sha256"], str):
                raise ValueError("no chunk")
    except checkpoint.MISFITS as error:
        raise UserError(
            "the checkpoint was written by another version of adamas: it names its replay otherwise"
        ) from error
    return chunks


def replay_files(folder: RunFolder, state: dict[str, Any]) -> list[Path]:
    """The files of the experience that a checkpoint was trained on; none where they are all gone, as in an agent that was
    copied without them. What else is in their folder costs a line: it is newer than the checkpoint, or of somebody else."""
    files = [folder.replay / chunk["name"] for chunk in chunks_of(state)]
    if others := sorted({*folder.replay.glob("*.npz")} - {*files}):
        warn(
            f"{folder.replay}: skipped {len(others)} files that the checkpoint does not name, such as {others[0].name}"
        )
    return files if any(file.is_file() for file in files) else []


def files_of(dataset: Path) -> list[Path]:
    """The files of a dataset as a user names it. UserError if there is none."""
    return files_of_run(dataset) or dataset_files(dataset)


def files_of_run(dataset: Path) -> list[Path] | None:
    """The files of a dataset that is the replay folder of a run, as its newest good checkpoint names them; None for another
    dataset, and where no checkpoint can be read."""
    folder = RunFolder(dataset.resolve().parent)
    if dataset.resolve() != folder.replay or not checkpoint.newest_first(folder.checkpoints):
        return None
    try:
        return replay_files(folder, read_state(folder.path)) or None
    except UserError as error:
        warn(f"{error}; {dataset} is read as it is")
        return None


def _misfit(error: Exception, config: Path) -> str:
    """What is wrong with a checkpoint whose parts cannot be loaded. torch tells all differences in one RuntimeError."""
    text = str(error)
    if isinstance(error, RuntimeError) and "key(s) in state_dict" not in text and "size mismatch" in text:
        return f"does not fit {config}: its networks have other sizes"
    missing = f" (it has no {error})" if isinstance(error, KeyError) else ""
    return f"was written by another version of adamas: its networks have other parts{missing}"
