"""Q-learning: returns by hand, the same steps from the replay and from imagination, and a network that finds the better action."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU, PARTS, generator, read_dataset, same, small_config, spy
from test_trainer import save

from adamas.agent import q_network
from adamas.agent.imagined_replay import BATCHES, ImaginedReplay, ImaginedSteps, drawn_steps
from adamas.agent.q_learning import (
    SHIFT,
    QBatch,
    Transitions,
    shifted,
    transitions,
)
from adamas.agent.q_network import (
    DROPOUT,
    DROPOUT_RISES,
    EPSILON,
    FRAME_STACK,
    INTENSITY,
    RANDOM_STEPS,
    REPETITION,
    QNetwork,
)
from adamas.agent.rollout import NO_FRAME, Hidden, Rollout
from adamas.config import ActorCritic, Atari, Config, Network
from adamas.config import QNetwork as QNetworkConfig
from adamas.config.legacy import translated
from adamas.config.rules import check
from adamas.data.frames import with_changes
from adamas.data.replay import Replay
from adamas.envs.atari import AtariEnv
from adamas.training.collector import Collector
from adamas.training.learners import Learners
from adamas.training.models import Models
from adamas.training.phases import COLLECT, Phase
from adamas.training.run_folder import RunFolder
from adamas.training.schedule import replayed_updates
from adamas.training.trainer import Trainer
from adamas.utils.errors import UserError

K, N, GAMMA = 3, 4, 0.5  # frames of a stack, rewards of a return, discount
LENGTHS = (6, 1, 9, 2, 4)  # steps of the episodes; each second one is truncated


def frame(number: int) -> np.ndarray:
    return np.full((84, 84), number, np.uint8)


def episodes(open_end: bool = False) -> Replay:
    """Frame i shows i, step i brings the reward i (its sign: 1), but 0 where i is even."""
    replay, number = Replay(100), 0
    for episode, length in enumerate(LENGTHS):
        for step in range(length):
            over = step == length - 1 and not (open_end and episode == len(LENGTHS) - 1)
            cut = over and episode % 2 == 1
            reward = float(number % 2 * number)
            replay.add(frame(number), number % 3, reward, over and not cut, cut, frame(number + 1))
            number += 1 + over
    return replay


def by_hand(replay: Replay, first: int) -> tuple[list[int], int, float, list[int], float]:
    """What the step of the row `first` is: the frames before it, the action, the return, the frames after it, the discount."""
    rows = replay.rows(0)
    starts = [0, *(i + 1 for i in np.flatnonzero(rows["final"]))]
    start = max(i for i in starts if i <= first)
    reward, row, factor = 0.0, first, 1.0
    ended = False
    while row < first + N and not ended and row + 1 < replay.num_rows and not rows["final"][row]:
        reward += factor * float(rows["reward"][row].sign())
        ended = bool(rows["terminated"][row])
        factor *= GAMMA
        row += 1

    def stack(last: int) -> list[int]:
        return [int(rows["obs"][max(i, start)][0, 0]) for i in range(last - K + 1, last + 1)]

    return stack(first), int(rows["action"][first]), reward, stack(row), 0.0 if ended else factor


def numbers(made: Transitions) -> list[tuple[list[int], int, float, list[int], float]]:
    """The same of transitions, whose frames are of one grey each."""
    columns = (made.obs[..., 0, 0], made.action, made.reward, made.next_obs[..., 0, 0], made.discount)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("open_end", [False, True])
def test_steps_of_the_replay_are_those_by_hand(open_end: bool) -> None:
    replay = episodes(open_end)
    made = numbers(transitions(replay.sample_steps(2000, K - 1, N, generator()), K, GAMMA))
    steps = [i for i in range(replay.num_rows - 1) if not replay.rows(0)["final"][i]]
    expected = {by_hand(replay, i)[0][-1]: by_hand(replay, i) for i in steps}
    assert {step[0][-1] for step in made} == set(expected), "every step, and no final frame"
    for step in made:
        assert step == expected[step[0][-1]]


def test_steps_of_the_replay_are_drawn_uniformly() -> None:
    replay = episodes()
    drawn = replay.sample_steps(20_000, K - 1, N, generator()).obs[:, K - 1, 0, 0].long().bincount()
    after_final = drawn[[length - 1 + sum(LENGTHS[:i]) + i for i, length in enumerate(LENGTHS)]]
    chance = 20_000 / (replay.num_rows - 1)
    assert drawn[drawn > 0].min() > 0.8 * chance
    assert after_final[:-1].max() < 2.4 * chance, "the step before a final frame stands for it too"


def rollout_of(replay: Replay, start: int, horizon: int) -> Rollout:
    """The steps of an episode from the row `start` on as if they had been imagined, and then masked ones."""
    rows = replay.rows(0)
    end = start
    while end < start + horizon and not rows["final"][end]:
        end += 1
    taken, pad = end - start, horizon - (end - start)

    def column(name: str) -> torch.Tensor:
        return torch.cat([rows[name][start:end], torch.full((pad,), 1).to(rows[name].dtype)])[None]

    obs = torch.cat([rows["obs"][start : end + 1], torch.full((pad, 84, 84), 255, dtype=torch.uint8)])[None]
    first = max([0, *(int(i) + 1 for i in np.flatnonzero(rows["final"][:start]))])
    past = torch.stack(
        [
            rows["obs"][i].short() if i >= first else torch.full((84, 84), NO_FRAME, dtype=torch.int16)
            for i in range(start - K + 1, start)
        ]
    )
    mask = (torch.arange(horizon) < taken)[None]
    zeros = torch.zeros(1, 1, 1)
    return Rollout(
        Hidden(zeros, zeros, past[None, None]),
        obs,
        column("action").long(),
        zeros[0],
        zeros[0],
        column("reward").sign().float(),
        column("terminated"),
        torch.zeros_like(mask),
        mask,
    )


@pytest.mark.parametrize("start", [0, 2, 7, 9, 13, 19])
def test_steps_of_an_imagined_rollout_are_those_of_the_replay_up_to_its_end(start: int) -> None:
    replay, horizon = episodes(), 5
    rollout = rollout_of(replay, start, horizon)
    steps = int(rollout.mask.sum())
    at = torch.arange(steps)
    made = numbers(transitions(ImaginedSteps.of(rollout).segments(torch.zeros_like(at), at, N), K, GAMMA))
    assert steps > 0
    for step, one in enumerate(made):
        stack, action, _, _, _ = by_hand(replay, start + step)
        n = min(N, steps - step)
        rows = replay.rows(0)
        reward = sum(GAMMA**i * float(rows["reward"][start + step + i].sign()) for i in range(n))
        last = by_hand(replay, start + step + n)[0] if not rows["final"][start + step + n] else None
        ended = bool(rows["terminated"][start + step + n - 1])
        assert one[:3] == (stack, action, pytest.approx(reward))
        assert one[4] == (0.0 if ended else GAMMA**n)
        if last:
            assert one[3] == last


def test_steps_are_drawn_from_those_that_were_taken() -> None:
    mask = torch.tensor([[True, True, False], [False, False, False], [True, False, False]])
    rows, steps = drawn_steps(mask, 3000, generator())
    counts = torch.zeros(3, 3).index_put_((rows, steps), torch.ones(3000), accumulate=True)
    assert not counts[~mask].any()
    assert counts[mask].min() > 900
    rows, steps = drawn_steps(mask & False, 5, generator())
    assert len(rows) == len(steps) == 5, "where nothing was taken nothing fails"


def test_the_newest_rollouts_are_kept_and_their_steps_drawn_uniformly() -> None:
    replay, kept = episodes(), ImaginedReplay()
    assert not kept
    starts = [*range(3), *([7] * BATCHES)]  # one and another rollout a batch; the latter from an episode of two steps
    for start in starts:
        kept.add(rollout_of(replay, start, 5).rows(torch.zeros(2).long()))
    made = transitions(kept.sample_steps(2000, N, generator()), K, GAMMA)
    assert made.mask.all()
    counts = made.obs[:, -1, 0, 0].long().bincount()
    steps = [int(i) for i in counts.nonzero()]
    assert steps == [by_hand(replay, 7 + i)[0][-1] for i in range(len(steps))], "those before are forgotten"
    assert counts[steps].min() > 0.9 * 2000 / len(steps)
    other = ImaginedReplay()
    other.load_state_dict(kept.state_dict(), CPU)
    assert same(other.sample_steps(9, N, generator()), kept.sample_steps(9, N, generator()))
    other.load_state_dict(None, CPU)
    assert not other
    kept.add(rollout_of(replay, 0, 4))
    assert set(kept.sample_steps(99, N, generator()).obs[:, K - 1, 0, 0].tolist()) == {0, 1, 2, 3}, "another horizon"


def test_a_shift_moves_a_stack_as_one_and_repeats_its_edges() -> None:
    stack = torch.arange(84, dtype=torch.uint8)[None, :, None] + torch.arange(84, dtype=torch.uint8)
    moved = shifted(torch.stack([stack.expand(2, 84, 84)] * 400), generator())
    assert torch.equal(moved[:, 0], moved[:, 1])
    by = moved[:, 0, 42, 42].int() - 84
    assert (by.min(), by.max()) == (-2 * SHIFT, 2 * SHIFT)
    one = moved[0, 0].int()
    down, right = int(one[42, 10]) - 52, int(one[10, 42]) - 52
    for x, offset in ((one[:, 42], None), (one[42], None)):
        assert ((x[1:] - x[:-1]) >= 0).all(), offset
    assert (down, right) == (int(by[0]),) * 2


# The network


def test_a_small_ball_changes_what_it_reads_from_the_start() -> None:
    """At torch's own initial weights, and from frames alone, the features of frames with the ball in other places differ by 3%."""
    frames = (torch.arange(84) % 50 * 3).to(torch.uint8).expand(10, FRAME_STACK, 84, 84).clone()
    for place in range(10):
        for t in range(FRAME_STACK):
            column = 10 + 6 * place + t
            frames[place, t, 40 + 2 * t : 42 + 2 * t, column : column + 2] = 200
    seen: list[torch.Tensor] = []
    net = network()
    net.encoder.register_forward_hook(lambda module, args, features: seen.append(features))
    net.values(frames)
    assert seen[0].std(0).square().mean() > 0.25**2 * seen[0].square().mean()


