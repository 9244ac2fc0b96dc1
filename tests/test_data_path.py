"""One road for the data: what the game showed is what the replay holds and what the network sees, in training and in dreams."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import helpers
import pytest
import torch
from helpers import CPU, generator
from torch import Tensor, nn

from adamas import config
from adamas.agent.actor_critic import ActorCritic
from adamas.agent.imagination import imagine
from adamas.agent.rollout import Hidden
from adamas.config import Config
from adamas.config.rules import check
from adamas.data.replay import Replay
from adamas.training.generators import Generators
from adamas.training.learners import Learners
from adamas.training.models import Models
from adamas.training.updates import Updates
from adamas.utils.logger import Logger
from adamas.world_model.denoiser import Denoiser

N, ACTIONS, ROWS, SIGMA = 3, 4, 12, 20.0  # context frames, actions, rows of the replay, the one noise level


def small_config(target: str) -> Config:
    c = Config(
        precision="float32",
        network=config.Network("adamas", patch=4, condition_channels=24, lstm_dim=8),
        denoiser=config.Denoiser(
            target=target,
            context=N,
            channels=[16],
            depths=[1],
            P_mean=50.0,  # so that every level is clipped to sigma_max
            P_std=1e-9,
            sigma_max=SIGMA,
            autoregressive_steps=0,
            optimization=config.Optimization(batch_size=64),
        ),
        sampler=config.Sampler(steps=1, sigma_max=SIGMA, initial_noise="sigma_max"),
        reward_end=config.RewardEnd(channels=[8], depths=[1]),
        actor_critic=config.ActorCritic(channels=[8]),
    )
    return check(c)


def filled_replay(frames: Tensor, actions: list[int]) -> Replay:
    """One episode that goes on."""
    replay = Replay(len(frames))
    for t, action in enumerate(actions):
        replay.add(frames[t], action, 0.0, False, False, frames[t + 1])
    return replay


class Seen(NamedTuple):
    """What one sample makes the network see."""

    x: Tensor  # (1, H, W)
    c_noise: Tensor  # ()
    context: Tensor  # (n, H, W)
    action: Tensor  # (n,)


class Witness(nn.Module):
    """A network that remembers each sample that it is shown. It answers so that the true next frame is sampled."""

    def __init__(self, denoiser: Denoiser, frames: Tensor) -> None:
        super().__init__()
        self.denoiser, self.frames = [denoiser], frames.float() / 127.5 - 1
        self.weight = nn.Parameter(torch.ones(()))
        self.seen: list[Seen] = []

    def forward(self, x: Tensor, c_noise: Tensor, context: Tensor, action: Tensor) -> Tensor:
        self.seen += [Seen(*sample) for sample in zip(x, c_noise, context, action, strict=True)]
        y = torch.stack([self._truth(frames) for frames in context])
        data, deviation = self.denoiser[0].sigma_data, (4 * c_noise).exp()[:, None, None, None]
        root = (deviation**2 + data**2).sqrt()
        return self.weight * (y - data**2 / root * x) * root / (deviation * data)

    def _truth(self, context: Tensor) -> Tensor:
        """The target (1, H, W) that leads from the newest of these frames (n, H, W) to the one that came after it."""
        now = row_of(context[-1], self.frames)
        following = self.frames[min(now + 1, len(self.frames) - 1)]
        return self.denoiser[0].encode(following[None, None], context[None, -1:])[0]


def row_of(frame: Tensor, frames: Tensor) -> int:
    (row,) = (frames - frame).abs().flatten(1).amax(1).lt(1e-4).nonzero()[:, 0].tolist()
    return row


class Replayer(ActorCritic):
    """A policy that does what was done in the replay after the frame that it sees."""

    def __init__(self, frames: Tensor, actions: list[int]) -> None:
        super().__init__(config.ActorCritic(channels=[8]), config.Network(patch=4, lstm_dim=8), ACTIONS)
        self.frames, self.actions = frames, actions

    def forward(self, obs: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor, Hidden]:
        rows = [[row_of(frame.float(), self.frames.float()) for frame in frames] for frames in obs]
        action = torch.tensor(self.actions)[torch.tensor(rows)]
        return 1e9 * nn.functional.one_hot(action, ACTIONS).float(), torch.zeros(action.shape), hidden


@pytest.mark.parametrize("target", ["frame", "change"])
def test_training_and_imagination_show_the_network_the_same_rows_of_the_replay(target: str, tmp_path: Path) -> None:
    """Order of frames, actions beside them, normalisation and noise level: of every row, from the replay to the network."""
    frames, actions = helpers.frames(ROWS + 1), torch.randint(0, ACTIONS, (ROWS,), generator=generator()).tolist()
    replay = filled_replay(frames, actions)
    models = Models(small_config(target), ("A", "B", "C", "D"), CPU)
    witness = models.denoiser.net = Witness(models.denoiser, frames)

    Updates(Learners(models), replay, Generators.seeded(0, CPU), Logger(tmp_path)).denoiser()
    training, witness.seen = witness.seen, []
    horizon = 3
    context = replay.sample_contexts(64, N, generator())
    rows = torch.tensor([row_of(frame.float(), frames.float()) for frame in context.obs[:, -1]])
    inside = rows + horizon < ROWS  # the others would dream beyond what happened
    context = context.rows(inside)
    imagine(models.world, Replayer(frames, actions), context, horizon, generator())
    dreamt = witness.seen

    expected = frames.float() / 127.5 - 1
    compared = set()
    of_row = {row_of(seen.context[-1], expected): seen for seen in training}
    for seen in dreamt:
        now = row_of(seen.context[-1], expected)
        if now < N - 1 or now not in of_row:
            continue  # the left of the context is padding
        compared.add(now)
        for side in (seen, of_row[now]):
            torch.testing.assert_close(side.context, expected[now - N + 1 : now + 1], rtol=0, atol=1e-6)
            assert side.action.tolist() == actions[now - N + 1 : now + 1]
            assert side.c_noise.item() == pytest.approx(math.log(SIGMA**2 + 0.3**2) / 8)
            assert side.x.std().item() == pytest.approx(1, abs=0.05)
            assert side.x.shape == (1, 84, 84)
        assert torch.equal(seen.context, of_row[now].context)
    assert compared >= set(range(N - 1, ROWS - 1))
