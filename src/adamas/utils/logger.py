"""TensorBoard, with running means that stay on the device until they are written."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter


class Ratio(NamedTuple):
    """A metric whose mean over many updates is sum(numerator) / sum(denominator); each float ()."""

    numerator: Tensor
    denominator: Tensor


Metrics = dict[str, Tensor | Ratio]


class Logger:
    """Means gathered by `add` and written by `flush`; pictures written at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sums: dict[str, list[Tensor | float]] = defaultdict(lambda: [0.0, 0.0])

    @cached_property
    def _writer(self) -> SummaryWriter:  # made at the first use, since it makes the folder
        return SummaryWriter(str(self._folder))

    def add(self, name: str, value: Tensor | float, weight: Tensor | float = 1.0) -> None:
        """Adds to the mean sum(value) / sum(weight). A tensor () stays on its device; what is not finite is left out."""
        if isinstance(value, Tensor):
            finite = value.isfinite()
            value, weight = torch.where(finite, value, 0.0), weight * finite
        sums = self._sums[name]
        sums[0] = sums[0] + value
        sums[1] = sums[1] + weight

    def add_all(self, prefix: str, metrics: Metrics) -> None:
        """Adds each metric under `prefix` and its name."""
        for name, metric in metrics.items():
            self.add(prefix + name, *(metric if isinstance(metric, Ratio) else (metric,)))

    def flush(self, step: int) -> dict[str, float]:
        """Writes and returns every mean that has some weight, then forgets them. Waits for the device once."""
        names = list(self._sums)
        flat = [torch.as_tensor(x, dtype=torch.float32) for name in names for x in self._sums[name]]
        devices = {x.device for x in flat}
        numbers = {d: iter(torch.stack([x for x in flat if x.device == d]).tolist()) for d in devices}
        values = iter([next(numbers[x.device]) for x in flat])
        means = {name: total / weight for name, total, weight in zip(names, values, values, strict=False) if weight}
        self._sums.clear()
        for name, mean in means.items():
            self._writer.add_scalar(name, mean, step)
        return means

    def scalar(self, name: str, value: float, step: int, wall_time: float | None = None) -> None:
        """`wall_time`: seconds since 1970, if it is not now."""
        self._writer.add_scalar(name, value, step, wall_time)

    def text(self, name: str, markdown: str, step: int) -> None:
        self._writer.add_text(name, markdown, step)

    def picture(self, name: str, data: bytes, height: int, width: int, step: int) -> None:
        """An encoded PNG, or a GIF as a moving picture (torch's own add_video needs moviepy 1)."""
        image = Summary.Image(height=height, width=width, colorspace=1, encoded_image_string=data)
        writer = self._writer._get_file_writer()  # no public way to write an encoded picture
        writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def sync(self) -> None:
        """Everything so far is on disk."""
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
