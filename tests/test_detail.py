"""The detail metrics against pictures whose figures are known by hand, a naive search for objects, and torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adamas.config import Atari
from adamas.envs.atari import AtariEnv
from adamas.evaluation.detail import (
    Detail,
    background,
    changes,
    high_frequency_ratio,
    measure,
    moving_pixels,
    psnr,
    small_objects,
    ssim,
)

FAST = settings(max_examples=40, deadline=None)
THRESHOLD, LARGEST = 25, 12  # grey levels, pixels: as documented
SIZE, GREY, BALL = 16, 60, 150  # of the hand-made pictures; levels of background and ball
STILL = torch.full((SIZE, SIZE), GREY, dtype=torch.uint8)
COUNTS = {"psnr", "small_objects"}  # figures that are not 1 when all is right


def scene(*boxes: tuple[int, int, int, int], level: int = BALL) -> Tensor:
    """Rectangles (top, left, height, width) on the background: uint8 (SIZE, SIZE)."""
    frame = STILL.clone()
    for top, left, height, width in boxes:
        frame[top : top + height, left : left + width] = level
    return frame


def ball(top: int, left: int, level: int = BALL) -> Tensor:
    return scene((top, left, 2, 2), level=level)


def one(frame: Tensor) -> Tensor:
    """One film of one step: (H, W) -> (1, 1, H, W)."""
    return frame[None, None]


def films(seed: int, n: int = 3, t: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `measure` takes: a background, and specks of any grey level on it, half of which both films share."""
    generator = torch.Generator().manual_seed(seed)

    def levels(*shape: int) -> Tensor:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    def speckle(film: Tensor, share: float) -> Tensor:
        return torch.where(torch.rand(film.shape, generator=generator) < share, levels(*film.shape), film)

    still = levels(12, 13)
    both = speckle(still.expand(n, t + 1, 12, 13), 0.1)
    return speckle(both, 0.05)[:, 1:], speckle(both, 0.05)[:, 1:], both[:, 0], still


def figures(detail: Detail) -> dict[str, float]:
    """Of its only step."""
    return {name: value.item() for name, value in detail._asdict().items()}


