"""One update of each part: what it draws, what it trains, at which precision; and the averaged weights."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from adamas import config
from adamas.config import Config
from adamas.config.rules import check
from adamas.data import motion
from adamas.data.batch import Segment
from adamas.data.replay import Replay
from adamas.training import updates
from adamas.training.models import Models
from adamas.training.run_folder import RunFolder
from adamas.training.trainer import Trainer
from adamas.training.updates import Generators, update_actor_critic, update_denoiser, update_reward_end
from adamas.utils.logger import Logger
from adamas.world_model import edm

CPU = torch.device("cpu")
MEANINGS = ("NOOP", "FIRE", "RIGHT", "LEFT")
DECAY = 0.26
LOSS = {part: "loss" for part in config.PARTS} | {"denoiser": "losses"}  # what is given a batch


def small_config(
    precision: str = "float32",
    actor_critic: dict | None = None,
    dreamed_share: float = 0.0,
    astray: bool = False,
    **denoiser: object,
) -> Config:
    tiny = config.Optimization(batch_size=8, learning_rate=1e-2, warmup_updates=0)
    small = {"patch": 4, "channels": [16], "depths": [1], "attention": False, "condition_channels": 24}
    c = Config(
        precision=precision,
        denoiser=config.Denoiser(**{**small, "context": 3, "optimization": tiny, **denoiser}),
        sampler=config.Sampler(steps=1),
        reward_end=config.RewardEnd(
            **(small | {"attention": denoiser.get("attention", False)}),
            lstm_dim=8,
            segment_frames=6,
            dreamed_share=dreamed_share,
            astray=astray,
            optimization=tiny,
        ),
        actor_critic=config.ActorCritic(
            **{"patch": 4, "channels": [8], "lstm_dim": 8, "horizon": 4, "optimization": tiny, **(actor_critic or {})}
        ),
    )
    return check(c)


def make(**settings: object) -> Models:
    torch.manual_seed(0)
    return Models(small_config(**settings), MEANINGS, CPU)


@pytest.fixture(scope="module")
def replay() -> Replay:
    """Three episodes of random frames."""
    random, replay = torch.Generator().manual_seed(0), Replay(40)
    frames = torch.randint(0, 256, (41, 84, 84), dtype=torch.uint8, generator=random)
    actions, rewards = torch.randint(0, 4, (40,), generator=random), torch.randint(-1, 2, (40,), generator=random)
    for t in range(40):
        replay.add(frames[t], int(actions[t]), float(rewards[t]), t % 15 == 14, False, frames[t + 1])
    return replay


@pytest.fixture
def logger(tmp_path: Path) -> Logger:
    return Logger(tmp_path)


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def assert_same(ours: list[Tensor], theirs: list[Tensor], **tolerance: float) -> None:
    torch.testing.assert_close(ours, theirs, **(tolerance or {"rtol": 0, "atol": 0}))


def segments_of(models: Models, part: str) -> list[Segment]:
    """From now on, the segments that the part computes a loss of."""
    seen, module = [], getattr(models, part)
    original = getattr(module, LOSS[part])

    def remember(segment: Segment, *others: object) -> object:
        seen.append(segment)
        return original(segment, *others)

    setattr(module, LOSS[part], remember)
    return seen


# What is drawn


def test_the_denoiser_s_share_of_events_has_a_target_that_an_event_led_to(logger: Logger) -> None:
    replay, frame = Replay(500), torch.zeros(84, 84, dtype=torch.uint8)
    for t in range(500):
        replay.add(frame, 0, float(t == 250), False, False, frame)
    models = make(event_share=0.5)
    segments = segments_of(models, "denoiser")
    update_denoiser(models, replay, Generators.seeded(0, CPU), logger)
    n = models.config.denoiser.context
    assert (segments[0].reward[:, n - 1 : -1] == 1).any(1).sum() == 4  # of 8


def test_the_denoiser_s_share_of_turns_has_a_target_in_which_something_small_has_just_turned(logger: Logger) -> None:
    replay, frames = Replay(500), torch.zeros(501, 84, 84, dtype=torch.uint8)
    for t in range(501):
        across = abs((2 * t + 80) % 160 - 80)  # to and fro, 40 frames each way
        frames[t, 20:22, across : across + 2] = 110
    for t in range(500):
        replay.add(frames[t], 0, float(t), False, False, frames[t + 1])
    models = make(turn_share=0.5)
    segments = segments_of(models, "denoiser")
    update_denoiser(models, replay, Generators.seeded(0, CPU), logger)
    target = segments[0].reward[:, models.config.denoiser.context :]  # numbers of frames; at 40, 80, ... is the rim
    assert ((target > 40) & (target % 40 >= 1) & (target % 40 <= 3)).any(1).sum() in (4, 5)  # of 8, one by chance


@pytest.mark.parametrize(("share", "dreamed"), [(0.0, []), (0.5, [1, 3]), (0.25, [3]), (1.0, [0, 1, 2, 3])])
def test_a_share_of_the_reward_and_end_updates_are_on_frames_that_imagination_would_show(
    share: float, dreamed: list[int], replay: Replay, logger: Logger
) -> None:
    """What they are to predict of them is what was real."""
    models, random, twin = (
        make(dreamed_share=share, ema_decay=0.5),
        Generators.seeded(0, CPU),
        Generators.seeded(0, CPU),
    )
    torch.nn.init.normal_(models.world.denoiser.net.unet.conv_out.weight)  # of the average alone
    seen = segments_of(models, "reward_end")
    for update in range(4):
        update_reward_end(models, replay, random, logger)
        expected = replay.sample(8, 6, twin.data)
        if update in dreamed:
            expected = models.world.denoiser.dream(expected, models.config.sampler, twin.noise)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(seen[update], expected, strict=True))
    named = {name for name in logger._sums if name.endswith("recall")}
    assert ("reward_end/dreamed_end_recall" in named) == bool(dreamed)
    assert ("reward_end/end_recall" in named) == (len(dreamed) < 4)


def test_real_play_that_was_truncated_did_not_go_astray(logger: Logger) -> None:
    replay, frame = Replay(40), torch.zeros(84, 84, dtype=torch.uint8)
    for t in range(40):
        replay.add(frame, 0, 0.0, False, t % 4 == 3, frame)
    models = make()
    seen = segments_of(models, "reward_end")
    update_reward_end(models, replay, Generators.seeded(0, CPU), logger)
    assert replay.rows(0)["truncated"].any()
    assert seen[0].known.any()
    assert not seen[0].truncated.any()


@pytest.mark.parametrize("sure", [1, 2])
def test_the_share_of_dreams_that_go_astray_is_logged_those_of_the_first_step_too(sure: int, replay: Replay) -> None:
    models, logged = make(dreamed_share=1.0, astray=True), {}
    head = models.reward_end.head
    nn.init.zeros_(head[0].weight)
    nn.init.ones_(head[0].bias)
    head[-1].weight.data[3 + sure] = 1e3
    logger = SimpleNamespace(add=lambda name, value: logged.update({name: float(value)}))
    update_actor_critic(models, replay, Generators.seeded(0, CPU), logger)
    assert (logged["imagination/end"], logged["imagination/astray"]) == ((1, 0) if sure == 1 else (0, 1))


def test_a_dreamed_segment_ends_with_the_step_that_first_leads_astray(
    replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = make(dreamed_share=1.0, astray=True)
    gone = torch.tensor([[0, 0, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]]).bool()
    monkeypatch.setattr(updates, "lost", lambda happened, dreamed: gone)
    segment = replay.sample(4, 6, torch.Generator().manual_seed(0))._replace(mask=torch.ones(4, 6, dtype=torch.bool))
    segment.mask[3, :3] = False  # the first step that is known is the one from 3 to 4
    cut = updates.dream_segment(models, segment, Generators.seeded(0, CPU))
    assert cut.truncated.int().tolist() == [[0] * 6, [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0], [0, 0, 0, 1, 0, 0]]
    assert cut.mask.int().tolist() == [[1] * 6, [1, 1, 1, 1, 0, 0], [1] * 6, [0, 0, 0, 1, 1, 0]]
    dreamed = models.world.denoiser.dream(segment, models.config.sampler, Generators.seeded(0, CPU).noise)
    assert torch.equal(cut.obs, dreamed.obs)


def test_what_was_lost_is_told_from_what_happened_and_how_it_was_dreamed(
    replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, shown = make(dreamed_share=1.0, astray=True), []
    monkeypatch.setattr(updates, "lost", lambda *frames: shown.append(frames) or motion.lost(*frames))
    segment = replay.sample(4, 6, torch.Generator().manual_seed(0))
    cut = updates.dream_segment(models, segment, Generators.seeded(0, CPU))
    assert torch.equal(shown[0][0], segment.obs)
    assert torch.equal(shown[0][1], cut.obs)


# The averaged weights


def test_the_average_is_the_moving_one_of_the_weights_after_each_update(replay: Replay, logger: Logger) -> None:
    """Its decay rises as (1 + n) / (10 + n) to the one of the config, so that the first, random weights are forgotten."""
    models, random, expected = make(ema_decay=DECAY), Generators.seeded(0, CPU), None
    for decay in (0, 2 / 11, 3 / 12, DECAY, DECAY):
        before = weights(models.denoiser)
        update_denoiser(models, replay, random, logger)
        raw = weights(models.denoiser)
        assert any(not torch.equal(a, b) for a, b in zip(before, raw, strict=True)), "the raw weights are trained"
        expected = [decay * a + (1 - decay) * b for a, b in zip(expected or raw, raw, strict=True)]
        assert_same(weights(models.averages["denoiser"].module), expected, rtol=1e-5, atol=1e-7)


def test_imagination_uses_the_average_where_there_is_one_and_the_raw_weights_otherwise(
    replay: Replay, logger: Logger
) -> None:
    models, random = make(ema_decay=DECAY), Generators.seeded(0, CPU)
    for _ in range(3):
        update_denoiser(models, replay, random, logger)
    assert_same(weights(models.world.denoiser), weights(models.averages["denoiser"].module))
    assert any(
        not torch.equal(a, b) for a, b in zip(weights(models.world.denoiser), weights(models.denoiser), strict=True)
    )
    assert not any(p.requires_grad for p in models.world.denoiser.parameters())
    raw = make(ema_decay=0.0)
    assert raw.averages == {}
    assert raw.world.denoiser is raw.denoiser
    assert raw.agent is raw.actor_critic


def test_an_averaged_policy_plays_and_its_own_weights_dream(replay: Replay, logger: Logger) -> None:
    """One update of the average for each batch of rollouts, after the last pass over it."""
    models, random = make(actor_critic={"ema_decay": 0.15, "epochs": 2, "minibatches": 2}), Generators.seeded(0, CPU)
    expected = None
    for decay in (0, 0.15, 0.15):
        update_actor_critic(models, replay, random, logger)
        raw = weights(models.actor_critic)
        expected = [decay * a + (1 - decay) * b for a, b in zip(expected or raw, raw, strict=True)]
        assert_same(weights(models.agent), expected, rtol=1e-5, atol=1e-7)
    models.agent.actor.bias.fill_(0)[2] = 1e3  # it would do nothing but 2
    assert not (updates.dream(models, replay, random).action == 2).all()


def test_the_average_has_the_measured_sigma_data(replay: Replay, logger: Logger) -> None:
    models = make(ema_decay=DECAY, target="change")
    pair = replay.sample(16, 2, torch.Generator().manual_seed(0), first_target=1)
    models.denoiser.measure(pair.obs[:, 0], pair.obs[:, 1])
    assert models.denoiser.sigma_data != 0.5
    for _ in range(2):
        update_denoiser(models, replay, Generators.seeded(0, CPU), logger)
        torch.testing.assert_close(models.world.denoiser.sigma_data, models.denoiser.sigma_data)


def test_saved_models_go_on_bit_for_bit_averages_included(replay: Replay, logger: Logger) -> None:
    models, random = make(ema_decay=DECAY), Generators.seeded(0, CPU)
    for _ in range(2):
        update_denoiser(models, replay, random, logger)
    other, other_random = Models(models.config, MEANINGS, CPU), Generators.seeded(9, CPU)
    other.load_state_dict(copy.deepcopy(models.state_dict()))
    other_random.load_state_dict(random.state_dict())
    for m, r in ((models, random), (other, other_random)):
        update_denoiser(m, replay, r, logger)
    for module, twin in ((models.denoiser, other.denoiser), (models.world, other.world)):
        torch.testing.assert_close(module.state_dict(), twin.state_dict(), rtol=0, atol=0)


def test_a_run_that_starts_from_another_one_takes_its_average(replay: Replay, logger: Logger) -> None:
    models = make(ema_decay=DECAY)
    for _ in range(3):
        update_denoiser(models, replay, Generators.seeded(0, CPU), logger)
    torch.manual_seed(1)
    other = Models(models.config, MEANINGS, CPU)
    other.initialize(models.state_dict(), ["denoiser"], "runs/other")
    assert_same(weights(other.denoiser), weights(models.averages["denoiser"].module))
    assert_same(weights(other.world.denoiser), weights(models.averages["denoiser"].module))


def test_what_belongs_to_an_action_goes_to_the_action_of_the_same_meaning() -> None:
    models = make()
    torch.manual_seed(1)
    other = Models(models.config, ("NOOP", "LEFT", "UP", "FIRE"), CPU)
    new = other.denoiser.net.action_embedding.weight.detach().clone()
    other.initialize(models.state_dict(), ["denoiser"], "runs/other")
    theirs, ours = models.denoiser.net.action_embedding.weight, other.denoiser.net.action_embedding.weight
    assert_same([ours[0], ours[1], ours[2], ours[3]], [theirs[0], theirs[3], new[2], theirs[1]])


# What an update draws


def test_no_frame_is_fed_back_before_its_time(replay: Replay, logger: Logger) -> None:
    models = make(fed_back_frames=2, fed_back_after=2)
    segments, n = segments_of(models, "denoiser"), models.config.denoiser.context
    for _ in range(3):
        update_denoiser(models, replay, Generators.seeded(0, CPU), logger)
    assert [segment.obs.shape[1] for segment in segments] == [n + 1, n + 1, n + 3]


@pytest.mark.parametrize("fed_back", [0, 2])
def test_the_denoiser_is_trained_on_segments_with_a_known_target(fed_back: int, replay: Replay, logger: Logger) -> None:
    models = make(fed_back_frames=fed_back)
    seen, random = segments_of(models, "denoiser"), Generators.seeded(0, CPU)
    for _ in range(8):
        update_denoiser(models, replay, random, logger)
    n = models.config.denoiser.context
    mask = torch.cat([segment.mask for segment in seen])
    assert mask.shape == (64, n + 1 + fed_back)
    assert mask[:, n:].any(1).all()
    assert mask[:, :n].logical_not().any(), "some contexts start before their episode"
    for place in range(fed_back + 1):
        assert mask[:, n + place].any()


def test_each_random_number_comes_from_its_own_generator(replay: Replay, logger: Logger) -> None:
    """So that a change in one place does not reshuffle the others."""
    models, random, twin = make(), Generators.seeded(0, CPU), Generators.seeded(0, CPU)
    torch.manual_seed(5)
    at_large = torch.get_rng_state()
    update_denoiser(models, replay, random, logger)
    replay.sample(8, 5, twin.data, first_target=3)
    assert torch.equal(random.data.get_state(), twin.data.get_state())
    assert torch.equal(random.act.get_state(), twin.act.get_state())
    assert not torch.equal(random.noise.get_state(), twin.noise.get_state())
    update_reward_end(models, replay, random, logger)
    update_actor_critic(models, replay, random, logger)
    assert torch.equal(torch.get_rng_state(), at_large)
    starts = [g.initial_seed() for seed in range(5) for g in vars(Generators.seeded(seed, CPU)).values()]
    assert len(set(starts)) == 15


def test_the_policy_learns_from_dreams_of_its_horizon(
    replay: Replay, logger: Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, rollouts = make(), []
    monkeypatch.setattr(updates, "update_policy", lambda models, rollout, random, logger: rollouts.append(rollout))
    update_actor_critic(models, replay, Generators.seeded(0, CPU), logger)
    (rollout,) = rollouts
    assert rollout.obs.shape == (8, 5, 84, 84)
    assert rollout.action.shape == (8, 4)


def test_each_epoch_makes_a_step_for_each_minibatch_of_a_new_partition(
    replay: Replay, logger: Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, parts = make(actor_critic={"epochs": 3, "minibatches": 4}), []
    loss = models.actor_critic.loss
    monkeypatch.setattr(models.actor_critic, "loss", lambda part: parts.append(part) or loss(part))
    update_actor_critic(models, replay, Generators.seeded(0, CPU), logger)
    assert models.optimizers["actor_critic"].updates == len(parts) == 12
    epochs = [parts[i : i + 4] for i in (0, 4, 8)]
    orders = [torch.cat([part.obs for part in epoch]).sum((1, 2, 3)).tolist() for epoch in epochs]
    assert all(len(part.obs) == 2 for part in parts)
    assert len(set(orders[0])) == 8
    for order in orders[1:]:
        assert sorted(order) == sorted(orders[0])
        assert order != orders[0]


def test_there_are_as_many_minibatches_as_were_asked_for(
    replay: Replay, logger: Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, sizes = make(actor_critic={"minibatches": 5}), []
    loss = models.actor_critic.loss
    monkeypatch.setattr(models.actor_critic, "loss", lambda part: sizes.append(len(part.obs)) or loss(part))
    update_actor_critic(models, replay, Generators.seeded(0, CPU), logger)
    assert sizes == [2, 2, 2, 1, 1]


@pytest.mark.parametrize("part", config.PARTS)
def test_micro_batches_make_the_update_of_the_whole_batch(
    part: str, replay: Replay, logger: Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they differ in how many steps are not padding; without noise, which each would draw for itself."""
    monkeypatch.setattr(edm, "draw_sigma", lambda count, *_: torch.full((count,), 0.5))
    monkeypatch.setattr(edm, "draw_noise", lambda sigma, shape, *_: torch.zeros(shape))

    def updated(micro_batch: int) -> tuple[list[Tensor], list[Tensor], dict[str, float]]:
        models, steps = make(fed_back_frames=2), []
        torch.nn.init.normal_(models.reward_end.head[-1].weight)  # a model that predicts ends
        torch.nn.init.normal_(models.actor_critic.critic.weight)
        module = getattr(models, part)
        getattr(models.config, part).optimization.micro_batch = micro_batch
        loss = getattr(module, LOSS[part])
        monkeypatch.setattr(
            module, LOSS[part], lambda rows, *draws: steps.append(module.steps(rows)) or loss(rows, *draws)
        )
        updates.UPDATES[part](models, replay, Generators.seeded(0, CPU), logger)
        return steps, [p.grad for p in module.parameters()], logger.flush(0)

    (whole,), gradients, means = updated(0)
    parts, same_gradients, same_means = updated(3)
    assert [len(rows) for rows in parts] == [3, 3, 2]
    assert torch.equal(torch.cat(parts), whole)
    assert len({rows.float().mean().item() for rows in parts}) > 1, "no padding"
    torch.testing.assert_close(same_gradients, gradients)
    assert same_means == pytest.approx(means, rel=1e-4)


