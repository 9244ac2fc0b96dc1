"""TensorBoard, with means of values that stay on their device until they are written."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from adamas.utils.transfer import to_cpu


class Ratio(NamedTuple):
    """A metric whose mean over many updates is sum(numerator) / sum(denominator); each float ()."""

    numerator: Tensor
    denominator: Tensor


Metrics = dict[str, Tensor | Ratio]


class Logger:
    """Means gathered by `add` and written by `flush`; pictures written at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._added: dict[str, list[tuple[Tensor | float, Tensor | float]]] = defaultdict(list)

    @cached_property
    def _writer(self) -> SummaryWriter:  # made at the first use, since it makes the folder
        return SummaryWriter(str(self._folder))

    def add(self, name: str, value: Tensor | float, weight: Tensor | float = 1.0) -> None:
        """Adds to the mean sum(value) / sum(weight); what is not finite is left out. A tensor () is kept as it is, on its
        device, and must not change."""
        self._added[name].append((value, weight))

    def add_all(self, prefix: str, metrics: Metrics) -> None:
        """Adds each metric under `prefix` and its name."""
        for name, metric in metrics.items():
            self.add(prefix + name, *(metric if isinstance(metric, Ratio) else (metric,)))

    def flush(self, step: int) -> dict[str, float]:
        """Writes and returns every mean that has some weight, then forgets them. Waits for the device, but not once a value."""
        means = {name: total / weight for name, (total, weight) in self._sums.items() if weight}
        self._added.clear()
        for name, mean in means.items():
            self._writer.add_scalar(name, mean, step)
        return means

    @property
    def _sums(self) -> dict[str, tuple[float, float]]:
        """The weighted sum of the values of each name, and the sum of their weights."""
        flat = iter(_numbers([x for pairs in self._added.values() for pair in pairs for x in pair]))
        pairs = {name: [(next(flat), next(flat)) for _ in added] for name, added in self._added.items()}
        finite = {name: [pair for pair in some if math.isfinite(pair[0])] for name, some in pairs.items()}
        return {name: (sum(value for value, _ in some), sum(w for _, w in some)) for name, some in finite.items()}

    def scalar(self, name: str, value: float, step: int, wall_time: float | None = None) -> None:
        """`wall_time`: seconds since 1970, if it is not now."""
        self._writer.add_scalar(name, value, step, wall_time)

    def text(self, name: str, markdown: str, step: int) -> None:
        self._writer.add_text(name, markdown, step)

    def picture(self, name: str, data: bytes, step: int) -> None:
        """An encoded PNG, or a GIF as a moving picture (torch's own add_video needs moviepy 1)."""
        width, height = Image.open(io.BytesIO(data)).size
        image = Summary.Image(height=height, width=width, colorspace=1, encoded_image_string=data)
        writer = self._writer._get_file_writer()  # no public way to write an encoded picture
        writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def sync(self) -> None:
        """Everything so far is on disk."""
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class NullLogger(Logger):
    """For work whose values nobody reads."""

    def __init__(self) -> None:
        super().__init__(Path())

    def add(self, name: str, value: Tensor | float, weight: Tensor | float = 1.0) -> None:
        pass


def _numbers(values: list[Tensor | float]) -> list[float]:
    """In the same order; a wait for all tensors of one device and type."""
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = defaultdict(list)
    for i, x in enumerate(values):
        if isinstance(x, Tensor):
            groups[x.device, x.dtype].append(i)
    numbers = list(values)
    for places in groups.values():
        stack = torch.stack([values[i] for i in places])
        for i, number in zip(places, to_cpu(stack)[0].tolist(), strict=True):
            numbers[i] = number
    return numbers