def assert_same(a: Detail, b: Detail) -> None:
    for name, x, y in zip(Detail._fields, a, b, strict=True):
        torch.testing.assert_close(x, y, equal_nan=True, rtol=1e-5, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


# --- the background ---


def test_the_background_is_each_pixels_median() -> None:
    frames = torch.tensor([[0, 9], [7, 9], [255, 1], [8, 9], [7, 2]], dtype=torch.uint8)[:, None]
    assert background(frames).tolist() == [[7, 9]]
    assert background(frames).dtype == torch.uint8


def test_the_background_is_that_of_all_films() -> None:
    frames = torch.randint(0, 256, (3, 5, 4, 6), dtype=torch.uint8)
    middle = frames.flatten(0, 1).sort(dim=0).values[7]
    assert torch.equal(background(frames), middle)


def test_of_an_even_count_the_background_is_the_lower_middle() -> None:
    assert background(torch.tensor([10, 40, 20, 30], dtype=torch.uint8)[:, None, None]).item() == 20


# --- PSNR and SSIM ---


@given(st.integers(1, 255), st.booleans())
@FAST
def test_psnr_of_a_constant_error(error: int, darker: bool) -> None:
    x, y = torch.zeros(2, 3, 4, 5, dtype=torch.uint8), torch.full((2, 3, 4, 5), error, dtype=torch.uint8)
    if darker:
        x, y = y, x
    torch.testing.assert_close(psnr(x, y), torch.full((3,), 20 * math.log10(255 / error)), rtol=0, atol=1e-4)


def test_psnr_pools_the_errors_of_the_films_before_the_logarithm() -> None:
    real = torch.zeros(4, 2, 4, 4, dtype=torch.uint8)
    imagined = real.clone()
    imagined[0, 1] = 20  # mean square 400 in one film of four
    torch.testing.assert_close(psnr(imagined, real), torch.tensor([99, 10 * math.log10(255**2 / 100)]))


@given(st.integers(0, 255), st.integers(0, 255))
@FAST
def test_ssim_of_two_even_pictures_is_their_luminance_term(a: int, b: int) -> None:
    c1 = 2.55**2
    x, y = (torch.full((1, 1, 6, 14), level, dtype=torch.uint8) for level in (a, b))
    torch.testing.assert_close(ssim(x, y), torch.tensor([(2 * a * b + c1) / (a**2 + b**2 + c1)]))


@pytest.mark.parametrize("seed", range(3))
def test_ssim_is_equation_13_window_by_window(seed: int) -> None:
    """Means, variances and covariance as they are defined, pixel by pixel."""
    x, y = np.random.default_rng(seed).integers(0, 256, (2, 9, 14))
    y[:, :7] = x[:, :7] // 2 + 64  # alike on one side
    weight = np.outer(*[np.exp(-((np.arange(11) - 5) ** 2) / 4.5)] * 2)
    weight /= weight.sum()
    c1, c2 = 2.55**2, 7.65**2
    scores = []
    for i, j in np.ndindex(*x.shape):
        a, b = (np.pad(p, 5, mode="reflect")[i : i + 11, j : j + 11] for p in (x, y))
        ma, mb = (weight * a).sum(), (weight * b).sum()
        va, vb, cov = (
            (weight * (a - ma) ** 2).sum(),
            (weight * (b - mb) ** 2).sum(),
            (weight * (a - ma) * (b - mb)).sum(),
        )
        scores.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    assert ssim(*(one(torch.from_numpy(p).byte()) for p in (x, y))).item() == pytest.approx(np.mean(scores), abs=1e-6)


@given(st.integers(0, 2**16), st.integers(0, 40), st.integers(6, 30), st.integers(6, 30))
@settings(max_examples=15, deadline=None)
def test_psnr_and_ssim_are_those_of_torchmetrics(seed: int, noise: int, height: int, width: int) -> None:
    oracle = pytest.importorskip("torchmetrics.functional.image")
    generator = torch.Generator().manual_seed(seed)
    real = torch.randint(0, 256, (3, 2, height, width), dtype=torch.uint8, generator=generator)
    real[:, :, : height // 2] //= 8  # dark and even above, bright and busy below
    error = torch.randint(-noise, noise + 1, real.shape, generator=generator)
    imagined = (real + error).clamp(0, 255).byte()
    imagined[0, 1, 0, 0] = 255 - real[0, 1, 0, 0]  # never perfect in step 1
    for t in range(2):
        x, y = (film[:, t : t + 1].double() for film in (imagined, real))  # one grey channel
        theirs = oracle.structural_similarity_index_measure(x, y, data_range=255.0)
        assert ssim(imagined, real)[t].item() == pytest.approx(theirs.item(), abs=1e-5)
        theirs = oracle.peak_signal_noise_ratio(x, y, data_range=255.0)
        assert psnr(imagined, real)[t].item() == pytest.approx(min(theirs.item(), 99), abs=1e-3)


# --- moving pixels ---


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_pixel_moves_above_the_threshold_only(sign: int) -> None:
    still, moving = (one(STILL + sign * (THRESHOLD + more)) for more in (0, 1))
    recall, precision = moving_pixels(still, moving, STILL)
    assert recall.item() == 1
    assert math.isnan(precision.item())


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_pixel_is_right_up_to_the_threshold(sign: int) -> None:
    real = one(scene((0, 0, 1, 2)))
    imagined = real.clone()
    imagined[0, 0, 0, 0] += sign * THRESHOLD
    imagined[0, 0, 0, 1] += sign * (THRESHOLD + 1)
    assert moving_pixels(imagined, real, STILL) == (0.5, 0.5)


def test_moving_recall_and_precision_by_hand() -> None:
    """Real: 10 pixels. Imagined: 6 of them, and 2 where nothing is."""
    imagined, real = scene((3, 2, 1, 6), (9, 0, 2, 1)), scene((3, 2, 1, 10))
    recall, precision = moving_pixels(one(imagined), one(real), STILL)
    assert recall.item() == pytest.approx(6 / 10)
    assert precision.item() == pytest.approx(6 / 8)


def test_films_are_pooled_and_steps_are_not() -> None:
    """Counts are added before they are divided: 1 of 1 and 2 of 9 pixels are 3 of 10."""
    step_0 = torch.stack([scene((0, 0, 1, 1)), scene((4, 0, 1, 9))]), torch.stack([scene((0, 0, 1, 1)), ball(4, 0)])
    step_1 = torch.stack([scene((8, 0, 1, 4)), STILL]), torch.stack([scene((8, 0, 2, 4)), STILL])
    real, imagined = (torch.stack(steps, dim=1) for steps in zip(step_0, step_1, strict=True))
    recall, precision = moving_pixels(imagined, real, STILL)
    torch.testing.assert_close(recall, torch.tensor([3 / 10, 4 / 4]))
    torch.testing.assert_close(precision, torch.tensor([3 / 5, 4 / 8]))


@FAST
@given(st.integers(0, 2**16))
def test_what_moves_and_is_missing_is_never_right(seed: int) -> None:
    """At any grey level: the background alone has a recall of 0, and beside a real background a precision of 0."""
    _, real, _, still = films(seed)
    empty = still.expand(real.shape)
    for metric in (moving_pixels, small_objects):
        assert metric(empty, real, still)[0].tolist() == [0, 0]
        assert metric(real, empty, still)[1].tolist() == [0, 0]


# --- small objects ---


@pytest.mark.parametrize(
    ("name", "imagined", "recall", "precision"),
    [
        ("there", ball(6, 6), 1, 1),
        ("lost", STILL, 0, math.nan),
        ("doubled", scene((6, 6, 2, 2), (6, 10, 2, 2)), 1, 1 / 2),
        ("false ones beside it", scene((6, 6, 2, 2), (0, 0, 1, 2), (12, 1, 3, 1), (9, 9, 1, 1)), 1, 1 / 4),
        ("moved by one pixel: half right", ball(6, 7), 1, 1),
        ("moved by one pixel both ways: a quarter right", ball(7, 7), 0, 0),
        ("moved by its size", ball(6, 8), 0, 0),
        ("faded to half its contrast", ball(6, 6, level=(GREY + BALL) // 2), 0, 0),
        ("faded below the threshold", ball(6, 6, level=GREY + THRESHOLD), 0, math.nan),
        ("a ghost apart from it", scene((6, 6, 2, 2), (6, 3, 2, 2)), 1, 1 / 2),
        ("a ghost as large that touches it", scene((6, 6, 2, 2), (6, 4, 2, 2)), 1, 1),
        ("a larger ghost that touches it", scene((6, 6, 2, 2), (6, 3, 2, 3)), 1, 0),
        ("part of something large", scene((6, 6, 2, 2), (8, 2, 2, 8)), 1, math.nan),
        ("in the dark instead of bright", ball(6, 6, level=GREY - (BALL - GREY) // 2), 0, 0),
    ],
)
def test_what_a_ball_may_come_to(name: str, imagined: Tensor, recall: float, precision: float) -> None:
    found = small_objects(one(imagined), one(ball(6, 6)), STILL)
    assert [x.item() for x in found] == pytest.approx([recall, precision, 1], nan_ok=True), name


def test_a_real_ball_that_touches_the_paddle_is_no_small_object() -> None:
    apart, touching = (one(scene((top, 6, 2, 2), (10, 2, 2, 8))) for top in (6, 8))
    assert small_objects(touching, apart, STILL)[2].item() == 1
    recall, precision, count = (x.item() for x in small_objects(apart, touching, STILL))
    assert math.isnan(recall)
    assert (precision, count) == (0, 0)


@pytest.mark.parametrize(("pixels", "count"), [(1, 1), (LARGEST, 1), (LARGEST + 1, 0)])
def test_an_object_is_small_up_to_largest(pixels: int, count: int) -> None:
    frame = one(scene((5, 0, 1, pixels)))
    recall, precision, there = (x.item() for x in small_objects(frame, frame, STILL))
    assert there == count
    assert (recall, precision) == pytest.approx((1, 1) if count else (math.nan, math.nan), nan_ok=True)


@pytest.mark.parametrize(("right", "found"), [(1, 0), (2, 1), (3, 1)])
def test_half_of_an_objects_pixels_are_enough(right: int, found: int) -> None:
    recall, _, _ = small_objects(one(scene((5, 2, 1, right))), one(scene((5, 2, 1, 4))), STILL)
    assert recall.item() == found
    _, precision, _ = small_objects(one(scene((5, 2, 1, 4))), one(scene((5, 2, 1, right))), STILL)
    assert precision.item() == found


def test_corners_join_pixels_to_an_object() -> None:
    frame = one(scene(*((k, k, 1, 1) for k in range(4)), *((k, 15 - k, 1, 1) for k in range(4))))
    assert small_objects(frame, frame, STILL)[2].item() == 2


def test_objects_of_neighbouring_films_do_not_join() -> None:
    """Nor those of neighbouring steps: each fills a row at an edge of its frame."""
    bottom, top = scene((SIZE - 1, 0, 1, LARGEST)), scene((0, 0, 1, LARGEST))
    real = torch.stack([torch.stack([bottom, top, bottom]), torch.stack([top, bottom, STILL])])
    recall, precision, count = small_objects(real, real, STILL)
    assert recall.tolist() == precision.tolist() == [1, 1, 1]
    assert count.tolist() == [2, 2, 1]


def test_what_does_not_move_is_no_object() -> None:
    """However little of it there is."""
    frame, still = one(torch.full((6, 6), BALL, dtype=torch.uint8)), STILL[:6, :6]
    frame[..., 2, 3] = GREY
    assert small_objects(frame, frame, still)[2].item() == 0


def components(moving: list[list[bool]]) -> list[set[tuple[int, int]]]:
    """The sets of pixels that touch, found by hand: no OpenCV."""
    left = {(i, j) for i, row in enumerate(moving) for j, m in enumerate(row) if m}
    found = []
    while left:
        edge = {left.pop()}
        found.append(set(edge))
        while edge:
            edge = {(i + k, j + n) for i, j in edge for k in (-1, 0, 1) for n in (-1, 0, 1)} & left
            left -= edge
            found[-1] |= edge
    return found


@FAST
@given(st.integers(0, 2**16))
def test_objects_are_those_of_a_naive_search(seed: int) -> None:
    imagined, real, _, still = films(seed)

    def share(film: Tensor, t: int) -> tuple[float, int]:
        good = total = 0
        for n in range(len(film)):
            moving = ((film[n, t].int() - still.int()).abs() > THRESHOLD).tolist()
            wrong = ((imagined[n, t].int() - real[n, t].int()).abs() > THRESHOLD).tolist()
            for pixels in components(moving):
                total += len(pixels) <= LARGEST
                good += len(pixels) <= LARGEST and sum(wrong[i][j] for i, j in pixels) <= len(pixels) / 2
        return good / total if total else math.nan, total

    for t in range(2):
        (recall, count), (precision, _) = share(real, t), share(imagined, t)
        ours = [x[t].item() for x in small_objects(imagined, real, still)]
        assert ours == pytest.approx([recall, precision, count], nan_ok=True)


# --- high frequencies ---


def test_the_energy_of_a_dot_is_20_times_its_square() -> None:
    """4^2 in its middle, 1 in each of 4 neighbours; the picture's rim has no Laplacian: -1 and -2 of it are lost."""
    inside, corner, edge = (one(scene((*place, 1, 1))) for place in ((5, 5), (1, 1), (0, 5)))
    assert high_frequency_ratio(corner, inside).item() == pytest.approx(18 / 20)
    assert high_frequency_ratio(edge, inside).item() == pytest.approx(1 / 20)
    half = one(scene((9, 9, 1, 1), level=GREY - (BALL - GREY) // 3))
    assert high_frequency_ratio(half, inside).item() == pytest.approx(1 / 9)


def test_energies_of_the_films_are_added_before_they_are_divided() -> None:
    dot = scene((5, 5, 1, 1))
    faint = scene((5, 5, 1, 1), level=GREY + (BALL - GREY) // 3)
    imagined = torch.stack([torch.stack([dot, faint]), torch.stack([dot, dot])])
    real = torch.stack([torch.stack([dot, dot]), torch.stack([faint, STILL])])
    torch.testing.assert_close(high_frequency_ratio(imagined, real), torch.tensor([2 / (1 + 1 / 9), 1 + 1 / 9]))


@FAST
@given(st.integers(0, 2**16))
def test_blur_lowers_the_ratio_and_noise_raises_it(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    real = torch.randint(100, 156, (2, 1, 16, 16), dtype=torch.uint8, generator=generator)
    blurred = torch.nn.functional.avg_pool2d(real.float(), 3, stride=1, padding=1, count_include_pad=False).byte()
    noisy = (real + 20 * torch.randn(real.shape, generator=generator)).round().clamp(0, 255).byte()
    assert high_frequency_ratio(blurred, real).item() < 0.2
    assert high_frequency_ratio(noisy, real).item() > 1.5


def test_a_slope_has_no_high_frequencies() -> None:
    slope = (10 * torch.arange(SIZE)[:, None] + 5 * torch.arange(SIZE)).byte()
    assert high_frequency_ratio(one(slope), one(ball(6, 6))).item() == 0
    assert math.isnan(high_frequency_ratio(one(ball(6, 6)), one(slope)).item())
    assert math.isnan(high_frequency_ratio(one(slope), one(slope)).item())


# --- changes ---


def test_changes_have_a_sign_and_do_not_wrap_around() -> None:
    film = torch.tensor([[0, 255, 5, 5], [9, 7, 130, 0]], dtype=torch.uint8)[..., None, None]
    assert changes(film).flatten(1).tolist() == [[255, -250, 0], [-2, 123, -130]]


def at_step_1(imagined: list[Tensor], real: list[Tensor]) -> dict[str, float]:
    """Figures of the last step of films that begin with the same frame."""
    assert torch.equal(imagined[0], real[0])
    detail = measure(torch.stack(imagined[1:])[None], torch.stack(real[1:])[None], real[0][None], STILL)
    return {name: value[-1].item() for name, value in detail._asdict().items()}


def test_a_trailing_ghost_shows_in_the_change() -> None:
    """The ball is where it should be, and also still where it was."""
    real = [ball(6, 2), ball(6, 4), ball(6, 6)]
    ghost = [ball(6, 2), ball(6, 4), scene((6, 4, 2, 4))]
    got = at_step_1(ghost, real)
    assert (got["small_object_recall"], got["small_object_precision"]) == (1, 1), "a single object that is half right"
    assert (got["change_recall"], got["change_precision"]) == (0.5, 1), "what should have gone has not"
    assert got["moving_precision"] == 0.5
    assert got["change_object_recall"] == 1, "half of the change is right"


def test_a_ball_that_stands_still_shows_in_the_change() -> None:
    got = at_step_1([ball(6, 2), ball(6, 4), ball(6, 4)], [ball(6, 2), ball(6, 4), ball(6, 6)])
    assert (got["change_recall"], got["change_object_recall"], got["change_frequency_ratio"]) == (0, 0, 0)
    assert math.isnan(got["change_precision"])
    assert got["high_frequency_ratio"] == 1, "which that of the frames cannot tell"


def test_a_ball_that_should_stand_still_shows_in_the_change() -> None:
    got = at_step_1([ball(6, 2), ball(6, 4), ball(6, 6)], [ball(6, 2), ball(6, 4), ball(6, 4)])
    assert got["change_precision"] == 0
    assert all(math.isnan(got[name]) for name in ("change_recall", "change_object_recall", "change_frequency_ratio"))


def test_a_change_is_since_the_films_own_frame_before() -> None:
    """A film that is too bright from its first step on has changed too much in that step only."""
    real = torch.stack([ball(6, 4), ball(6, 6), ball(6, 8)])[None]
    detail = measure(real + THRESHOLD + 1, real, ball(6, 2)[None], STILL)
    assert detail.moving_recall.tolist() == [0, 0, 0]
    assert detail.change_recall.tolist() == [0, 1, 1]
    assert detail.change_precision.tolist() == [0, 1, 1]
    assert detail.change_object_recall.tolist() == [0, 1, 1]
    assert detail.change_frequency_ratio.tolist() == detail.high_frequency_ratio.tolist() == [1, 1, 1]


def test_the_first_change_is_since_the_last_real_frame() -> None:
    real = one(ball(6, 6))
    assert math.isnan(measure(real, real, ball(6, 6)[None], STILL).change_recall.item())
    assert measure(real, real, ball(6, 4)[None], STILL).change_recall.item() == 1


def test_changes_to_and_from_white_do_not_wrap_around() -> None:
    """255 -> 0 is a change of -255, not of +1; and 0 -> 255 is 510 away from it, not 2 or 0."""
    black, white = (one(torch.full_like(STILL, level)) for level in (0, 255))
    corner = white.clone()
    corner[..., 0, 0] = 0
    detail = measure(black, corner, white[0], STILL)
    assert (detail.change_recall.item(), detail.change_precision.item()) == (1, pytest.approx(1 / SIZE**2))
    assert detail.change_object_recall.item() == 1
    previous = torch.where(torch.arange(SIZE) % 2 == 0, 0, 255).byte().expand(1, SIZE, SIZE)
    detail = measure(255 - previous[None], previous[None], 255 - previous, STILL)
    assert detail.change_recall.item() == 0
    assert math.isnan(detail.change_precision.item())


# --- all of them ---


@FAST
@given(st.integers(0, 2**16))
def test_of_a_perfect_film_all_is_right(seed: int) -> None:
    _, real, previous, still = films(seed)
    detail = measure(real, real, previous, still)
    for name, value in detail._asdict().items():
        assert value.dtype == torch.float32
        if name not in COUNTS:
            assert value.tolist() == [1, 1], name
    assert detail.psnr.tolist() == [99, 99]
    assert (detail.small_objects > 0).all()


@FAST
@given(st.integers(0, 2**16))
def test_measure_puts_each_figure_in_its_place(seed: int) -> None:
    imagined, real, previous, still = films(seed, n=3, t=4)
    dx, dy = (changes(torch.cat([previous[:, None], film], dim=1)) for film in (imagined, real))
    nothing = torch.zeros_like(still)
    expected = Detail(
        psnr=psnr(imagined, real),
        ssim=ssim(imagined, real),
        moving_recall=moving_pixels(imagined, real, still)[0],
        moving_precision=moving_pixels(imagined, real, still)[1],
        small_object_recall=small_objects(imagined, real, still)[0],
        small_object_precision=small_objects(imagined, real, still)[1],
        small_objects=small_objects(imagined, real, still)[2],
        high_frequency_ratio=high_frequency_ratio(imagined, real),
        change_recall=moving_pixels(dx, dy, nothing)[0],
        change_precision=moving_pixels(dx, dy, nothing)[1],
        change_object_recall=small_objects(dx, dy, nothing)[0],
        change_frequency_ratio=high_frequency_ratio(dx, dy),
    )
    detail = measure(imagined, real, previous, still)
    assert_same(detail, expected)
    assert all(value.shape == (4,) for value in detail)


@FAST
@given(st.integers(0, 2**16))
def test_imagined_and_real_swapped_swap_recall_and_precision(seed: int) -> None:
    imagined, real, previous, still = films(seed)
    one_way, other_way = measure(imagined, real, previous, still), measure(real, imagined, previous, still)
    assert_same(
        one_way._replace(small_objects=other_way.small_objects, change_object_recall=other_way.change_object_recall),
        other_way._replace(
            moving_recall=other_way.moving_precision,
            moving_precision=other_way.moving_recall,
            small_object_recall=other_way.small_object_precision,
            small_object_precision=other_way.small_object_recall,
            high_frequency_ratio=1 / other_way.high_frequency_ratio,
            change_recall=other_way.change_precision,
            change_precision=other_way.change_recall,
            change_frequency_ratio=1 / other_way.change_frequency_ratio,
        ),
    )


@FAST
@given(
    st.integers(0, 2**16),
    st.sampled_from([lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.mT, lambda x: x.roll(0)]),
)
def test_mirrored_and_turned_films_have_the_same_figures(seed: int, turn) -> None:
    material = films(seed)
    assert_same(measure(*(turn(x) for x in material)), measure(*material))


@FAST
@given(st.integers(0, 2**16))
def test_negatives_have_the_same_figures(seed: int) -> None:
    material = films(seed)
    negative, positive = measure(*(255 - x for x in material)), measure(*material)
    assert_same(negative._replace(ssim=positive.ssim), positive)  # SSIM looks at ratios of brightness


@FAST
@given(st.integers(0, 2**16), st.permutations(range(3)))
def test_the_order_and_the_number_of_films_change_nothing(seed: int, order: list[int]) -> None:
    imagined, real, previous, still = films(seed)
    thrice = [*order, *range(3), *order]
    more = measure(imagined[thrice], real[thrice], previous[thrice], still)
    detail = measure(imagined, real, previous, still)
    assert_same(more, detail._replace(small_objects=3 * detail.small_objects))


@FAST
@given(st.integers(0, 2**16))
def test_a_step_looks_at_its_frame_and_the_one_before(seed: int) -> None:
    """On a film that repeats its second half: the figures do, too."""
    imagined, real, previous, still = films(seed, t=3)
    order = [0, 1, 2, 1, 2]
    again = measure(imagined[:, order], real[:, order], previous, still)
    detail = measure(imagined, real, previous, still)
    assert_same(Detail(*(x[[0, 1, 2, 4]] for x in again)), Detail(*(x[[0, 1, 2, 2]] for x in detail)))


def test_where_nothing_is_there_is_nothing_to_count() -> None:
    detail = figures(measure(one(STILL), one(STILL), STILL[None], STILL))
    assert (detail.pop("psnr"), detail.pop("ssim"), detail.pop("small_objects")) == (99, 1, 0)
    assert all(math.isnan(value) for value in detail.values())


def test_false_things_where_nothing_is_lower_precision_alone() -> None:
    detail = figures(measure(one(ball(6, 6)), one(STILL), STILL[None], STILL))
    precisions = {name: value for name, value in detail.items() if "precision" in name}
    assert set(precisions.values()) == {0}
    assert len(precisions) == 3
    assert all(math.isnan(value) for name, value in detail.items() if "recall" in name or "ratio" in name)


# --- the point of the house ---


def test_a_film_without_its_ball_has_40_db_and_no_small_object() -> None:
    """Rows of bricks, a paddle that moves and a ball of 2x2 pixels, 84x84 as from the emulator."""
    still = torch.zeros(84, 84, dtype=torch.uint8)
    still[16:18], still[:, :4], still[:, 80:] = 142, 142, 142
    still[28:46, 4:80] = torch.arange(90, 180, 5, dtype=torch.uint8)[:, None]
    imagined = still.repeat(7, 1, 1)
    for k, frame in enumerate(imagined):
        frame[75:77, 20 + 7 * k : 36 + 7 * k] = 110  # above LARGEST, and so is what its moves change
    real = imagined.clone()
    for k, frame in enumerate(real):
        frame[50 + 3 * k : 52 + 3 * k, 30 + 3 * k : 32 + 3 * k] = 100
    detail = measure(imagined[None, 1:], real[None, 1:], real[:1], still)
    assert (detail.psnr > 40).all()
    assert (detail.ssim > 0.98).all()
    assert (detail.high_frequency_ratio > 0.98).all()
    assert detail.moving_recall.tolist() == pytest.approx([32 / 36] * 6)
    assert (detail.small_objects.tolist(), detail.small_object_recall.tolist()) == ([1] * 6, [0] * 6)
    assert detail.change_object_recall.tolist() == [0.5] + [0] * 5, (
        "at first it vanishes from where it was, as it should"
    )


@pytest.fixture(scope="module")
def breakout() -> Tensor:
    """300 steps of random play, uint8 (300, 84, 84)."""
    env, generator = AtariEnv("Breakout", Atari(), episodic_life=False), np.random.default_rng(0)
    frames = [env.reset(seed=0)[0]]
    fire = env.action_meanings.index("FIRE")
    while len(frames) < 300:
        action = fire if len(frames) % 20 == 0 else int(generator.integers(len(env.action_meanings)))
        frame, _, over, *_ = env.step(action)
        frames.append(env.reset()[0] if over else frame)
    return torch.from_numpy(np.stack(frames))


def test_in_real_breakout_an_erased_ball_lowers_recall_to_what_is_left(breakout: Tensor) -> None:
    still = background(breakout)
    hall = slice(36, 70), slice(6, 78)  # between bricks and paddle: nothing but the ball is ever there
    moving = (breakout.int() - still.int()).abs() > THRESHOLD
    inside = moving[(slice(None), *hall)].any(dim=(1, 2))
    at_edge = moving[:, 33:36, 6:78].any(dim=(1, 2)) | moving[:, 70:73, 6:78].any(dim=(1, 2))
    real, balls = breakout[~at_edge], int((inside & ~at_edge).sum())
    imagined = real.clone()
    imagined[(slice(None), *hall)] = still[hall]
    assert balls > 50
    detail = figures(measure(imagined[:, None], real[:, None], real, still))
    assert detail["psnr"] > 40
    assert detail["ssim"] > 0.99
    assert detail["small_object_recall"] == pytest.approx(1 - balls / detail["small_objects"])
    assert detail["small_object_precision"] == detail["moving_precision"] == 1
