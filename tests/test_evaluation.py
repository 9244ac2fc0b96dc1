"""Dreams beside reality: the two sets, their pictures and their tables."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import frames, generator, spy, wake
from torch import Tensor

from adamas import config
from adamas.agent.actor_critic import ActorCritic
from adamas.config import Config
from adamas.data.batch import Trajectory
from adamas.envs.atari import AtariEnv
from adamas.evaluation import clips, distances, dreams, evaluate, figures, games, tables
from adamas.evaluation.clips import record
from adamas.evaluation.detail import Detail
from adamas.evaluation.dreams import Dreams
from adamas.evaluation.frechet import Frechet
from adamas.training import media
from adamas.utils.errors import UserError
from adamas.utils.logger import Logger
from adamas.utils.random import seeded
from adamas.world_model.denoiser import Denoiser
from adamas.world_model.reward_end import RewardEnd
from adamas.world_model.world_model import WorldModel

N, ACTIONS = 3, 4  # context frames, and Breakout's actions
LEVELS = {"channels": [16, 16], "depths": [1, 1]}
CONFIG = Config(
    network=config.Network("adamas", patch=4, condition_channels=24, lstm_dim=16),
    denoiser=config.Denoiser(**LEVELS, context=N),
    evaluation=config.Evaluation(dreams=3, dream_steps=6),
)


def films(count: int = 3, steps: int = 6, seed: int = 0) -> Dreams:
    shown = frames(2, count, steps + 1, seed=seed)
    return Dreams(shown[0, :, 0], shown[0, :, 1:], shown[1, :, 1:])


def clip(count: int, steps: int = 7) -> Trajectory:
    return Trajectory(frames(count, steps + 1), torch.randint(0, 3, (count, steps), generator=generator(1)))


@pytest.fixture
def world() -> WorldModel:
    torch.manual_seed(0)
    denoiser = Denoiser(CONFIG.denoiser, CONFIG.network, ACTIONS)
    reward_end = RewardEnd(config.RewardEnd(**LEVELS), CONFIG.network, ACTIONS)
    return WorldModel(wake(denoiser), wake(reward_end), config.Sampler(steps=2))


def make_policy(favourite: int) -> ActorCritic:
    """Prefers one action; 1 is FIRE, which brings the ball into play."""
    torch.manual_seed(1)
    policy = wake(ActorCritic(config.ActorCritic(channels=[8, 8], frame_stack=2), CONFIG.network, ACTIONS))
    policy.actor.bias.data[favourite] = 3.0
    return policy


# Clips and dreams


def test_where_the_agents_games_are_too_short_its_dreams_are_left_out(
    world: WorldModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has learned to end them soon, which must not end its run."""
    real = evaluate.record_clip

    def record_clip(policy: ActorCritic | None, c: Config, seed: int) -> Trajectory:
        if policy is not None:
            raise UserError("100 games in a row ended before 8 steps")
        return real(policy, c, seed)

    monkeypatch.setattr(evaluate, "record_clip", record_clip)
    found = evaluate.evaluate_world(world, make_policy(1), CONFIG, seed=0)
    assert [*found.detail] == ["random_play", "copy", "real"]
    media.show(found, logger := Logger(tmp_path / "tensorboard"), tmp_path, 0)
    logger.close()
    assert "no dreams of the agent's own play: 100 games" in capsys.readouterr().err


@pytest.mark.parametrize("env", ["Pong", "pixel_games:Hwc-v0"])
def test_the_last_seed_that_there_is_plays_too(env: str) -> None:
    c = Config(env=env, atari=config.Atari(max_episode_steps=3))
    assert len(games.play_games(games.UniformPlay(3), c, 2, seed=2**31 - 1).returns) == 2


@pytest.mark.parametrize("churn", [0.0, 3.0])
def test_a_dream_has_the_same_pixels_however_many_there_are(world: WorldModel, churn: float) -> None:
    world.sampler = config.Sampler(steps=2, s_churn=churn)
    play, ticks = clip(dreams.GROUP + 2), []
    all_of_them = dreams.dream(world, play, N, 10, lambda: ticks.append(1)).imagined
    assert len(ticks) == dreams.ticks(dreams.GROUP + 2, 5) == 2 * 5
    for count in (1, 3, dreams.GROUP + 1):
        fewer = dreams.dream(world, play.rows(slice(count)), N, 10).imagined
        assert torch.equal(fewer, all_of_them[:count])
    assert len(all_of_them.flatten(1).unique(dim=0)) == dreams.GROUP + 2


