"""CUDA graphs: work of fixed shapes is recorded once and then replayed as one launch.

An update launches thousands of kernels, and most of them take the GPU less time than Python takes to launch them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

WARM_UP = 3  # ordinary runs before the recording, in which libraries choose their kernels and networks are compiled
Work = Callable[[Any, Any], Any]  # (batch, generator) -> tensors
Repeat = Callable[[], None]  # makes the tensors of a recording anew, in place


class Capture(Protocol):
    """How work is recorded."""

    def __call__(self, work: Callable[[], Any], generator: Any) -> tuple[Any, Repeat]:
        """What the work made, and how to do so again."""

    def warm_up(self) -> AbstractContextManager:
        """Entered around the ordinary runs before the recording."""


class Graphed:
    """`work(batch, generator)`, recorded: each shape of a batch has a recording of its own.

    The gradients of `parameters`, if the work makes some, last until any recording runs again, as all share one pool of memory.

    Args:
        work: reads tensors that are in `batch` or whose memory stays where it is (weights), makes new gradients if any,
            draws from `generator` alone and never waits for the device. What it does to Python objects it does once,
            when it is recorded. It returns new tensors, none of `batch`.
    """

    def __init__(self, work: Work, capture: Capture, parameters: Iterable[torch.nn.Parameter] = ()) -> None:
        self._work, self._capture, self._parameters = work, capture, list(parameters)
        self._recordings: dict[tuple, _Recording] = {}

    def __call__(self, batch: Any, generator: Any) -> Any:
        key = tuple((x.shape, x.dtype) for x in pytree.tree_leaves(batch))
        if key not in self._recordings:
            self._recordings[key] = _Recording(self._work, self._capture, self._parameters)
        return self._recordings[key](batch, generator)


class _Recording:
    """Work on batches of one shape."""

    def __init__(self, work: Work, capture: Capture, parameters: list[torch.nn.Parameter]) -> None:
        self.work, self.capture, self.parameters = work, capture, parameters
        self.runs = 0
        self.replay: Repeat | None = None

    def __call__(self, batch: Any, generator: Any) -> Any:
        self.runs += 1
        if self.runs <= WARM_UP:
            with self.capture.warm_up():
                return self.work(batch, generator)
        if self.replay is None:
            self.replay = self._record(batch, generator)
        pytree.tree_map(Tensor.copy_, self.batch, batch)
        self.replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return pytree.tree_map(Tensor.clone, self.result)  # other recordings may use the memory of this one

    def _record(self, batch: Any, generator: Any) -> Repeat:
        self.batch = pytree.tree_map(Tensor.clone, batch)

        def work() -> tuple[Any, list[Tensor | None]]:
            result = self.work(self.batch, generator)
            return result, [parameter.grad for parameter in self.parameters]

        (self.result, self.gradients), replay = self.capture(work, generator)
        return replay


class CudaCapture:
    """Records on the GPU. All recordings share one pool of memory and one stream: they never run side by side."""

    def __init__(self) -> None:
        self._pool, self._stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()

    def __call__(self, work: Callable[[], Any], generator: torch.Generator) -> tuple[Any, Repeat]:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(generator)  # a replay draws new numbers
        with _no_garbage_collection(), torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            made = work()
        return made, graph.replay

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """On the stream of the recordings, so that libraries prepare what they need there."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream().wait_stream(self._stream)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """What is collected may call CUDA as it goes, as an older graph does, and would end the recording."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
