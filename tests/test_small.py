"""Where small things move, and the weight that the denoiser's loss gives to it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adamas.config import CROP
from adamas.replay import Segment
from adamas.world_model.small import LENGTH, REACH, crop_near_small_movers, near_small_movers, top_hat


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


def segments(seed: int, balls: list[tuple[int, int] | None]) -> Segment:
    """One a ball: two frames of grey gravel, too flat to be a thing; then a ball that has moved, or not, to there; then a
    frame with another one, which is what a denoiser has to find."""
    random = torch.Generator().manual_seed(seed)
    obs = torch.randint(90, 100, (len(balls), 4, 84, 84), generator=random, dtype=torch.uint8)
    for frames, ball in zip(obs, balls, strict=True):
        if ball:
            box(frames[2], *ball, 2, 2, 250)
        box(frames[3], 40, 40, 2, 2, 250)
    shape = obs.shape[:2]
    action, no = torch.randint(0, 4, shape, generator=random), torch.zeros(shape, dtype=torch.bool)
    return Segment(obs, action, torch.rand(shape, generator=random), no, no, ~no)


places = st.one_of(st.none(), st.tuples(st.integers(0, 82), st.integers(0, 82)))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), balls=st.lists(places, min_size=1, max_size=5), grid=st.sampled_from([1, 8, 16]))
def test_a_crop_is_a_square_of_the_frames_near_what_moved_before_the_last_one(seed, balls, grid):
    whole = segments(seed, balls)
    crops = crop_near_small_movers(whole, grid, torch.Generator().manual_seed(seed))
    assert crops.obs.shape == (len(balls), 4, CROP, CROP)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(crops[1:], whole[1:], strict=True))
    again = crop_near_small_movers(whole, grid, torch.Generator().manual_seed(seed))
    assert torch.equal(again.obs, crops.obs)
    for crop, frames, ball in zip(crops.obs, whole.obs, balls, strict=True):
        corners = [
            (y, x)
            for y in range(0, 84 - CROP + 1, grid)
            for x in range(0, 84 - CROP + 1, grid)
            if torch.equal(frames[:, y : y + CROP, x : x + CROP], crop)
        ]
        assert len(corners) == 1, "gravel is nowhere the same"
        farthest = CROP // 2 + REACH + grid // 2
        for corner, at in zip(corners[0], ball or (), strict=False):
            last = (84 - CROP) // grid * grid
            assert abs(min(max(at, CROP // 2), last + CROP // 2) - corner - CROP // 2) <= farthest


def test_crops_of_frames_in_which_nothing_moves_are_anywhere():
    crops = crop_near_small_movers(segments(0, [None] * 400), 8, torch.Generator().manual_seed(0))
    ball = (crops.obs[:, 3] == 250).flatten(1).any(1).float().mean()
    # the corners 16, 24, 32 and 40 show the ball at 40: those of 32 of the 84 rows, and so of the columns
    assert ball == pytest.approx((32 / 84) ** 2, abs=0.06)


def test_crops_go_to_each_pixel_near_alike():
    """Two balls far apart: half of the crops go to each."""
    whole = segments(0, [(10, 10)] * 200)
    for frames in whole.obs:
        box(frames[2], 70, 70, 2, 2, 250)
        frames[3] = frames[2]
    crops = crop_near_small_movers(whole, 8, torch.Generator().manual_seed(0))
    assert ((crops.obs[:, 2] == 250).sum((1, 2)) == 4).all()
    first = (crops.obs[:, 2, :, :].flatten(1) == 250).any(1) & (crops.obs[:, 2, 10, 10] == 250)
    assert first.float().mean() == pytest.approx(0.5, abs=0.1)
