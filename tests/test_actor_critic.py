"""The agent: returns against the sum that defines them, and gradients against those by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from helpers import frames, generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adamas import config
from adamas.agent.actor_critic import ActorCritic
from adamas.agent.ppo import clipped_surrogate, normalized
from adamas.agent.returns import lambda_returns
from adamas.agent.rollout import Hidden, Rollout
from adamas.utils.random import categorical, seeded

ACTIONS = 6  # as many as Qbert has
FAST = settings(max_examples=150, deadline=None)


def make_policy(awake: bool = True, architecture: str = "diamond", **changes: object) -> ActorCritic:
    """A small policy; `awake`, its heads do not start at zero."""
    torch.manual_seed(0)
    network = config.Network(architecture, patch=4, lstm_dim=16)
    policy = ActorCritic(config.ActorCritic(**{"channels": [8, 8], **changes}), network, ACTIONS)
    for parameter in (*policy.actor.parameters(), *policy.critic.parameters()):
        if awake:
            torch.nn.init.normal_(parameter, std=0.5)
    return policy


# Lambda-returns


def return_by_definition(
    r: list, v: list, terminated: list, truncated: list, t: int, gamma: float, lam: float
) -> float:
    """(1-l) sum_n l^(n-1) G^(n) + l^(N-1) G^(N), where G^(n) = sum_k gamma^k r_{t+k} + gamma^n v_{t+n} looks n steps ahead
    and N is the number of steps to the end, the cut, or the last step."""
    ends = [a or b for a, b in zip(terminated, truncated, strict=True)]
    last = next((i for i in range(t, len(r)) if ends[i]), len(r) - 1)

    def look(n: int) -> float:
        value = 0.0 if terminated[t + n - 1] else v[t + n]
        return sum(gamma**k * r[t + k] for k in range(n)) + gamma**n * value

    most = last - t + 1
    return (1 - lam) * sum(lam ** (n - 1) * look(n) for n in range(1, most)) + lam ** (most - 1) * look(most)


@st.composite
def plays(draw: st.DrawFn) -> tuple[list, list, list, list]:
    steps = draw(st.integers(1, 8))
    number, flag = st.floats(-3, 3), st.sampled_from([False, False, False, True])
    r, terminated, truncated = (draw(st.lists(x, min_size=steps, max_size=steps)) for x in (number, flag, flag))
    return r, draw(st.lists(number, min_size=steps + 1, max_size=steps + 1)), terminated, truncated


fractions = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)


@FAST
@given(plays(), fractions, fractions)
def test_lambda_returns_are_the_sum_that_defines_them(play: tuple, gamma: float, lam: float) -> None:
    reward, value = (torch.tensor([numbers], dtype=torch.float64) for numbers in play[:2])
    terminated, truncated = (torch.tensor([flags]) for flags in play[2:])
    ours = lambda_returns(reward, value, terminated, truncated, gamma, lam)
    expected = [return_by_definition(*play, t, gamma, lam) for t in range(len(play[0]))]
    assert ours[0].tolist() == pytest.approx(expected, abs=1e-9)


def test_the_limits_of_lambda_returns() -> None:
    reward, value = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[10.0, 20.0, 30.0, 40.0]])
    no = torch.zeros(1, 3, dtype=torch.bool)
    one_step = lambda_returns(reward, value, no, no, 0.5, 0.0)
    assert one_step.tolist() == [[1 + 10, 2 + 15, 4 + 20]]
    whole = lambda_returns(reward, value, no, no, 0.5, 1.0)
    assert whole.tolist() == [[1 + 1 + 1 + 5, 2 + 2 + 10, 4 + 20]]
    assert lambda_returns(reward, value, no, no, 0.0, 0.7).tolist() == reward.tolist()


def test_rows_of_a_batch_do_not_mix() -> None:
    value = torch.randn(2, 4, generator=generator())
    end = torch.tensor([[False, True, False], [False, False, False]])
    both = lambda_returns(torch.ones(2, 3), value, end, ~end & False, 0.9, 0.8)
    for i in range(2):
        alone = lambda_returns(torch.ones(1, 3), value[i : i + 1], end[i : i + 1], end[:1] & False, 0.9, 0.8)
        torch.testing.assert_close(both[i : i + 1], alone)


# The network


def test_a_new_policy_is_uniform_and_expects_nothing() -> None:
    policy = make_policy(awake=False)
    logits, values, _ = policy(frames(2, 3), policy.initial_hidden(2))
    assert logits.shape == (2, 3, ACTIONS)
    assert values.shape == (2, 3)
    assert not logits.any()
    assert not values.any()


def test_step_by_step_is_the_whole_sequence() -> None:
    policy, obs = make_policy(), frames(2, 5)
    logits, values, last = policy(obs, policy.initial_hidden(2))
    hidden = policy.initial_hidden(2)
    for t in range(5):
        step_logits, step_values, hidden = policy(obs[:, t : t + 1], hidden)
        torch.testing.assert_close(step_logits[:, 0], logits[:, t], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(step_values[:, 0], values[:, t], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(hidden, last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stack", [2, 4])
def test_a_policy_that_sees_several_frames_remembers_the_last_ones(stack: int) -> None:
    policy, obs = make_policy(architecture="adamas", frame_stack=stack), frames(2, 6)
    logits, values, last = policy(obs, policy.initial_hidden(2))
    assert torch.equal(last.past[0], obs[:, 7 - stack :].short())
    hidden = policy.initial_hidden(2)
    for t in range(6):
        step_logits, step_values, hidden = policy(obs[:, t : t + 1], hidden)
        torch.testing.assert_close(step_logits[:, 0], logits[:, t], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(step_values[:, 0], values[:, t], rtol=1e-4, atol=1e-5)
    assert torch.equal(hidden.past, last.past)


def test_its_cnn_sees_the_newest_frame_and_the_changes_that_led_to_it() -> None:
    policy, obs, shown = make_policy(frame_stack=3), frames(1, 3), []
    policy.encoder.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    policy(obs, policy.initial_hidden(1))
    a, b, c = obs[0].float() / 127.5 - 1
    still = torch.zeros_like(a)  # before the first frame
    expected = [[a, still, still], [b, still, 32 * (b - a)], [c, 32 * (b - a), 32 * (c - b)]]
    torch.testing.assert_close(shown[0], torch.stack([torch.stack(planes) for planes in expected]))


# Acting


@pytest.mark.parametrize("stack", [1, 3])
def test_an_action_is_drawn_from_what_the_network_says_of_the_frame(stack: int) -> None:
    policy, obs = make_policy(frame_stack=stack), frames(64, 3)
    hidden = policy.initial_hidden(64)
    for t in range(3):
        logits, values, following = policy(obs[:, t : t + 1], hidden)
        action, log_p, value, hidden = policy.act(obs[:, t], hidden, generator(t))
        expected = categorical(logits[:, 0], generator(t))
        assert torch.equal(action, expected)
        torch.testing.assert_close(log_p, logits[:, 0].log_softmax(-1)[torch.arange(64), action])
        torch.testing.assert_close(value, values[:, 0])
        assert not any(x.requires_grad for x in (log_p, value, *hidden))
        torch.testing.assert_close(hidden, following)
    assert action.unique().numel() > 1


def test_with_a_generator_each_an_action_does_not_depend_on_who_else_acts() -> None:
    policy, obs = make_policy(frame_stack=2), frames(4, 6)

    def play(rows: list[int]) -> list[Tensor]:
        hidden, random, actions = policy.initial_hidden(len(rows)), seeded([10 + row for row in rows]), []
        for t in range(6):
            action, _, _, hidden = policy.act(obs[rows, t], hidden, random)
            actions.append(action)
        return list(torch.stack(actions, dim=1))

    together = play([0, 1, 2, 3])
    for rows in ([2], [3, 1], [0, 1, 2]):
        assert all(torch.equal(ours, together[row]) for ours, row in zip(play(rows), rows, strict=True))
    assert len({tuple(actions.tolist()) for actions in together}) == 4
    with pytest.raises(ValueError, match="3 generators cannot serve a batch of 4"):
        policy.act(obs[:, 0], policy.initial_hidden(4), seeded([0, 1, 2]))


# The loss


class Answers(ActorCritic):
    """A policy whose logits (B, T+1, A) and values (B, T+1) are its parameters."""

    def __init__(self, logits: Tensor, values: Tensor, **settings: float) -> None:
        super().__init__(config.ActorCritic(channels=[8], **settings), config.Network(patch=4, lstm_dim=1), ACTIONS)
        self.logits, self.values = torch.nn.Parameter(logits), torch.nn.Parameter(values)

    def forward(self, obs: Tensor, hidden: object) -> tuple[Tensor, Tensor, object]:
        return self.logits, self.values, hidden


def make_rollout(terminated: list[list[int]], truncated: list[list[int]], seed: int = 0) -> Rollout:
    """Random play, in which what follows an end is masked."""
    end, cut = torch.tensor(terminated).bool(), torch.tensor(truncated).bool()
    over = (end | cut).int().cumsum(1)
    mask = (over - (end | cut).int()) == 0
    b, t = end.shape
    random = generator(seed)
    action = torch.randint(0, ACTIONS, (b, t), generator=random)
    reward = torch.randint(-1, 2, (b, t), generator=random).float()
    log_p, value = -torch.rand(b, t, generator=random), torch.randn(b, t + 1, generator=random)
    return Rollout(make_hidden(b), frames(b, t + 1), action, log_p, value, reward, end, cut, mask)


def make_hidden(batch: int, value: float = 0.0) -> Hidden:
    state = torch.full((1, batch, 16), value)
    return Hidden(state, state, torch.empty(1, batch, 0, 84, 84, dtype=torch.int16))


def on_policy(rollout: Rollout, policy: ActorCritic) -> Rollout:
    """The same rollout, as if `policy` had acted in it."""
    logits, values, _ = policy(rollout.obs, rollout.hidden)
    log_p = logits[:, :-1].log_softmax(-1).gather(-1, rollout.action[..., None])[..., 0]
    return rollout._replace(log_p=log_p.detach(), value=values.detach())


ENDS = [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
CUTS = [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_the_gradient_is_that_of_reinforce_with_a_baseline_by_hand() -> None:
    """d(-log p_a A)/dz = A (p - onehot_a); dH/dz = -p (log p + H); returns and baseline are constants."""
    rollout = make_rollout(ENDS, CUTS)
    logits, values = torch.randn(4, 5, ACTIONS, generator=generator(1)), torch.randn(4, 5, generator=generator(2))
    weights = {"discount": 0.9, "entropy_weight": 0.3}
    policy = Answers(logits, values, **weights)
    loss, metrics = policy.loss(policy.with_targets(on_policy(rollout, policy)), generator())
    loss.backward()

    p = logits[:, :-1].double().softmax(-1).numpy()
    onehot, taken = np.eye(ACTIONS)[rollout.action], rollout.mask.numpy()
    flags = [x.int().tolist() for x in (rollout.terminated, rollout.truncated)]
    play = list(zip(rollout.reward.tolist(), values.tolist(), *flags, strict=True))
    returns = np.array([[return_by_definition(*row, t, 0.9, 0.95) for t in range(4)] for row in play])
    advantage = returns - values[:, :-1].numpy()
    entropy = -(p * np.log(p)).sum(-1)

    by_hand = advantage[..., None] * (p - onehot) + 0.3 * p * (np.log(p) + entropy[..., None])
    expected = np.where(taken[..., None], by_hand, 0) / taken.sum()
    np.testing.assert_allclose(policy.logits.grad[:, :-1], expected, atol=1e-6)
    assert not policy.logits.grad[:, -1].any()
    expected = np.where(taken, -2 * advantage, 0) / taken.sum()
    np.testing.assert_allclose(policy.values.grad[:, :-1], expected, atol=1e-6)
    assert not policy.values.grad[:, -1].any()

    parts = {
        "policy": -advantage,  # the ratio is 1; its gradient is that of log p
        "value": advantage**2,
        "entropy": entropy,
        "mean_value": values[:, :-1].numpy(),
        "mean_return": returns,
    }
    for name, x in parts.items():
        assert metrics[name].item() == pytest.approx(x[taken].mean(), abs=1e-5), name
    torch.testing.assert_close(loss, metrics["policy"] + metrics["value"] - 0.3 * metrics["entropy"])


def test_beyond_the_clip_there_is_nothing_to_gain_and_back_to_it_there_is() -> None:
    """PPO's surrogate, min(r A, clip(r) A): flat where the ratio has already gone the way of the advantage."""
    ratio, advantage = torch.tensor([[1.3, 1.3, 0.7, 0.7]]), torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    log_p = ratio.log().requires_grad_()
    loss = clipped_surrogate(log_p, torch.zeros(1, 4), advantage)
    torch.testing.assert_close(loss.detach(), -torch.tensor([[1.2, -1.3, 0.7, -0.8]]))
    loss.sum().backward()
    assert log_p.grad[0].bool().tolist() == [False, True, True, False]


