"""Rollouts made of collected steps: what the replay got, cut into rows, with what the policy remembered and said."""

from __future__ import annotations

import pytest
import torch
from helpers import generator, wake

from adamas import config
from adamas.agent.actor_critic import ActorCritic
from adamas.data.replay import Replay
from adamas.envs.atari import AtariEnv
from adamas.training import collector
from adamas.training.collected_rollouts import Collected, collect_rollouts
from adamas.training.collector import Collector

COUNT, HORIZON, CAP = 4, 10, 63


def make_policy() -> ActorCritic:
    torch.manual_seed(0)
    return wake(ActorCritic(config.ActorCritic(channels=[8], frame_stack=3), config.Network(patch=4, lstm_dim=8), 6))


def make_collector() -> Collector:
    return Collector(AtariEnv("Qbert", config.Atari(max_episode_steps=CAP), episodic_life=True), Replay(2000), seed=2)


@pytest.fixture(scope="module")
def collected() -> tuple[Replay, ActorCritic, list[Collected]]:
    player, policy, random = make_collector(), make_policy(), generator()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collector, "EPSILON", 0.2)
        made = [collect_rollouts(player, policy, COUNT, HORIZON, 1000, random) for _ in range(12)]
    return player.replay, policy, made


def taken(made: list[Collected]) -> list[tuple[Collected, int, int]]:
    """The steps in the order of play, as (what was collected, row, t)."""
    steps = []
    for each in made:
        for i in range(COUNT):
            over = (each.rollout.terminated | each.rollout.truncated)[i].nonzero()
            steps += [(each, i, t) for t in range(int(over[0]) + 1 if len(over) else HORIZON)]
    return steps


def test_the_rows_hold_each_step_of_the_replay_once_and_in_order(collected: tuple) -> None:
    replay, _, made = collected
    rows, steps = replay.rows(0), taken(made)
    index = (~rows["final"]).nonzero()[:, 0]
    assert len(steps) == len(index) == sum(each.steps for each in made)
    for (each, i, t), row in zip(steps, index.tolist(), strict=True):
        rollout = each.rollout
        assert torch.equal(rollout.obs[i, t], rows["obs"][row])
        assert row + 1 == len(rows["obs"]) or torch.equal(rollout.obs[i, t + 1], rows["obs"][row + 1])
        assert rollout.action[i, t] == rows["action"][row]
        assert rollout.reward[i, t] == rows["reward"][row].sign()
        assert (rollout.terminated[i, t], rollout.truncated[i, t]) == (rows["terminated"][row], rows["truncated"][row])
    assert rows["terminated"].any()
    assert rows["truncated"].any()


def test_nothing_is_learned_from_padding_and_from_actions_that_the_policy_did_not_draw(collected: tuple) -> None:
    _, _, made = collected
    steps = taken(made)
    drawn = sum(bool(each.rollout.mask[i, t]) for each, i, t in steps)
    assert drawn == sum(int(each.rollout.mask.sum()) for each in made), "padding is masked"
    assert 0.7 < drawn / len(steps) < 0.95


def test_the_policy_run_again_over_a_row_says_what_it_said(collected: tuple) -> None:
    """From the state that the row starts from, over its frames: so that the first update starts from a ratio of 1."""
    _, policy, made = collected
    for each in made:
        r = each.rollout
        with torch.no_grad():
            logits, values, _ = policy(r.obs, r.hidden)
        log_p = logits[:, :-1].log_softmax(-1).gather(-1, r.action[..., None])[..., 0]
        torch.testing.assert_close(log_p[r.mask], r.log_p[r.mask], atol=1e-4, rtol=1e-4)
        lasting = torch.nn.functional.pad(r.mask, (1, 0), value=True)
        torch.testing.assert_close(values[lasting], r.value[lasting], atol=1e-4, rtol=1e-4)


def test_collecting_rollouts_collects_what_single_steps_do() -> None:
    one, other = make_collector(), make_collector()
    policy, random, again = make_policy(), generator(), generator()
    steps = collect_rollouts(one, policy, COUNT, HORIZON, 1000, random).steps
    for _ in range(steps):
        other.step(policy, again)
    ours, theirs = one.replay.rows(0), other.replay.rows(0)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("most", [1, 7, 10, 23])
def test_no_more_steps_are_taken_than_are_left_and_shapes_stay(most: int) -> None:
    """A row that is cut short is truncated, so that the value of its last frame stands for what would have come."""
    player = make_collector()
    made = collect_rollouts(player, make_policy(), COUNT, HORIZON, most, generator())
    assert made.steps == player.replay.num_steps == most
    rollout, short = made.rollout, most % HORIZON
    assert rollout.obs.shape == (COUNT, HORIZON + 1, 84, 84)
    assert rollout.mask.sum(1).tolist()[: most // HORIZON] == [HORIZON] * (most // HORIZON)
    assert not rollout.mask[-(-most // HORIZON) :].any()
    if short:
        row = most // HORIZON
        assert rollout.truncated[row].nonzero().flatten().tolist() == [short - 1]
        assert rollout.mask[row].tolist() == [t < short for t in range(HORIZON)]
