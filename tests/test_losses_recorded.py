"""The losses and gradients of before the rebuild of the core (commit f7abdb4), for weights and batches in closed form."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import PARTS, fill
from torch import Tensor

from adamas import config
from adamas.agent.rollout import NO_FRAME, Hidden, Rollout
from adamas.config import Config
from adamas.config.rules import check
from adamas.data.batch import Segment
from adamas.training.models import Models

RECORDED = json.loads((Path(__file__).parent / "data" / "losses.json").read_text())
T = 5


@pytest.fixture(scope="module")
def models() -> Models:
    c = check(
        Config(
            precision="float32",
            network=config.Network(architecture="adamas", patch=4, condition_channels=24, lstm_dim=8),
            denoiser=config.Denoiser(
                target="change",
                channels=[8, 8],
                depths=[1, 1],
                context=3,
                motion_weight=5.0,
                offset_noise=0.1,
                P_mean=1.0,
                P_std=1.5,
                sigma_max=80.0,
            ),
            reward_end=config.RewardEnd(channels=[4, 4], depths=[1, 1], imagined_share=0.5, predict_divergence=True),
            actor_critic=config.ActorCritic(
                channels=[4, 4], frame_stack=4, epochs=2, minibatches=2, entropy_weight=0.01
            ),
        )
    )
    models = Models(c, ("NOOP", "FIRE", "RIGHT", "LEFT"), torch.device("cpu"))
    for part in PARTS:
        fill(getattr(models, part))
    return models


def frames(length: int) -> Tensor:
    """A bar that stands still, and a ball that flies past it."""
    films = np.full((4, length, 84, 84), 60, np.uint8)
    films[:, :, 40:44, 10:60] = 140
    for i in range(4):
        for j in range(length):
            films[i, j, 10 + 3 * j + i : 13 + 3 * j + i, 20 + 2 * j : 23 + 2 * j] = 220
    return torch.from_numpy(films)


def segment(length: int, random: np.random.Generator) -> Segment:
    """With padding at both ends, and one divergence."""
    mask = torch.ones(4, length, dtype=torch.bool)
    mask[0, :2] = mask[1, -1] = False
    terminated, diverged = torch.from_numpy(random.random((4, length)) < 0.2), torch.zeros(4, length, dtype=torch.bool)
    diverged[2, length // 2] = True
    action = torch.from_numpy(random.integers(0, 4, (4, length)))
    reward = torch.from_numpy(random.integers(-1, 2, (4, length)).astype(np.float32))
    return Segment(frames(length), action, reward, terminated, diverged, mask)


def rollout(random: np.random.Generator) -> Rollout:
    """With an episode that ends and one that is truncated."""
    hidden = Hidden(*torch.zeros(2, 1, 4, 8), torch.full((1, 4, 3, 84, 84), NO_FRAME, dtype=torch.int16))
    value = torch.from_numpy(random.normal(size=(4, T + 1)).astype(np.float32))
    terminated, truncated, left_out = torch.zeros(3, 4, T, dtype=torch.bool)
    terminated[1, 2] = truncated[2, 3] = left_out[1, 3:] = left_out[2, 4:] = True
    action = torch.from_numpy(random.integers(0, 4, (4, T)))
    reward = torch.from_numpy(random.integers(-1, 2, (4, T)).astype(np.float32))
    log_p = torch.full((4, T), -math.log(4))
    return Rollout(hidden, frames(T + 1), action, log_p, value, reward, terminated, truncated, ~left_out)


def test_losses_and_gradients_are_those_of_before_the_rebuild(models: Models) -> None:
    random = np.random.default_rng(0)
    batches = {"denoiser": segment(5, random), "reward_end": segment(6, random), "actor_critic": rollout(random)}
    batches["actor_critic"] = models.actor_critic.with_targets(batches["actor_critic"]).normalized()
    for part, batch in batches.items():
        module, recorded = getattr(models, part), RECORDED[part]
        loss, _ = module.loss(batch, torch.Generator().manual_seed(0))
        loss.backward()
        gradients = {name: parameter.grad.norm().item() for name, parameter in module.named_parameters()}
        # other processors add in another order; where a norm has no bias to speak of, gradients are rounding alone
        assert loss.item() == pytest.approx(recorded["loss"], rel=1e-5)
        assert gradients == pytest.approx(recorded["gradients"], rel=1e-3, abs=1e-5)
