"""EDM: the equations of Karras et al. 2022 (arXiv 2206.00364), with the paper's symbols.

`y` is clean data, `n` the noise added to it, `x = y + n`. Every `sigma` is a standard deviation in the units of
`y`, float (B,). With `offset_noise` o, a noise level sigma means independent noise of deviation sigma at every
pixel plus one shared draw of deviation o for the whole frame, so that a pixel's noise has variance sigma^2 + o^2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from adamas.utils.random import Random, normal

Network = Callable[[Tensor, Tensor], Tensor]  # (c_in * x, c_noise) -> F_theta, conditions already bound


class Scalings(NamedTuple):
    """Each float (B, 1, 1, 1), but `c_noise` float (B,)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


def draw_sigma(batch: int, log_mean: float, log_std: float, least: float, most: float, generator: Random) -> Tensor:
    """float (batch,): log-normal (Table 1, noise distribution), clipped to [least, most]."""
    return (normal((batch,), generator) * log_std + log_mean).exp().clamp(least, most)


def draw_noise(sigma: Tensor, shape: torch.Size, offset_noise: float, generator: Random) -> Tensor:
    """The noise n, float `shape` = (B, C, H, W), that a noise level `sigma` (B,) stands for."""
    pixel, shared = normal(shape, generator), normal((*shape[:2], 1, 1), generator)
    return sigma[:, None, None, None] * pixel + offset_noise * shared


def scalings(sigma: Tensor, sigma_data: Tensor | float, offset_noise: float) -> Scalings:
    """Table 1, network and preconditioning; with offset noise, sigma^2 is the whole variance of a pixel's noise."""
    variance = sigma**2 + offset_noise**2
    total = variance + sigma_data**2
    c_skip = sigma_data**2 / total
    c_out = variance.sqrt() * sigma_data / total.sqrt()
    c_in = 1 / total.sqrt()
    c_noise = variance.log() / 8  # ln(standard deviation) / 4
    c_skip, c_out, c_in = (c[:, None, None, None] for c in (c_skip, c_out, c_in))
    return Scalings(c_skip, c_out, c_in, c_noise)


def denoise(net: Network, x: Tensor, sigma: Tensor, sigma_data: Tensor | float, offset_noise: float) -> Tensor:
    """D_theta(x; sigma), equation 7: the expected clean data behind x, float (B, C, H, W)."""
    c_skip, c_out, c_in, c_noise = scalings(sigma, sigma_data, offset_noise)
    return c_skip * x + c_out * net(c_in * x, c_noise).float()


def denoising_loss(
    net: Network,
    y: Tensor,
    sigma: Tensor,
    noise: Tensor,
    sigma_data: Tensor | float,
    offset_noise: float,
    pixel_weight: Tensor | float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The loss of equation 8 with the weight 1 / c_out^2, one number a sample.

    Args:
        net: see `Network`.
        y: clean data, float (B, C, H, W).
        sigma: noise levels, float (B,).
        noise: n of those levels, as `draw_noise` gives it; float (B, C, H, W).
        pixel_weight: of the squared error of each pixel, float (B, C, H, W).

    Returns:
        loss float (B,), about 1 for a network that knows nothing at a `pixel_weight` of 1; and D_theta(y + n; sigma),
        float (B, C, H, W).
    """
    c_skip, c_out, c_in, c_noise = scalings(sigma, sigma_data, offset_noise)
    x = y + noise
    output = net(c_in * x, c_noise).float()
    target = (y - c_skip * x) / c_out
    loss = (pixel_weight * (output - target).square()).mean(dim=(1, 2, 3))
    return loss, c_skip * x + c_out * output
