"""A small frozen network that turns a frame into 128 numbers, for the Fréchet distance. It ships as code.

Nobody trained it: its filters are random, each with mean 0 and norm 1, so that a flat area gives 0 whatever its grey and
white noise keeps its variance. Three layers of them with the modulus between, as in a scattering network (Bruna & Mallat
2013), and the largest response in each cell of a grid that grows coarser with depth: a maximum sees a ball that an
average over the cell would drown. Since filters of mean 0 don't see brightness, its mean over each of 4 x 4 cells is added.

What it sees, as `frechet.Frechet.ratio` at 1,000 frames a set, Breakout / Pong (scripted play, median of four pairs of
sets): blurred by half a pixel 6.6 / 8.1, shifted by one 11 / 4.9, noise of 4 grey levels 1.6 / 12, no paddle 5.3 / 5.5, no
ball 2.6 / 23, half the balls lost 1.2 / 3.2. What it hardly sees: one ball in ten lost 1.0 / 1.1, 2% too dark 1.3 / 5.2, a
ball and a paddle that don't belong together 1.2 / 2.5.
"""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamas.data.frames import to_float

NAME = "adamas-random-conv-v1"  # also the seed: other filters or another forward() deserve another name
SHA256 = "8cbc6d4c7556ca24ebd27b23a776894881bf1d69be5047f714646445e21fa994"

CHANNELS, KERNEL, STRIDE = (4, 8, 16), 4, 2
CELLS = (4, 2, 1)  # of the grid of each layer, a side
BRIGHTNESS_CELLS, BRIGHTNESS_GAIN = 4, 4.0  # with this gain Breakout 4 grey levels too bright has ratio 3


class RandomEncoder(nn.Module):
    """uint8 (B, 84, 84) -> float32 (B, 128), on the frames' device, also under autocast."""

    def __init__(self) -> None:
        super().__init__()
        layers = [random_filters(f"{NAME}/{i}", *io) for i, io in enumerate(pairwise((1, *CHANNELS)))]
        self.layers = nn.ParameterList([nn.Parameter(filters, requires_grad=False) for filters in layers])

    def forward(self, frames: Tensor) -> Tensor:
        with torch.autocast(frames.device.type, enabled=False):
            x = to_float(frames)[:, None]  # (B, 1, 84, 84)
            features = [BRIGHTNESS_GAIN * F.adaptive_avg_pool2d(x, BRIGHTNESS_CELLS)]
            for filters, cells in zip(self.layers, CELLS, strict=True):
                x = F.conv2d(x, filters, stride=STRIDE).abs()  # 41, 19, 8 pixels a side: no border is made up
                features.append(F.adaptive_max_pool2d(x, cells))
        return torch.cat([feature.flatten(1) for feature in features], dim=1)

    def sha256(self) -> str:
        """The digest of name and filters, 64 hexadecimal digits."""
        content = [filters.detach().cpu().numpy().astype("<f4").tobytes() for filters in self.layers]
        return hashlib.sha256(NAME.encode() + b"".join(content)).hexdigest()


def random_filters(label: str, in_channels: int, out_channels: int) -> Tensor:
    """float32 (out, in, KERNEL, KERNEL), uniform, of mean 0 over each kernel and of norm 1 over each output's kernels.

    The same bits on every machine, without a random generator: SHAKE-256 of the label (FIPS 202) gives integers, integer
    arithmetic takes off their mean, and what is left is one square root, one division and one rounding, each of which
    IEEE 754 defines to the last bit.
    """
    shape = (out_channels, in_channels, KERNEL, KERNEL)
    data = hashlib.shake_256(label.encode()).digest(2 * math.prod(shape))
    k = np.frombuffer(data, "<i2").astype(np.int64).reshape(shape)
    k = KERNEL**2 * k - k.sum(axis=(2, 3), keepdims=True)  # below 2^20, and 2^48 the sum of squares: exact
    norm = np.sqrt((k**2).sum(axis=(1, 2, 3), keepdims=True).astype(np.float64))
    return torch.from_numpy((k / norm).astype(np.float32))


def load_encoder() -> RandomEncoder:
    """The encoder, known to have the filters that its name stands for."""
    encoder = RandomEncoder()
    if encoder.sha256() != SHA256:
        raise RuntimeError(
            f"the filters of {NAME} are not what they should be: sha256 {encoder.sha256()}, not {SHA256}. "
            "A change of them needs a new NAME and SHA256, since distances under the old ones don't compare"
        )
    return encoder
