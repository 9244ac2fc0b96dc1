"""The agent: returns against the sum that defines them, gradients against those by hand, and rollouts of real games."""

from __future__ import annotations

import copy
import io
import itertools
import math

import numpy as np
import pytest
import torch
from adamas.training.rollouts import RealRollouts
from adamas.utils.categorical import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adamas import config
from adamas.agent.actor_critic import ActorCritic, Hidden, Rollout
from adamas.agent.returns import lambda_returns
from adamas.envs.atari import AtariEnv

ACTIONS = 6  # as many as Qbert has
FAST = settings(max_examples=150, deadline=None)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_policy(awake: bool = True, **changes: object) -> ActorCritic:
    """A small policy; `awake`, its heads do not start at zero."""
    torch.manual_seed(0)
    policy = ActorCritic(config.ActorCritic(**{"patch": 4, "channels": [8, 8], "lstm_dim": 16, **changes}), ACTIONS)
    for parameter in (*policy.actor.parameters(), *policy.critic.parameters()):
        if awake:
            torch.nn.init.normal_(parameter, std=0.5)
    return policy


def make_frames(*shape: int) -> Tensor:
    return torch.randint(0, 256, (*shape, 84, 84), dtype=torch.uint8, generator=generator())


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
    logits, values, _ = policy(make_frames(2, 3), policy.initial_hidden(2))
    assert logits.shape == (2, 3, ACTIONS)
    assert values.shape == (2, 3)
    assert not logits.any()
    assert not values.any()