def test_random_play_takes_every_action_about_as_often() -> None:
    play = record(None, AtariEnv("Breakout", config.Atari(), episodic_life=False), count=20, steps=20, seed=3)
    assert play.obs.shape == (20, 21, 84, 84)
    assert play.action.shape == (20, 20)
    assert play.action.flatten().bincount(minlength=4).min() > 60  # of 400, 100 each


class Countdown:
    """Games that pay 1 a step, are over after 2 and 5 of them, and begin anew as a vector env's do."""

    num_envs = 2
    ends = np.array([2, 5])

    def reset(self, seed: int) -> tuple[np.ndarray, dict]:
        self.steps = np.zeros(2, dtype=int)
        return np.zeros((2, 1, 84, 84), np.uint8), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        self.steps += 1
        over = self.steps % self.ends == 0
        return np.zeros((2, 1, 84, 84), np.uint8), np.ones(2), over, np.zeros(2, dtype=bool), {}


def test_a_game_counts_up_to_its_end_whatever_its_env_does_then() -> None:
    played = games._play(games.UniformPlay(4), Countdown(), generator(), 0, lambda: None)
    assert (played.returns, played.lengths) == ([2.0, 5.0], [2, 5])


def test_a_clip_holds_what_each_action_brought() -> None:
    env = AtariEnv("Breakout", config.Atari(), episodic_life=False)
    play = record(None, env, count=2, steps=5, seed=3)
    frame, _ = env.reset(seed=3)
    for i in range(2):  # the second one goes on where the first one ended
        for t in range(5):
            assert torch.equal(play.obs[i, t], torch.from_numpy(frame))
            frame, *_ = env.step(int(play.action[i, t]))
        assert torch.equal(play.obs[i, 5], torch.from_numpy(frame))


def test_games_that_are_too_short_for_a_clip_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "PATIENCE", 2)
    env = AtariEnv("Breakout", config.Atari(max_episode_steps=5), episodic_life=False)
    with pytest.raises(UserError, match="2 games in a row ended before 6 steps"):
        record(make_policy(0), env, count=1, steps=6, seed=0)


def test_a_dream_is_compared_with_the_frames_that_came_at_the_same_time(world: WorldModel) -> None:
    play = clip(dreams.GROUP)
    shown = dreams.dream(world, play, N, 10)
    assert torch.equal(shown.previous, play.obs[:, N - 1])
    assert torch.equal(shown.real, play.obs[:, N:])
    assert shown.imagined.shape == shown.real.shape
    state = world.start(Trajectory(play.obs[:, :N], play.action[:, : N - 1]))
    noise = seeded(range(10, 10 + dreams.GROUP))
    for t in range(2):  # by hand: the action after the last context frame leads to the first imagined one
        state, prediction = world.step(state, play.action[:, N - 1 + t], noise)
        assert torch.equal(shown.imagined[:, t], prediction.obs)


def test_a_dream_knows_nothing_of_what_comes_but_the_actions(world: WorldModel) -> None:
    play = clip(2)
    other = Trajectory(torch.cat([play.obs[:, :N], 255 - play.obs[:, N:]], dim=1), play.action)
    ours, theirs = (dreams.dream(world, c, N, 10).imagined for c in (play, other))
    assert torch.equal(ours, theirs)


def test_random_play_stays_and_the_agents_play_changes(world: WorldModel) -> None:
    policy = make_policy(favourite=1)
    a, b = (evaluate.evaluate_world(world, policy, CONFIG, seed) for seed in (1, 2))
    assert_same(a.detail["random_play"], b.detail["random_play"])
    half = a.film.shape[1] // 2
    assert torch.equal(a.film[:, :half], b.film[:, :half])  # fixed on top
    assert not torch.equal(a.film[:, half:], b.film[:, half:])
    assert torch.equal(a.trajectory, b.trajectory)
    again = evaluate.evaluate_world(world, policy, CONFIG, 2)
    assert torch.equal(again.film, b.film)


def test_random_play_does_not_depend_on_the_agent(world: WorldModel) -> None:
    ours, theirs = (evaluate.evaluate_world(world, make_policy(favourite), CONFIG, 1) for favourite in (1, 2))
    assert_same(ours.detail["random_play"], theirs.detail["random_play"])
    assert not same(ours.detail["agent_play"], theirs.detail["agent_play"])


