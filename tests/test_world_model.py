"""The world model's step is a pure function of state, action and generator."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import expect, generator, make_context, make_world, spy
from torch import Tensor

from adamas.data.batch import Trajectory
from adamas.utils.random import seeded
from adamas.world_model.world_model import Prediction, WorldModel, WorldState

N, B, ACTIONS = 3, 4, 3  # context frames, rollouts and actions of what helpers make


def start(world: WorldModel) -> WorldState:
    return world.start(make_context())


def step_repeatedly(world: WorldModel, state: WorldState, count: int) -> list[tuple[WorldState, Tensor, Prediction]]:
    random, steps = generator(2), []
    for _ in range(count):
        action = torch.randint(0, ACTIONS, (B,), generator=random)
        state, prediction = world.step(state, action, random)
        steps.append((state, action, prediction))
    return steps


# The step


@pytest.mark.parametrize("target", ["frame", "change"])
def test_a_step_is_a_function_of_state_action_and_generator(target: str) -> None:
    world = make_world(target=target)
    state, action = start(world), torch.tensor([0, 1, 2, 0])
    saved, weights = copy.deepcopy(state), copy.deepcopy(world.state_dict())
    results = [world.step(state, action, generator(seed)) for seed in (3, 3, 4)]
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert not torch.equal(results[0][1].obs, results[2][1].obs)
    torch.testing.assert_close(state, saved, rtol=0, atol=0)  # what it was given it leaves alone
    torch.testing.assert_close(world.state_dict(), weights, rtol=0, atol=0)


def test_the_context_rolls_on_by_one_frame_and_its_action() -> None:
    world = make_world()
    first = start(world)
    obs, actions = list(first.context.obs.unbind(1)), list(first.context.action.unbind(1))
    for state, action, prediction in step_repeatedly(world, first, 2 * N):
        obs.append(prediction.obs)
        actions.append(action)
        assert torch.equal(state.context.obs, torch.stack(obs[-N:], dim=1))
        assert torch.equal(state.context.action, torch.stack(actions[-N + 1 :], dim=1))


def test_the_denoiser_and_the_reward_end_model_see_each_action_beside_its_frame() -> None:
    world = make_world()
    state, action = start(world), torch.tensor([2, 1, 0, 1])
    draws, verdicts = spy(world.denoiser, "sample"), spy(world.reward_end, "forward")
    trace = []
    _, prediction = world.step(state, action, generator(), trace)
    assert len(trace) == world.sampler.steps  # what a person may look at
    ((context, actions, *_), _), ((obs, acted, next_obs, hidden), _) = *draws, *verdicts
    assert torch.equal(context, state.context.obs)
    assert torch.equal(actions, torch.cat([state.context.action, action[:, None]], dim=1))
    assert torch.equal(obs, state.obs[:, None])
    assert torch.equal(acted, action[:, None])
    assert torch.equal(next_obs, prediction.obs[:, None])
    assert hidden is state.hidden


def test_shapes_and_types_never_change() -> None:
    world = make_world()
    first = start(world)
    kinds = [(x.shape, x.dtype) for x in (*first.context, *first.hidden)]
    for state, _, prediction in step_repeatedly(world, first, 3):
        assert [(x.shape, x.dtype) for x in (*state.context, *state.hidden)] == kinds
        assert [(x.shape, x.dtype) for x in prediction] == [
            ((B, 84, 84), torch.uint8),
            ((B,), torch.float32),
            ((B,), torch.int64),
        ]
        assert not any(x.requires_grad for x in (*state.hidden, prediction.reward))


def test_the_start_is_burnt_in_as_stepping_would_leave_it() -> None:
    world = make_world()
    state = start(world)
    steps = step_repeatedly(world, state, 3)
    obs = torch.cat([state.context.obs, *(prediction.obs[:, None] for _, _, prediction in steps)], dim=1)
    action = torch.cat([state.context.action, *(action[:, None] for _, action, _ in steps)], dim=1)
    last_state, _, _ = steps[-1]
    torch.testing.assert_close(world.start(Trajectory(obs, action)).hidden, last_state.hidden, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reward", [-1, 0, 1])
@pytest.mark.parametrize(("end", "divergence"), [(0, False), (1, False), (0, True), (1, True), (2, True)])
def test_a_sure_reward_end_model_is_believed(reward: int, end: int, divergence: bool) -> None:
    world = make_world(predict_divergence=divergence)
    expect(world, reward, end)
    _, prediction = world.step(start(world), torch.zeros(B, dtype=torch.int64), generator())
    assert prediction.reward.tolist() == [reward * (end != 2)] * B  # where it has diverged it says nothing
    assert prediction.terminated.tolist() == [end == 1] * B
    assert prediction.diverged.tolist() == [end == 2] * B


def test_an_unsure_reward_end_model_is_drawn_from() -> None:
    world = make_world()
    expect(world)
    predictions = [prediction for _, _, prediction in step_repeatedly(world, start(world), 12)]
    assert torch.cat([p.reward for p in predictions]).unique().tolist() == [-1, 0, 1]
    assert torch.cat([p.terminated for p in predictions]).unique().tolist() == [False, True]


@pytest.mark.parametrize("target", ["frame", "change"])
def test_with_a_generator_each_a_rollout_does_not_depend_on_its_neighbours(target: str) -> None:
    """Up to what the batch size does to rounding: by less than a grey level, and to no draw."""
    world, context = make_world(target=target), make_context()
    expect(world)

    def play(rows: list[int]) -> list[Prediction]:
        state, random, predictions = world.start(context.rows(torch.tensor(rows))), seeded(rows), []
        for _ in range(3):
            state, prediction = world.step(state, torch.tensor(rows) % ACTIONS, random)
            predictions.append(prediction)
        return predictions

    for rows in ([2], [3, 1]):
        for ours, theirs in zip(play(rows), play([0, 1, 2, 3]), strict=True):
            assert (ours.obs.int() - theirs.obs[rows].int()).abs().max() <= 1
            assert torch.equal(ours.reward, theirs.reward[rows])
            assert torch.equal(ours.end, theirs.end[rows])
