"""The processes of a run beside rank 0, which alone plays, evaluates and writes: they make its updates with it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from adamas.config import PARTS, Config
from adamas.data.replay import Replay
from adamas.envs.make import action_meanings
from adamas.training import distributed
from adamas.training.compiling import compiles
from adamas.training.generators import Generators
from adamas.training.learners import Learners
from adamas.training.models import training_models
from adamas.training.signals import StopRequest
from adamas.training.updates import Updates
from adamas.utils.logger import NullLogger
from adamas.utils.threads import Threads, threads_of

MEASURE = "measure"  # in place of a part


class Workers:
    """What rank 0 tells them. Without any, nothing happens."""

    def __init__(self) -> None:
        self.rows = 0  # of the replay, that they have

    def begin(self, learners: Learners) -> None:
        """From now on they have the weights and optimizers of rank 0. These are sent from the CPU: a tensor of a GPU would come
        to all on that one."""
        state = learners.models.state_dict(), learners.state_dict()
        distributed.broadcast(pytree.tree_map_only(Tensor, Tensor.cpu, state))

    def update(self, part: str, replay: Replay) -> None:
        """They make this update too, after they got the rows that are new to them."""
        if distributed.world_size() > 1:
            new = (replay.rows(self.rows), replay.mixture) if self.rows < replay.num_rows else None
            distributed.broadcast((part, new))
            self.rows = replay.num_rows

    def measure_changes(self, replay: Replay) -> None:
        """They measure them too: the same number, from the same rows."""
        self.update(MEASURE, replay)


def work(config: Config, device: torch.device) -> bool:
    """The life of a worker. It leaves signals to rank 0, and ends when that one does."""
    with distributed.joined(device), StopRequest(), threads_of(device, compiled=compiles(config, device)) as threads:
        _make_updates(config, device, threads)
    return True


def _make_updates(config: Config, device: torch.device, threads: Threads) -> None:
    learners = Learners(training_models(config, action_meanings(config), device), threads)
    random = Generators.seeded(config.seed, device)
    replay = Replay(config.collection.steps, config.replay.age_weights, device=device)
    updates = Updates(learners, replay, random, NullLogger())
    order = distributed.receive()
    if order is not None:
        learners.models.load_state_dict(order[0])
        learners.load_state_dict(order[1])
        order = distributed.receive()
    while order is not None:
        part, new = order
        if new:
            rows, replay.mixture = new
            replay.extend(rows)
        if part == MEASURE:
            updates.measure_changes()
        else:
            random.reseed(config.seed, distributed.rank(), PARTS.index(part), learners.steps(part))
            updates.make(part)
        order = distributed.receive()
