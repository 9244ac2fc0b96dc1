"""Rows of the table of `published.py`: two sets of numbers, and how far they differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor


class Row(NamedTuple):
    """One line of the table: two sets of numbers, side by side."""

    name: str
    largest: float | str  # absolute value among ours
    difference: float | str
    border: float | str = ""  # the same on the last row and column of a frame
    as_it_comes: float | str = ""  # from the published code with its faults


def compared(name: str, mine: Tensor, other: Tensor, fault: Tensor | None = None, frames: bool = False) -> Row:
    mine, other = mine.detach(), other.detach()
    border = (
        max(distance(mine[..., -1, :], other[..., -1, :]), distance(mine[..., -1], other[..., -1])) if frames else ""
    )
    as_it_comes = "" if fault is None else distance(mine, fault)
    return Row(name, float(mine.abs().max()), distance(mine, other), border, as_it_comes)


def distance(a: Tensor, b: Tensor) -> float:
    return float((a.detach() - b.detach()).abs().max())


@contextmanager
def same_noise() -> Iterator[None]:
    """Inside, normal numbers come from one sequence a shape, so that the order of the shapes does not matter."""
    real, generators = torch.randn, {}

    def draw(*shape: Any, **_: Any) -> Tensor:
        size = tuple(torch.empty(*shape, device="meta").shape)
        generator = generators.setdefault(size, torch.Generator().manual_seed(len(size)))
        return real(size, generator=generator)

    with patch.multiple(torch, randn=draw, randn_like=lambda x: draw(x.shape)):
        yield
