"""A run that was saved, opened again to look at it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adamas.config import Config
from adamas.config.files import config_of_run, load_config
from adamas.envs.atari import action_meanings
from adamas.training import checkpoint
from adamas.training.models import Models
from adamas.training.progress import Progress
from adamas.training.run_folder import RunFolder
from adamas.utils.errors import UserError


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

    def checkpoints(self) -> list[Path]:
        """All that are kept, oldest first. UserError when there is none."""
        paths = checkpoint.newest_first(self.folder.checkpoints)[::-1]
        if not paths:
            raise UserError(f"{self.folder.checkpoints} holds no checkpoint")
        return paths

    def load(self, path: Path, device: torch.device) -> tuple[Models, Progress]:
        """The models of one checkpoint, and how far the run was. UserError when it is damaged."""
        return self._restore(checkpoint.load(path), path, device)

    def load_newest(self, device: torch.device) -> tuple[Models, Progress]:
        """The same of the newest good checkpoint; each damaged one that is newer costs a line on stderr."""
        state, path = checkpoint.load_newest(self.folder.checkpoints, warn=lambda line: print(line, file=sys.stderr))
        return self._restore(state, path, device)

    def _restore(self, state: dict[str, Any], path: Path, device: torch.device) -> tuple[Models, Progress]:
        models, progress = Models(self.config, action_meanings(self.config.env), device), Progress()
        try:
            models.load_state_dict(state["models"])
        except KeyError as error:
            raise UserError(f"{path} lacks {error}: it was written by another version of adamas") from error
        except (RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"{path} does not fit {self.folder.config}") from error
        progress.load_state_dict(state["progress"])
        return models, progress
