"""EDM's equations: against Table 1 of Karras et al. 2022, and against what the paper promises of them."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adamas.world_model import edm

sigmas = st.floats(2e-3, 80)
sigma_datas = st.floats(0.02, 2)
offsets = st.sampled_from([0.0]) | st.floats(0.01, 1)
FAST = settings(max_examples=60, deadline=None)


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def every_sign(sigma: float, sigma_data: float, offset: float) -> tuple[Tensor, Tensor]:
    """Data and noise (8, 1, 1, 1), each part at plus and minus its deviation once: their moments are exact."""
    data, pixel, shared = doubles(*itertools.chain(*itertools.product((-1, 1), repeat=3))).reshape(8, 3).unbind(1)
    y, noise = sigma_data * data, sigma * pixel + offset * shared
    return y[:, None, None, None], noise[:, None, None, None]


@FAST
@given(sigmas, sigma_datas)
def test_without_offset_noise_the_scalings_are_those_of_table_1(sigma: float, sigma_data: float) -> None:
    c_skip, c_out, c_in, c_noise = edm.scalings(doubles(sigma), sigma_data, offset_noise=0.0)
    root = math.sqrt(sigma**2 + sigma_data**2)
    assert c_skip.item() == pytest.approx(sigma_data**2 / root**2, rel=1e-9)
    assert c_out.item() == pytest.approx(sigma * sigma_data / root, rel=1e-9)
    assert c_in.item() == pytest.approx(1 / root, rel=1e-9)
    assert c_noise.item() == pytest.approx(math.log(sigma) / 4, rel=1e-9, abs=1e-12)


@FAST
@given(sigmas, sigma_datas, offsets)
def test_offset_noise_counts_as_noise(sigma: float, sigma_data: float, offset: float) -> None:
    ours = edm.scalings(doubles(sigma), sigma_data, offset)
    torch.testing.assert_close(ours, edm.scalings(doubles(math.hypot(sigma, offset)), sigma_data, 0.0))


def test_scalings_broadcast_over_frames_and_c_noise_is_one_number_a_frame() -> None:
    c_skip, c_out, c_in, c_noise = edm.scalings(doubles(1, 2, 3), 0.5, 0.3)
    assert c_skip.shape == c_out.shape == c_in.shape == (3, 1, 1, 1)
    assert c_noise.shape == (3,)


@FAST
@given(sigmas, sigma_datas, offsets)
def test_input_has_unit_variance_and_a_zero_network_has_loss_1(sigma: float, sigma_data: float, offset: float) -> None:
    y, noise = every_sign(sigma, sigma_data, offset)
    inputs = []

    def zero_network(x: Tensor, c_noise: Tensor) -> Tensor:
        inputs.append(x)
        return torch.zeros_like(x)

    loss, denoised = edm.denoising_loss(zero_network, y, doubles(sigma).expand(8), noise, sigma_data, offset)
    assert inputs[0].square().mean().item() == pytest.approx(1, rel=1e-9)
    assert loss.mean().item() == pytest.approx(1, rel=1e-9)  # the mean square of the network's target
    expected = edm.denoise(zero_network, y + noise, doubles(sigma).expand(8), sigma_data, offset)
    torch.testing.assert_close(denoised, expected, rtol=0, atol=0)


@FAST
@given(sigmas, sigma_datas, offsets, st.integers(0, 2**16))
def test_a_perfect_network_gives_back_the_data_and_the_noise(
    sigma: float, sigma_data: float, offset: float, seed: int
) -> None:
    y = torch.randn(2, 1, 3, 3, generator=generator(seed)) * sigma_data
    level = torch.tensor([sigma, 0.5 * sigma])
    noise = edm.draw_noise(level, y.shape, offset, generator(seed + 1))
    deviation = (level**2 + offset**2).sqrt()[:, None, None, None]
    root = (deviation**2 + sigma_data**2).sqrt()

    def perfect_network(x: Tensor, c_noise: Tensor) -> Tensor:
        """What Table 1 makes the target of the training, from the network's own input."""
        torch.testing.assert_close(c_noise, deviation.flatten().log() / 4)
        return (y - (sigma_data / root) ** 2 * (x * root)) / (deviation * sigma_data / root)

    loss, denoised = edm.denoising_loss(perfect_network, y, level, noise, sigma_data, offset)
    assert loss.max() < 1e-6
    again = edm.denoise(perfect_network, y + noise, level, sigma_data, offset)
    for frame in (denoised, again):
        torch.testing.assert_close(frame, y, rtol=0, atol=1e-5)
        predicted = (y + noise - frame) / deviation
        assert predicted.shape == noise.shape
        torch.testing.assert_close(predicted, noise / deviation, rtol=0, atol=1e-5 / deviation.min().item())


