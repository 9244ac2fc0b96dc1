"""Where small things move, and the weight that the denoiser's loss gives to it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adamas.small import LENGTH, REACH, near_small_movers, top_hat


def empty(frames: int = 2, grey: int = 0) -> Tensor:
    return torch.full((1, frames, 40, 40), grey, dtype=torch.uint8)


def box(frame: Tensor, top: int, left: int, height: int, width: int, grey: int = 110) -> None:
    frame[top : top + height, left : left + width] = grey


def opening(x: Tensor, height: int, width: int) -> Tensor:
    """By its definition: the brightest of the blocks through a pixel, each as bright as its darkest pixel."""
    out = torch.zeros_like(x)
    for i in range(x.shape[0] - height + 1):
        for j in range(x.shape[1] - width + 1):
            block = (slice(i, i + height), slice(j, j + width))
            out[block] = out[block].maximum(x[block].min())
    return out


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), height=st.integers(LENGTH, 12), width=st.integers(LENGTH, 12))
def test_the_top_hat_is_the_frame_less_its_opening_by_lines(seed, height, width):
    x = torch.randint(0, 256, (height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    assert torch.equal(top_hat(x), x - opening(x, LENGTH, 1).maximum(opening(x, 1, LENGTH)))


@pytest.mark.parametrize(("frame", "ball"), [(0, 110), (200, 90)], ids=["bright on dark", "dark on bright"])
def test_a_ball_that_moves_is_near_and_a_paddle_is_not(frame, ball):
    frames = empty(grey=frame)
    for t in range(2):
        box(frames[0, t], 10 + 3 * t, 20 + 2 * t, 2, 2, ball)  # flies
        box(frames[0, t], 34, 5 + 5 * t, 2, 8, ball)  # long
        box(frames[0, t], 3, 3, 2, 2, ball)  # stands still
    near = near_small_movers(frames)[0]
    expected = torch.zeros_like(near)
    expected[13 - REACH : 15 + REACH, 22 - REACH : 24 + REACH] = True
    assert torch.equal(near, expected)


def test_the_whole_trail_is_near():
    frames = empty(4)
    for t, top in enumerate((5, 15, 25)):  # gone in the newest frame
        box(frames[0, t], top, 20, 2, 2)
    near = near_small_movers(frames)[0, :, 20]
    assert near[15 - REACH : 27 + REACH].all()
    assert not near[: 15 - REACH].any()


def test_a_thing_at_the_rim_counts_and_rows_are_on_their_own():
    frames = empty().repeat(2, 1, 1, 1)
    box(frames[1, 1], 0, 38, 2, 2)
    near = near_small_movers(frames)
    assert not near[0].any()
    assert near[1, : 2 + REACH, 38 - REACH :].all()
    assert near[1].sum() == (2 + REACH) ** 2
