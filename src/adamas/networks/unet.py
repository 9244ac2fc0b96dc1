"""The conditioned U-Net."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamas.networks.blocks import (
    AdaGroupNorm,
    ConditionedResBlock,
    Upsample,
    conv3x3,
    downsample,
    group_norm,
    zero_weight,
)


class UNet(nn.Module):
    """float (B, in_channels, H, W) and condition (B, D) -> float (B, out_channels, H, W), at first a bias alone.

    Level i works at 1/2^i of the frame and has `depths[i]` residual blocks on the way down and one more on the
    way up, each of which also sees its mirror image from the way down.
    Sizes that do not halve evenly are padded with zeros at the bottom and the right, and cropped again.

    With `published` it is DIAMOND's: the two blocks in the middle attend, padding comes after the first convolution and
    cropping before the last norm, and that norm is not conditioned.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        condition_channels: int,
        channels: list[int],
        depths: list[int],
        published: bool,
    ) -> None:
        super().__init__()
        self.published = published
        self.multiple = 2 ** (len(channels) - 1)
        self.conv_in = conv3x3(in_channels, channels[0])
        down: list[Level] = []
        up: list[Level] = []
        finer = channels[0]
        for level, (width, depth) in enumerate(zip(channels, depths, strict=True)):
            down.append(_down_level(finer, width, depth, condition_channels, halve=level > 0))
            up.insert(0, _up_level(finer, width, depth, condition_channels, double=level > 0))
            finer = width
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.middle = nn.ModuleList(
            ConditionedResBlock(channels[-1], channels[-1], condition_channels, attention=published) for _ in range(2)
        )
        self.norm_out = group_norm(channels[0]) if published else AdaGroupNorm(channels[0], condition_channels)
        self.conv_out = zero_weight(conv3x3(channels[0], out_channels))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        margin = (0, -width % self.multiple, 0, -height % self.multiple)
        x = F.pad(self.conv_in(x), margin) if self.published else self.conv_in(F.pad(x, margin))
        skips = []
        for level in cast(Iterable[Level], self.down):
            x = level.resize(x)
            skips.append(x)
            for block in level.blocks:
                x = block(x, condition)
                skips.append(x)
        for block in self.middle:
            x = block(x, condition)
        for level in cast(Iterable[Level], self.up):
            for block in level.blocks:
                x = block(torch.cat([x, skips.pop()], dim=1), condition)
            x = level.resize(x)
        if self.published:
            return self.conv_out(F.silu(self.norm_out(x[..., :height, :width])))
        return self.conv_out(F.silu(self.norm_out(x, condition)))[..., :height, :width]


class Level(nn.Module):
    """Residual blocks at one resolution, and what leads to it or away from it."""

    def __init__(self, resize: nn.Module, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.resize, self.blocks = resize, blocks


def _down_level(finer: int, width: int, depth: int, condition_channels: int, halve: bool) -> Level:
    ins = [finer] + [width] * (depth - 1)
    blocks = nn.ModuleList(ConditionedResBlock(i, width, condition_channels) for i in ins)
    return Level(downsample(finer) if halve else nn.Identity(), blocks)


def _up_level(finer: int, width: int, depth: int, condition_channels: int, double: bool) -> Level:
    skips = [width] * depth + [finer]  # what the way down left at this level, last first
    outs = [width] * depth + [finer]
    ins = [width, *outs[:-1]]
    blocks = nn.ModuleList(
        ConditionedResBlock(i + s, o, condition_channels) for i, s, o in zip(ins, skips, outs, strict=True)
    )
    return Level(Upsample(finer) if double else nn.Identity(), blocks)
