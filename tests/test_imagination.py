"""Imagination: the policy acts in the world model, and what it learns from is what the model said."""

from __future__ import annotations

import pytest
import torch
from helpers import expect, generator, make_context, make_world, spy, wake

from adamas import config
from adamas.agent.actor_critic import ActorCritic
from adamas.agent.imagination import imagine
from adamas.agent.rollout import Rollout
from adamas.config.rules import check
from adamas.utils.errors import UserError
from adamas.world_model.world_model import Prediction

B, ACTIONS = 4, 3  # rollouts and actions of what helpers make


def make_policy(frame_stack: int = 2) -> ActorCritic:
    torch.manual_seed(1)
    c = config.ActorCritic(channels=[8, 8], frame_stack=frame_stack)
    return wake(ActorCritic(c, config.Network(patch=4, lstm_dim=16), ACTIONS))


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
    assert [h.shape for h in rollout.hidden] == [(1, B, 16), (1, B, 16), (1, B, 1, 84, 84)]


def test_without_an_end_every_step_is_taken_and_none_is_truncated() -> None:
    world = make_world()
    expect(world, end=False)
    rollout = imagine(world, make_policy(), make_context(), 5, generator())
    assert rollout.mask.all()
    assert not (rollout.terminated | rollout.truncated).any()


@pytest.mark.parametrize("reward", [-1, 0, 1])
def test_a_sure_end_leaves_one_step_and_its_reward(reward: int) -> None:
    world = make_world()
    expect(world, reward, end=True)
    rollout = imagine(world, make_policy(), make_context(), 4, generator())
    assert rollout.reward.tolist() == [[reward, 0, 0, 0]] * B
    assert rollout.mask.tolist() == [[True, False, False, False]] * B
    assert rollout.terminated.tolist() == [[True, False, False, False]] * B


def test_steps_are_masked_from_an_end_on() -> None:
    world = make_world()
    expect(world)
    rollout = imagine(world, make_policy(), make_context(batch=16), 5, generator())
    assert rollout.mask[:, 0].all()
    assert torch.equal(rollout.mask[:, 1:], rollout.mask[:, :-1] & ~rollout.terminated[:, :-1])
    assert not (rollout.terminated & ~rollout.mask).any()
    assert rollout.mask.sum(1).unique().numel() > 1, "ends at different times"


@pytest.mark.parametrize("divergence", [False, True])
def test_each_step_that_was_taken_has_what_the_models_said_of_it_and_no_other_has_anything(divergence: bool) -> None:
    """Also the step with which a rollout ends, is truncated, or reaches the horizon."""
    world, policy = make_world(predict_divergence=divergence), make_policy()
    expect(world)
    rewards, acts = spy(world, "step"), spy(policy, "act")
    rollout = imagine(world, policy, make_context(batch=32), 5, generator())
    predictions: list[Prediction] = [prediction for _, (_, prediction) in rewards]
    said = torch.stack([p.reward for p in predictions], dim=1)
    assert torch.equal(rollout.reward, said * rollout.mask)
    assert torch.equal(rollout.terminated, torch.stack([p.terminated for p in predictions], dim=1) & rollout.mask)
    for name, column in (("action", 0), ("log_p", 1), ("value", 2)):
        made = torch.stack([result[column] for _, result in acts], dim=1)
        assert torch.equal(getattr(rollout, name)[:, :5], made), name
    last = _last_steps(rollout)
    assert rollout.reward[last & rollout.terminated].unique().tolist() == [-1, 0, 1]
    if divergence:
        assert rollout.reward[last & rollout.truncated].any()


def _last_steps(rollout: Rollout) -> torch.Tensor:
    """bool (B, T): the last step of each rollout that was taken."""
    following = torch.nn.functional.pad(rollout.mask[:, 1:], (0, 1))
    return rollout.mask & ~following


def test_a_rollout_that_is_sure_to_diverge_teaches_nothing() -> None:
    world = make_world(predict_divergence=True)
    expect(world, end=2)
    rollout = imagine(world, make_policy(), make_context(), 4, generator())
    assert not (rollout.mask | rollout.terminated | rollout.truncated).any()
    assert not rollout.reward.any()


def test_a_rollout_is_truncated_one_step_before_it_diverges() -> None:
    world = make_world(predict_divergence=True)
    steps = spy(world, "step")
    expect(world)
    rollout = imagine(world, make_policy(), make_context(batch=32), 5, generator())
    for b in range(32):
        taken, last = 0, None
        while taken < 5 and last is None:
            prediction = steps[taken][1][1]
            if prediction.diverged[b]:
                last = "diverged"
            else:
                taken += 1
                last = "end" if prediction.terminated[b] else None
        assert rollout.mask[b].tolist() == [t < taken for t in range(5)]
        assert rollout.truncated[b].tolist() == [last == "diverged" and t == taken - 1 for t in range(5)]
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
        assert torch.equal(rollout.obs[:, t], state.obs)
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
    (((given,), _),) = starts
    assert given is context


def test_the_same_generator_gives_the_same_rollout() -> None:
    world, policy = make_world(), make_policy()
    one, again, other = (imagine(world, policy, make_context(), 3, generator(seed)) for seed in (1, 1, 2))
    torch.testing.assert_close(one, again, rtol=0, atol=0)
    assert not torch.equal(one.obs, other.obs)


def test_the_shortest_context_is_two_frames() -> None:
    rollout = imagine(make_world(context=2), make_policy(), make_context(2), 3, generator())
    assert rollout.obs.shape == (B, 4, 84, 84)
    with pytest.raises(UserError, match=r"denoiser\.context=1 is too small"):
        check(config.Config(denoiser=config.Denoiser(context=1)))