def test_the_denoiser_goes_backward_through_a_frame_before_it_predicts_the_next(replay: Replay, logger: Logger) -> None:
    """So that the activations of one frame are kept at a time. What is logged is the loss of all."""
    models, went = make(fed_back_frames=2), []
    net = models.denoiser.net
    net.register_forward_hook(lambda *_: went.append("forward"))
    net.unet.conv_in.weight.register_hook(lambda _: went.append("backward"))
    segment = replay.sample(8, 6, Generators.seeded(0, CPU).data, 3)
    losses = [loss.detach() for loss in copy.deepcopy(models.denoiser).losses(segment, Generators.seeded(0, CPU).noise)]
    went.clear()
    update_denoiser(models, replay, Generators.seeded(0, CPU), logger)
    assert went == ["forward", "backward"] * 3
    total, count = logger._sums["denoiser/loss"]
    torch.testing.assert_close(torch.as_tensor(total / count), torch.stack(losses).sum())


def test_the_rate_of_the_policy_falls_from_rollout_to_rollout(replay: Replay, logger: Logger) -> None:
    falling = config.Optimization(batch_size=8, learning_rate=1e-2, warmup_updates=0, decay_updates=2, decay_to=0.5)
    models, rates = make(actor_critic={"epochs": 3, "minibatches": 4, "optimization": falling}), []
    random, optimizer = Generators.seeded(0, CPU), models.optimizers["actor_critic"]
    for _ in range(3):
        rates.append(optimizer.learning_rate)
        update_actor_critic(models, replay, random, logger)
    assert rates == pytest.approx([1e-2, 7.5e-3, 5e-3])