def test_normalized_advantages_have_mean_0_and_deviation_1_over_the_steps_taken() -> None:
    mask, advantage = make_rollout(ENDS, CUTS).mask, torch.randn(4, 4, generator=generator(1))
    taken = advantage[mask]
    expected = (taken - taken.mean()) / taken.std(correction=0)
    torch.testing.assert_close(normalized(advantage, mask)[mask], expected)
    torch.testing.assert_close(normalized(torch.ones(4, 4), mask), torch.zeros(4, 4))  # no deviation to divide by


def test_advantages_that_hardly_differ_are_not_blown_up() -> None:
    """Without rewards they are the errors of the value, of deviation .01 here: a tenth of a policy's ordinary step."""
    mask, noise = make_rollout(ENDS, CUTS).mask, torch.randn(4, 4, generator=generator(1))
    noise = (noise - noise[mask].mean()) / noise[mask].std(correction=0)
    torch.testing.assert_close(normalized(0.01 * noise, mask)[mask], 0.1 * noise[mask])
    torch.testing.assert_close(normalized(0.2 * noise, mask)[mask], noise[mask])  # as a reward or two make it


@pytest.mark.parametrize("epochs", [1, 2])
def test_advantages_are_scaled_where_a_rollout_is_used_more_than_once(epochs: int) -> None:
    policy, acted = make_policy(epochs=epochs), make_rollout(ENDS, CUTS)
    shift = 0.15 * torch.rand(4, 4, generator=generator(1))  # within the clip, where it shows
    acted = acted._replace(log_p=on_policy(acted, policy).log_p + shift)
    returns = lambda_returns(acted.reward, acted.value, acted.terminated, acted.truncated, 0.985, 0.95)
    advantage = (returns - acted.value[:, :-1])[acted.mask]
    if epochs > 1:
        advantage = (advantage - advantage.mean()) / advantage.std(correction=0)
    batch = policy.with_targets(acted)
    _, metrics = policy.loss(batch.normalized() if epochs > 1 else batch, generator())
    assert metrics["policy"].item() == pytest.approx(-((-shift[acted.mask]).exp() * advantage).mean().item(), rel=1e-4)


