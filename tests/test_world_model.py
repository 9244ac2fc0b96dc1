"""The world model's step is a pure function, and imagination calls nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from adamas.training.rollouts import imagine
from torch import Tensor

from adamas import config
from adamas.agent.actor_critic import ActorCritic
from adamas.config.rules import check
from adamas.data.batch import Segment
from adamas.world_model.denoiser import Denoiser
from adamas.world_model.reward_end import RewardEnd
from adamas.world_model.world_model import Prediction, WorldModel, WorldState

N, B, ACTIONS = 3, 4, 3  # context frames, dreams, actions


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def wake(module: torch.nn.Module) -> torch.nn.Module:
    """Gives the branches that start at zero something to say."""
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return module


def make_world(context: int = N, target: str = "frame", astray: bool = False) -> WorldModel:
    torch.manual_seed(0)
    small = {"patch": 4, "channels": [16, 16], "depths": [1, 1], "attention": False}
    denoiser = Denoiser(config.Denoiser(**small, context=context, condition_channels=24, target=target), ACTIONS)
    reward_end = RewardEnd(config.RewardEnd(**small, condition_channels=8, lstm_dim=16, astray=astray), ACTIONS)
    return WorldModel(wake(denoiser), wake(reward_end), config.Sampler(steps=2))


def make_policy() -> ActorCritic:
    torch.manual_seed(1)
    return wake(ActorCritic(config.ActorCritic(patch=4, channels=[8, 8], lstm_dim=16), ACTIONS))


def make_context(frames: int = N, batch: int = B) -> Segment:
    obs = torch.randint(0, 256, (batch, frames, 84, 84), dtype=torch.uint8, generator=generator())
    action = torch.randint(0, ACTIONS, (batch, frames), generator=generator())
    no = torch.zeros(batch, frames, dtype=torch.bool)
    return Segment(obs, action, torch.zeros(batch, frames), no, no, ~no)


def start(world: WorldModel) -> WorldState:
    context = make_context()
    return world.start(context.obs, context.action[:, :-1])


def expect(world: WorldModel, reward: int | None = None, end: int | None = None) -> None:
    """Makes the reward/end model sure of a class, or leave it to a fair coin."""
    first, last = world.reward_end.head[0], world.reward_end.head[-1]
    with torch.no_grad():
        first.weight.zero_()
        first.bias.fill_(1.0)
        last.weight.zero_()
        if reward is not None:
            last.weight[reward + 1] = 100.0
        if end is not None:
            last.weight[3 + end] = 100.0


def spy(owner: object, method: str) -> list[tuple[tuple, object]]:
    """From now on, the arguments and the result of each call of that method."""
    calls, original = [], getattr(owner, method)

    def remember(*args: object) -> object:
        calls.append((args, original(*args)))
        return calls[-1][1]

    setattr(owner, method, remember)
    return calls


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
    frames, actions = list(first.obs.unbind(1)), list(first.action.unbind(1))
    for state, action, prediction in step_repeatedly(world, first, 2 * N):
        frames.append(prediction.obs)
        actions.append(action)
        assert torch.equal(state.obs, torch.stack(frames[-N:], dim=1))
        assert torch.equal(state.action, torch.stack(actions[-N + 1 :], dim=1))


def test_the_denoiser_and_the_reward_end_model_see_each_action_beside_its_frame() -> None:
    world = make_world()
    state, action = start(world), torch.tensor([2, 1, 0, 1])
    draws, verdicts = spy(world.denoiser, "sample"), spy(world.reward_end, "forward")
    trace = []
    _, prediction = world.step(state, action, generator(), trace)
    assert len(trace) == world.sampler.steps  # what a person may look at
    ((context, actions, *_), _), ((obs, acted, next_obs, hidden), _) = *draws, *verdicts
    assert torch.equal(context, state.obs)
    assert torch.equal(actions, torch.cat([state.action, action[:, None]], dim=1))
    assert torch.equal(obs, state.obs[:, -1:])
    assert torch.equal(acted, action[:, None])
    assert torch.equal(next_obs, prediction.obs[:, None])
    assert hidden is state.hidden


def test_shapes_and_types_never_change() -> None:
    world = make_world()
    first = start(world)
    kinds = [(x.shape, x.dtype) for x in (first.obs, first.action, *first.hidden)]
    for state, _, prediction in step_repeatedly(world, first, 3):
        assert [(x.shape, x.dtype) for x in (state.obs, state.action, *state.hidden)] == kinds
        assert [(x.shape, x.dtype) for x in prediction] == [
            ((B, 84, 84), torch.uint8),
            ((B,), torch.float32),
            ((B,), torch.bool),
            ((B,), torch.bool),
        ]
        assert not any(x.requires_grad for x in (*state.hidden, prediction.reward))


def test_the_start_is_burnt_in_as_stepping_would_leave_it() -> None:
    world = make_world()
    state = start(world)
    steps = step_repeatedly(world, state, 3)
    obs = torch.cat([state.obs, *(prediction.obs[:, None] for _, _, prediction in steps)], dim=1)
    action = torch.cat([state.action, *(action[:, None] for _, action, _ in steps)], dim=1)
    last_state, _, _ = steps[-1]
    torch.testing.assert_close(world.start(obs, action).hidden, last_state.hidden, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reward", [-1, 0, 1])
@pytest.mark.parametrize(("end", "astray"), [(0, False), (1, False), (0, True), (1, True), (2, True)])
def test_a_sure_reward_end_model_is_believed(reward: int, end: int, astray: bool) -> None:
    world = make_world(astray=astray)
    expect(world, reward, end)
    _, prediction = world.step(start(world), torch.zeros(B, dtype=torch.int64), generator())
    assert prediction.reward.tolist() == [reward * (end != 2)] * B  # astray it says nothing
    assert prediction.terminated.tolist() == [end == 1] * B
    assert prediction.truncated.tolist() == [end == 2] * B


def test_an_unsure_reward_end_model_is_drawn_from() -> None:
    world = make_world()
    expect(world)
    predictions = [prediction for _, _, prediction in step_repeatedly(world, start(world), 12)]
    assert torch.cat([p.reward for p in predictions]).unique().tolist() == [-1, 0, 1]
    assert torch.cat([p.terminated for p in predictions]).unique().tolist() == [False, True]


# Imagination


def test_a_rollout_has_the_shapes_and_types_that_it_promises() -> None:
    rollout = imagine(make_world(), make_policy(), make_context(), 5, generator())
    assert [(x.shape, x.dtype) for x in rollout[1:]] == [
        ((B, 6, 84, 84), torch.uint8),
        ((B, 5), torch.int64),
        ((B, 5), torch.float32),
        ((B, 6), torch.float32),
        ((B, 5), torch.float32),
        ((B, 5), torch.bool),
        ((B, 5), torch.bool),
        ((B, 5), torch.bool),
    ]
    assert [h.shape for h in rollout.hidden] == [(1, B, 16), (1, B, 16), (1, B, 0, 84, 84)]


def test_without_an_end_every_step_is_taken_and_none_is_truncated() -> None:
    world = make_world()
    expect(world, end=False)
    rollout = imagine(world, make_policy(), make_context(), 5, generator())
    assert rollout.mask.all()
    assert not (rollout.terminated | rollout.truncated).any()


def test_a_sure_end_leaves_one_step() -> None:
    world = make_world()
    expect(world, end=True)
    rollout = imagine(world, make_policy(), make_context(), 4, generator())
    assert rollout.mask.tolist() == [[True, False, False, False]] * B
    assert rollout.terminated.tolist() == [[True, False, False, False]] * B


def test_steps_are_masked_from_an_end_on() -> None:
    world = make_world()
    expect(world)
    rollout = imagine(world, make_policy(), make_context(batch=16), 5, generator())
    assert rollout.mask[:, 0].all()
    assert torch.equal(rollout.mask[:, 1:], rollout.mask[:, :-1] & ~rollout.terminated[:, :-1])
    assert not (rollout.terminated & ~rollout.mask).any()
    assert rollout.reward[rollout.mask].any()
    assert not rollout.reward[~rollout.mask].any()
    assert rollout.mask.sum(1).unique().numel() > 1, "ends at different times"


def test_a_dream_that_is_sure_to_go_astray_teaches_nothing() -> None:
    world = make_world(astray=True)
    expect(world, end=2)
    rollout = imagine(world, make_policy(), make_context(), 4, generator())
    assert not (rollout.mask | rollout.terminated | rollout.truncated).any()
    assert not rollout.reward.any()


def test_a_dream_is_truncated_one_step_before_it_goes_astray() -> None:
    world = make_world(astray=True)
    steps = spy(world, "step")
    expect(world)
    rollout = imagine(world, make_policy(), make_context(batch=32), 5, generator())
    for b in range(32):
        taken, last = 0, None
        while taken < 5 and last is None:
            prediction = steps[taken][1][1]
            if prediction.truncated[b]:
                last = "astray"
            else:
                taken += 1
                last = "end" if prediction.terminated[b] else None
        assert rollout.mask[b].tolist() == [t < taken for t in range(5)]
        assert rollout.truncated[b].tolist() == [last == "astray" and t == taken - 1 for t in range(5)]
        assert rollout.terminated[b].tolist() == [last == "end" and t == taken - 1 for t in range(5)]
        assert not rollout.reward[b, taken:].any()
    assert rollout.truncated.any()
    assert rollout.terminated.any()
    assert not rollout.mask[:, 0].all()


def test_a_rollout_holds_the_steps_that_were_taken() -> None:
    world, policy = make_world(), make_policy()
    steps = spy(world, "step")
    expect(world, end=False)
    rollout = imagine(world, policy, make_context(), 4, generator())
    assert torch.equal(rollout.obs[:, 0], make_context().obs[:, -1])
    assert len(steps) == 4
    for t, ((state, action, _), (after, prediction)) in enumerate(steps):
        assert torch.equal(rollout.obs[:, t], state.obs[:, -1])
        assert torch.equal(rollout.action[:, t], action)
        assert torch.equal(rollout.reward[:, t], prediction.reward)
        assert torch.equal(rollout.obs[:, t + 1], prediction.obs)
        if t < 3:
            assert steps[t + 1][0][0] is after


def test_an_unsure_policy_is_drawn_from() -> None:
    policy = make_policy()
    with torch.no_grad():
        policy.actor.weight.zero_()
        policy.actor.bias.copy_(torch.tensor([0.0, 0.2, 0.1]))
    rollout = imagine(make_world(), policy, make_context(), 12, generator())
    assert rollout.action.unique().tolist() == [0, 1, 2]


def test_the_policy_is_burnt_in_on_the_frames_before_the_first() -> None:
    policy, context = make_policy(), make_context()
    rollout = imagine(make_world(), policy, context, 2, generator())
    _, _, hidden = policy(context.obs[:, :-1], policy.initial_hidden(B))
    torch.testing.assert_close(rollout.hidden, hidden)


def test_the_policy_that_learns_has_the_numbers_with_which_it_acted() -> None:
    policy = make_policy()
    calls = spy(policy, "forward")
    rollout = imagine(make_world(), policy, make_context(), 4, generator())
    acted = torch.cat([logits for _, (logits, _, _) in calls[1:]], dim=1)  # the first call is the burn-in
    logits, values, _ = policy(rollout.obs, rollout.hidden)
    torch.testing.assert_close(acted, logits, rtol=1e-4, atol=1e-5)  # the last one is for the value alone
    torch.testing.assert_close(rollout.value, values, rtol=1e-4, atol=1e-5)
    log_p = logits[:, :-1].log_softmax(-1).gather(-1, rollout.action[..., None])[..., 0]
    torch.testing.assert_close(rollout.log_p, log_p, rtol=1e-4, atol=1e-5)


def test_the_world_sees_the_action_before_each_frame_of_the_context() -> None:
    world, context = make_world(), make_context()
    starts = spy(world, "start")
    imagine(world, make_policy(), context, 1, generator())
    (((obs, action), _),) = starts
    assert torch.equal(obs, context.obs)
    assert torch.equal(action, context.action[:, :-1])  # the last one is left to the policy


def test_the_same_generator_gives_the_same_rollout() -> None:
    world, policy = make_world(), make_policy()
    one, again, other = (imagine(world, policy, make_context(), 3, generator(seed)) for seed in (1, 1, 2))
    torch.testing.assert_close(one, again, rtol=0, atol=0)
    assert not torch.equal(one.obs, other.obs)


def test_the_shortest_context_is_two_frames() -> None:
    rollout = imagine(make_world(context=2), make_policy(), make_context(2), 3, generator())
    assert rollout.obs.shape == (B, 4, 84, 84)
    with pytest.raises(config.UserError, match=r"denoiser\.context=1 is too small"):
        check(config.Config(denoiser=config.Denoiser(context=1)))
