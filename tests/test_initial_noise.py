"""Where a dream's noise starts from, and that training prepares for it: `unit`, `sigma_max`, `previous_frame`."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_denoiser import TARGETS, N, Oracle, Recorder, frames, generator, make, segment
from torch import Tensor

from adamas.config import Config, Denoiser, Sampler
from adamas.config.rules import check
from adamas.data.frames import to_float
from adamas.utils.errors import UserError
from adamas.world_model import edm, samplers
from adamas.world_model.denoiser import draw

BRIDGE = {"objective": "previous_frame", "offset_noise": 0.0}
START = {"initial_noise": "previous_frame"}
FAST = settings(max_examples=40, deadline=None)


def batch_of(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Context frames, their actions, and the frame that follows."""
    rows = segment(size, N + 1)
    return rows.obs[:, :N], rows.action[:, :N], rows.obs[:, N]


def noisy_target_in_training(sigma: float, **changes: object) -> tuple[Tensor, Tensor]:
    """The x that training makes of a batch at that noise level, and the pure noise in it."""
    denoiser = make(sigma_least=sigma, sigma_most=sigma, **{**BRIDGE, **changes})
    denoiser.net = Recorder()
    context, action, obs = batch_of(2)
    denoiser.loss(context, action, obs, generator(5))
    c_in = (sigma**2 + denoiser.config.sigma_data**2) ** -0.5
    replay = generator(5)
    level = edm.draw_sigma(2, -0.4, 1.2, sigma, sigma, replay)
    return denoiser.net.seen[0].x / c_in, edm.draw_noise(level, (2, 1, *obs.shape[1:]), 0.0, replay)


def still_and_next(target: str, scale: float = 4.0) -> tuple[Tensor, Tensor]:
    """The target of a frame that stands still, and the one of the frame that follows: float (2, 1, H, W)."""
    context, _, obs = batch_of(2)
    previous, following = to_float(context[:, -1:]), to_float(obs)[:, None]
    return (previous, following) if target == "frame" else (0 * previous, scale * (following - previous))


@TARGETS
@pytest.mark.parametrize("sigma", [5.0, 12.0])
def test_from_sigma_previous_on_training_shows_the_previous_frame_under_the_noise(target: str, sigma: float) -> None:
    x, noise = noisy_target_in_training(sigma, target=target)
    torch.testing.assert_close(x, still_and_next(target)[0] + noise, atol=2e-5, rtol=1e-5)


@TARGETS
def test_near_sigma_0_training_shows_the_next_frame(target: str) -> None:
    x, noise = noisy_target_in_training(1e-4, target=target)
    torch.testing.assert_close(x, still_and_next(target)[1] + noise, atol=1e-3, rtol=0)


@TARGETS
def test_with_edms_objective_training_shows_the_next_frame_at_every_noise_level(target: str) -> None:
    for sigma in (0.01, 1.0, 5.0, 12.0):
        x, noise = noisy_target_in_training(sigma, target=target, objective="edm")
        torch.testing.assert_close(x, still_and_next(target)[1] + noise, atol=2e-5, rtol=1e-5)


@TARGETS
@pytest.mark.parametrize("steps", [2, 3, 7])
def test_a_sampler_that_starts_from_the_previous_frame_walks_where_training_walked(target: str, steps: int) -> None:
    """With a perfect network, what the sampler shows it at each noise level is what training shows it there."""
    still, following = still_and_next(target)
    noise, seen = torch.randn(still.shape, generator=generator(1)), []

    def oracle(x: Tensor, sigma: float) -> Tensor:
        seen.append((x, sigma))
        return following

    draw(oracle, noise, Sampler(steps=steps, **START), generator(), still)
    assert len(seen) == steps
    denoiser = make(target=target, **BRIDGE)
    previous = to_float(batch_of(2)[0][:, -1:])
    for x, sigma in seen:
        way_back = denoiser.way_back(following, previous, torch.full((2,), sigma))
        torch.testing.assert_close(x, following + way_back + sigma * noise, atol=2e-5, rtol=1e-5)


