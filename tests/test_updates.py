"""One update of each part: what it draws, what it trains, and what it logs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import CPU, MEANINGS, generator, make_replay, small_config, small_learners, spy
from torch import Tensor, nn

from adamas import config
from adamas.agent import policy as policy_module
from adamas.data.batch import Segment
from adamas.data.replay import Replay
from adamas.training import checkpoint, updates
from adamas.training.generators import Generators
from adamas.training.learners import Learners
from adamas.training.models import Models
from adamas.training.run_folder import RunFolder
from adamas.training.trainer import Trainer
from adamas.training.updates import Updates, until_diverged
from adamas.utils.logger import Logger

FRAMES = 8  # of a segment of reward and end


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "SEGMENT_FRAMES", FRAMES)


@pytest.fixture(scope="module")
def replay() -> Replay:
    """Three episodes of random frames."""
    return make_replay({14, 29}, 40)


@pytest.fixture
def logger(tmp_path: Path) -> Logger:
    return Logger(tmp_path)


def make(replay: Replay, logger: Logger, **settings: object) -> Updates:
    return Updates(small_learners(**settings), replay, Generators.seeded(0, CPU), logger)


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def segments_of(made: Updates, part: str) -> list[Segment]:
    """From now on, the segments that the part computes a loss of."""
    seen: list[Segment] = []
    module = getattr(made.models, part)
    loss = module.loss
    module.loss = lambda segment, random: seen.append(segment) or loss(segment, random)
    return seen


# What is drawn


def test_the_share_of_events_is_in_the_segments_of_denoiser_and_reward_end(logger: Logger) -> None:
    replay, frame = Replay(500), torch.zeros(84, 84, dtype=torch.uint8)
    for t in range(500):
        replay.add(frame, 0, float(t == 250), False, False, frame)
    made = make(replay, logger, sampling={"event_share": 0.5})
    segments, others, n = segments_of(made, "denoiser"), segments_of(made, "reward_end"), 3
    made.denoiser()
    assert (segments[0].reward[:, n - 1 : -1] == 1).any(1).sum() == 4  # of 8: a target that the event led to
    made.reward_end()
    assert (others[0].reward[:, :-1] == 1).any(1).sum() in (4, 5)  # one by chance


def test_the_share_of_direction_changes_has_a_target_in_which_something_small_has_just_turned(logger: Logger) -> None:
    replay, frames = Replay(500), torch.zeros(501, 84, 84, dtype=torch.uint8)
    for t in range(501):
        across = abs((2 * t + 80) % 160 - 80)  # to and fro, 40 frames each way
        frames[t, 20:22, across : across + 2] = 110
    for t in range(500):
        replay.add(frames[t], 0, float(t), False, False, frames[t + 1])
    made = make(replay, logger, sampling={"direction_change_share": 0.5}, autoregressive_steps=0)
    segments = segments_of(made, "denoiser")
    made.denoiser()
    target = segments[0].reward[:, 3:]  # numbers of frames; at 40, 80, ... is the rim
    assert ((target > 40) & (target % 40 >= 1) & (target % 40 <= 3)).any(1).sum() in (4, 5)  # of 8, one by chance


@pytest.mark.parametrize(("share", "imagined"), [(0.0, []), (0.5, [1]), (0.25, [3]), (1.0, [0, 1])])
def test_a_share_of_the_reward_and_end_updates_are_on_frames_that_imagination_would_show(
    share: float, imagined: list[int], replay: Replay, logger: Logger
) -> None:
    """What they are to predict of them is what was real."""
    made, twin = make(replay, logger, reward_end={"imagined_share": share}, ema_decay=0.5), Generators.seeded(0, CPU)
    models = made.models
    nn.init.normal_(models.world.denoiser.net.unet.conv_out.weight)  # of the average alone
    seen = segments_of(made, "reward_end")
    for update in range(4 if share == 0.25 else 2):
        made.reward_end()
        expected = replay.sample(8, FRAMES, twin.data)
        if update in imagined:
            expected = models.world.denoiser.imagine(expected, models.config.sampler, twin.noise)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(seen[update], expected, strict=True))
    named = {name for name in logger._sums if name.endswith("recall")}
    assert ("reward_end/imagined_end_recall" in named) == bool(imagined)
    assert ("reward_end/end_recall" in named) == (share < 1)


def test_real_play_that_was_truncated_did_not_diverge(logger: Logger) -> None:
    replay, frame = Replay(40), torch.zeros(84, 84, dtype=torch.uint8)
    for t in range(40):
        replay.add(frame, 0, 0.0, False, t % 4 == 3, frame)
    made = make(replay, logger)
    seen = segments_of(made, "reward_end")
    made.reward_end()
    assert (seen[0].mask[:, :-1] & ~seen[0].mask[:, 1:]).any(), "an episode was truncated within a segment"
    assert seen[0].valid.any()
    assert not seen[0].diverged.any()


@pytest.mark.parametrize("sure", [1, 2])
def test_the_share_of_rollouts_that_diverge_is_logged_those_of_the_first_step_too(
    sure: int, replay: Replay, logger: Logger
) -> None:
    made = make(replay, logger, reward_end={"imagined_share": 1.0, "predict_divergence": True})
    head = made.models.reward_end.head
    nn.init.zeros_(head[0].weight)
    nn.init.ones_(head[0].bias)
    head[-1].weight.data[3 + sure] = 1e3
    made.actor_critic()
    logged = {name: float(total) / float(weight) for name, (total, weight) in logger._sums.items() if weight}
    assert (logged["imagination/end"], logged["imagination/diverged"]) == ((1, 0) if sure == 1 else (0, 1))


def test_an_imagined_segment_ends_with_the_step_that_first_loses_track(
    replay: Replay, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = torch.tensor([[0, 0, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]]).bool()
    shown = []
    monkeypatch.setattr(updates, "lost_track", lambda *frames: shown.append(frames) or gone)
    segment = replay.sample(4, 6, generator())._replace(mask=torch.ones(4, 6, dtype=torch.bool))
    segment.mask[3, :3] = False  # the first step that is valid is the one from 3 to 4
    imagined = 255 - segment.obs
    cut = until_diverged(segment, imagined)
    assert cut.diverged.int().tolist() == [[0] * 6, [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0], [0, 0, 0, 1, 0, 0]]
    assert cut.mask.int().tolist() == [[1] * 6, [1, 1, 1, 1, 0, 0], [1] * 6, [0, 0, 0, 1, 1, 0]]
    assert torch.equal(cut.obs, imagined)
    assert torch.equal(shown[0][0], segment.obs)  # what happened, and how it was imagined
    assert torch.equal(shown[0][1], imagined)


def test_divergence_is_learned_where_the_config_asks_for_it(replay: Replay, logger: Logger) -> None:
    for predict in (False, True):
        made = make(replay, logger, reward_end={"imagined_share": 1.0, "predict_divergence": predict})
        seen = segments_of(made, "reward_end")
        made.reward_end()
        assert seen[0].diverged.any() == predict  # random frames are lost at once


@pytest.mark.parametrize("fed_back", [0, 2])
def test_the_denoiser_is_trained_on_segments_with_a_valid_target(fed_back: int, replay: Replay, logger: Logger) -> None:
    made = make(replay, logger, autoregressive_steps=fed_back)
    seen, n = segments_of(made, "denoiser"), 3
    for _ in range(8):
        made.denoiser()
    mask = torch.cat([segment.mask for segment in seen])
    assert mask.shape == (64, n + 1 + fed_back)
    assert mask[:, n:].any(1).all()
    assert mask[:, :n].logical_not().any(), "some contexts start before their episode"
    for place in range(fed_back + 1):
        assert mask[:, n + place].any()


def test_no_frame_is_fed_back_before_its_time(replay: Replay, logger: Logger) -> None:
    made = make(replay, logger, autoregressive_steps=2, autoregressive_after=2)
    segments = segments_of(made, "denoiser")
    for _ in range(3):
        made.denoiser()
    assert [segment.obs.shape[1] for segment in segments] == [4, 4, 6]


def test_each_random_number_comes_from_its_own_generator(replay: Replay, logger: Logger) -> None:
    """So that a change in one place does not reshuffle the others."""
    made, twin = make(replay, logger), Generators.seeded(0, CPU)
    torch.manual_seed(5)
    at_large = torch.get_rng_state()
    made.denoiser()
    replay.sample(8, 5, twin.data, first_target=3)
    assert torch.equal(made.random.data.get_state(), twin.data.get_state())
    assert torch.equal(made.random.act.get_state(), twin.act.get_state())
    assert not torch.equal(made.random.noise.get_state(), twin.noise.get_state())
    made.reward_end()
    made.actor_critic()
    assert torch.equal(torch.get_rng_state(), at_large)
    seeds = [g.initial_seed() for seed in range(5) for g in vars(Generators.seeded(seed, CPU)).values()]
    assert len(set(seeds)) == 15


# What is trained


def test_the_policy_learns_from_rollouts_of_its_horizon(replay: Replay, logger: Logger) -> None:
    made = make(replay, logger)
    calls = spy(made.learners, "imagine_rollout")
    made.actor_critic()
    rollout = calls[0][1].rollout
    assert len(calls) == 1
    assert rollout.obs.shape == (8, 5, 84, 84)
    assert rollout.action.shape == (8, 4)


def test_each_epoch_makes_a_step_for_each_minibatch_of_a_new_partition(replay: Replay, logger: Logger) -> None:
    made = make(replay, logger, actor_critic={"epochs": 3, "minibatches": 4})
    calls = spy(made.models.actor_critic, "loss")
    made.actor_critic()
    parts = [args[0] for args, _ in calls]
    assert made.learners.steps("actor_critic") == len(parts) == 12
    epochs = [parts[i : i + 4] for i in (0, 4, 8)]
    orders = [torch.cat([part.obs for part in epoch]).sum((1, 2, 3)).tolist() for epoch in epochs]
    assert all(len(part.obs) == 2 for part in parts)
    assert len(set(orders[0])) == 8
    for order in orders[1:]:
        assert sorted(order) == sorted(orders[0])
        assert order != orders[0]


def test_there_are_as_many_minibatches_as_were_asked_for(replay: Replay, logger: Logger) -> None:
    made = make(replay, logger, actor_critic={"minibatches": 5})
    calls = spy(made.models.actor_critic, "loss")
    made.actor_critic()
    assert [len(args[0].obs) for args, _ in calls] == [2, 2, 2, 1, 1]


def test_a_minibatch_has_all_that_belongs_to_its_rollouts(replay: Replay, logger: Logger) -> None:
    made = make(replay, logger, actor_critic={"minibatches": 3, "frame_stack": 3})
    batches, calls = spy(made.learners, "imagine_rollout"), spy(made.models.actor_critic, "loss")
    made.actor_critic()
    whole = batches[0][1].rollout
    place = {frames.numpy().tobytes(): i for i, frames in enumerate(whole.obs)}
    for (batch, _), _ in calls:
        part = batch.rollout
        index = torch.tensor([place[frames.numpy().tobytes()] for frames in part.obs])
        for ours, theirs in zip(part[1:], whole[1:], strict=True):
            assert torch.equal(ours, theirs[index])
        for ours, theirs in zip(part.hidden, whole.hidden, strict=True):
            assert torch.equal(ours, theirs[:, index])


def test_the_rate_of_the_policy_falls_from_rollout_to_rollout(replay: Replay, logger: Logger) -> None:
    falling = config.Optimization(batch_size=8, learning_rate=1e-2, decay_updates=2)
    made, rates = make(replay, logger, actor_critic={"epochs": 3, "minibatches": 4, "optimization": falling}), []
    for _ in range(3):
        rates.append(made.learners.by_part["actor_critic"].optimizer.learning_rate)
        made.actor_critic()
    assert rates == pytest.approx([1e-2, 5.5e-3, 1e-3])


@pytest.mark.parametrize("part", config.Config().parts)
def test_an_update_trains_its_own_part_alone(part: str, replay: Replay, logger: Logger) -> None:
    made = make(replay, logger, ema_decay=0.26)
    models = made.models
    modules = {
        **{name: getattr(models, name) for name in config.Config().parts},
        "average": models.averages["denoiser"].module,
    }
    before = {name: weights(module) for name, module in modules.items()}
    for _ in range(2):
        made.make(part)
    changed = {
        name
        for name, module in modules.items()
        if any(not torch.equal(a, b) for a, b in zip(before[name], weights(module), strict=True))
    }
    assert changed == {part} | ({"average"} if part == "denoiser" else set())


def test_the_published_settings_take_an_update_of_each_part(replay: Replay, logger: Logger) -> None:
    c = config.Config(precision="float32")  # whose defaults are those of preset=diamond
    for part in config.Config().parts:
        getattr(c, part).optimization.batch_size = 1
    c.actor_critic.horizon = 2
    learners = Learners(Models(c, MEANINGS, CPU))
    made = Updates(learners, replay, Generators.seeded(0, CPU), logger)
    for part in config.Config().parts:
        made.make(part)
    assert [learners.steps(part) for part in config.Config().parts] == [1, 1, 1]
    assert all(torch.isfinite(torch.tensor(value)) for value in logger.flush(0).values())


# What is logged


def test_what_an_update_found_is_logged(replay: Replay, logger: Logger) -> None:
    made = make(replay, logger)
    steps = {part: spy(made.learners.by_part[part], "step") for part in config.Config().parts}
    for part in config.Config().parts:
        made.make(part)
    means = logger.flush(0)
    for part, calls in steps.items():
        ((_, metrics),) = calls
        for name in ("loss", "grad_norm", "learning_rate", "skipped_updates"):
            assert means[f"{part}/{name}"] == pytest.approx(float(metrics[name])), name
    assert {"reward_end/reward_recall", "actor_critic/entropy", "imagination/reward", "imagination/end"} <= set(means)


# Before the first update


class CountingLoop:
    """A run loop that counts what it is asked for, and does nothing."""

    def __init__(self) -> None:
        self.units: list[int] = []
        self.bars = SimpleNamespace(say=lambda line: None)

    def run(self, phase: object, target: object, work: object) -> None:
        self.units.append(target())


def trainer_of(replay: Replay, folder: Path, **settings: object) -> Trainer:
    trainer = Trainer(small_config(**settings), RunFolder(folder), CPU)
    trainer.replay = trainer.updates.replay = replay
    return trainer


@pytest.mark.parametrize("target", ["frame", "change"])
def test_a_run_measures_the_size_of_a_change_before_its_first_update(
    target: str, replay: Replay, tmp_path: Path
) -> None:
    """The root mean square of the real changes."""
    trainer = trainer_of(replay, tmp_path, target=target)
    trainer.look_at_the_data(loop := CountingLoop())
    trainer.fit("denoiser", loop)
    assert loop.units[-1] == trainer.config.denoiser.optimization.first_updates
    episodes = replay._columns["obs"][: replay.num_rows].double().split([16, 16, 10])
    changes = torch.cat([4 * frames.diff(dim=0) / 127.5 for frames in episodes])
    expected = changes.square().mean().sqrt().item() if target == "change" else 0.5
    assert trainer.models.denoiser.sigma_data.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("parts", [["denoiser"], ["reward_end", "actor_critic"]])
def test_a_denoiser_of_another_run_keeps_the_size_of_a_change_that_it_was_trained_with(
    parts: list[str], replay: Replay, tmp_path: Path
) -> None:
    source = Models(small_config(target="change", ema_decay=0.9), MEANINGS, CPU)
    for denoiser in (source.denoiser, source.world.denoiser):
        denoiser.sigma_data.fill_(0.123)
    checkpoint.save(tmp_path / "source" / "checkpoints", 1, {"models": source.state_dict()}, keep=1)
    trainer = trainer_of(replay, tmp_path / "run", target="change", ema_decay=0.9)
    trainer.config.initialize = {"from": str(tmp_path / "source"), "parts": parts}
    trainer.initialize(*trainer.config.initialize.values())
    trainer.look_at_the_data(CountingLoop())
    if "denoiser" in parts:
        assert trainer.models.denoiser.sigma_data == trainer.models.world.denoiser.sigma_data == torch.tensor(0.123)
    else:
        assert trainer.models.denoiser.sigma_data > 1  # of random frames


def test_the_averaged_policy_plays_the_real_game(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_module, "EXPLORATION", 0.0)
    trainer = Trainer(small_config(actor_critic={"ema_decay": 0.9}), RunFolder(tmp_path), CPU)
    trainer.models.policy.actor.bias.data.fill_(0)[2] = 1e3  # it does nothing but 2
    for _ in range(12):
        trainer._collect_step()
    assert trainer.replay.rows(0)["action"].tolist() == 12 * [2]
