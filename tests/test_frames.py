"""Bytes to floats and back, and pictures made of frames."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from adamas.data.frames import to_float, to_uint8, with_changes
from adamas.utils.images import difference, gif, png, tile

LEVELS = torch.arange(256, dtype=torch.uint8)


def decode_gif(data: bytes, duration: int, mode: str = "L") -> list[np.ndarray]:
    """Its frames, one every `duration` ms: a GIF holds a frame that does not change once, for longer."""
    frames = []
    for frame in ImageSequence.Iterator(Image.open(io.BytesIO(data))):
        times, rest = divmod(frame.info["duration"], duration)
        assert rest == 0
        frames += [np.array(frame.convert(mode))] * times
    return frames


def test_floats_span_minus_1_to_1_evenly() -> None:
    x = to_float(LEVELS)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, torch.linspace(-1, 1, 256))


def test_every_grey_level_survives_100_round_trips() -> None:
    frame = LEVELS
    for _ in range(100):
        frame = to_uint8(to_float(frame))
    assert frame.dtype == torch.uint8
    assert torch.equal(frame, LEVELS)


@given(st.integers(0, 255), st.floats(-0.499, 0.499))
def test_a_float_becomes_the_nearest_level(level: int, off: float) -> None:
    assert to_uint8(torch.tensor((level + off) / 127.5 - 1)).item() == level


@pytest.mark.parametrize(("x", "level"), [(-7.0, 0), (-1.001, 0), (1.001, 255), (float("inf"), 255)])
def test_what_is_out_of_range_is_clipped(x: float, level: int) -> None:
    assert to_uint8(torch.tensor(x)).item() == level


def test_half_precision_is_rounded_as_a_float_is() -> None:
    half = torch.linspace(-1, 1, 999).bfloat16()
    assert torch.equal(to_uint8(half), to_uint8(half.float()))


def test_a_difference_is_grey_where_frames_agree_and_half_as_large_elsewhere() -> None:
    mine = torch.tensor([0, 7, 255, 0, 100], dtype=torch.uint8)
    theirs = torch.tensor([0, 7, 0, 255, 91], dtype=torch.uint8)
    assert difference(mine, theirs).tolist() == [128, 128, 255, 0, 132]


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3))
@settings(deadline=None, max_examples=50)
def test_tile_puts_each_film_in_its_place(t: int, rows: int, n: int, size: int, gap: int, scale: int) -> None:
    h, w = size, size + 1
    films = torch.randint(1, 256, (rows, t, n, h, w), dtype=torch.uint8)  # not 0: that is the gap's
    grid = tile(list(films), gap=gap, scale=scale)
    assert grid.shape == (t, scale * (rows * (h + gap) - gap), scale * (n * (w + gap) - gap))
    small = grid[:, ::scale, ::scale]
    assert torch.equal(grid, small.repeat_interleave(scale, 1).repeat_interleave(scale, 2)), "a pixel is a square"
    for row, film in itertools.product(range(rows), range(n)):
        top, left = row * (h + gap), film * (w + gap)
        assert torch.equal(small[:, top : top + h, left : left + w], films[row, :, film])
    assert (small == 0).sum() == small.numel() - films.numel(), "all else is dark"


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(0, 2**16))
@settings(deadline=None, max_examples=30)
def test_a_gif_shows_the_frames_that_it_was_given(order: list[int], seed: int) -> None:
    """Also where frames repeat, and with all 256 grey levels."""
    pictures = torch.randint(0, 256, (4, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    pictures[0] = LEVELS.reshape(16, 16)
    film = pictures[order]
    frames = decode_gif(gif(film, fps=20), duration=50)
    if len(set(order)) == 1:  # a still picture: no duration to count
        frames = frames[:1] * len(order)
    np.testing.assert_array_equal(np.stack(frames), film.numpy())


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(1, 256), st.integers(0, 2**16))
@settings(deadline=None, max_examples=30)
def test_a_gif_shows_the_colours_that_it_was_given(order: list[int], colours: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    palette = torch.randint(0, 256, (colours, 3), dtype=torch.uint8, generator=generator)
    film = palette[torch.randint(colours, (4, 16, 16), generator=generator)][order]
    frames = decode_gif(gif(film, fps=20), duration=50, mode="RGB")
    if len(frames) != len(order):  # a still picture: no duration to count
        assert all(torch.equal(film[0], frame) for frame in film)
        frames = frames[:1] * len(order)
    np.testing.assert_array_equal(np.stack(frames), film.numpy())


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 16, 128, 255])
def test_a_gif_has_its_see_through_colour_in_its_table(levels: int) -> None:
    film = torch.arange(levels).byte().repeat(2, 4, 1)
    film[1, 0, 0] = levels - 1
    data = gif(film)
    assert data[10] & 0x80, "a table for all frames"
    (place,) = {data[i + 6] for i in range(len(data) - 7) if data[i : i + 3] == b"\x21\xf9\x04" and data[i + 3] & 1}
    assert place < 2 << (data[10] & 7)


def test_of_more_colours_than_a_gif_can_have_those_that_are_alike_become_one() -> None:
    level = torch.arange(4096)
    film = torch.stack([level // 256 * 16, level // 16 % 16 * 16, level % 16 * 16], dim=-1).byte().reshape(4, 32, 32, 3)
    with Image.open(io.BytesIO(gif(film))) as shown:
        for frame, exact in zip(ImageSequence.Iterator(shown), film.int(), strict=True):
            assert (torch.from_numpy(np.array(frame.convert("RGB"))).int() - exact).abs().max() <= 64


def test_every_grey_level_survives_100_rounds_through_a_gif_and_a_png() -> None:
    picture = LEVELS.reshape(16, 16)
    for _ in range(100):
        picture = torch.from_numpy(np.array(Image.open(io.BytesIO(png(picture)))))
        film = torch.stack([picture, 255 - picture])
        frames = decode_gif(gif(film, fps=20), duration=50)
        np.testing.assert_array_equal(np.stack(frames), film.numpy())
        picture = torch.from_numpy(frames[0])
    assert torch.equal(picture, LEVELS.reshape(16, 16))


def test_what_stands_still_costs_a_gif_next_to_nothing() -> None:
    film = torch.randint(0, 255, (1, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    film = film.repeat(10, 1, 1)
    film[:, 10, 10] = film[:, 50, 50] = torch.arange(10, dtype=torch.uint8)
    assert len(gif(film)) < 2 * len(gif(film[:1]))


def test_a_gif_loops_for_ever() -> None:
    data = gif(torch.stack([LEVELS.reshape(16, 16), 255 - LEVELS.reshape(16, 16)]))
    assert Image.open(io.BytesIO(data)).info["loop"] == 0


@pytest.mark.parametrize("n", [1, 2, 4])
def test_frames_in_a_row_become_the_newest_and_the_changes_that_led_to_it(n: int) -> None:
    frames = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    seen = with_changes(frames, n)
    assert seen.shape == (2, 6 - n, n, 3, 4)
    for t in range(6 - n):
        newest = t + n - 1
        assert torch.equal(seen[:, t, 0], frames[:, newest])
        for i in range(1, n):
            assert torch.equal(seen[:, t, i], 32 * (frames[:, t + i] - frames[:, t + i - 1]))
