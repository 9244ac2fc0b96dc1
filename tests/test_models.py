"""The networks of a run: averaged weights, weights of another run, and what a checkpoint holds of them."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import CPU, MEANINGS, make_replay, same, small_config, small_learners
from torch import Tensor, nn

from adamas.data.replay import Replay
from adamas.training.generators import Generators
from adamas.training.models import Models
from adamas.training.updates import Updates
from adamas.utils.errors import UserError
from adamas.utils.logger import Logger

DECAY = 0.26


@pytest.fixture(scope="module")
def replay() -> Replay:
    return make_replay({14, 29}, 40)


@pytest.fixture
def logger(tmp_path) -> Logger:
    return Logger(tmp_path)


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def differ(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def make(replay: Replay, logger: Logger, **settings: object) -> Updates:
    return Updates(small_learners(**settings), replay, Generators.seeded(0, CPU), logger)


def test_the_average_is_the_moving_one_of_the_weights_after_each_update(replay: Replay, logger: Logger) -> None:
    """Its decay rises as (1 + n) / (10 + n) to the one of the config, so that the first, random weights are forgotten."""
    updates, expected = make(replay, logger, ema_decay=DECAY), None
    models = updates.models
    for decay in (0, 2 / 11, 3 / 12, DECAY, DECAY):
        before = weights(models.denoiser)
        updates.denoiser()
        raw = weights(models.denoiser)
        assert differ(before, raw), "the raw weights are trained"
        expected = [decay * a + (1 - decay) * b for a, b in zip(expected or raw, raw, strict=True)]
        torch.testing.assert_close(weights(models.averages["denoiser"].module), expected, rtol=1e-5, atol=1e-7)


def test_imagination_uses_the_average_where_there_is_one_and_the_raw_weights_otherwise(
    replay: Replay, logger: Logger
) -> None:
    updates = make(replay, logger, ema_decay=DECAY)
    for _ in range(3):
        updates.denoiser()
    models = updates.models
    assert models.world.denoiser is models.averages["denoiser"].module
    assert differ(weights(models.world.denoiser), weights(models.denoiser))
    assert all(p.grad is None for p in models.world.denoiser.parameters()), "nothing learns them"
    raw = small_learners(ema_decay=0.0).models
    assert raw.averages == {}
    assert raw.world.denoiser is raw.denoiser
    assert raw.policy is raw.actor_critic


def test_an_averaged_policy_plays_and_its_own_weights_dream(replay: Replay, logger: Logger) -> None:
    """One update of the average for each batch of rollouts, after the last pass over it."""
    updates = make(replay, logger, actor_critic={"ema_decay": 0.15, "epochs": 2, "minibatches": 2})
    models, expected = updates.models, None
    for decay in (0, 0.15, 0.15):
        updates.actor_critic()
        raw = weights(models.actor_critic)
        expected = [decay * a + (1 - decay) * b for a, b in zip(expected or raw, raw, strict=True)]
        torch.testing.assert_close(weights(models.policy), expected, rtol=1e-5, atol=1e-7)
    models.policy.actor.bias.data.fill_(0)[2] = 1e3  # it would do nothing but 2
    context = replay.sample_contexts(8, 3, updates.random.data)
    assert not (updates.learners.imagine_rollout(context, updates.random.noise).rollout.action == 2).all()


def test_the_average_has_the_measured_sigma_data(replay: Replay, logger: Logger) -> None:
    updates = make(replay, logger, ema_decay=DECAY, target="change")
    models = updates.models
    updates.measure_changes()
    assert models.denoiser.sigma_data != 0.5
    for _ in range(2):
        updates.denoiser()
        torch.testing.assert_close(models.world.denoiser.sigma_data, models.denoiser.sigma_data)


def test_saved_models_go_on_bit_for_bit_averages_included(replay: Replay, logger: Logger) -> None:
    updates = make(replay, logger, ema_decay=DECAY)
    for _ in range(2):
        updates.denoiser()
    other = make(replay, logger, ema_decay=DECAY)
    other.random = Generators.seeded(9, CPU)
    for _ in range(3):
        other.reward_end(), other.denoiser()
    other.models.load_state_dict(copy.deepcopy(updates.models.state_dict()))
    other.learners.load_state_dict(copy.deepcopy(updates.learners.state_dict()))
    other.random.load_state_dict(updates.random.state_dict())
    for each in (updates, other):
        each.denoiser()
    for ours, theirs in ((updates.models.denoiser, other.models.denoiser), (updates.models.world, other.models.world)):
        assert same(ours.state_dict(), theirs.state_dict())


def test_a_run_that_starts_from_another_one_takes_its_average(replay: Replay, logger: Logger) -> None:
    updates = make(replay, logger, ema_decay=DECAY)
    for _ in range(3):
        updates.denoiser()
    torch.manual_seed(1)
    other = Models(updates.config, MEANINGS, CPU)
    others = weights(other.reward_end)
    other.initialize(updates.models.state_dict(), ["denoiser"], "runs/other")
    average = weights(updates.models.averages["denoiser"].module)
    assert not differ(weights(other.denoiser), average)
    assert not differ(weights(other.world.denoiser), average)
    assert not differ(weights(other.reward_end), others)


def test_a_line_names_the_actions_that_are_new(capsys: pytest.CaptureFixture[str]) -> None:
    models = small_learners().models
    other = Models(models.config, ("NOOP", "LEFT", "UP", "FIRE"), CPU)
    other.initialize(models.state_dict(), ["denoiser"], "runs/other")
    assert capsys.readouterr().out == "initialize.from=runs/other: 3 of 4 actions are known there; new here: UP\n"
    models.initialize(models.state_dict(), ["denoiser"], "runs/same")
    assert not capsys.readouterr().out


def test_what_belongs_to_an_action_goes_to_the_action_of_the_same_meaning() -> None:
    models = small_learners().models
    torch.manual_seed(1)
    other = Models(models.config, ("NOOP", "LEFT", "UP", "FIRE"), CPU)
    for name, key in (
        ("denoiser", "net.action_embedding.weight"),
        ("reward_end", "action_embedding.weight"),
        ("actor_critic", "actor.weight"),
        ("actor_critic", "actor.bias"),
    ):
        theirs = getattr(models, name).state_dict()[key].normal_()
        new = getattr(other, name).state_dict()[key].clone()
        other.initialize(models.state_dict(), [name], "runs/other")
        ours = getattr(other, name).state_dict()[key]
        assert torch.equal(ours, torch.stack([theirs[0], theirs[3], new[2], theirs[1]])), key


@pytest.mark.parametrize(
    ("ours", "told"),
    [
        ({"target": "frame"}, "its denoiser.target is change; set denoiser.target=change"),
        ({"offset_noise": 0.1}, "its denoiser.offset_noise is 0.3; set denoiser.offset_noise=0.3"),
        ({"architecture": "diamond"}, "its network.architecture is adamas; set network.architecture=adamas"),
        ({"channels": [8]}, "its denoiser has other sizes than this run's"),
    ],
)
def test_weights_that_mean_something_else_or_do_not_fit_are_refused(ours: dict, told: str) -> None:
    state = small_learners(target="change").models.state_dict()
    models = Models(small_config(**{"target": "change", **ours}), MEANINGS, CPU)
    with pytest.raises(UserError, match=f"^initialize.from=runs/other: {told}"):
        models.initialize(state, ["denoiser"], "runs/other")


def test_a_q_network_reads_no_setting_of_the_networks() -> None:
    state = small_learners(policy="model_free", architecture="diamond").models.state_dict()
    models = Models(small_config(policy="model_free"), MEANINGS, CPU)
    models.initialize(state, ["q_network", "denoiser"], "runs/other")
    assert same(models.q_network.state_dict(), state["q_network"])


def test_what_is_not_taken_may_mean_something_else() -> None:
    state = small_learners(target="change").models.state_dict()
    models = Models(small_config(target="frame"), MEANINGS, CPU)
    models.initialize(state, ["actor_critic"], "runs/other")
    assert same(models.actor_critic.state_dict(), state["actor_critic"])
