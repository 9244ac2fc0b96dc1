"""The processes of a run beside its first one, which alone plays, evaluates and writes: they make its updates with it."""

from __future__ import annotations

from pathlib import Path

import torch

from adamas.config import Config
from adamas.data.replay import Replay
from adamas.envs.atari import action_meanings
from adamas.training import distributed
from adamas.training.models import Models
from adamas.training.signals import StopRequest
from adamas.training.updates import UPDATES, Generators
from adamas.utils.logger import Logger


class Followers:
    """What the first process tells them. Without any, nothing happens."""

    def __init__(self) -> None:
        self.rows = 0  # of the replay, that they have

    def begin(self, models: Models, random: Generators) -> None:
        """From now on they are where the first process is, but for the replay."""
        if distributed.place()[1] > 1:
            distributed.tell((models.state_dict(), random.state_dict()))

    def update(self, part: str, replay: Replay) -> None:
        """They make this update too, after they got the rows that are new to them."""
        if distributed.place()[1] > 1:
            distributed.tell((part, replay.rows(self.rows) if self.rows < replay.num_rows else None))
            self.rows = replay.num_rows


def follow(config: Config, device: torch.device) -> bool:
    """The life of a follower. It leaves signals to the first process, and ends when that one does."""
    with distributed.joined(device), StopRequest():
        _obey(config, device)
    return True


def _obey(config: Config, device: torch.device) -> None:
    models = Models(config, action_meanings(config.env), device)
    random = Generators.seeded(config.seed, device)
    replay = Replay(config.collection.steps, config.age_weights, device=device)
    logger = Logger(Path())  # never written
    order = distributed.hear()
    if order is not None:
        models.load_state_dict(order[0])
        random.load_state_dict(order[1])
        order = distributed.hear()
    while order is not None:
        part, rows = order
        if rows:
            replay.extend(rows)
        UPDATES[part](models, replay, random, logger)
        order = distributed.hear()
