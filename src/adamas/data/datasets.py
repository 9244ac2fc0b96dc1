"""Stored experience of a run's game."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from adamas.config import Config
from adamas.data.replay import Replay, read_dataset, read_files
from adamas.envs.make import action_meanings
from adamas.utils.errors import UserError


def read_experience(
    path: str | Path, config: Config, device: torch.device, files: Sequence[Path] | None = None
) -> Replay:
    """A dataset, as `adamas.data.replay.read_dataset` has it. UserError if it holds actions that the game does not have.

    Args:
        files: of the dataset, if they are not all that it holds.
    """
    weights, count = config.replay.age_weights, len(action_meanings(config))
    replay = read_dataset(Path(path), weights, device) if files is None else read_files(files, weights, device)
    if replay.most_action >= count:
        raise UserError(
            f"{path} holds action {replay.most_action} but {config.env} has {count} actions: is it of another game?"
        )
    if replay.num_transitions == 0:
        raise UserError(f"{path} holds no step that leads to another frame: are `terminated` and `truncated` inverted?")
    return replay