def test_what_follows_an_end_has_no_influence() -> None:
    rollout, other, policy = make_rollout(ENDS, CUTS), make_rollout(ENDS, CUTS, seed=5), make_policy()
    taken, frames_seen = rollout.mask, torch.cat([torch.ones(4, 1, dtype=torch.bool), rollout.mask], dim=1)
    changed = rollout._replace(
        obs=torch.where(frames_seen[..., None, None], rollout.obs, 255 - rollout.obs),
        action=torch.where(taken, rollout.action, other.action),
        reward=torch.where(taken, rollout.reward, 1000.0),
        terminated=rollout.terminated | ~taken,
        truncated=rollout.truncated | ~taken,
    )
    losses = [policy.loss(policy.with_targets(each), generator()) for each in (changed, rollout)]
    torch.testing.assert_close(*losses)


def test_the_frame_after_a_cut_has_influence_and_that_after_an_end_has_none() -> None:
    policy = make_policy()
    for ends, cuts, matters in (
        (ENDS[1:2], CUTS[1:2], False),
        (CUTS[2:3], ENDS[2:3], False),
        (ENDS[2:3], CUTS[2:3], True),
    ):
        rollout = make_rollout(ends, cuts)
        obs = rollout.obs.clone()
        obs[:, int(rollout.mask.sum())] //= 2
        before, after = (
            policy.loss(policy.with_targets(on_policy(acted, policy)), generator())[0]
            for acted in (rollout, rollout._replace(obs=obs))
        )
        assert bool(before != after) == matters


