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
        total = torch.zeros((), device=own_steps.device)
        metrics: Metrics = {}
        for rows in self._micro_batches(batch):
            with self.autocast():
                loss, found = self.module.loss(rows, generator)
            rows_steps = self.module.valid_steps(rows).sum()
            loss = loss * (rows_steps / steps)
            loss.backward()
            total = total + loss.detach()
            for name, metric in found.items():
                metrics[name] = _add(metrics.get(name), metric, rows_steps / own_steps.clamp_min(1))
        return total, metrics

    def _micro_batches(self, batch: Any) -> Iterator[Any]:
        rows = len(batch.obs)
        size = self.micro_batch or rows
        return (batch.rows(slice(first, first + size)) if size < rows else batch for first in range(0, rows, size))


def _add(total: Tensor | Ratio | None, metric: Tensor | Ratio, share: Tensor) -> Tensor | Ratio:
    """A mean counts with its share of the steps; the counts of a ratio are added up."""
    if isinstance(metric, Ratio):
        return Ratio(*(a + b for a, b in zip(total, metric, strict=True))) if isinstance(total, Ratio) else metric
    return metric.detach() * share + (total if isinstance(total, Tensor) else 0)
