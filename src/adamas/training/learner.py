"""The update of any part: a module with `loss(batch, generator) -> (loss, metrics)`, a mean over its `valid_steps(batch)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial, reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adamas.training import distributed
from adamas.training.optimizer import Optimizer
from adamas.training.shares import in_shares
from adamas.utils.logger import Metrics, Ratio
from adamas.utils.random import Random
from adamas.utils.threads import SERIAL, Threads


class _Sums(NamedTuple):
    """What some rows of a batch add to an update."""

    gradients: list[Tensor]  # of each parameter
    loss: Tensor  # float ()
    metrics: Metrics


class Learner:
    """Takes optimizer steps for one part.

    Args:
        module: the part.
        optimizer: of the module's parameters.
        autocast: entered around the loss.
        threads: that work on shares of a batch.
        micro_batch: rows of a batch whose gradients are computed at a time, by all threads together; 0: all.
    """

    def __init__(
        self,
        module: Any,
        optimizer: Optimizer,
        autocast: Callable[[], AbstractContextManager],
        threads: Threads = SERIAL,
        micro_batch: int = 0,
    ) -> None:
        self.module, self.optimizer, self.autocast = module, optimizer, autocast
        self.threads, self.micro_batch = threads, micro_batch
        self.compute_gradients: Callable[[Any, Random], tuple[Tensor, Metrics]] = self.backward  # or a recording of it

    def step(self, batch: Any, generator: Random) -> Metrics:
        """One step down the gradient of the loss of `batch`; of several processes, of all their batches."""
        loss, metrics = self.compute_gradients(batch, generator)
        loss = distributed.sum_gradients(self.optimizer.parameters, loss)
        metrics["loss"], metrics["learning_rate"] = loss, torch.tensor(self.optimizer.learning_rate)
        metrics["grad_norm"] = self.optimizer.step(loss)
        metrics["skipped_updates"] = self.optimizer.skipped.clone()  # of now
        return metrics

    def backward(self, batch: Any, generator: Random) -> tuple[Tensor, Metrics]:
        """Leaves the gradients of the mean loss in the parameters. Returns the loss, float (), and what comes with it.

        Of several processes these are this one's share; what comes with the loss is a mean over its own steps.
        """
        self.optimizer.adamw.zero_grad(set_to_none=True)
        own_steps = self.module.valid_steps(batch).sum()
        steps = distributed.all_sum(own_steps).clamp_min(1)
        sums = in_shares(self.threads, partial(self._sums, steps, own_steps.clamp_min(1)), batch, generator)
        gradients, loss, metrics = reduce(_added, sums)
        for parameter, gradient in zip(self.optimizer.parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss, metrics

    def _sums(self, steps: Tensor, own_steps: Tensor, rows: Any, generator: Random) -> _Sums:
        """What some rows of a batch add to the gradients and the loss, a mean over `steps`, and to the metrics, means over
        `own_steps`; both int64 ()."""
        sums: _Sums | None = None
        for micro_batch in self._micro_batches(rows):
            with self.autocast():
                loss, metrics = self.module.loss(micro_batch, generator)
            count = self.module.valid_steps(micro_batch).sum()
            loss, fraction = loss * (count / steps), count / own_steps
            gradients = [*torch.autograd.grad(loss, self.optimizer.parameters, materialize_grads=True)]
            scaled = {name: x if isinstance(x, Ratio) else x.detach() * fraction for name, x in metrics.items()}
            if sums is None:
                gradients = _own(self.optimizer.parameters, gradients)
            more = _Sums(gradients, loss.detach(), scaled)
            sums = more if sums is None else _added(sums, more)
        assert sums is not None
        return sums

    def _micro_batches(self, batch: Any) -> Iterator[Any]:
        rows = len(batch.obs)
        size = max(1, self.micro_batch // self.threads.count) if self.micro_batch else rows
        return (batch.rows(slice(first, first + size)) if size < rows else batch for first in range(0, rows, size))


def _own(parameters: Iterable[Tensor], gradients: Iterable[Tensor]) -> list[Tensor]:
    """The gradients, each in memory of its own and with its parameter's strides. Autograd may give two parameters one gradient,
    so those are copied; the others are not, as the copy of a large matrix takes as long as its gradient."""
    own, seen = [], set[int]()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        memory = gradient.untyped_storage().data_ptr()
        fits = gradient.stride() == parameter.stride() and memory not in seen
        own.append(gradient if fits else torch.empty_like(parameter).copy_(gradient))
        seen.add(memory)
    return own


def _added(sums: _Sums, more: _Sums) -> _Sums:
    """Their sum. The gradients of the first are added to in place."""
    torch._foreach_add_(sums.gradients, more.gradients)
    metrics = {name: _plus(sums.metrics.get(name), metric) for name, metric in more.metrics.items()}
    return _Sums(sums.gradients, sums.loss + more.loss, metrics)


def _plus(one: Tensor | Ratio | None, other: Tensor | Ratio) -> Tensor | Ratio:
    """The counts of a ratio are added up as well."""
    if one is None:
        return other
    if isinstance(one, Ratio) or isinstance(other, Ratio):
        return Ratio(*(a + b for a, b in zip(one, other, strict=True)))
    return one + other
