"""One road for the data: what the game showed is what the replay holds and what the network sees, in training and in dreams."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from adamas.training.rollouts import imagine
from torch import Tensor, nn

from adamas import config
from adamas.agent.actor_critic import ActorCritic, Hidden
from adamas.config import Config
from adamas.config.rules import check
from adamas.data.replay import Replay
from adamas.envs.atari import AtariEnv
from adamas.training.collector import Collector
from adamas.training.models import Models
from adamas.training.updates import Generators, update_denoiser
from adamas.utils.logger import Logger
from adamas.world_model.denoiser import Denoiser

N, ACTIONS, ROWS, SIGMA = 3, 4, 12, 20.0  # context frames, actions, rows of the replay, the one noise level
CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_config(**denoiser: object) -> Config:
    c = Config(
        precision="float32",
        denoiser=config.Denoiser(
            **{
                "context": N,
                "patch": 4,
                "channels": [16],
                "depths": [1],
                "attention": False,
                "condition_channels": 24,
                "sigma_least": SIGMA,
                "sigma_most": SIGMA * (1 + 1e-9),
                "fed_back_frames": 0,
                "optimization": config.Optimization(batch_size=64),
                **denoiser,
            }
        ),
        sampler=config.Sampler(steps=1, sigma_max=SIGMA, initial_noise="sigma_max"),
        reward_end=config.RewardEnd(patch=4, channels=[8], depths=[1], attention=False, lstm_dim=8),
        actor_critic=config.ActorCritic(patch=4, channels=[8], lstm_dim=8),
    )
    return check(c)


def random_frames(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 84, 84), dtype=torch.uint8, generator=generator())


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
        super().__init__(config.ActorCritic(patch=4, channels=[8], lstm_dim=8), ACTIONS)
        self.frames, self.actions = frames, actions

    def forward(self, obs: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor, Hidden]:
        rows = [[row_of(frame.float(), self.frames.float()) for frame in frames] for frames in obs]
        action = torch.tensor(self.actions)[torch.tensor(rows)]
        return 1e9 * nn.functional.one_hot(action, ACTIONS).float(), torch.zeros(action.shape), hidden


@pytest.mark.parametrize("target", ["frame", "change"])
def test_training_and_imagination_show_the_network_the_same_rows_of_the_replay(target: str, tmp_path: Path) -> None:
    """Order of frames, actions beside them, normalisation and noise level: of every row, from the replay to the network."""
    frames, actions = random_frames(ROWS + 1), torch.randint(0, ACTIONS, (ROWS,), generator=generator()).tolist()
    replay = filled_replay(frames, actions)
    models = Models(small_config(target=target), ("A", "B", "C", "D"), CPU)
    witness = models.denoiser.net = Witness(models.denoiser, frames)

    update_denoiser(models, replay, Generators.seeded(0, CPU), Logger(tmp_path))
    training, witness.seen = witness.seen, []
    horizon = 3
    context = replay.sample_contexts(64, N, generator())
    rows = torch.tensor([row_of(frame.float(), frames.float()) for frame in context.obs[:, -1]])
    inside = rows + horizon < ROWS  # the others would dream beyond what happened
    context = type(context)(*(column[inside] for column in context))
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


def test_the_replay_holds_what_the_game_showed() -> None:
    """Played again from the stored actions alone, the game shows the stored frames, rewards and ends, row for row."""
    atari = config.Atari(noop_max=0, max_episode_steps=150)
    replay = Replay(400)
    env = AtariEnv("Breakout", atari, episodic_life=True)
    collector = Collector(env, replay, seed=3)
    policy = ActorCritic(config.ActorCritic(patch=4, channels=[8], lstm_dim=8), ACTIONS)
    random = generator()
    ends = [collector.step(policy, 0.0, random) for _ in range(330)]
    assert sum(end.episode is not None for end in ends) >= 3
    assert sum(end.game is not None for end in ends) >= 2
    everything = replay._columns  # in the order of play, final frames between
    again, row = AtariEnv("Breakout", atari, episodic_life=True), 0
    obs, _ = again.reset(seed=3)
    for end in ends:
        column = {name: values[row] for name, values in everything.items()}
        assert np.array_equal(column["obs"].numpy(), obs)
        assert not column["final"]
        obs, reward, terminated, truncated, _ = again.step(int(column["action"]))
        assert (column["reward"], column["terminated"], column["truncated"]) == (reward, terminated, truncated)
        assert (end.episode is not None) == (terminated or truncated)
        row += 1
        if terminated or truncated:
            assert everything["final"][row]
            assert np.array_equal(everything["obs"][row].numpy(), obs)
            obs, _ = again.reset()
            row += 1
    assert row == replay.num_rows


def test_the_collector_forgets_where_an_episode_ends_and_only_there() -> None:
    env = AtariEnv("Breakout", config.Atari(noop_max=0, max_episode_steps=20), episodic_life=True)
    collector = Collector(env, Replay(100), seed=0)
    policy = ActorCritic(config.ActorCritic(patch=4, channels=[8], lstm_dim=8), ACTIONS)
    given = []
    policy.register_forward_hook(lambda module, args, output: given.append((args[1], output[2])))
    random, ended = generator(), None
    for _ in range(45):
        ended_before, ended = ended, collector.step(policy, 0.0, random).episode is not None
        hidden = given[-1][0]
        if ended_before in (None, True):
            assert not any(h.any() for h in hidden)
        else:
            assert all(torch.equal(h, left) for h, left in zip(hidden, given[-2][1], strict=True))


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_epsilon_is_the_chance_of_a_random_action(epsilon: float) -> None:
    env = AtariEnv("Breakout", config.Atari(noop_max=0), episodic_life=True)
    replay = Replay(60)
    collector = Collector(env, replay, seed=0)
    policy = ActorCritic(config.ActorCritic(patch=4, channels=[8], lstm_dim=8), ACTIONS)
    with torch.no_grad():
        policy.actor.bias[2] = 100.0
    random = generator()
    for _ in range(40):
        collector.step(policy, epsilon, random)
    done = replay._columns["action"][~replay._columns["final"]][:40].unique().tolist()
    assert done == ([2] if epsilon == 0 else [0, 1, 2, 3])