def test_step_by_step_is_the_whole_sequence() -> None:
    policy, obs = make_policy(), make_frames(2, 5)
    logits, values, last = policy(obs, policy.initial_hidden(2))
    hidden = policy.initial_hidden(2)
    for t in range(5):
        step_logits, step_values, hidden = policy(obs[:, t : t + 1], hidden)
        torch.testing.assert_close(step_logits[:, 0], logits[:, t], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(step_values[:, 0], values[:, t], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(hidden, last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [2, 4])
def test_a_policy_that_sees_several_frames_remembers_the_last_ones(frames: int) -> None:
    policy, obs = make_policy(frames=frames, feature_norm=True), make_frames(2, 6)
    logits, values, last = policy(obs, policy.initial_hidden(2))
    assert torch.equal(last.past[0], obs[:, 7 - frames :].short())
    hidden = policy.initial_hidden(2)
    for t in range(6):
        step_logits, step_values, hidden = policy(obs[:, t : t + 1], hidden)
        torch.testing.assert_close(step_logits[:, 0], logits[:, t], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(step_values[:, 0], values[:, t], rtol=1e-4, atol=1e-5)
    assert torch.equal(hidden.past, last.past)


def test_its_cnn_sees_the_newest_frame_and_the_changes_that_led_to_it() -> None:
    policy, obs, shown = make_policy(frames=3), make_frames(1, 3), []
    policy.encoder.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    policy(obs, policy.initial_hidden(1))
    a, b, c = obs[0].float() / 127.5 - 1
    still = torch.zeros_like(a)  # before the first frame
    expected = [[a, still, still], [b, still, 32 * (b - a)], [c, 32 * (b - a), 32 * (c - b)]]
    torch.testing.assert_close(shown[0], torch.stack([torch.stack(planes) for planes in expected]))


# The loss


class Answers(ActorCritic):
    """A policy whose logits (B, T+1, A) and values (B, T+1) are its parameters."""

    def __init__(self, logits: Tensor, values: Tensor, **settings: float) -> None:
        super().__init__(config.ActorCritic(patch=4, channels=[8], lstm_dim=1, **settings), ACTIONS)
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
    return Rollout(make_hidden(b), make_frames(b, t + 1), action, log_p, value, reward, end, cut, mask)


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
    weights = {"discount": 0.9, "lambda_": 0.7, "entropy_weight": 0.3, "value_weight": 0.6}
    policy = Answers(logits, values, **weights)
    loss = policy.loss(on_policy(rollout, policy))
    loss.total.backward()

    p = logits[:, :-1].double().softmax(-1).numpy()
    onehot, taken = np.eye(ACTIONS)[rollout.action], rollout.mask.numpy()
    flags = [x.int().tolist() for x in (rollout.terminated, rollout.truncated)]
    play = list(zip(rollout.reward.tolist(), values.tolist(), *flags, strict=True))
    returns = np.array([[return_by_definition(*row, t, 0.9, 0.7) for t in range(4)] for row in play])
    advantage = returns - values[:, :-1].numpy()
    entropy = -(p * np.log(p)).sum(-1)

    by_hand = advantage[..., None] * (p - onehot) + 0.3 * p * (np.log(p) + entropy[..., None])
    expected = np.where(taken[..., None], by_hand, 0) / taken.sum()
    np.testing.assert_allclose(policy.logits.grad[:, :-1], expected, atol=1e-6)
    assert not policy.logits.grad[:, -1].any()
    expected = np.where(taken, -2 * 0.6 * advantage, 0) / taken.sum()
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
        assert getattr(loss, name).item() == pytest.approx(x[taken].mean(), abs=1e-5), name
    total = loss.policy + 0.6 * loss.value - 0.3 * loss.entropy
    torch.testing.assert_close(loss.total, total)


def test_beyond_the_clip_there_is_nothing_to_gain_and_back_to_it_there_is() -> None:
    """PPO's surrogate, min(r A, clip(r) A): flat where the ratio has already gone the way of the advantage."""
    rollout = make_rollout([[0, 0, 0, 0]], [[0, 0, 0, 0]])
    policy = Answers(
        torch.zeros(1, 5, ACTIONS), torch.zeros(1, 5), discount=0.0, clip=0.2
    )  # so that returns are rewards
    now = torch.full((1, 4), 1 / ACTIONS)
    ratio, reward = torch.tensor([[1.3, 1.3, 0.7, 0.7]]), torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    rollout = rollout._replace(reward=reward, value=torch.zeros(1, 5), log_p=(now / ratio).log())
    loss = policy.loss(rollout)
    assert loss.policy.item() == pytest.approx(-(1.2 - 1.3 + 0.7 - 0.8) / 4)
    loss.policy.backward()
    assert policy.logits.grad[0, :4].any(-1).tolist() == [False, True, True, False]


def test_normalized_advantages_have_mean_0_and_deviation_1_over_the_steps_taken() -> None:
    policy, acted = make_policy(normalize_advantages=True, clip=1e6), make_rollout(ENDS, CUTS)
    now = on_policy(acted, policy)
    returns = lambda_returns(acted.reward, acted.value, acted.terminated, acted.truncated, 0.985, 0.95)
    advantage, ratio = returns - acted.value[:, :-1], (now.log_p - acted.log_p).exp()
    advantage, ratio = advantage[acted.mask], ratio[acted.mask]
    expected = (advantage - advantage.mean()) / advantage.std(correction=0)
    assert policy.loss(acted).policy.item() == pytest.approx(-(ratio * expected).mean().item(), rel=1e-4)


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
    torch.testing.assert_close(policy.loss(changed), policy.loss(rollout))


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
        same = (
            policy.loss(on_policy(rollout, policy)).total
            == policy.loss(on_policy(rollout._replace(obs=obs), policy)).total
        )
        assert bool(same) != matters


def test_a_rollout_in_which_nothing_was_done_has_loss_0() -> None:
    rollout = make_rollout(ENDS, CUTS)
    loss = make_policy().loss(rollout._replace(mask=rollout.mask & False))
    assert loss.total == 0


def test_every_input_of_every_layer_gets_a_gradient() -> None:
    policy = make_policy()
    rollout = make_rollout(ENDS, CUTS)
    policy.loss(on_policy(rollout._replace(hidden=make_hidden(4, 1.0)), policy)).total.backward()
    for name, p in policy.named_parameters():
        others = [d for d in range(p.ndim) if d != min(1, p.ndim - 1)]
        assert p.grad.abs().sum(others).min() > 0, name


def test_the_recurrent_state_before_the_rollout_matters() -> None:
    policy, rollout = make_policy(), make_rollout(ENDS, CUTS)
    other = policy.loss(rollout._replace(hidden=make_hidden(4, 1.0)))
    assert other.policy != policy.loss(rollout).policy


# Draws


def test_draws_have_the_frequencies_of_the_softmax() -> None:
    logits = torch.tensor([2.0, 0.0, -1.0, -4.0, -math.inf])
    count = 200_000
    seen = torch.bincount(draw(logits.expand(count, 5), generator()), minlength=5).double()
    expected = count * logits.double().softmax(-1)
    assert seen[4] == 0
    chi_square = ((seen - expected)[:4] ** 2 / expected[:4]).sum()
    assert chi_square < 16.3  # 3 degrees of freedom: one seed in a thousand is above


def test_draws_are_independent_from_place_to_place() -> None:
    pairs = draw(torch.zeros(100_000, 2, 2), generator())
    assert pairs.shape == (100_000, 2)
    assert torch.bincount(pairs @ torch.tensor([2, 1])).div(100_000).tolist() == pytest.approx([0.25] * 4, abs=6e-3)


def test_a_draw_depends_on_its_generator_alone() -> None:
    logits = torch.randn(1000, 3, generator=generator())
    one, again, other = (draw(logits, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(one, draw(logits + 7.0, generator(1)))  # what all logits share means nothing


# Real games


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
    envs, policy = [CountingEnv(60), CountingEnv(1000)], make_policy(awake=False)
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
                assert not any(h[0, i].any() for h in after.hidden)
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
    policy = make_policy()
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
    other.load_state_dict(state["real"], torch.device("cpu"))
    again = generator()
    again.set_state(state["random"])
    theirs = [other.play(policy, HORIZON, again) for _ in range(3)]
    torch.testing.assert_close(theirs, ours, rtol=0, atol=0)


def test_a_loaded_policy_is_the_saved_one() -> None:
    policy, other = make_policy(), make_policy(awake=False)
    other.load_state_dict(copy.deepcopy(policy.state_dict()))
    obs, hidden = make_frames(1, 2), policy.initial_hidden(1)
    torch.testing.assert_close(other(obs, hidden), policy(obs, hidden), rtol=0, atol=0)
