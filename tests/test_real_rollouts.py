"""Rollouts in the real game, for policy=model_free: what the emulator did, and what the policy remembered of it."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch
from helpers import CPU, generator, wake

from adamas import config
from adamas.agent.actor_critic import ActorCritic
from adamas.agent.rollout import NO_FRAME, Rollout
from adamas.envs.atari import AtariEnv
from adamas.training.real_rollouts import RealRollouts


def make_policy(frame_stack: int = 3) -> ActorCritic:
    torch.manual_seed(0)
    c = config.ActorCritic(channels=[8, 8], frame_stack=frame_stack)
    return ActorCritic(c, config.Network(patch=4, lstm_dim=16), 6)


class CountingEnv(AtariEnv):
    """Qbert that remembers what it was told and what it showed."""

    def __init__(self, max_episode_steps: int) -> None:
        super().__init__("Qbert", config.Atari(max_episode_steps=max_episode_steps), episodic_life=True)
        self.steps, self.starts = [], []

    def reset(self, **options: object) -> tuple[np.ndarray, dict]:
        obs, info = super().reset(**options)
        self.starts.append(obs)
        return obs, info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        result = super().step(action)
        self.steps.append((action, *result))
        return result


GAMES, HORIZON = 2, 10


@pytest.fixture(scope="module")
def played() -> tuple[list[CountingEnv], ActorCritic, list[tuple[Rollout, list[float]]]]:
    """Forty rollouts of two games: one is cut after 60 steps, the other one goes on until it is over."""
    envs, policy = [CountingEnv(60), CountingEnv(1000)], make_policy()
    real, random = RealRollouts(envs, policy, seed=2), generator()
    return envs, policy, [real.play(policy, HORIZON, random) for _ in range(40)]


def test_no_step_of_the_real_game_is_lost(played: tuple) -> None:
    """What was taken, put together, is what the emulator did: rewards become their sign."""
    envs, _, rollouts = played
    for i, env in enumerate(envs):
        taken = [(rollout, t) for rollout, _ in rollouts for t in range(HORIZON) if rollout.mask[i, t]]
        assert len(taken) == len(env.steps)
        for (rollout, t), (action, obs, reward, terminated, truncated, _) in zip(taken, env.steps, strict=True):
            assert rollout.action[i, t] == action
            assert rollout.reward[i, t] == np.sign(reward)
            assert (rollout.terminated[i, t], rollout.truncated[i, t]) == (terminated, truncated)
            assert np.array_equal(rollout.obs[i, t + 1], obs)
    assert any(reward > 1 for env in envs for _, _, reward, *_ in env.steps)


def test_a_real_rollout_ends_where_its_episode_does(played: tuple) -> None:
    _, _, rollouts = played
    ends = cuts = 0
    for rollout, _ in rollouts:
        over = rollout.terminated | rollout.truncated
        assert rollout.mask[:, 0].all()
        assert torch.equal(rollout.mask[:, 1:], rollout.mask[:, :-1] & ~over[:, :-1])
        assert not (over & ~rollout.mask).any()
        assert not rollout.reward[~rollout.mask].any()
        ends, cuts = ends + int(rollout.terminated.sum()), cuts + int(rollout.truncated.sum())
    assert ends > 2
    assert cuts > 2


def test_the_next_rollout_goes_on_or_starts_anew(played: tuple) -> None:
    envs, policy, rollouts = played
    starts = [iter(env.starts[1:]) for env in envs]
    assert all(np.array_equal(rollouts[0][0].obs[i, 0], env.starts[0]) for i, env in enumerate(envs))
    for (before, _), (after, _) in itertools.pairwise(rollouts):
        _, _, hidden = policy(before.obs[:, :-1], before.hidden)
        for i in range(GAMES):
            if (before.terminated | before.truncated)[i].any():
                assert np.array_equal(after.obs[i, 0], next(starts[i]))
                assert not after.hidden.h[0, i].any()
                assert not after.hidden.c[0, i].any()
                assert (after.hidden.past[0, i] == NO_FRAME).all()
            else:
                assert torch.equal(after.obs[i, 0], before.obs[i, -1])
                for ours, theirs in zip(after.hidden, hidden, strict=True):
                    torch.testing.assert_close(ours[0, i], theirs[0, i], rtol=1e-4, atol=1e-5)


def test_returns_of_real_games_are_unclipped_sums_over_whole_games(played: tuple) -> None:
    envs, _, rollouts = played
    finished = []
    for env in envs:
        total = 0.0
        for _, _, reward, _, truncated, info in env.steps:
            total += reward
            if info["game_over"] or truncated:
                finished.append(total)
                total = 0.0
    assert sorted(itertools.chain(*(ended for _, ended in rollouts))) == sorted(finished)
    assert any(info["game_over"] for *_, info in envs[1].steps)
    assert max(finished) > 25  # what one reward is


def test_runs_of_two_seeds_play_no_game_in_common() -> None:
    envs = [[CountingEnv(35) for _ in range(GAMES)] for _ in range(3)]
    for seed, games in enumerate(envs):
        RealRollouts(games, make_policy(), seed)
    assert len({env.np_random_seed for games in envs for env in games}) == 3 * GAMES


def test_saved_real_rollouts_go_on_bit_for_bit() -> None:
    policy = wake(make_policy())
    envs = [CountingEnv(35) for _ in range(GAMES)]
    real, random = RealRollouts(envs, policy, seed=3), generator()
    for _ in range(3):
        real.play(policy, HORIZON, random)
    file = io.BytesIO()
    torch.save({"real": real.state_dict(), "random": random.get_state()}, file)
    ours = [real.play(policy, HORIZON, random) for _ in range(3)]

    other = RealRollouts([CountingEnv(35) for _ in range(GAMES)], policy, seed=99)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other.load_state_dict(state["real"], CPU)
    again = generator()
    again.set_state(state["random"])
    theirs = [other.play(policy, HORIZON, again) for _ in range(3)]
    torch.testing.assert_close(theirs, ours, rtol=0, atol=0)
