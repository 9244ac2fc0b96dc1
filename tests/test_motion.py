"""Where small things move, and the weight that the denoiser's loss gives to it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adamas.data.motion import BEND, LENGTH, LOOK_BACK, REACH, direction_changed, lost_track, near_small_movers, top_hat


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


@pytest.mark.parametrize(("frame", "ball"), [(0, 255), (255, 0), (0, 31), (250, 200)])
def test_a_change_of_any_size_and_sign_is_measured_without_wrapping_around(frame, ball):
    """Bytes: 0 - 255 is 1 of them, and 110 - 112 is 254."""
    moved, flickers = empty(grey=frame), empty(grey=frame)
    for t in range(2):
        box(moved[0, t], 10 + 6 * t, 20, 2, 2, ball)
        box(flickers[0, t], 10, 20, 2, 2, abs(ball - 2 * t))
    assert near_small_movers(moved)[0, 17, 20] == (abs(frame - ball) > 40)
    assert not near_small_movers(flickers).any()


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


def film(places: list[tuple[int, int] | None], grey: int = 0, ball: int = 110) -> Tensor:
    """uint8 (T, 40, 40): a ball of 2x2 pixels whose upper left corner is at each place, or nowhere."""
    frames = empty(len(places), grey)
    for t, place in enumerate(places):
        if place is not None:
            box(frames[0, t], *place, 2, 2, ball)
    return frames[0]


@pytest.mark.parametrize(
    ("off", "gone"), [(0, False), (REACH, False), (-REACH, False), (REACH + 2, True), (None, True)]
)
@pytest.mark.parametrize(("grey", "ball"), [(0, 110), (200, 90)], ids=["bright on dark", "dark on bright"])
def test_a_dream_has_lost_track_of_a_ball_that_is_not_near_its_place(off, gone, grey, ball):
    """The dream of step 2 is wrong, those before and after it are right. REACH pixels away every pixel has one near."""
    happened = [(4 + 3 * t, 15 + 2 * t) for t in range(5)]
    row, column = happened[3]
    dreamed = [*happened[:3], None if off is None else (row, column + off), happened[4]]
    answer = lost_track(film(happened, grey, ball)[None], film(dreamed, grey, ball)[None])
    assert answer.tolist() == [[False, False, gone, False]]


def test_what_stands_still_or_is_long_cannot_be_lost():
    frames, nothing = empty(3), empty(3)
    for t in range(3):
        box(frames[0, t], 3, 3, 2, 2)
        box(frames[0, t], 34, 5 + 5 * t, 2, 8)
    assert not lost_track(frames, nothing).any()


def test_half_of_what_moves_may_be_lost():
    happened = empty()
    for t in range(2):
        for top in (5, 20, 30):
            box(happened[0, t], top, 10 + 3 * t, 2, 2)
    for kept, gone in (((5, 20), False), ((20,), True)):
        dreamed = empty()
        for t in range(2):
            for top in kept:
                box(dreamed[0, t], top, 10 + 3 * t, 2, 2)
        assert lost_track(happened, dreamed).item() is gone


def test_straight_flight_is_no_turn_and_a_bounce_is_one():
    down = [(2 + 4 * t, 3 + 2 * t) for t in range(8)]
    assert not direction_changed(film(down)).any()
    up = [(26 - 4 * t, 19 + 2 * t) for t in range(5)]
    assert direction_changed(film(down + up)).nonzero().flatten().tolist() == [8]


@pytest.mark.parametrize(("grey", "ball"), [(0, 110), (200, 90)], ids=["bright on dark", "dark on bright"])
@pytest.mark.parametrize("bend", [1, 2])
def test_a_turn_is_a_bend_of_more_than_the_threshold_in_any_direction(grey, ball, bend):
    for down, across in ((bend, 0), (-bend, 0), (0, bend), (0, -bend)):
        places = [(10 + 3 * t, 10 + 3 * t) for t in range(5)] + [(25 + down, 25 + across)]
        places += [(places[-1][0] + (3 + down) * t, places[-1][1] + (3 + across) * t) for t in range(1, 3)]
        assert direction_changed(film(places, grey, ball)).nonzero().flatten().tolist() == ([5] if bend > BEND else [])


def test_large_still_and_missing_things_do_not_turn():
    frames = film([(20, 10 + 3 * t) for t in range(10)])
    for t, left in enumerate((0, 9, 2, 14, 5, 20, 1, 25, 8, 0)):
        box(frames[t], 34, left, 2, 8)  # a paddle to and fro
        box(frames[t], 3, 3, 2, 2)  # stands still
    assert not direction_changed(frames).any()
    assert not direction_changed(film([(20, 20), (24, 20), (28, 20), None, (10, 30), (20, 5), None, (28, 20)])).any()


def test_the_first_frames_cannot_be_told_and_few_frames_are_no_error():
    zigzag = [(10, 10 + 20 * (t % 2)) for t in range(9)]
    assert direction_changed(film(zigzag)).nonzero().flatten().tolist() == list(range(LOOK_BACK, 9))
    for count in range(1, LOOK_BACK + 1):
        assert direction_changed(film(zigzag[:count])).tolist() == [False] * count
