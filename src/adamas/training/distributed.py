"""Several processes, one run, as torchrun starts them: who is who, and what they make together.

All draw whole batches from equal generators, and each keeps its own rows. A `masked_mean` is over the rows of all, so
that a loss is the loss of the whole batch in every process, and the gradients that DistributedDataParallel leaves in
each are those that one process would have. In a run of one process nothing here does anything.

This is on the lowest floor since losses are means.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import traceback
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from adamas.config import PARTS, Config
from adamas.utils.errors import LostProcess, UserError
from adamas.utils.quoting import assignment
from adamas.utils.random import Rows
from adamas.utils.torchrun import command, launched

PATIENCE = timedelta(days=1)  # that processes wait for one that plays or evaluates; a dead one is noticed at once
CPU = torch.device("cpu")
Columns = TypeVar("Columns")  # a batch that has `rows`


def place() -> tuple[int, int]:
    """(rank, size) among the processes that have joined; (0, 1) before, and without others."""
    there = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if there else (0, 1)


def check_processes(config: Config) -> None:
    """Raises UserError for a run that several processes cannot share."""
    size = launched()[1]
    for part in PARTS:
        batch = getattr(config, part).optimization.batch_size
        if batch % size:
            raise UserError(
                f"{part}.optimization.batch_size={batch} does not divide among {size} processes: change one"
            )
    rows, parts = config.actor_critic.optimization.batch_size // size, config.actor_critic.minibatches
    if size > 1 and parts > rows:
        raise UserError(f"actor_critic.minibatches={parts} is more than each process has rollouts, {rows}: lower it")
    if size > 1 and config.policy == "model_free":
        raise UserError("policy=model_free learns in one process: start it without torchrun")
    if size > 1 and config.cuda_graphs:
        raise UserError("cuda_graphs=true records the updates of one process: start it without torchrun")


@contextlib.contextmanager
def joined(device: torch.device, run: str = "") -> Iterator[None]:
    """Inside, the processes work together. The first one names the run's folder, for what they say when one is lost.

    When the first one is done, or meets a UserError, the others are told; they `hear` None. What was made inside is not to
    be kept: a DistributedDataParallel that outlives the group can wait for ever for a thread that waits for Python's lock.
    """
    rank, size = launched()
    if size == 1:
        yield
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        run = tell(run) if rank == 0 else hear()
        yield
        _dismiss()
    except BaseException as error:
        lost = isinstance(error, RuntimeError) and (isinstance(error, dist.DistError) or "gloo" in str(error))
        if lost:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends those that are left: not before they say so
        traceback.clear_frames(error.__traceback__)
        if isinstance(error, UserError):
            with contextlib.suppress(RuntimeError):  # they may have met the same and be gone
                _dismiss()
        if lost:
            raise LostProcess(
                f"process {rank} of {size} has lost another one; the last save of the run is good: "
                f"go on with {command('train', assignment('resume', run))}"
            ) from error
        raise
    finally:
        gc.collect()
        dist.destroy_process_group()


def tell(message: Any) -> Any:
    """Gives `message` to all that `hear`, and back."""
    if place()[1] > 1:
        dist.broadcast_object_list([message], src=0, device=CPU)
    return message


def hear() -> Any:
    """What the first process tells next."""
    box = [None]
    dist.broadcast_object_list(box, src=0, device=CPU)
    return box[0]


def _dismiss() -> None:
    if place()[0] == 0:
        tell(None)


def own_rows(batch: Columns) -> Columns:
    """This process's rows of a batch."""
    rank, size = place()
    return batch if size == 1 else batch.rows(slice(rank, None, size))


def own_draws(generator: torch.Generator) -> torch.Generator | Rows:
    """What such rows draw from a generator that all processes have."""
    rank, size = place()
    return generator if size == 1 else Rows(generator, rank, size)


def data_parallel(model: nn.Module) -> nn.Module:
    """Its forward pass is `model.loss`, whose gradients become those of all processes' rows."""
    loss = _Loss(model)
    return loss if place()[1] == 1 else DistributedDataParallel(loss)


class _Loss(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *arguments: Any) -> Any:
        return self.model.loss(*arguments)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of x where mask, float (); over the rows of all processes, however many of them each one's mask keeps."""
    total, count = torch.where(mask, x, 0.0).sum(), mask.sum()
    if place()[1] > 1:
        total, count = _Sum.apply(torch.stack([total, count.to(total.dtype)]))
    return total / count.clamp_min(1)


class _Sum(torch.autograd.Function):
    """The sum over all processes. They all go back from the same loss, and then take the mean of the gradients of
    their own rows; the gradient of the loss is the sum of those, hence the factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * dist.get_world_size()
