"""The model of reward and end: its memory, what its loss counts, and that it learns."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from helpers import generator, wake
from torch import Tensor

from adamas.config import Network
from adamas.config import RewardEnd as Config
from adamas.data.batch import Segment
from adamas.networks.encoders import ConditionedEncoder, FrameEncoder
from adamas.utils.logger import Metrics
from adamas.world_model.reward_end import RewardEnd

ACTIONS = 3


def make(awake: bool = True, architecture: str = "adamas", predict_divergence: bool = False) -> RewardEnd:
    """A small model; `awake`, its branches that start at zero do not."""
    torch.manual_seed(0)
    c = Config(channels=[16, 16], depths=[1, 1], predict_divergence=predict_divergence)
    model = RewardEnd(c, Network(architecture, patch=4, condition_channels=16, lstm_dim=16), ACTIONS)
    return wake(model) if awake else model


def segment(batch: int, length: int, mask: list[list[int]] | None = None, seed: int = 0) -> Segment:
    """Random frames, actions, rewards and ends; all known, but where `mask` says otherwise."""
    random = generator(seed)

    def integers(low: int, high: int, *more: int) -> Tensor:
        return torch.randint(low, high, (batch, length, *more), generator=random)

    return Segment(
        obs=integers(0, 256, 84, 84).to(torch.uint8),
        action=integers(0, ACTIONS),
        reward=integers(-1, 2).float(),
        terminated=integers(0, 2).bool(),
        diverged=torch.zeros(batch, length, dtype=torch.bool),
        mask=torch.ones(batch, length, dtype=torch.bool) if mask is None else torch.tensor(mask).bool(),
    )


def answering(reward: Tensor, end: Tensor, divergence: bool = False) -> RewardEnd:
    """A model that is sure of these classes (B, T), whatever it is shown, and remembers what that was."""
    model = make(predict_divergence=divergence)

    def forward(*args: Tensor) -> tuple[Tensor, Tensor, None]:
        model.shown = args
        return (*(50.0 * torch.nn.functional.one_hot(x, k) for x, k in ((reward, 3), (end, 2 + divergence))), None)

    model.forward = forward
    return model


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize(("size", "patch"), [(84, 1), (84, 4), (64, 1), (44, 2), (37, 1)])
def test_the_conditioned_encoder_knows_how_many_features_it_gives(size: int, patch: int, published: bool) -> None:
    encoder = ConditionedEncoder(2, 8, [8, 8, 16], [1, 2, 1], patch, size, published)
    features = encoder(torch.randn(2, 2, size, size), torch.randn(2, 8))
    assert features.shape == (2, encoder.features)


@pytest.mark.parametrize(("size", "patch"), [(84, 1), (84, 4), (64, 1), (44, 2), (37, 1)])
def test_the_frame_encoder_knows_how_many_features_it_gives(size: int, patch: int) -> None:
    for published in (False, True):
        encoder = FrameEncoder(3, [8, 8, 16], patch, size, published)
        features = encoder(torch.randn(2, 3, size, size))
        assert features.shape == (2, encoder.features)


def test_shapes_at_84_pixels() -> None:
    batch = segment(2, 4)
    reward, end, hidden = make()(batch.obs[:, :-1], batch.action[:, :-1], batch.obs[:, 1:])
    assert (reward.shape, end.shape) == ((2, 3, 3), (2, 3, 2))
    assert [h.shape for h in hidden] == [(1, 2, 16)] * 2


def test_step_by_step_is_the_whole_sequence() -> None:
    model, batch = make(architecture="diamond"), segment(2, 5)
    obs, action, next_obs = batch.obs[:, :-1], batch.action[:, :-1], batch.obs[:, 1:]
    reward, end, last = model(obs, action, next_obs)
    hidden, rewards, ends = None, [], []
    for t in range(4):
        r, e, hidden = model(obs[:, t : t + 1], action[:, t : t + 1], next_obs[:, t : t + 1], hidden)
        rewards.append(r)
        ends.append(e)
    torch.testing.assert_close(torch.cat(rewards, dim=1), reward, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cat(ends, dim=1), end, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(hidden, last, rtol=1e-4, atol=1e-4)


def test_the_past_matters_and_so_do_both_frames_and_the_action() -> None:
    model, batch = make(), segment(1, 3)
    obs, action, next_obs = batch.obs[:, :-1], batch.action[:, :-1], batch.obs[:, 1:]
    before, _, _ = model(obs, action, next_obs)
    for t in (0, 1):
        for changed in (0, 1, 2):
            inputs = [obs.clone(), action.clone(), next_obs.clone()]
            inputs[changed][:, t] = (inputs[changed][:, t] + 1) % ACTIONS
            after, _, _ = model(*inputs)
            assert (after - before)[0, 1].abs().max() > 1e-6, (t, changed)
            assert torch.equal(after[0, :t], before[0, :t])


def test_it_reads_both_frames_or_the_second_one_and_its_change() -> None:
    for architecture, read in (("diamond", lambda x, y: (x, y)), ("adamas", lambda x, y: (y, 32 * (y - x)))):
        model, batch, shown = make(architecture=architecture), segment(1, 3), []
        model.encoder.register_forward_pre_hook(lambda _, inputs, shown=shown: shown.append(inputs[0]))
        model(batch.obs[:, :-1], batch.action[:, :-1], batch.obs[:, 1:])
        frames = batch.obs[0].float() / 127.5 - 1
        expected = torch.stack([torch.stack(read(x, y)) for x, y in itertools.pairwise(frames)])
        torch.testing.assert_close(shown[0], expected)


def test_the_shortcut_starts_after_a_norm_that_hands_the_lstm_numbers_of_deviation_1() -> None:
    model, batch, shown = make(awake=False), segment(2, 4), []
    model.lstm.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    model(batch.obs[:, :-1], batch.action[:, :-1], batch.obs[:, 1:])
    features = shown[0][..., : model.encoder.features]
    deviation = features.std(-1, correction=0)
    assert (deviation > 0.5).all()  # below 1 by as much as the norm's epsilon counts
    assert (deviation <= 1).all()
    torch.testing.assert_close(features.mean(-1), torch.zeros(2, 3), rtol=0, atol=1e-5)


def test_a_new_model_expects_every_class_alike() -> None:
    loss, _ = make(awake=False).loss(segment(2, 4), generator())
    assert loss.item() == pytest.approx(math.log(3) + math.log(2))


def test_the_label_of_a_transition_is_what_its_action_brought() -> None:
    batch = segment(2, 5)._replace(reward=torch.tensor([[-400.0, 0.0, 0.5, 7.0, 9.0], [0.0, -1.0, 1.0, 0.0, -9.0]]))
    right = torch.tensor([[0, 1, 2, 2], [1, 0, 2, 1]])  # the sign of the reward, plus one; the last has no next frame
    model = answering(right, batch.terminated[:, :-1].long())
    loss, _ = model.loss(batch, generator())
    assert loss == 0
    for shown, there in zip(model.shown, (batch.obs[:, :-1], batch.action[:, :-1], batch.obs[:, 1:]), strict=True):
        assert torch.equal(shown, there)


def test_the_encoder_is_shown_each_frame_before_the_next_one() -> None:
    model, batch, shown = make(architecture="diamond"), segment(2, 3), []
    model.encoder.register_forward_hook(lambda module, args, output: shown.append(args[0]))
    model.loss(batch, generator())
    floats = batch.obs.float() / 127.5 - 1
    torch.testing.assert_close(shown[0].unflatten(0, (2, 2)), torch.stack([floats[:, :-1], floats[:, 1:]], dim=2))


MASK = [[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]]


def test_the_loss_is_the_mean_over_real_transitions() -> None:
    batch = segment(4, 4, MASK)
    reward, end = torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, 3, dtype=torch.int64)
    loss, _ = answering(reward, end).loss(batch, generator())
    costs = 50.0 * (batch.reward != -1) + 50.0 * batch.terminated
    real = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 1), (2, 2)]  # both frames exist
    assert loss.item() == pytest.approx(sum(costs[i].item() for i in real) / len(real))


def test_what_padding_holds_does_not_change_the_loss() -> None:
    """On the right of an episode; what is left of it is context."""
    batch, other = segment(2, 4, [[1, 1, 1, 1], [1, 1, 0, 0]]), segment(2, 4, seed=1)
    mixed = (
        torch.where(batch.mask.view(2, 4, *[1] * (ours.ndim - 2)), ours, theirs)
        for ours, theirs in zip(batch[:-1], other[:-1], strict=True)
    )
    model = make()
    ours, theirs = (model.loss(each, generator()) for each in (batch, Segment(*mixed, batch.mask)))
    torch.testing.assert_close(ours, theirs)


def test_a_batch_of_padding_has_loss_0_and_gradient_0() -> None:
    model = make()
    loss, metrics = model.loss(segment(2, 3, [[0, 0, 0], [0, 0, 1]]), generator())
    loss.backward()
    assert loss == 0
    assert all((p.grad == 0).all() for p in model.parameters())
    assert all(count == 0 for ratio in metrics.values() for count in ratio)


def test_counts_of_a_case_made_by_hand() -> None:
    batch = segment(2, 5, [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])._replace(
        reward=torch.tensor([[1.0, -1.0, 0.0, 1.0, 1.0], [1.0, -1.0, 1.0, 1.0, 1.0]]),
        terminated=torch.tensor([[0, 0, 0, 1, 1], [1, 1, 1, 1, 1]]).bool(),
    )
    reward = torch.tensor([[2, 2, 0, 1], [2, 0, 2, 2]])  # right, wrong sign, false alarm, missed; right, then padding
    end = torch.tensor([[0, 1, 0, 1], [0, 1, 1, 1]])  # right, false alarm, right, right; missed, then padding
    _, metrics = answering(reward, end).loss(batch, generator())
    assert counts(metrics, "reward") == (2, 4, 4)  # found, of so many there are, of so many predicted
    assert counts(metrics, "end") == (1, 2, 2)


def counts(metrics: Metrics, name: str) -> tuple[int, int, int]:
    """What was found, what there was, and what was predicted."""
    recall, precision = metrics[f"{name}_recall"], metrics[f"{name}_precision"]
    assert recall.numerator == precision.numerator
    return int(recall.numerator), int(recall.denominator), int(precision.denominator)


def test_a_step_that_diverges_is_a_class_of_its_own_and_its_reward_says_nothing() -> None:
    batch = segment(1, 6)._replace(
        reward=torch.tensor([[1.0, 0.0, 1.0, 0.0, 0.0, 0.0]]),
        terminated=torch.tensor([[0, 1, 0, 0, 0, 0]]).bool(),
        diverged=torch.tensor([[0, 0, 1, 1, 1, 0]]).bool(),
    )
    reward, end = torch.tensor([[2, 1, 0, 1, 1]]), torch.tensor([[0, 1, 2, 2, 0]])  # found twice, then missed
    loss, metrics = answering(reward, end, divergence=True).loss(batch, generator())
    assert loss.item() == pytest.approx(50.0 / 5)
    assert counts(metrics, "reward") == counts(metrics, "end") == (1, 1, 1)
    assert counts(metrics, "diverged") == (2, 3, 2)
    loss, _ = answering(reward, end.clamp(max=1)).loss(batch, generator())  # not learned: these steps are as any other
    assert loss.item() == pytest.approx(3 * 50.0 / 5)


def test_it_learns_a_handful_of_segments() -> None:
    torch.manual_seed(0)
    model, batch = make(awake=False), segment(3, 6)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(80):
        loss, metrics = model.loss(batch, generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    for name in ("reward", "end"):
        found, actual, predicted = counts(metrics, name)
        assert found == actual == predicted > 0


def test_the_shortcut_leads_from_a_transition_to_its_own_reward_and_end() -> None:
    model, batch = make(), segment(2, 5)
    for weight in model.lstm.parameters():
        torch.nn.init.zeros_(weight)  # all that is left is the shortcut
    before = model(batch.obs[:, :-1], batch.action[:, :-1], batch.obs[:, 1:])
    batch.action[:, 2] = (batch.action[:, 2] + 1) % ACTIONS
    after = model(batch.obs[:, :-1], batch.action[:, :-1], batch.obs[:, 1:])
    for old, new in zip(before[:2], after[:2], strict=True):
        assert (old != new).any(-1).tolist() == [[False, False, True, False]] * 2


@pytest.mark.parametrize("architecture", ["diamond", "adamas"])
def test_every_input_of_every_layer_gets_a_gradient(architecture: str) -> None:
    model, batch = make(architecture=architecture), segment(3, 5)
    assert batch.action[:, :-1].unique().numel() == ACTIONS
    loss, _ = model.loss(batch, generator())
    loss.backward()
    for name, p in model.named_parameters():
        others = [d for d in range(p.ndim) if d != min(1, p.ndim - 1)]
        assert p.grad.abs().sum(others).min() > 0, name