def network(actions: int = 3) -> QNetwork:
    torch.manual_seed(0)
    return QNetwork(Network(lstm_dim=8), actions)


def whole_batch(obs: torch.Tensor, action: torch.Tensor, target: torch.Tensor) -> QBatch:
    """Every row counts, and nothing is dropped."""
    return QBatch(obs, action, target, torch.ones(len(obs), dtype=torch.bool), torch.zeros(len(obs)))


def test_it_starts_uniform_and_becomes_greedy() -> None:
    net = network()
    obs = torch.randint(256, (5, 2, 84, 84), dtype=torch.uint8, generator=generator())
    logits, value, _ = net(obs, net.initial_hidden(5))
    torch.testing.assert_close(logits, torch.full((5, 2, 3), 1 / 3).log())
    assert not value.any()
    net.advantage.bias.data[1] = 3.0
    logits, value, _ = net(obs, net.initial_hidden(5))
    torch.testing.assert_close(logits[0, 0].exp(), torch.tensor([EPSILON / 3, 1 - EPSILON * 2 / 3, EPSILON / 3]))
    torch.testing.assert_close(value, torch.full((5, 2), 2.0))
    assert [net.exploration(steps) for steps in (0, RANDOM_STEPS // 2, 10**6)] == [1.0, 0.5, 0.0]


def test_it_sees_the_last_frames_however_they_come() -> None:
    net = network()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.05)
    obs = torch.randint(8, (2, 7, 84, 84), dtype=torch.uint8, generator=generator())
    hidden, values = net.initial_hidden(2), []
    whole = net(obs, hidden)[1]
    for t in range(7):
        _, value, hidden = net(obs[:, t : t + 1], hidden)
        values.append(value)
    torch.testing.assert_close(torch.cat(values, 1), whole)
    stack = obs[:, 7 - FRAME_STACK :]
    torch.testing.assert_close(net.mean_values(stack).amax(-1), whole[:, -1])
    still = torch.cat([obs[:, :1]] * FRAME_STACK, 1)
    torch.testing.assert_close(
        net.mean_values(still).amax(-1), whole[:, 0]
    )  # before an episode its first frame stands still


def test_it_plays_by_the_mean_of_shifted_looks() -> None:
    net = network()
    torch.nn.init.normal_(net.advantage.weight)
    obs = torch.randint(256, (2, FRAME_STACK, 84, 84), dtype=torch.uint8, generator=generator())
    rows = torch.arange(84)
    looks = [
        net.values(obs[:, :, (rows + r).clamp(0, 83)][..., (rows + c).clamp(0, 83)])
        for r, c in [(0, 0), (-2, -2), (-2, 2), (2, -2), (2, 2)]
    ]
    assert not torch.equal(looks[0], looks[1])
    torch.testing.assert_close(net.mean_values(obs), torch.stack(looks).mean(0))


def test_brightness_changes_in_training_as_if_grey_levels_were_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    net, seen = network(), []
    monkeypatch.setattr(net, "_values", lambda x: torch.zeros(2, 3, requires_grad=True))
    monkeypatch.setattr(net, "_features", lambda x: seen.append(x) or torch.zeros(2, 512))
    obs = torch.randint(256, (2, FRAME_STACK, 84, 84), dtype=torch.uint8, generator=generator())
    net.loss(whole_batch(obs, torch.zeros(2).long(), torch.zeros(2)), generator())
    bright = 1 + INTENSITY * torch.randn(2, 1, 1, 1, generator=generator()).clamp(-2, 2)
    assert not torch.equal(bright[0], bright[1])
    torch.testing.assert_close(
        seen[0], with_changes(2 * bright * obs / 255 - 1, FRAME_STACK)[:, 0], rtol=1e-4, atol=1e-4
    )


def test_its_loss_moves_only_the_value_of_the_action_that_was_taken() -> None:
    net = network()
    obs = torch.randint(256, (16, FRAME_STACK, 84, 84), dtype=torch.uint8, generator=generator())
    action = torch.arange(16) % 3
    batch = whole_batch(obs, action, torch.where(action == 2, 1.0, 0.0))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(40):
        loss, _ = net.loss(batch, generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01
    assert (net.values(obs).argmax(-1) == 2).all()


def test_it_drops_features_in_training_and_nowhere_else() -> None:
    net = network()
    torch.nn.init.normal_(net.value.weight)
    obs = torch.randint(256, (8, FRAME_STACK, 84, 84), dtype=torch.uint8, generator=generator())
    read: list[torch.Tensor] = []
    net.value.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    assert torch.equal(net.values(obs), net.values(obs))
    shares = torch.tensor([0.0, 0.5] * 4)
    batch = whole_batch(obs, torch.zeros(8).long(), torch.zeros(8))._replace(dropout=shares)
    losses = [net.loss(batch, generator(seed))[0].item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    undropped, dropped = (x > 0 for x in (read[0], read[2]))  # in training the brightness differs a little
    assert undropped.float().mean() > 0.2
    for share in (0.0, 0.5):
        ratio = dropped[shares == share].sum() / undropped[shares == share].sum()
        assert ratio.item() == pytest.approx(1 - share, abs=0.05)


# A run


class Loop:
    """A run loop without bars, curves and saves, that stops after so many rounds."""

    def __init__(self, trainer: Trainer, rounds: int = 1000) -> None:
        self.progress, self.rounds = trainer.progress, rounds

    def run(self, phase: Phase, target, work) -> None:  # type: ignore[no-untyped-def]
        while self.rounds and self.progress.done[phase.name] < target():
            work()
            self.progress.tick(phase.name, 1)
            self.rounds -= 1


def make_trainer(folder: Path, policy: str, ratio: float = 1.0) -> Trainer:
    c = small_config(policy=policy)
    c.collection.first_steps = c.collection.first_steps_most = c.collection.steps = 45
    c.q_network.replay_ratio, c.q_network.optimization.first_updates = ratio, 3
    return Trainer(c, RunFolder(folder), CPU)


@pytest.mark.parametrize(("updates", "share"), [(0, 0.0), (DROPOUT_RISES // 4, DROPOUT / 4), (10**6, DROPOUT)])
def test_it_drops_more_and_more(updates: int, share: float, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "model_free")
    trainer.collect(Loop(trainer, 30))
    learner, seen = trainer.learners.by_part["q_network"], []
    learner.optimizer.steps = updates
    learner.step = lambda batch, generator: seen.append(batch.dropout) or {}
    trainer.updates.after_step()
    torch.testing.assert_close(seen[0], torch.full_like(seen[0], share))


@pytest.mark.parametrize(("ratio", "updates"), [(1.0, 25), (0.4, 10), (2.0, 50)])
def test_each_step_is_followed_by_updates_from_the_replay(ratio: float, updates: int, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "model_free", ratio)
    trainer.collect(Loop(trainer))
    assert trainer.learners.steps("q_network") == updates
    assert sum(replayed_updates(trainer.config, step) for step in range(1, 46)) == updates
    assert int(trainer.models.averages["q_network"].n_averaged) == updates


def test_dyna_learns_from_both_and_the_game_alone_from_one(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "dyna")
    trainer.collect(Loop(trainer))
    steps = spy(trainer.learners.by_part["q_network"], "step")
    imagined = spy(trainer.learners, "imagine_rollout")
    sampled = spy(trainer.replay, "sample_steps")
    trainer.updates.after_step()
    assert (len(imagined), sampled.pop()[0][0], len(steps.pop()[0][0].obs)) == (0, 8, 8), "nothing was imagined before"
    trainer.updates.q_network()
    assert (len(imagined), len(steps)) == (1, 2)
    assert [args[0] for args, _ in sampled] == [8, 8], "a quarter more is imagined"
    trainer.updates.after_step()
    assert (len(imagined), sampled[-1][0][0]) == (1, 8), "from the same rollouts"
    assert all(len(args[0].obs) == 10 for args, _ in steps)


def test_targets_come_from_the_averaged_network(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "model_free")
    trainer.models.policy.advantage.bias.data.copy_(torch.tensor([-3.0, 3.0, 0.0, 0.0]))
    frames = torch.zeros(2, FRAME_STACK, 84, 84, dtype=torch.uint8)
    one = Transitions(
        frames,
        torch.zeros(2).long(),
        torch.tensor([1.0, 2.0]),
        frames,
        torch.tensor([0.5, 0.0]),
        torch.ones(2, dtype=torch.bool),
    )
    assert trainer.learners.q_targets(one, generator()).tolist() == [2.5, 2.0]


@pytest.mark.parametrize("rounds", [30, 47])
def test_a_run_that_was_saved_goes_on_bit_for_bit(rounds: int, tmp_path: Path) -> None:
    """While it collects, and while it imagines; after that it learns from what it imagined before."""
    trainer = make_trainer(tmp_path, "dyna")
    first = Loop(trainer, rounds)
    trainer.collect(first)
    trainer.fit("q_network", first)
    save(trainer)
    resumed = make_trainer(tmp_path, "dyna")
    resumed.resume()
    for each in (trainer, resumed):
        each.collect(Loop(each))
        each.fit("q_network", Loop(each))
        each.updates.after_step()
    assert trainer.progress.done == {COLLECT.name: 45, "q_network": 3}
    one, other = (each.state_dict() for each in (trainer, resumed))
    assert [key for key in one if not same(one[key], other[key])] == []


def test_it_plays_at_random_before_it_learns_and_greedily_after(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "model_free")
    policy, env, random = trainer.models.policy, trainer.env, generator()
    policy.advantage.bias.data[2] = 5.0
    shares = []
    for chance in (None, 0.0):
        played = Collector(env, Replay(400), 0)
        if chance is not None:
            policy.exploration = lambda steps: 0.0
        for _ in range(60):
            played.step(policy, random)
        shares.append(float((played.replay.rows(0)["action"] == 2).float().mean()))
    assert shares[0] < 0.5
    assert shares[1] > 0.9


def test_it_finds_a_reward_that_asks_for_the_same_action_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freeway: a road of ten lanes that no random play has crossed in 100 games."""
    monkeypatch.setattr(q_network, "RANDOM_STEPS", 50)
    env, policy, random = AtariEnv("Freeway", Atari(), episodic_life=True), network(), generator()
    played = Collector(env, Replay(4000), 0)
    while played.replay.reward_counts[1] == 0:
        played.step(policy, random)
        assert played.replay.num_steps < 4000
    assert played.replay.num_steps > 50
    assert (policy.repetition(49), policy.repetition(50)) == (0.0, REPETITION)


def test_models_of_a_q_network_have_no_actor_critic() -> None:
    models = Models(small_config(policy="dyna"), ("NOOP", "LEFT"), CPU)
    assert "actor_critic" not in models.state_dict()
    assert isinstance(models.policy, QNetwork)
    assert models.policy is not models.q_network, "the target network"


# What is not known


def test_steps_without_a_frame_after_them_count_where_they_end_an_episode(tmp_path: Path) -> None:
    """A dataset need not hold final frames: rows 2 and 4 end episodes, and the last one breaks off."""
    np.savez(
        tmp_path / "a.npz",
        obs=np.stack([frame(i) for i in range(7)]),
        action=(np.arange(7) % 3).astype(np.uint8),
        reward=np.array([0, 0, 1, 0, -1, 0, 1], np.float32),
        terminated=np.array([0, 0, 1, 0, 1, 0, 0], bool),
        truncated=np.zeros(7, bool),
        final=np.zeros(7, bool),
    )
    made = transitions(read_dataset(tmp_path, [1.0]).sample_steps(500, K - 1, N, generator()), K, GAMMA)
    found = {
        int(now): (reward, discount, known)
        for now, reward, discount, known in zip(
            made.obs[:, -1, 0, 0], made.reward.tolist(), made.discount.tolist(), made.mask.tolist(), strict=True
        )
    }
    assert found == {
        0: (0.25, 0.0, True),
        1: (0.5, 0.0, True),
        2: (1.0, 0.0, True),
        3: (-0.5, 0.0, True),
        4: (-1.0, 0.0, True),
        5: (0.0, 0.5, True),
    }


def test_a_step_of_which_nothing_is_known_teaches_nothing() -> None:
    rollout = rollout_of(episodes(), 0, 5)
    rollout = rollout._replace(mask=rollout.mask & False)
    made = transitions(ImaginedSteps.of(rollout).segments(torch.zeros(3).long(), torch.arange(3), N), K, GAMMA)
    assert not made.mask.any()
    net = network()
    obs = made.obs.repeat(1, 2, 1, 1)[:, :FRAME_STACK]
    batch = whole_batch(obs, made.action, made.reward + 1)._replace(mask=made.mask)
    loss, _ = net.loss(batch, generator())
    assert loss == 0


def test_a_policy_of_the_real_game_from_before_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has an actor-critic that learned in the real game"):
        translated({"policy": "model_free"}, "config.yaml")
    assert translated({"policy": "model_free", "q_network": {}}, "config.yaml")


def test_the_optimizer_steps_of_an_update_had_another_name() -> None:
    assert translated({"q_network": {"minibatches": 5}}, "config.yaml") == {"q_network": {"steps_per_update": 5}}


def test_weights_that_read_frames_alone_are_refused() -> None:
    models = Models(small_config(policy="model_free"), ("NOOP", "LEFT"), CPU)
    state = models.state_dict()
    models.load_state_dict(state)
    for read in ("frames", "edges"):
        state["meaning"]["q_network.input"] = read
        if read == "frames":
            del state["meaning"]["q_network.input"]
        with pytest.raises(
            UserError, match=f"q_network of the checkpoint reads {read}, which this version .* train it"
        ):
            models.load_state_dict(state)
        with pytest.raises(UserError, match=f"its q_network reads {read}, which this version"):
            models.initialize(state, ["q_network"], "there")


def test_weights_of_which_a_run_has_no_part_are_refused() -> None:
    models = Models(small_config(policy="dyna"), ("NOOP", "LEFT"), CPU)
    source = Models(small_config(), ("NOOP", "LEFT"), CPU).state_dict()
    with pytest.raises(UserError, match="none of them is in this run, which has denoiser, reward_end, q_network"):
        models.initialize(source, ["actor_critic"], "there")
    with pytest.raises(UserError, match="it has no q_network: leave that out"):
        models.initialize(source, ["denoiser", "q_network"], "there")
    models.initialize(source, ["denoiser", "actor_critic"], "there")
    assert same(models.denoiser.state_dict(), source["denoiser"])


def test_a_run_without_a_world_model_keeps_none_and_gives_none() -> None:
    free = Models(small_config(policy="model_free"), ("NOOP", "LEFT"), CPU)
    state, learners = free.state_dict(), Learners(free)
    assert not {"denoiser", "reward_end"} & {*state, *state["averages"], *learners.state_dict()}
    with pytest.raises(UserError, match="it has no denoiser and no reward_end: leave that out"):
        Models(small_config(policy="dyna"), ("NOOP", "LEFT"), CPU).initialize(state, [*PARTS, "q_network"], "there")
    with pytest.raises(UserError, match="none of them is in this run, which has q_network"):
        free.initialize(state, ["denoiser"], "there")


def test_what_a_run_does_not_take_need_not_fit() -> None:
    state = Models(small_config(policy="dyna"), ("NOOP", "LEFT"), CPU).state_dict()
    state["meaning"]["q_network.input"] = "frames"
    models = Models(small_config(), ("NOOP", "LEFT"), CPU)
    models.initialize(state, ["denoiser", "reward_end", "q_network"], "there")
    assert same(models.denoiser.state_dict(), state["denoiser"])


SHORT_GAMES, DEEP = {"atari": Atari(max_episode_steps=50)}, {"actor_critic": ActorCritic(channels=[8] * 8)}
LATE = QNetworkConfig(learning_starts=200_000)
NEVER = "no step would be followed by an update: q_network.learning_starts=200000"


@pytest.mark.parametrize(
    ("policy", "settings", "error"),
    [
        ("model_free", SHORT_GAMES, None),
        ("dyna", SHORT_GAMES, "evaluation.dream_steps=50 takes games of 53 steps"),
        ("dyna", DEEP, None),
        ("imagined", DEEP, "actor_critic.channels has 8 levels, too many"),
        ("dyna", {"q_network": LATE}, NEVER),
        ("model_free", {"q_network": LATE}, NEVER),
        ("dyna", {"q_network": replace(LATE, replay_ratio=0.0)}, None),
        ("dyna", {"q_network": LATE, "dataset": "there"}, None),
    ],
)
def test_rules_are_of_what_a_run_has(policy: str, settings: dict[str, Any], error: str | None) -> None:
    with pytest.raises(UserError, match=error) if error else nullcontext():
        check(Config(policy=policy, **settings))