@pytest.mark.parametrize("update", [update_denoiser, update_reward_end, update_actor_critic])
def test_an_update_trains_its_own_part_alone(update: object, replay: Replay, logger: Logger) -> None:
    models, random = make(ema_decay=DECAY), Generators.seeded(0, CPU)
    before = {name: weights(getattr(models, name)) for name in config.PARTS}
    average = weights(models.averages["denoiser"].module)
    for _ in range(2):
        update(models, replay, random, logger)
    part = update.__name__.removeprefix("update_")
    for name in config.PARTS:
        changed = any(not torch.equal(a, b) for a, b in zip(before[name], weights(getattr(models, name)), strict=True))
        assert changed == (name == part)
    averaged = any(
        not torch.equal(a, b) for a, b in zip(average, weights(models.averages["denoiser"].module), strict=True)
    )
    assert averaged == (part == "denoiser")


# Precision


def test_under_autocast_convolutions_run_in_bfloat16_and_all_around_them_in_float32(
    replay: Replay, logger: Logger
) -> None:
    models = make(precision="bfloat16")
    inside, shown, losses = [], [], []
    models.denoiser.net.unet.conv_in.register_forward_hook(lambda module, args, output: inside.append(output.dtype))
    models.denoiser.net.register_forward_hook(lambda module, args, output: shown.append([x.dtype for x in args[:3]]))
    original = models.denoiser.loss

    def remember(*args: object) -> object:
        losses.append(original(*args))
        return losses[-1]

    models.denoiser.loss = remember
    update_denoiser(models, replay, Generators.seeded(0, CPU), logger)
    update_actor_critic(models, replay, Generators.seeded(0, CPU), logger)
    assert set(inside) == {torch.bfloat16}
    assert len(inside) == 2 + 4, "training with one frame fed back, then a dream of 4 steps"
    assert all(dtypes == [torch.float32] * 3 for dtypes in shown)
    assert all(loss.dtype == torch.float32 for loss, _ in losses)