def same(a: Detail, b: Detail) -> bool:
    return all(torch.equal(x.nan_to_num(-1), y.nan_to_num(-1)) for x, y in zip(a, b, strict=True))


def assert_same(a: Detail, b: Detail) -> None:
    assert same(a, b)


def test_the_baselines_are_the_last_frame_and_reality_itself() -> None:
    moving = films()
    rows = evaluate.baselines(moving)
    assert rows["real"].psnr.tolist() == [99.0] * 6
    assert rows["real"].moving_recall.tolist() == [1.0] * 6
    assert rows["copy"].change_recall[1:].tolist() == [0.0] * 5  # what stands still changes nowhere
    expected = evaluate.measure_dreams(moving._replace(imagined=moving.previous[:, None].repeat(1, 6, 1, 1)))
    assert_same(rows["copy"], expected)


# Pictures


def part(picture: Tensor, row: int, column: int) -> Tensor:
    """A frame of a picture of scale 1, tiles 84 pixels and gaps 2."""
    return picture[..., row * 86 : row * 86 + 84, column * 86 : column * 86 + 84]


def test_the_spread_is_over_the_pixels_that_either_dream_has_changed() -> None:
    still = torch.full((2, 1, 8, 8), 100, dtype=torch.uint8)
    one, other = still.clone(), still.clone()
    one[0, 0, 0, :4] = 200  # as far apart as 100 at 2 pixels, and equal at 2
    other[0, 0, 0, 2:4], other[1, 0, 3, 3] = 200, 40  # and 60 at another
    other[1, 0, 5, 5] = 120  # a change that is none
    pair = [Dreams(still[:, 0], still, imagined) for imagined in (one, other)]
    assert dreams.spread(*pair).tolist() == dreams.spread(*reversed(pair)).tolist() == pytest.approx([260 / 5])
    assert dreams.spread(pair[0], pair[0]).tolist() == [0]
    nothing = pair[0]._replace(imagined=still)
    assert dreams.spread(nothing, nothing).isnan().all()


def test_an_evaluation_tells_what_the_noise_chooses(world: WorldModel) -> None:
    found = evaluate.evaluate_world(world, make_policy(1), CONFIG, seed=3)
    assert found.spread.shape == found.detail["random_play"].psnr.shape
    assert (found.spread > 0).all()


def test_a_film_shows_real_above_imagined_above_their_difference_set_by_set() -> None:
    sets = [films(seed=0), films(seed=1)]
    picture = dreams.film(sets, shown=2, scale=1)
    assert picture.shape == (6, 6 * 86 - 2, 2 * 86 - 2)
    for s, shown in enumerate(sets):
        for i in range(2):
            assert torch.equal(part(picture, 3 * s, i), shown.real[i])
            assert torch.equal(part(picture, 3 * s + 1, i), shown.imagined[i])
            difference = (shown.imagined[i].float() - shown.real[i].float()) / 2 + 127.5
            assert (part(picture, 3 * s + 2, i).float() - difference).abs().max() <= 0.5


def test_a_grid_has_a_column_a_horizon() -> None:
    shown = films(steps=12)
    picture = dreams.grid([shown], shown=2, scale=1)
    assert picture.shape == (6 * 86 - 2, 3 * 86 - 2)  # 2 dreams of 3 rows; horizons 1, 5 and 10
    for column, t in enumerate((1, 5, 10)):
        for i in range(2):
            assert torch.equal(part(picture, 3 * i, column), shown.real[i, t - 1])
            assert torch.equal(part(picture, 3 * i + 1, column), shown.imagined[i, t - 1])


def test_a_trajectory_ends_with_the_dreams_first_frame(world: WorldModel) -> None:
    play = clip(2)
    picture = dreams.trajectory(world, play, N, seed=10)
    assert picture.shape == (4 * 86 - 2, 10 * 86 - 2)
    first = dreams.dream(world, play, N, 10).imagined[0, 0]
    last = part(picture, 1, world.sampler.steps - 1)
    assert (last.int() - first.int()).abs().max() <= 1  # another batch size: another order of sums
    assert torch.equal(part(picture, 0, 0), part(picture, 2, 0))  # the same noise, however many steps follow


# Tables