@TARGETS
@FAST
@given(
    st.sampled_from(["euler", "heun"]),
    st.integers(1, 12),
    st.floats(5, 80),
    st.sampled_from([0.0, 3.0]),
    st.integers(0, 99),
)
def test_an_oracle_that_starts_from_the_previous_frame_gives_back_the_next_one(
    target: str, method: str, steps: int, sigma_max: float, s_churn: float, seed: int
) -> None:
    denoiser = make(target=target, change_scale=4.0, **BRIDGE)
    context, action, obs = batch_of(2)
    denoiser.net = Oracle(denoiser, lambda context: denoiser.encode(to_float(obs)[:, None], context[:, -1:]))
    s = Sampler(method=method, steps=steps, sigma_max=sigma_max, s_churn=s_churn, **START)
    assert torch.equal(denoiser.sample(context, action, s, generator(seed)), obs)


@TARGETS
def test_the_first_thing_that_the_network_sees_is_the_start_that_the_config_names(target: str) -> None:
    context, action, _ = batch_of(2)
    noise = torch.randn((2, 1, *context.shape[2:]), generator=generator(3))
    still, _ = still_and_next(target)
    starts = {"unit": noise, "sigma_max": 7 * noise, "previous_frame": still + 7 * noise}
    for name, start in starts.items():
        denoiser = make(target=target, offset_noise=0.0)
        denoiser.net = Recorder()
        denoiser.sample(context, action, Sampler(sigma_max=7.0, initial_noise=name), generator(3))
        c_in = (7.0**2 + denoiser.config.sigma_data**2) ** -0.5
        torch.testing.assert_close(denoiser.net.seen[0].x, c_in * start)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_from_the_previous_frame_gaussian_data_shrinks_as_computed_by_hand(steps: int) -> None:
    """Data N(0.2, 0.5^2), whose exact denoiser is linear: a start of mean 0.9 keeps what the ODE has not forgotten."""
    s = Sampler(steps=steps, **START)
    sigmas = samplers.karras_schedule(steps, s.sigma_min, s.sigma_max, s.rho)
    factor = math.prod(1 + (b - a) * a / (0.5**2 + a**2) for a, b in pairwise(sigmas))
    noise = torch.randn(1000, 1, 1, 1, generator=generator(), dtype=torch.float64)
    y = draw(lambda x, sigma: 0.2 + (x - 0.2) * 0.25 / (0.25 + sigma**2), noise, s, generator(), torch.tensor(0.9))
    torch.testing.assert_close(y, 0.2 + factor * (0.9 + 5 * noise - 0.2))


def test_the_trace_is_what_the_network_was_shown_and_what_it_made_of_it() -> None:
    denoiser, trace = make(), []
    context, action = frames(2, N), torch.zeros(2, N, dtype=torch.int64)
    sample = denoiser.sample(context, action, Sampler(steps=4), generator(), trace)
    assert len(trace) == 4
    assert all(
        frame.shape == (2, *context.shape[2:]) and frame.dtype == torch.uint8 for pair in trace for frame in pair
    )
    assert torch.equal(trace[-1][1], sample)  # the last step goes all the way to what the network made
    assert torch.equal(denoiser.sample(context, action, Sampler(steps=4), generator()), sample)
    noise = torch.randn((2, 1, *context.shape[2:]), generator=generator())
    assert torch.equal(trace[0][0], (noise.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)[:, 0])


@pytest.mark.parametrize(("objective", "start"), [("edm", "previous_frame"), ("previous_frame", "unit")])
def test_objective_and_start_go_together(objective: str, start: str) -> None:
    with pytest.raises(
        UserError, match=f"denoiser.objective={objective} does not go with samplers.initial_noise={start}"
    ):
        check(Config(denoiser=Denoiser(objective=objective), sampler=Sampler(initial_noise=start)))


def test_the_start_lies_where_training_ends() -> None:
    denoiser = Denoiser(objective="previous_frame", sigma_previous=6.0)
    with pytest.raises(UserError, match=r"sampler.sigma_max=5.0 is below denoiser.sigma_previous=6.0"):
        check(Config(denoiser=denoiser, sampler=Sampler(**START)))
    check(Config(denoiser=denoiser, sampler=Sampler(sigma_max=6.0, **START)))
