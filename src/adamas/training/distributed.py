"""Several processes, one run, as torchrun starts them.

Rank 0 plays, evaluates and writes. All ranks make updates: each draws rows of its own, with random numbers of its own,
and the gradients are summed, so that the weights stay the same everywhere. In a run of one process nothing here does
anything. Gradients are summed in one tensor after the last backward pass rather than by DistributedDataParallel: these
models are small, an update may take several backward passes, and no wrapper stands between a part and its loss.
PPO normalises advantages over the rollouts of each rank by themselves.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from adamas.config import Config
from adamas.utils.errors import LostProcess, UserError
from adamas.utils.quoting import assignment
from adamas.utils.torchrun import command, launched

PATIENCE = timedelta(days=1)  # that ranks wait for one that plays or evaluates; gloo notices a dead one at once
CPU = torch.device("cpu")


def rank() -> int:
    """0 before the processes have joined, and without others."""
    return dist.get_rank() if _joined() else 0


def world_size() -> int:
    """1 before the processes have joined, and without others."""
    return dist.get_world_size() if _joined() else 1


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def check_processes(config: Config) -> None:
    """Raises UserError for a run that several processes cannot share."""
    size = launched().size
    if size > 1 and config.policy != "imagined":
        raise UserError(f"policy={config.policy} learns in one process: start it without torchrun")
    for part in config.parts:
        batch = getattr(config, part).optimization.batch_size
        if batch % size:
            raise UserError(
                f"{part}.optimization.batch_size={batch} does not divide among {size} processes: change one"
            )
    rows, parts = config.actor_critic.optimization.batch_size // size, config.actor_critic.minibatches
    if size > 1 and parts > rows:
        raise UserError(f"actor_critic.minibatches={parts} is more than each process has rollouts, {rows}: lower it")
    if size > 1 and config.cuda_graphs not in ("auto", False):
        raise UserError("cuda_graphs=true records the updates of one process: start it without torchrun")


@contextlib.contextmanager
def joined(device: torch.device, run: str = "") -> Iterator[None]:
    """Inside, the processes work together. Rank 0 names the run's folder, for what they say when one is lost.

    When rank 0 is done, or meets a UserError, the others `receive` None.
    """
    rank, size = launched()
    if size == 1:
        yield
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        run = broadcast(run) if rank == 0 else receive()
        yield
        _dismiss()
    except BaseException as error:
        lost = isinstance(error, RuntimeError) and (isinstance(error, dist.DistError) or "gloo" in str(error))
        if lost:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends those that are left: not before they say so
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
        dist.destroy_process_group()


def broadcast(message: Any) -> Any:
    """Gives `message` of rank 0 to all that `receive`, and back."""
    if world_size() > 1:
        dist.broadcast_object_list([message], src=0, device=CPU)
    return message


def receive() -> Any:
    """What rank 0 broadcasts next."""
    box = [None]
    dist.broadcast_object_list(box, src=0, device=CPU)
    return box[0]


def _dismiss() -> None:
    if rank() == 0:
        broadcast(None)


def all_sum(x: Tensor) -> Tensor:
    """The sum over all ranks."""
    if world_size() > 1:
        x = x.clone()
        dist.all_reduce(x)
    return x


def sum_gradients(parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
    """Makes each gradient the sum over all ranks, in place. Returns the sum of the losses, float ()."""
    if world_size() == 1:
        return loss
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = all_sum(torch.cat([loss.reshape(1), *(gradient.flatten() for gradient in gradients)]))
    for gradient, summed in zip(gradients, flat[1:].split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))
    return flat[0]
