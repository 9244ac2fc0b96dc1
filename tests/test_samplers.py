"""The samplers against problems whose solution is known: a true frame, and Gaussian data."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adamas.config import SIGMA_MIN, Config, Sampler
from adamas.config.rules import check
from adamas.data.frames import to_float, to_uint8
from adamas.utils.errors import UserError
from adamas.world_model import samplers
from adamas.world_model.denoiser import RHO, run_sampler

MEAN, STD = 0.2, 0.5  # of the Gaussian data
LEVELS = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)  # a frame with every grey level
FAST = settings(max_examples=80, deadline=None)


def gaussian(x: Tensor, sigma: float) -> Tensor:
    """The exact denoiser of data from N(MEAN, STD^2)."""
    return MEAN + (x - MEAN) * STD**2 / (STD**2 + sigma**2)


def solution(x: Tensor, sigma: float, sigma_end: float) -> Tensor:
    """Where the ODE leads x from one noise level to another for that data."""
    return MEAN + (x - MEAN) * math.sqrt((STD**2 + sigma_end**2) / (STD**2 + sigma**2))


def standard_noise(count: int) -> Tensor:
    """Noise (count, 1, 1, 1) in double precision with mean 0 and standard deviation 1 exactly."""
    noise = torch.randn(count, generator=generator(), dtype=torch.float64)
    return ((noise - noise.mean()) / noise.std(correction=0))[:, None, None, None]


class Recorder:
    """A denoiser that remembers at which noise levels it was asked."""

    def __init__(self, denoise: samplers.Denoise = gaussian) -> None:
        self.denoise, self.sigmas = denoise, []

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        self.sigmas.append(sigma)
        return self.denoise(x, sigma)


@FAST
@given(st.integers(2, 60), st.floats(1e-3, 0.5), st.floats(1, 100), st.floats(1, 10))
def test_the_schedule_falls_from_sigma_max_to_sigma_min_evenly_in_its_rho_th_root(
    steps: int, sigma_min: float, sigma_max: float, rho: float
) -> None:
    sigmas = samplers.karras_schedule(steps, sigma_min, sigma_max, rho)
    assert len(sigmas) == steps + 1
    assert sigmas[0] == pytest.approx(sigma_max)
    assert sigmas[-2] == pytest.approx(sigma_min)
    assert sigmas[-1] == 0
    assert all(ahead < sigma for sigma, ahead in pairwise(sigmas))
    roots = [sigma ** (1 / rho) for sigma in sigmas[:-1]]
    gaps = [root - ahead for root, ahead in pairwise(roots)]
    assert gaps == pytest.approx([(roots[0] - roots[-1]) / (steps - 1)] * (steps - 1))


def test_one_step_goes_from_sigma_max_to_0() -> None:
    assert samplers.karras_schedule(1, 2e-3, 5.0, 7.0) == pytest.approx([5.0, 0.0])


def test_the_published_schedule() -> None:
    middle = ((5 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7
    assert samplers.karras_schedule(3, 2e-3, 5.0, 7.0) == pytest.approx([5.0, middle, 2e-3, 0.0])


@st.composite
def sampler_settings(draw: st.DrawFn) -> Sampler:
    return Sampler(
        method=draw(st.sampled_from(["euler", "heun"])),
        steps=draw(st.integers(1, 12)),
        sigma_max=draw(st.floats(0.5, 80)),
        initial_noise=draw(st.sampled_from(["unit", "sigma_max"])),
        s_churn=draw(st.just(0.0) | st.floats(0.1, 40)),
    )


@FAST
@given(sampler_settings(), st.integers(0, 2**16))
def test_an_oracle_gives_back_every_grey_level(s: Sampler, seed: int) -> None:
    noise = torch.randn(LEVELS.shape, generator=generator(seed))
    y = run_sampler(lambda x, sigma: to_float(LEVELS), noise, s, generator(seed))
    assert torch.equal(to_uint8(y), LEVELS)


@pytest.mark.parametrize(("solve", "order"), [(samplers.euler, 1), (samplers.heun, 2)])
@pytest.mark.parametrize("rho", [1.0, 3.0, 7.0])
def test_the_error_falls_with_the_order_of_the_method(solve: Callable, order: int, rho: float) -> None:
    x = torch.tensor([2.0], dtype=torch.float64)
    exact = solution(x, 5.0, 0.01)

    def error(steps: int) -> float:
        sigmas = samplers.karras_schedule(steps + 1, 0.01, 5.0, rho)[:-1]  # the jump to 0 is of first order
        return (solve(gaussian, x, sigmas) - exact).abs().item()

    assert math.log2(error(400) / error(800)) == pytest.approx(order, abs=0.05)


@pytest.mark.parametrize("method", ["euler", "heun"])
@pytest.mark.parametrize(("initial_noise", "start"), [("sigma_max", 5.0), ("unit", 1.0)])
def test_samples_of_gaussian_data_have_the_mean_and_deviation_of_theory(
    method: str, initial_noise: str, start: float
) -> None:
    """A start of deviation `start` ends narrower than the data by start / sqrt(STD^2 + sigma_max^2), and nearer to 0."""
    s = Sampler(method=method, steps=2000, initial_noise=initial_noise)
    y = run_sampler(gaussian, standard_noise(1000), s, generator())
    factor = STD / math.hypot(STD, s.sigma_max)
    assert y.std(correction=0).item() == pytest.approx(factor * start, rel=2e-3)
    assert y.mean().item() == pytest.approx(MEAN * (1 - factor), rel=2e-3)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize(("initial_noise", "start"), [("sigma_max", 5.0), ("unit", 1.0)])
def test_a_few_euler_steps_shrink_gaussian_data_as_computed_by_hand(
    steps: int, initial_noise: str, start: float
) -> None:
    s = Sampler(steps=steps, initial_noise=initial_noise)
    sigmas = samplers.karras_schedule(steps, SIGMA_MIN, s.sigma_max, RHO)
    factor = math.prod(1 + (b - a) * a / (STD**2 + a**2) for a, b in pairwise(sigmas))
    y = run_sampler(gaussian, standard_noise(100), s, generator())
    torch.testing.assert_close(y, MEAN + factor * (start * standard_noise(100) - MEAN))


def test_churn_adds_the_variance_of_theory() -> None:
    sigmas, s_churn = samplers.karras_schedule(8, SIGMA_MIN, 5.0, RHO), 2.0
    variance = 5.0**2
    for sigma, ahead in pairwise(sigmas):
        hat = sigma * (1 + s_churn / 8)
        variance += hat**2 - sigma**2
        variance *= (1 + (ahead - hat) * hat / (STD**2 + hat**2)) ** 2
    y = samplers.churned_euler(gaussian, 5.0 * standard_noise(200_000), sigmas, generator(1), s_churn)
    assert y.std().item() == pytest.approx(math.sqrt(variance), rel=5e-3)


def test_euler_asks_once_a_step_at_the_noise_level_of_x() -> None:
    recorder, sigmas = Recorder(), [5.0, 2.0, 0.5, 0.0]
    samplers.euler(recorder, torch.ones(1), sigmas)
    assert recorder.sigmas == sigmas[:-1]


def test_heun_asks_twice_a_step_and_once_in_the_last() -> None:
    recorder, sigmas = Recorder(), [5.0, 2.0, 0.5, 0.0]
    samplers.heun(recorder, torch.ones(1), sigmas)
    assert recorder.sigmas == [5.0, 2.0, 2.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("s_churn", "gamma"),
    [(0.3, 0.1), (40.0, math.sqrt(2) - 1)],
)
def test_churn_asks_at_the_raised_noise_level(s_churn: float, gamma: float) -> None:
    recorder, sigmas = Recorder(), [5.0, 2.0, 0.5, 0.0]
    samplers.churned_euler(recorder, torch.ones(1), sigmas, generator(), s_churn)
    assert recorder.sigmas == pytest.approx([s * (1 + gamma) for s in sigmas[:-1]])


def test_without_churn_churned_euler_is_euler() -> None:
    x, sigmas = torch.randn(4, 1, 3, 3, generator=generator()), samplers.karras_schedule(5, 2e-3, 5.0, 7.0)
    ours = samplers.churned_euler(gaussian, x, sigmas, generator(), s_churn=0.0)
    assert torch.equal(ours, samplers.euler(gaussian, x, sigmas))


@pytest.mark.parametrize(("initial_noise", "scale"), [("unit", 1.0), ("sigma_max", 5.0)])
@pytest.mark.parametrize(
    ("settings", "solve"),
    [
        ({"method": "euler"}, samplers.euler),
        ({"method": "heun"}, samplers.heun),
        ({"s_churn": 1.0}, lambda f, x, sigmas: samplers.churned_euler(f, x, sigmas, generator(7), 1.0)),
    ],
    ids=["euler", "heun", "churn"],
)
def test_draw_runs_the_sampler_that_the_config_names(
    settings: dict, solve: Callable, initial_noise: str, scale: float
) -> None:
    s = Sampler(steps=4, initial_noise=initial_noise, **settings)
    noise = torch.randn(2, 1, 3, 3, generator=generator())
    sigmas = samplers.karras_schedule(4, SIGMA_MIN, s.sigma_max, RHO)
    assert torch.equal(run_sampler(gaussian, noise, s, generator(7)), solve(gaussian, scale * noise, sigmas))


def test_churn_is_for_euler_alone() -> None:
    with pytest.raises(UserError, match=r"sampler\.s_churn"):
        check(Config(sampler=Sampler(method="heun", s_churn=1.0)))