@pytest.mark.parametrize("part", ["denoiser", "reward_end"])
def test_losses_and_gradients_in_bfloat16_are_those_of_float32(part: str, replay: Replay) -> None:
    """Within what three digits can hold; with attention, and weights that are awake everywhere."""
    losses, gradients = [], []
    for precision in ("float32", "bfloat16"):
        models = make(precision=precision, attention=True, channels=[32, 32], depths=[1, 1], offset_noise=0.3)
        module, random = getattr(models, part), torch.Generator().manual_seed(2)
        for parameter in module.parameters():
            parameter.data += 0.03 * torch.randn(parameter.shape, generator=random)
        segment = replay.sample(8, 4, torch.Generator().manual_seed(3), 3)
        with models.autocast():
            if part == "denoiser":
                loss = sum(module.losses(segment, Generators.seeded(0, CPU).noise))
            else:
                loss, *_ = module.loss(segment)
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in module.parameters()]))
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert (gradients[1] - gradients[0]).norm() < 0.03 * gradients[0].norm()
    assert not torch.equal(*gradients), "one of them was to be in bfloat16"


# The size of a change


@pytest.mark.parametrize("target", ["frame", "change"])
def test_a_run_measures_the_size_of_a_change_before_its_first_update(
    target: str, replay: Replay, tmp_path: Path
) -> None:
    """The root mean square of the real changes, as near as the sample gets; first frames of episodes count as still."""

    class Sitting:
        """A session that only counts."""

        def loop(self, phase: str, target: object, work: object) -> None:
            self.units = target()

    trainer = Trainer(small_config(target=target), RunFolder(tmp_path), CPU)
    trainer.replay = replay
    trainer.fit("denoiser", sitting := Sitting())
    assert sitting.units == trainer.config.denoiser.optimization.first_updates
    episodes = replay._columns["obs"][: replay.num_rows].double().split([16, 16, 10])
    changes = torch.cat([4 * frames.diff(dim=0) / 127.5 for frames in episodes])
    expected = changes.square().mean().sqrt().item() if target == "change" else 0.5
    assert trainer.models.denoiser.sigma_data.item() == pytest.approx(expected, rel=0.05)


def test_the_averaged_policy_plays_the_real_game(tmp_path: Path) -> None:
    trainer = Trainer(small_config(actor_critic={"ema_decay": 0.9}), RunFolder(tmp_path), CPU)
    trainer.models.agent.actor.bias.fill_(0)[2] = 1e3  # it does nothing but 2
    trainer.config.collection.epsilon = 0.0
    for _ in range(12):
        trainer._collect_step()
    assert trainer.replay.rows(0)["action"].tolist() == 12 * [2]
