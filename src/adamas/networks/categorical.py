"""Draws from categorical distributions."""

from __future__ import annotations

import torch
from torch import Tensor


def draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """float (..., K) -> int64 (...), each distributed as softmax(logits).

    The exponential race: with E ~ Exp(1), argmax(p / E) is k with probability p_k. It never waits for the device.
    """
    race = torch.empty_like(logits, dtype=torch.float32).exponential_(generator=generator)
    return (logits.float().softmax(-1) / race).argmax(-1)
