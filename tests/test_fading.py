"""Nothing fades: a tiny denoiser learns a real clip by the real training path, and keeps its small objects as it learns on.

The loss is blind to that. The ball of Breakout is a handful of pixels, and a model without it has a PSNR of 37 to 40 dB.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from helpers import CPU, generator
from torch import Tensor

from adamas import config
from adamas.config import Config, rules
from adamas.data import batch
from adamas.data.replay import Replay
from adamas.envs import atari
from adamas.envs.atari import AtariEnv
from adamas.evaluation import detail
from adamas.evaluation.detail import Detail
from adamas.training.generators import Generators
from adamas.training.learners import Learners
from adamas.training.models import Models
from adamas.training.updates import Updates
from adamas.utils.logger import Logger
from adamas.world_model.denoiser import Denoiser

CONTEXT = 4


class Case(NamedTuple):
    """A game, what of it is learned, and how well it has to be.

    Rows are those of a frame of 84. Where only some are measured, nothing but small objects moves there.
    """

    game: str
    steps: int
    shown: tuple[int, int]  # rows that the denoiser is trained on
    measured: tuple[int, int]
    checkpoints: tuple[int, int, int]  # updates
    objects: int  # small ones in the clip, at least
    recall: float  # of them, at least, at the last checkpoint, with averaged weights and with raw ones
    fall: float  # of recall from any checkpoint to a later one, at most
    motion_weight: float = 1.0


def settings(motion_weight: float) -> Config:
    """The smallest denoiser that learns a ball in a minute, from noise that hides most of the change."""
    return rules.check(
        Config(
            precision="float32",
            network=config.Network("adamas", patch=2, condition_channels=64, lstm_dim=8),
            denoiser=config.Denoiser(
                target="change",
                context=CONTEXT,
                channels=[32],
                depths=[1],
                offset_noise=0.0,
                P_mean=1.3,
                P_std=0.7,
                motion_weight=motion_weight,
                autoregressive_steps=0,
                ema_decay=0.98,
                optimization=config.Optimization(batch_size=4, learning_rate=1e-3),
            ),
            sampler=config.Sampler(steps=1),
            reward_end=config.RewardEnd(channels=[8], depths=[1]),
            actor_critic=config.ActorCritic(channels=[8]),
        )
    )


@pytest.fixture(autouse=True)
def _one_noop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari, "NOOP_MAX", 1)


def record(case: Case) -> tuple[Replay, tuple[str, ...]]:
    """The same clip each time, cut to the rows that are shown; and what its actions mean."""
    env, random = AtariEnv(case.game, config.Atari(), episodic_life=True), np.random.default_rng(0)
    top, bottom = case.shown
    obs, _ = env.reset(seed=0)
    start = obs
    replay = Replay(case.steps, frame_shape=(bottom - top, 84))
    for _ in range(case.steps):
        action = (
            play_breakout(obs, start, random) if case.game == "Breakout" else int(random.integers(env.action_space.n))
        )
        next_obs, reward, terminated, truncated, _ = env.step(action)
        replay.add(obs[top:bottom], action, reward, terminated, truncated, next_obs[top:bottom])
        obs = env.reset()[0] if terminated or truncated else next_obs
    return replay, env.action_meanings


def play_breakout(obs: np.ndarray, start: np.ndarray, random: np.random.Generator) -> int:
    """Keeps the ball in play: mostly follows it, and fires where there is none."""
    ball = np.abs(obs[38:74].astype(int) - start[38:74]).sum(axis=0)
    if not ball.any():
        return 1
    if random.random() < 0.2:
        return int(random.integers(4))
    paddle = np.flatnonzero(obs[76, 6:78] > 60)
    offset = ball.argmax() - 6 - (paddle.mean() if len(paddle) else 36)
    return 2 if offset > 1 else 3 if offset < -1 else 0


class Window(NamedTuple):
    """Every frame of the clip that has a whole context, one step ahead of it."""

    context: Tensor  # uint8 (N, n, H, W)
    action: Tensor  # int64 (N, n)
    real: Tensor  # uint8 (N, H, W)


def windows(replay: Replay) -> Window:
    row = torch.arange(CONTEXT, replay.num_rows)
    segment = batch.cut_segments(replay._columns, replay._bounds(), row, torch.full_like(row, CONTEXT), CONTEXT + 1)
    whole = segment.mask.all(dim=1)
    return Window(segment.obs[whole, :CONTEXT], segment.action[whole, :CONTEXT], segment.obs[whole, CONTEXT])


def look(denoiser: Denoiser, replay: Replay, case: Case, sampler: config.Sampler) -> Detail:
    """The detail of all frames of the clip, each imagined from the real ones before it."""
    clip, random = windows(replay), generator()
    batches = zip(clip.context.split(64), clip.action.split(64), strict=True)
    imagined = torch.cat([denoiser.sample(context, action, sampler, random) for context, action in batches])
    rows = slice(case.measured[0] - case.shown[0], case.measured[1] - case.shown[0])
    previous, background = clip.context[:, -1, rows], detail.background(replay._columns["obs"][: replay.num_rows, rows])
    return detail.measure(imagined[:, None, rows], clip.real[:, None, rows], previous, background)


def train(case: Case, folder: Path, seed: int = 0) -> tuple[list[Detail], list[Detail]]:
    """What each checkpoint imagines: with the averaged weights, and with the raw ones."""
    replay, meanings = record(case)
    torch.manual_seed(seed)
    models = Models(settings(case.motion_weight), meanings, CPU)
    assert look(models.denoiser, replay, case, models.config.sampler).small_objects >= case.objects, "there to be lost"
    updates = Updates(Learners(models), replay, Generators.seeded(seed, CPU), Logger(folder))
    updates.learners.by_part["denoiser"].optimizer.warmup_updates = 20
    updates.measure_changes()
    averaged, raw = [], []
    for number in range(1, case.checkpoints[-1] + 1):
        updates.denoiser()
        if number in case.checkpoints:
            averaged.append(look(models.world.denoiser, replay, case, models.config.sampler))
            raw.append(look(models.denoiser, replay, case, models.config.sampler))
    return averaged, raw


def check(case: Case, folder: Path) -> None:
    for kind, seen in zip(("averaged", "raw"), train(case, folder), strict=True):
        recalls = [round(float(d.small_object_recall), 3) for d in seen]
        print(f"{case.game}, {kind} weights: small-object recall {recalls} after {case.checkpoints} updates")
        assert recalls[-1] >= case.recall, f"{kind} weights: {recalls}"
        falls = [early - late for early, late in itertools.combinations(recalls, 2)]
        assert max(falls) <= case.fall, f"{kind} weights: {recalls}"


def test_the_ball_of_breakout_is_learned_and_does_not_fade(tmp_path: Path) -> None:
    """With seeds 0 and 1 its recall was .86 and .85 after 200 updates, .96 and .94 after 300, .97 and .98 after 400, .98 and .99
    after 600; of the raw weights .90 and .97 after 400. A frame that repeats the last one has 0."""
    check(Case("Breakout", 200, (36, 76), (38, 74), (300, 450, 600), 150, 0.9, 0.05, motion_weight=10), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "case",
    [
        Case("Breakout", 200, (0, 84), (38, 74), (2000, 2750, 3500), 150, 0.75, 0.1),
        Case("Pong", 300, (14, 78), (14, 78), (1000, 1500, 2000), 200, 0.88, 0.05),
        Case("MsPacman", 300, (0, 68), (0, 68), (1000, 1500, 2000), 1800, 0.97, 0.02),
    ],
    ids=lambda case: case.game,
)
def test_small_objects_of_three_games_are_learned_and_do_not_fade(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)
