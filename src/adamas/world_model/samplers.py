"""Samplers: free functions of a denoiser, a first noise and a noise schedule.

`denoise(x, sigma)` returns the expected clean data behind x at noise level sigma (a Python number, so that no
branch waits for the device). `sigmas` falls from its first entry to a final 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from adamas.utils.random import Random, normal

Denoise = Callable[[Tensor, float], Tensor]


def karras_schedule(steps: int, sigma_min: float, sigma_max: float, rho: float) -> list[float]:
    """`steps` noise levels from sigma_max down to sigma_min, then 0 (Karras et al. 2022, equation 5)."""
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [(high + i / max(steps - 1, 1) * (low - high)) ** rho for i in range(steps)] + [0.0]


def euler(denoise: Denoise, x: Tensor, sigmas: list[float]) -> Tensor:
    """First-order steps along dx/dsigma = (x - D(x; sigma)) / sigma; one call of `denoise` a step."""
    for sigma, sigma_next in pairwise(sigmas):
        slope = (x - denoise(x, sigma)) / sigma
        x = x + (sigma_next - sigma) * slope
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: list[float]) -> Tensor:
    """Second-order steps (Algorithm 1); two calls of `denoise` a step, one in the last."""
    for sigma, sigma_next in pairwise(sigmas):
        slope = (x - denoise(x, sigma)) / sigma
        x_next = x + (sigma_next - sigma) * slope
        if sigma_next > 0:
            slope_next = (x_next - denoise(x_next, sigma_next)) / sigma_next
            x_next = x + (sigma_next - sigma) * (slope + slope_next) / 2
        x = x_next
    return x


def churned_euler(
    denoise: Denoise,
    x: Tensor,
    sigmas: list[float],
    generator: Random,
    s_churn: float,
) -> Tensor:
    """First-order steps that each begin by adding some noise back (Algorithm 2 without its correction)."""
    gamma = min(s_churn / (len(sigmas) - 1), math.sqrt(2) - 1)
    for sigma, sigma_next in pairwise(sigmas):
        sigma_hat = sigma * (1 + gamma)
        x = x + math.sqrt(sigma_hat**2 - sigma**2) * normal(x.shape, generator)
        slope = (x - denoise(x, sigma_hat)) / sigma_hat
        x = x + (sigma_next - sigma_hat) * slope
    return x