def detail(steps: int) -> Detail:
    values = torch.arange(1.0, steps + 1)
    return Detail(*(values + 100 * i for i in range(len(Detail._fields) - 1)), torch.full((steps,), math.nan))


def test_figures_are_taken_at_their_step_and_nothing_counted_is_null() -> None:
    at = tables.at_horizons(detail(16))
    assert at["psnr"] == {"1": 1.0, "5": 5.0, "10": 10.0, "15": 15.0}
    assert at["change_frequency_ratio"] == {"1": None, "5": None, "10": None, "15": None}
    assert json.loads(json.dumps(tables.at_all_steps(detail(3)), allow_nan=False))["ssim"] == [101.0, 102.0, 103.0]


def test_a_distance_without_a_ratio_is_null() -> None:
    distance = Frechet(1.0, 0.5, 2.0, 20, "encoder")
    assert tables.plain(distance) == {
        "distance": 1.0,
        "real_distance": 0.5,
        "ratio": 2.0,
        "count": 20,
        "encoder": "encoder",
    }
    assert tables.plain(distance._replace(ratio=math.inf))["ratio"] is None


def test_a_table_has_a_line_for_each_horizon_and_film() -> None:
    lines = tables.markdown({"random_play": detail(6), "copy": detail(5)}).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [line[:2] for line in cells[2:]] == [
        ["1", "random_play"],
        ["1", "copy"],
        ["5", "random_play"],
        ["5", "copy"],
    ]
    assert len({len(line) for line in cells}) == 1
    assert cells[4][2:5] == ["5.0", "105.000", "205.000"]
    assert cells[4][-1] == "-"
    assert set(tables.COLUMNS) == set(Detail._fields)


# Fréchet distances


FRAMES = 20


def test_a_perfect_world_model_has_the_distance_of_real_frames(world: WorldModel, tmp_path: Path, monkeypatch) -> None:
    def truth(world: WorldModel, clip: Trajectory, context: int, seed: int, each_step: Callable[[], None]) -> Dreams:
        return Dreams(clip.obs[:, context - 1], clip.obs[:, context:], clip.obs[:, context:])

    monkeypatch.setattr(distances, "dream", truth)
    (perfect,) = distances.measure_frechet(world, CONFIG, tmp_path, FRAMES)
    assert perfect.ratio == pytest.approx(1)
    assert perfect.count == 20
    assert perfect.real_distance > 0  # other play: not the same frames


def test_real_frames_are_encoded_once(world: WorldModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = []
    (first,) = distances.measure_frechet(world, CONFIG, tmp_path, FRAMES, each_step=lambda: ticks.append(1))
    assert len(ticks) == distances.frechet_ticks(CONFIG, FRAMES) == 6  # 4 dreams: one group
    assert first.ratio > 1
    monkeypatch.setattr(distances, "statistics", distances.statistics)  # to be put back
    counted = spy(distances, "statistics")
    (again,) = distances.measure_frechet(world, CONFIG, tmp_path, FRAMES)
    assert again == first
    assert len(counted) == 1  # the imagined frames alone
    sticky = dataclasses.replace(CONFIG, atari=config.Atari(repeat_action_probability=0.25))
    distances.measure_frechet(world, sticky, tmp_path, FRAMES)
    assert len(counted) == 4  # another game has other frames


def test_the_contact_sheet_shows_a_dream_in_which_a_ball_flies_already() -> None:
    still, ball = torch.zeros(4, 7, 84, 84, dtype=torch.uint8), torch.full((2, 2), 200, dtype=torch.uint8)
    still[0, :, 30:32, 30:32] = ball  # rests
    for t in range(7):
        still[2, t, 40:42, 4 * t : 4 * t + 2] = ball  # flies
        if t > 0:
            still[1, t, 50:52, 4 * t : 4 * t + 2] = ball  # is served
    shown = Dreams(still[:, 0], still[:, 1:], still[:, 1:])
    assert figures._liveliest(shown) == 2


@pytest.mark.parametrize(("count", "chosen"), [(1, [0]), (4, [0, 1, 2, 3]), (19, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18])])
def test_of_many_checkpoints_some_are_pictured_from_the_first_to_the_last(count: int, chosen: list[int]) -> None:
    columns = [figures.Column(str(i), i, films(), detail(6)) for i in range(count)]
    assert [column.updates for column in figures._spread(columns)] == chosen
