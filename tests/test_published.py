"""Preset diamond is the published system where nothing speaks against it. scripts/studies/published.py compares the two number
by number; here is what can be said without its code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CPU, MEANINGS, PARTS, ROOT, generator, wake
from torch import nn

from adamas.config import Config, Network
from adamas.envs.atari import NOOP_MAX, AtariEnv
from adamas.networks.blocks import SelfAttention, downsample
from adamas.networks.encoders import ConditionedEncoder, FrameEncoder
from adamas.networks.lstm import LSTM
from adamas.networks.unet import UNet
from adamas.training.learners import Learners
from adamas.training.models import Models
from adamas.world_model.denoiser import Denoiser
from adamas.world_model.reward_end import RewardEnd

STUDIES = ROOT / "scripts" / "studies"
sys.path.insert(0, str(STUDIES))
import published_clone  # noqa: E402


@pytest.fixture(scope="module")
def models() -> Models:
    torch.manual_seed(0)
    return Models(Config(), MEANINGS, CPU)


@pytest.mark.parametrize(
    ("part", "count"), [("denoiser", 4_399_041), ("reward_end", 9_635_264), ("actor_critic", 4_408_709)]
)
def test_the_networks_have_as_many_parameters_as_the_published_ones(models: Models, part: str, count: int) -> None:
    assert sum(p.numel() for p in getattr(models, part).parameters()) == count


@pytest.mark.parametrize("part", PARTS)
def test_every_tensor_has_a_name_in_the_published_code(models: Models, part: str) -> None:
    names = [name for name in published_clone._tensors(getattr(models, part)) if name != "sigma_data"]
    theirs = [published_clone._renamed(part, name, getattr(models, part)) for name in names]
    assert len(set(theirs)) == len(names)
    ours_alone = ("net.unet.down", ".layers.", "modulation", "attention", "resize", ".skip.")
    assert not [name for name in theirs if any(word in name for word in ours_alone)]


# The networks


def test_the_published_unet_convolves_the_frame_as_it_is_and_norms_it_without_its_margin_and_condition() -> None:
    torch.manual_seed(0)
    unet, seen = wake(UNet(2, 1, 8, [8, 8, 8], [1, 1, 1], published=True)), {}
    for name in ("conv_in", "norm_out"):
        getattr(unet, name).register_forward_hook(lambda m, args, output, name=name: seen.update({name: args}))
    unet(torch.randn(1, 2, 9, 10), torch.randn(1, 8))
    assert seen["conv_in"][0].shape == (1, 2, 9, 10)
    (normed,) = seen["norm_out"]
    assert normed.shape == (1, 8, 9, 10)


def test_new_attention_is_a_norm() -> None:
    x, attention = torch.randn(2, 16, 3, 3), SelfAttention(16)
    assert torch.equal(attention(x), attention.norm(x))


def test_the_published_encoders_keep_the_sign_of_features() -> None:
    torch.manual_seed(0)
    x, condition = torch.randn(2, 3, 12, 12), torch.randn(2, 8)
    plain, signed = (FrameEncoder(3, [8, 16], 1, 12, published) for published in (False, True))
    plain.load_state_dict(signed.state_dict())
    assert torch.equal(plain(x), nn.functional.silu(signed(x)))
    features = wake(ConditionedEncoder(3, 8, [8, 16], [1, 1], 1, 12, published=True))(x, condition)
    assert features.min() < -0.5  # SiLU stays above -0.28


def test_the_published_reward_end_lstm_reads_features_alone_and_its_logits_do_not_start_at_zero() -> None:
    for architecture, published in (("diamond", True), ("adamas", False)):
        network = Network(architecture, patch=4, condition_channels=16, lstm_dim=8)
        model = RewardEnd(Config().reward_end, network, 4)
        assert model.lstm.input_size == model.encoder.features + (0 if published else 8)
        assert model.head[-1].weight.any() == published


def test_a_denoised_frame_is_clipped_to_grey_levels_and_a_change_is_not() -> None:
    for target, most in (("frame", 1.0), ("change", 5.0)):
        config = Config().denoiser
        config.target, config.channels, config.depths = target, [8], [1]
        denoiser = Denoiser(config, Network("adamas", patch=4, condition_channels=16), 4)
        x, context = torch.full((1, 1, 84, 84), 9.0), torch.zeros(1, 4, 84, 84)
        y = denoiser.denoise(x, 0.01, context, torch.zeros(1, 4, dtype=torch.int64))
        assert (y.max() == 1.0) if target == "frame" else (y.max() > most)


# Where they start


def test_the_lstm_starts_with_an_open_forget_gate_and_orthogonal_steps() -> None:
    torch.manual_seed(0)
    lstm = LSTM(24, 16)
    bias = lstm.bias_ih_l0.detach().reshape(4, 16)  # input, forget, cell, output
    assert bias.tolist() == [[float(gate == 1)] * 16 for gate in range(4)]
    assert not lstm.bias_hh_l0.any()
    recurrent = lstm.weight_hh_l0.detach()
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(16), atol=1e-5, rtol=0)
    bound = (6 / (24 + 4 * 16)) ** 0.5
    assert 0.95 * bound < lstm.weight_ih_l0.abs().max() <= bound


def test_gradients_reach_fourteen_steps_back_from_the_first_update_on() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 15, 512, requires_grad=True)
    output, _ = LSTM(512, 128)(x)
    output[:, -1].sum().backward()
    size = x.grad.square().mean((0, 2)).sqrt()
    assert size[0] > 3e-3 * size[-1]


def test_downsampling_starts_orthogonal_and_zeroed_convolutions_keep_their_bias(models: Models) -> None:
    kernel = downsample(8).weight.detach().flatten(1)
    torch.testing.assert_close(kernel @ kernel.T, torch.eye(8), atol=1e-5, rtol=0)
    unet = models.denoiser.net.unet
    for conv in (unet.conv_out, unet.middle[0].conv2):
        assert not conv.weight.any()
        assert conv.bias.any()


def test_every_part_warms_up_over_a_hundred_updates_from_rate_0() -> None:
    learners = Learners(Models(Config(), MEANINGS, CPU))
    for learner in learners.by_part.values():
        rates = []
        for learner.optimizer.steps in (0, 1, 50, 100, 101):
            rates.append(learner.optimizer.learning_rate)
        assert rates == pytest.approx([0, 1e-6, 5e-5, 1e-4, 1e-4])


# The game


def test_a_game_waits_for_one_to_thirty_frames() -> None:
    env, starts = AtariEnv("Breakout", Config().atari, episodic_life=True), []
    env.reset(seed=0)
    env._emulator.start = lambda seed, noops: starts.append(noops)
    for seed in range(300):
        env.reset(seed=seed)
    assert set(starts) == set(range(1, NOOP_MAX + 1))


@pytest.mark.parametrize("game", ["BankHeist", "Breakout"])
def test_every_lost_life_ends_an_episode_and_the_game_goes_on(game: str) -> None:
    """BankHeist reports 0 lives while the last one goes on."""
    env, random = AtariEnv(game, Config().atari, episodic_life=True), np.random.default_rng(0)
    _, info = env.reset(seed=0)
    lives, lost = info["lives"], []
    for _ in range(2_000):
        _, _, terminated, _, info = env.step(random.integers(env.action_space.n))
        assert terminated == (info["lives"] < lives or info["game_over"])
        if terminated and not info["game_over"]:
            lost.append(info["lives"])
            assert env.reset()[1]["lives"] == info["lives"]
        if info["game_over"]:
            break
        lives = info["lives"]
    assert info["game_over"]
    assert (0 in lost) == (game == "BankHeist")


# The study


def test_the_study_says_in_one_line_what_is_no_clone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(STUDIES / "published.py"), str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path} is not a clone of eloialonso/diamond: it has no src/agent.py\n"


def test_the_same_noise_comes_in_any_order() -> None:
    from published_rows import same_noise

    with same_noise():
        first = torch.randn(2), torch.randn(3, 1, device="cpu")
    with same_noise():
        second = torch.randn((3, 1), generator=generator()), torch.randn_like(torch.zeros(2))
    assert torch.equal(first[0], second[1])
    assert torch.equal(first[1], second[0])
