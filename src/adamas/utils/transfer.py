"""Tensors from device to device, with as little waiting as can be."""

from __future__ import annotations

import torch
from torch import Tensor

PINNED = 2**24  # bytes at most: pinned memory is kept for the next copy, and never given back


def to_device(x: Tensor, device: torch.device | str) -> Tensor:
    """`x` on a device. A CPU that sends it to a CUDA GPU does not wait until that has finished its other work: it copies it
    into pinned memory, which the GPU reads when it gets there."""
    if x.device.type == "cpu" and torch.device(device).type == "cuda" and x.nbytes <= PINNED:
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def to_cpu(*tensors: Tensor) -> list[Tensor]:
    """Tensors of one device on the CPU, for one wait in all."""
    waits = tensors[0].device.type == "cuda"  # other chips cannot be waited for like this
    copies = [x.to("cpu", non_blocking=waits) for x in tensors]
    if waits:
        torch.cuda.current_stream(tensors[0].device).synchronize()
    return copies
