"""CUDA graphs: work of fixed shapes is recorded once and then replayed as one launch.

An update launches thousands of kernels, and most of them take the GPU less time than Python takes to launch them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

WARM_UP = 3  # ordinary runs before the recording, in which libraries choose their kernels and networks are compiled
Columns = TypeVar("Columns")  # tensors, in named tuples
Work = Callable[[], Any]
Repeat = Callable[[], None]  # makes the tensors of a recording anew, in place
Capture = Callable[[Work, torch.Generator], tuple[Any, Repeat]]  # what the work made, and how to do so again


class Graphs:
    """Runs work on batches; as graphs, if there is a `capture`. Without one nothing here does anything."""

    def __init__(self, capture: Capture | None) -> None:
        self._capture = capture
        self._recordings: dict[tuple, _Recording] = {}

    def run(
        self,
        name: str,
        work: Callable[[Columns], Any],
        batch: Columns,
        generator: Any,
        parameters: Iterable[torch.nn.Parameter] = (),
    ) -> Any:
        """work(batch). The gradients of `parameters`, if it makes some, keep until the next run of the same name.

        Each shape of a batch has a recording of its own.

        Args:
            name: of the work. It must be the same work each time.
            work: reads tensors that are in `batch` or whose memory stays where it is (weights), makes new gradients if any,
                draws from `generator` alone and never waits for the device. What it does to Python objects it does once,
                when it is recorded. It returns new tensors, none of `batch`.
        """
        if self._capture is None:
            return work(batch)
        key = (name, *((x.shape, x.dtype) for x in pytree.tree_leaves(batch)))
        if key not in self._recordings:
            self._recordings[key] = _Recording(self._capture, work, generator, list(parameters))
        return self._recordings[key](batch)


class _Recording:
    """Work on batches of one shape."""

    def __init__(
        self, capture: Capture, work: Callable[[Any], Any], generator: Any, parameters: list[torch.nn.Parameter]
    ) -> None:
        self.capture, self.work, self.generator, self.parameters = capture, work, generator, parameters
        self.runs = 0
        self.replay: Repeat | None = None

    def __call__(self, batch: Any) -> Any:
        self.runs += 1
        if self.runs <= WARM_UP:
            return self.work(batch)
        if self.replay is None:
            self._record(batch)
        pytree.tree_map(Tensor.copy_, self.batch, batch)
        self.replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return pytree.tree_map(Tensor.clone, self.result)  # other recordings may use the memory of this one

    def _record(self, batch: Any) -> None:
        self.batch = pytree.tree_map(Tensor.clone, batch)

        def work() -> tuple[Any, list[Tensor]]:
            result = self.work(self.batch)
            return result, [parameter.grad for parameter in self.parameters]

        (self.result, self.gradients), self.replay = self.capture(work, self.generator)


class CudaCapture:
    """Records on the GPU. All recordings share one pool of memory: they never run side by side."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work, generator: torch.Generator) -> tuple[Any, Repeat]:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(generator)  # a replay draws new numbers
        with torch.cuda.graph(graph, pool=self._pool):
            made = work()
        return made, graph.replay