def test_a_rollout_in_which_nothing_was_done_has_loss_0() -> None:
    rollout, policy = make_rollout(ENDS, CUTS), make_policy()
    loss, _ = policy.loss(policy.with_targets(rollout._replace(mask=rollout.mask & False)), generator())
    assert loss == 0


def test_every_input_of_every_layer_gets_a_gradient() -> None:
    policy = make_policy()
    rollout = make_rollout(ENDS, CUTS)
    acted = on_policy(rollout._replace(hidden=make_hidden(4, 1.0)), policy)
    policy.loss(policy.with_targets(acted), generator())[0].backward()
    for name, p in policy.named_parameters():
        others = [d for d in range(p.ndim) if d != min(1, p.ndim - 1)]
        assert p.grad.abs().sum(others).min() > 0, name


def test_the_recurrent_state_before_the_rollout_matters() -> None:
    policy, rollout = make_policy(), make_rollout(ENDS, CUTS)
    one, other = (policy.with_targets(each) for each in (rollout, rollout._replace(hidden=make_hidden(4, 1.0))))
    assert policy.loss(other, generator())[0] != policy.loss(one, generator())[0]


def test_a_loaded_policy_is_the_saved_one() -> None:
    policy, other = make_policy(), make_policy(awake=False)
    other.load_state_dict(copy.deepcopy(policy.state_dict()))
    obs, hidden = frames(1, 2), policy.initial_hidden(1)
    torch.testing.assert_close(other(obs, hidden), policy(obs, hidden), rtol=0, atol=0)