def test_the_loss_is_one_mean_square_a_frame() -> None:
    y, noise, sigma = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2), torch.tensor([0.1, 10.0])
    outputs = torch.arange(8.0).reshape(2, 1, 2, 2)
    loss, _ = edm.denoising_loss(lambda x, c_noise: outputs, y, sigma, noise, 0.5, 0.0)
    torch.testing.assert_close(loss, torch.tensor([(0 + 1 + 4 + 9) / 4, (16 + 25 + 36 + 49) / 4]))


def test_the_loss_weighs_each_pixel() -> None:
    outputs, weight = torch.arange(8.0).reshape(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    weight[0, 0, 1] = torch.tensor([3.0, 5.0])
    zeros, sigma = torch.zeros(2, 1, 2, 2), torch.tensor([0.1, 10.0])
    loss, _ = edm.denoising_loss(lambda x, c_noise: outputs, zeros, sigma, zeros, 0.5, 0.0, weight)
    torch.testing.assert_close(loss, torch.tensor([(0 + 1 + 3 * 4 + 5 * 9) / 4, (16 + 25 + 36 + 49) / 4]))


def test_training_sigmas_are_log_normal() -> None:
    logs = edm.draw_sigma(200_000, -0.4, 1.2, 1e-9, 1e9, generator()).log()
    assert logs.mean().item() == pytest.approx(-0.4, abs=0.01)
    assert logs.std().item() == pytest.approx(1.2, abs=0.01)
    assert ((logs + 0.4) / 1.2).pow(3).mean().abs() < 0.03  # no skew


def test_training_sigmas_are_clipped_and_not_redrawn() -> None:
    sigma = edm.draw_sigma(100_000, 0.0, 1.0, math.exp(-1), math.exp(2), generator())
    assert sigma.min().item() == pytest.approx(math.exp(-1))
    assert sigma.max().item() == pytest.approx(math.exp(2))
    assert (sigma == sigma.min()).float().mean().item() == pytest.approx(NormalDist().cdf(-1), abs=5e-3)
    assert (sigma == sigma.max()).float().mean().item() == pytest.approx(NormalDist().cdf(-2), abs=2e-3)


def test_noise_has_the_variance_of_its_level_plus_the_offset() -> None:
    sigma = torch.tensor([0.5, 2.0]).repeat_interleave(20_000)
    noise = edm.draw_noise(sigma, (40_000, 1, 2, 2), 0.7, generator())
    for half, level in zip(noise.chunk(2), (0.5, 2.0), strict=True):
        assert half.mean().abs() < 0.03
        assert half.square().mean().item() == pytest.approx(level**2 + 0.7**2, rel=0.02)
        neighbours = (half[..., 0, 0] * half[..., 1, 1]).mean().item()
        assert neighbours == pytest.approx(0.7**2, abs=0.08)  # the shared part, and nothing else


def test_the_offset_is_shared_by_the_pixels_of_a_frame_and_by_nothing_else() -> None:
    offset = edm.draw_noise(torch.zeros(1000), (1000, 2, 3, 3), 0.3, generator())
    assert (offset == offset[..., :1, :1]).all()
    assert offset[..., 0, 0].unique().numel() == 2000
    assert offset[..., 0, 0].std().item() == pytest.approx(0.3, rel=0.05)


def test_noise_is_proportional_to_sigma_pixel_by_pixel() -> None:
    shape = (3, 1, 4, 4)
    unit = edm.draw_noise(torch.ones(3), shape, 0.0, generator())
    scaled = edm.draw_noise(torch.tensor([0.01, 1.0, 20.0]), shape, 0.0, generator())
    torch.testing.assert_close(scaled, unit * torch.tensor([0.01, 1.0, 20.0])[:, None, None, None])
    assert unit.unique().numel() == unit.numel()
