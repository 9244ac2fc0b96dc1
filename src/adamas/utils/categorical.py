"""Draws from categorical distributions."""

from __future__ import annotations

from torch import Tensor

from adamas.utils.random import Random, exponential


def draw(logits: Tensor, generator: Random) -> Tensor:
    """float (B, ..., K) -> int64 (B, ...), each distributed as softmax(logits).

    The exponential race: with E ~ Exp(1), argmax(p / E) is k with probability p_k. It never waits for the device.
    """
    return (logits.float().softmax(-1) / exponential(logits.shape, generator)).argmax(-1)
