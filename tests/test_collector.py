"""The collector: the replay holds what the game showed, and the policy forgets where an episode ends and only there."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from helpers import CPU, generator, read_dataset, wake

from adamas import config
from adamas.agent import policy as policy_module
from adamas.agent.actor_critic import ActorCritic
from adamas.agent.rollout import NO_FRAME, Hidden
from adamas.config import Config
from adamas.data.replay import Replay
from adamas.envs.atari import AtariEnv
from adamas.envs.make import make_env
from adamas.training.collector import Collector, Ended


@pytest.fixture(autouse=True)
def _no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_module, "EXPLORATION", 0.0)


def make_policy(awake: bool = True, actions: int = 4) -> ActorCritic:
    torch.manual_seed(0)
    policy = ActorCritic(config.ActorCritic(channels=[8], frame_stack=3), config.Network(patch=4, lstm_dim=8), actions)
    return wake(policy) if awake else policy


def make(seed: int = 0, **atari: Any) -> Collector:
    return Collector(AtariEnv("Breakout", config.Atari(**atari), episodic_life=True), Replay(1600), seed)


def hidden_of(policy: ActorCritic) -> list[tuple[Hidden, Hidden]]:
    """From now on, the state that each call of the policy starts from, and the one that it leaves."""
    given: list[tuple[Hidden, Hidden]] = []
    policy.register_forward_hook(lambda module, args, output: given.append((args[1], output[2])))
    return given


def is_fresh(hidden: Hidden) -> bool:
    return not hidden.h.any() and not hidden.c.any() and bool((hidden.past == NO_FRAME).all())


class Story(NamedTuple):
    """Steps in which lives are lost, a game is over and a game is cut."""

    collector: Collector
    ends: list[Ended]
    hidden: list[tuple[Hidden, Hidden]]  # that each step started from, and that it left

    def kind(self, step: int) -> str:
        """What happened to the episode with that step."""
        rows = self.collector.replay.rows(0)
        if self.ends[step].episode is None:
            return "goes on"
        if rows["truncated"][~rows["final"]][step]:
            return "cut"
        return "life lost" if self.ends[step].game is None else "game over"


@pytest.fixture(scope="module")
def story() -> Story:
    played, policy, random = make(max_episode_steps=170), make_policy(awake=False), generator()
    hidden = hidden_of(policy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy_module, "EXPLORATION", 0.0)
        told = Story(played, [], hidden)
        while len({told.kind(step) for step, end in enumerate(told.ends) if end.episode is not None}) < 3 or not any(
            end.game not in (None, end.episode) for end in told.ends
        ):  # every kind of end, and a game that was paid in an earlier life too
            told.ends.extend(played.step(policy, random) for _ in range(50))
            assert len(told.ends) < 1500
    return told


def test_the_replay_holds_what_the_game_showed(story: Story) -> None:
    """Played again from the stored actions alone, the game shows the stored frames, rewards and ends, row for row."""
    everything = story.collector.replay.rows(0)  # in the order of play, final frames between
    again, row = AtariEnv("Breakout", config.Atari(max_episode_steps=170), episodic_life=True), 0
    obs, _ = again.reset(seed=0)
    for end in story.ends:
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
    assert row == story.collector.replay.num_rows


def test_the_policy_forgets_where_an_episode_ends_and_only_there(story: Story) -> None:
    """At a lost life, at game over and at the step cap: the memory of the LSTM and the frames that it is shown."""
    assert is_fresh(story.hidden[0][0])
    for step, ((_, left), (start, _)) in enumerate(itertools.pairwise(story.hidden)):
        if story.kind(step) == "goes on":
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(start, left, strict=True))
            assert not is_fresh(start)
        else:
            assert is_fresh(start), story.kind(step)


def test_returns_are_sums_over_lives_and_over_games(story: Story) -> None:
    rows = story.collector.replay.rows(0)
    life = game = 0.0
    for end, reward in zip(story.ends, rows["reward"][~rows["final"]].tolist(), strict=True):
        life, game = life + reward, game + reward
        assert end.episode in (None, life)
        assert end.game in (None, game)
        life, game = (total if ended is None else 0.0 for ended, total in zip(end, (life, game), strict=True))
    assert sum(end.episode is not None for end in story.ends) > sum(end.game is not None for end in story.ends)


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("steps", [0, 7, 40])
def test_a_saved_collector_goes_on_bit_for_bit(steps: int) -> None:
    """With what the policy remembers, which decides what it does: here it is awake."""
    played, policy, random = make(), make_policy(), generator()
    while played.replay.num_steps < steps or (steps and played.hidden is None):
        played.step(policy, random)
    state, then = through_a_file(played.state_dict()), random.get_state()
    given, rows = hidden_of(policy), played.replay.num_rows
    ours = [played.step(policy, random) for _ in range(60)]

    other, again = make(seed=99), generator(5)
    other.load_state_dict(state, CPU)
    assert other.go_on(state["env"])
    again.set_state(then)
    first = len(given)
    theirs = [other.step(policy, again) for _ in range(60)]
    assert theirs == ours
    for one, two in zip(given[:first], given[first:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[0], two[0], strict=True))
    assert steps == 0 or not is_fresh(given[first][0]), "saved within an episode"
    for name, column in other.replay.rows(0).items():
        assert torch.equal(column, played.replay.rows(rows)[name])


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_epsilon_is_the_chance_of_a_random_action(epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_module, "EXPLORATION", epsilon)
    played, policy, random = make(), make_policy(), generator()
    with torch.no_grad():
        policy.actor.bias[2] = 1e3
    for _ in range(40):
        played.step(policy, random)
    done = played.replay._columns["action"][~played.replay._columns["final"]][:40].unique().tolist()
    assert done == ([2] if epsilon == 0 else [0, 1, 2, 3])


@pytest.mark.parametrize("steps", [[0, 7, 5], [9, 0, 11], [3, 20, 20, 1], [20, 0, 0, 20]])
def test_what_is_stored_of_a_game_that_cannot_be_restored_is_read_again(
    steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The env does not go on with its episode at any resume, within an episode and between two of 20 steps."""
    policy, random = make_policy(actions=3), generator()
    env = make_env(Config(env="pixel_games:Unseeded-v0", env_kwargs={"length": 20}), episodic_life=True)
    played = Collector(env, Replay(400), 0)
    for count in steps:
        for _ in range(count):
            played.step(policy, random)
        manifest, state = played.replay.save(tmp_path), played.state_dict()
        played = Collector(env, Replay(400), 0)
        played.replay.load(tmp_path, manifest)
        played.load_state_dict(state, CPU)
        assert not played.go_on(state["env"])
    played.replay.save(tmp_path)
    read = read_dataset(tmp_path, [1.0])
    rows = read.rows(0)
    assert read.num_steps == sum(steps)
    assert not (rows["final"][1:] & rows["final"][:-1]).any()
    assert read.num_episodes == int(rows["final"].sum())
    for name, column in played.replay.rows(0).items():
        assert torch.equal(column, rows[name])


def test_an_action_is_repeated_within_an_episode_until_the_first_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Freeway, where who goes up for good is paid."""
    env = AtariEnv("Freeway", config.Atari(max_episode_steps=80), episodic_life=True)
    played, policy, random = Collector(env, Replay(1600), 0), make_policy(awake=False, actions=3), generator()
    monkeypatch.setattr(policy, "repetition", lambda steps: 1.0 if steps >= 20 else 0.0)
    while not played.replay.reward_counts[1]:
        played.step(policy, random)
        assert played.replay.num_steps < 1500
    for _ in range(150):
        played.step(policy, random)
    rows = played.replay.rows(0)
    steps, episode = ~rows["final"], rows["final"].cumsum(0)
    action, reward, episode = rows["action"][steps], rows["reward"][steps], episode[steps]
    same, within = action[1:] == action[:-1], episode[1:] == episode[:-1]
    first = int(reward.nonzero()[0])
    assert bool((same | ~within)[19:first].all())
    assert len(action[:first].unique()) == 3, "the policy chooses the first of an episode"
    assert 0 < same[first:].float().mean() < 0.6
