"""Stored experience of a run's game."""

from __future__ import annotations

from pathlib import Path

import torch

from adamas.config import Config
from adamas.data.replay import Replay, read_dataset
from adamas.envs.atari import action_meanings
from adamas.utils.errors import UserError


def read_experience(path: str | Path, config: Config, device: torch.device) -> Replay:
    """A dataset, as `adamas.data.replay.read_dataset` has it. UserError if it holds actions that the game does not have."""
    replay, count = read_dataset(Path(path), config.replay.age_weights, device), len(action_meanings(config.env))
    if replay.most_action >= count:
        raise UserError(
            f"{path} holds action {replay.most_action} but {config.env} has {count} actions: is it of another game?"
        )
    if replay.num_transitions == 0:
        raise UserError(f"{path} holds no step that leads to another frame: are `terminated` and `truncated` inverted?")
    return replay
