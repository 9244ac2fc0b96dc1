"""Convolutional blocks. Frames flow as float (B, C, H, W), conditions as float (B, D)."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamas.utils.random import Random, uniform

GROUP_CHANNELS = 32  # channels a normalisation group, where there are as many
Module = TypeVar("Module", bound=nn.Module)
HEAD_CHANNELS = 8  # channels an attention head


def _without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Also on a device that has none, such as "meta", where shapes are worked out."""
    available = torch.amp.is_autocast_available(device_type)
    return torch.autocast(device_type, enabled=False) if available else nullcontext()


def zero(module: Module) -> Module:
    """Starts `module` at zero, so that the branch that it ends adds nothing at first."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def zero_weight(layer: nn.Conv2d) -> nn.Conv2d:
    """The same of the weights alone; the bias starts as torch has it."""
    nn.init.zeros_(layer.weight)
    return layer


def dropout(x: Tensor, rate: Tensor, generator: Random) -> Tensor:
    """Float (B, ...) -> the same shape: each number is 0 with the chance `rate`, and the others grow so that the mean stays
    (Srivastava et al. 2014).

    Args:
        rate: float, below 1, of a shape that fits x.
    """
    return x * ((uniform(x.shape, generator) >= rate) / (1 - rate)).to(x.dtype)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)


class GroupNorm(nn.GroupNorm):
    """Returns the type of x and computes in float32. Autocast would let a GPU, but not a CPU, return float32."""

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor | None = self.weight
        bias: Tensor | None = self.bias
        if weight is not None and bias is not None and x.device.type != "cpu":  # where all must be of one type
            weight, bias = weight.to(x.dtype), bias.to(x.dtype)
        with _without_autocast(x.device.type):
            return F.group_norm(x, self.num_groups, weight, bias, self.eps)


def downsample(channels: int) -> nn.Conv2d:
    """Halves height and width."""
    conv = conv3x3(channels, channels, stride=2)
    nn.init.orthogonal_(conv.weight)
    return conv


def group_norm(channels: int, affine: bool = True) -> GroupNorm:
    groups = math.gcd(max(1, channels // GROUP_CHANNELS), channels)
    return GroupNorm(groups, channels, affine=affine)


def patches(x: Tensor, size: int) -> Tensor:
    """(B, C, H, W) -> (B, C*size^2, H/size, W/size) in channels_last memory: F.pixel_unshuffle.

    A row of patches is brought together first, by copies of whole lines; what is then arranged anew is in the cache.
    """
    if size == 1:
        return x.contiguous(memory_format=torch.channels_last)
    b, c, h, w = x.shape
    rows = x.reshape(b, c, h // size, size, w // size, size).transpose(1, 2).contiguous()
    return rows.permute(0, 1, 4, 2, 3, 5).reshape(b, h // size, w // size, c * size**2).permute(0, 3, 1, 2)


class FourierFeatures(nn.Module):
    """Scalar (B,) -> (B, channels): cosines and sines at fixed random frequencies (Tancik et al. 2020)."""

    frequencies: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(channels // 2))

    def forward(self, x: Tensor) -> Tensor:
        angles = 2 * math.pi * x[:, None] * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=1)


class AdaGroupNorm(nn.Module):
    """Group norm whose scale and shift come from the condition."""

    def __init__(self, channels: int, condition_channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, affine=False)
        self.modulation = nn.Linear(condition_channels, 2 * channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, self.norm(x), 1 + scale)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(C)) v, each (B, heads, N, C). On a CPU in bfloat16 torch's own takes 4 to 5 times as long forward
    and backward, where heads are as small as these."""
    if q.device.type != "cpu":  # whose fused kernels want the channels of a position side by side
        return F.scaled_dot_product_attention(q.contiguous(), k.contiguous(), v.contiguous())
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v


class SelfAttention(nn.Module):
    """Every position looks at every other one; added to its input, once that is normed (as DIAMOND does)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = math.gcd(max(1, channels // HEAD_CHANNELS), channels)
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = self.norm(x)
        qkv = self.qkv(x).reshape(b, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.transpose(3, 4).unbind(1)  # each (B, heads, H*W, C/heads)
        y = attend(q, k, v)
        return x + self.out(y.transpose(2, 3).reshape(b, c, h, w))


class ConditionedResBlock(nn.Module):
    """Two convolutions under adaptive group norm, added to the input; attention after them if asked for."""

    def __init__(self, in_channels: int, out_channels: int, condition_channels: int, attention: bool = False) -> None:
        super().__init__()
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.norm1 = AdaGroupNorm(in_channels, condition_channels)
        self.conv1 = conv3x3(in_channels, out_channels)
        self.norm2 = AdaGroupNorm(out_channels, condition_channels)
        self.conv2 = zero_weight(conv3x3(out_channels, out_channels))
        self.attention = SelfAttention(out_channels) if attention else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x, condition)))
        y = self.conv2(F.silu(self.norm2(y, condition)))
        return self.attention(self.skip(x) + y)


class ResBlock(nn.Module):
    """One convolution under group norm, added to the input."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.norm = group_norm(in_channels)
        self.conv = conv3x3(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.conv(F.silu(self.norm(x)))


class Upsample(nn.Module):
    """Doubles height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
