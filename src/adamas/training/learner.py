"""The update of any part: a module with `loss(batch, generator) -> (loss, metrics)`, a mean over its `valid_steps(batch)`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from adamas.training import distributed
from adamas.training.optimizer import Optimizer
from adamas.utils.logger import Metrics, Ratio
from adamas.utils.random import Random


class Learner:
    """Takes optimizer steps for one part.

    Args:
        module: the part.
        optimizer: of the module's parameters.
        autocast: entered around the loss.
        micro_batch: rows of a batch whose gradients are computed at a time; 0: all.
    """

    def __init__(
        self,
        module: Any,
        optimizer: Optimizer,
        autocast: Callable[[], AbstractContextManager],
        micro_batch: int = 0,
    ) -> None:
        self.module, self.optimizer, self.autocast, self.micro_batch = module, optimizer, autocast, micro_batch
        self.gradients: Callable[[Any, Random], Metrics] = self.backward  # or a recording of it

    def step(self, batch: Any, generator: Random) -> Metrics:
        """One step down the gradient of the loss of `batch`; of several processes, of all their batches."""
        metrics = self.gradients(batch, generator)
        loss = distributed.sum_gradients(self.optimizer.parameters, mean(metrics["loss"]))
        metrics["loss"] = loss
        metrics["learning_rate"] = torch.tensor(self.optimizer.learning_rate)
        metrics["grad_norm"] = self.optimizer.step(loss)
        metrics["skipped_updates"] = self.optimizer.skipped.clone()  # of now
        return metrics

    def backward(self, batch: Any, generator: Random) -> Metrics:
        """Leaves the gradients of the mean loss in the parameters, and returns the loss and what comes with it."""
        self.optimizer.adamw.zero_grad(set_to_none=True)
        own_steps = self.module.valid_steps(batch).sum()
        steps = distributed.all_sum(own_steps).clamp_min(1)
        metrics: Metrics = {}
        for rows in self._micro_batches(batch):
            with self.autocast():
                loss, found = self.module.loss(rows, generator)
            rows_steps = self.module.valid_steps(rows).sum()
            share, own_share = rows_steps / steps, rows_steps / own_steps.clamp_min(1)
            (loss * share).backward()
            metrics["loss"] = _add(metrics.get("loss"), loss, share)
            for name, metric in found.items():  # what is logged beside the loss is of this process's steps
                metrics[name] = _add(metrics.get(name), metric, own_share)
        return metrics

    def _micro_batches(self, batch: Any) -> Iterator[Any]:
        rows = len(batch.obs)
        size = self.micro_batch or rows
        return (batch.rows(slice(first, first + size)) if size < rows else batch for first in range(0, rows, size))


def mean(metric: Tensor | Ratio) -> Tensor:
    """A metric that is a mean, float ()."""
    assert isinstance(metric, Tensor)
    return metric


def _add(total: Tensor | Ratio | None, metric: Tensor | Ratio, share: Tensor) -> Tensor | Ratio:
    """A mean counts with its share of the steps; the counts of a ratio are added up."""
    if isinstance(metric, Ratio):
        return Ratio(*(a + b for a, b in zip(total, metric, strict=True))) if isinstance(total, Ratio) else metric
    return metric.detach() * share + (mean(total) if total is not None else 0)
