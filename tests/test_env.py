"""The world model as a Gymnasium env: what it dreams, where dreams begin and end, and how it is opened."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from helpers import CPU, ENVIRONMENT, MEANINGS, TINY, expect, frames, generator, make_world, run_script, train
from playing import set_on_2

from adamas.config.files import load_config, save_config
from adamas.data.batch import Trajectory
from adamas.training import saved_env
from adamas.utils.errors import UserError
from adamas.utils.random import seeded
from adamas.world_model.gym_env import WorldModelEnv
from adamas.world_model.gym_vector_env import WorldModelVectorEnv
from adamas.world_model.parallel_rollouts import ParallelRollouts
from adamas.world_model.reward_end import CONTINUE, DIVERGED, TERMINATED
from adamas.world_model.world_model import WorldModel

N = 3  # context frames
POOL = 40
NAME = "adamas:WorldModel-v0"


def contexts(count: int = POOL, seed: int = 0) -> Trajectory:
    action = torch.randint(0, len(MEANINGS), (count, N - 1), generator=generator(seed))
    return Trajectory(frames(count, N, seed=seed), action)


def world_that_expects(end: int, reward: int | None = None) -> WorldModel:
    """The same frames each time. Without `reward` each reward is as likely."""
    made = make_world(N, predict_divergence=end == DIVERGED, actions=len(MEANINGS))
    expect(made, reward, end)
    return made


@pytest.fixture(scope="module")
def world() -> WorldModel:
    return world_that_expects(CONTINUE)


def single(world: WorldModel, horizon: int = 100) -> WorldModelEnv:
    return WorldModelEnv(ParallelRollouts(world, contexts(), 1, horizon), MEANINGS, "rgb_array")


def vector(world: WorldModel, count: int, horizon: int = 100) -> WorldModelVectorEnv:
    return WorldModelVectorEnv(count, ParallelRollouts(world, contexts(), count, horizon), MEANINGS, "rgb_array")


def play(env: WorldModelEnv, seed: int, steps: int) -> tuple[np.ndarray, list[float]]:
    frames, rewards = [env.reset(seed=seed)[0]], []
    for t in range(steps):
        obs, reward, *_ = env.step(t % 4)
        frames.append(obs)
        rewards.append(reward)
    return np.stack(frames), rewards


# What is dreamed


def test_it_dreams_what_the_world_model_says(world: WorldModel) -> None:
    env, given = single(world), contexts(1, seed=9)
    obs, _ = env.reset(seed=5, options={"context": (given.obs[0].numpy(), given.action[0].numpy())})
    assert np.array_equal(obs, given.obs[0, -1])

    state, generators = world.start(given), seeded([int(np_random(5)[0].integers(2**31))])
    for action in (1, 3, 0):
        state, prediction = world.step(state, torch.tensor([action]), generators)
        obs, reward, terminated, truncated, _ = env.step(action)
        assert np.array_equal(obs, prediction.obs[0])
        assert reward == prediction.reward[0]
        assert (terminated, truncated) == (False, False)


def test_a_dream_begins_with_a_stored_context(world: WorldModel) -> None:
    env, places = single(world), {frame.tobytes(): i for i, frame in enumerate(contexts().obs[:, -1].numpy())}
    begun = [places[env.reset(seed=s)[0].tobytes()] for s in range(30)]
    assert len(set(begun)) > 10
    assert min(begun) < POOL / 4 < 3 * POOL / 4 < max(begun)


def test_a_seed_fixes_a_dream(world: WorldModel) -> None:
    frames, rewards = play(single(world), 3, 5)
    again, rewards_again = play(single(world), 3, 5)
    assert np.array_equal(frames, again)
    assert rewards == rewards_again
    assert not np.array_equal(frames, play(single(world), 4, 5)[0])


def test_dreams_of_one_context_differ_by_their_noise(world: WorldModel) -> None:
    env, given = single(world), contexts(1)
    options = {"context": (given.obs[0].numpy(), given.action[0].numpy())}
    env.reset(seed=0, options=options)
    first = env.step(0)[0]
    env.reset(options=options)
    assert not np.array_equal(env.step(0)[0], first)


def test_env_i_of_a_vector_is_the_single_env_of_its_seed(world: WorldModel) -> None:
    envs = vector(world, 3)
    frames = [envs.reset(seed=7)[0]] + [envs.step(np.full(3, t % 4))[0] for t in range(4)]
    for i in range(3):
        alone, _ = play(single(world), 7 + i, 4)
        together = np.stack([obs[i] for obs in frames])
        assert np.array_equal(together[0], alone[0])
        assert np.abs(together.astype(int) - alone).max() <= 1  # other batch sizes round otherwise


def test_a_seed_an_env_and_none_at_all(world: WorldModel) -> None:
    envs = vector(world, 2)
    by_list, by_number = envs.reset(seed=[7, 8])[0], envs.reset(seed=7)[0]
    assert np.array_equal(by_list, by_number)
    assert np.array_equal(envs.reset(seed=[7, None])[0][0], by_number[0])
    with pytest.raises(ValueError, match="3 seeds for 2 envs"):
        envs.reset(seed=[1, 2, 3])


def test_a_dream_that_begins_anew_leaves_its_neighbours_alone(world: WorldModel) -> None:
    a, b = (ParallelRollouts(world, contexts(), 3, horizon=4) for _ in range(2))
    for rollouts in (a, b):
        rollouts.begin([0, 1, 2], [3, 4, 5])
        rollouts.step(torch.tensor([0, 1, 2]))
    before = a.state
    a.begin([1], [9])
    c = ParallelRollouts(world, contexts(), 3, horizon=4)
    c.begin([0, 1, 2], [9, 9, 9])
    for old, new, fresh in zip(before.hidden, a.state.hidden, c.state.hidden, strict=True):
        assert torch.equal(new[:, [0, 2]], old[:, [0, 2]])
        assert torch.allclose(new[:, 1], fresh[:, 1], atol=1e-3)
        assert not torch.allclose(new[:, 1], old[:, 1], atol=1e-2)
    for _ in range(2):
        here, there = a.step(torch.tensor([3, 3, 3])), b.step(torch.tensor([3, 3, 3]))
        assert torch.equal(here[0].obs[[0, 2]], there[0].obs[[0, 2]])
        assert not torch.equal(here[0].obs[1], there[0].obs[1])
    assert a.step(torch.tensor([0, 0, 0]))[1].tolist() == [True, False, True]  # the clock of the second began anew


def test_what_the_caller_does_to_a_frame_does_not_reach_the_dream(world: WorldModel) -> None:
    frames, _ = play(single(world), 3, 2)
    env = single(world)
    env.reset(seed=3)[0][:] = 0
    env.step(0)[0][:] = 0
    assert np.array_equal(env.step(1)[0], frames[2])


# Ends


def test_a_dream_has_steps(world: WorldModel) -> None:
    with pytest.raises(ValueError, match="horizon=0 and num_envs=2: at least one step"):
        vector(world, 2, horizon=0)


def test_the_horizon_truncates(world: WorldModel) -> None:
    env = single(world, horizon=3)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(0)
    env.reset()
    assert env.step(0)[2:4] == (False, False)


def test_a_predicted_end_terminates() -> None:
    env = single(world_that_expects(TERMINATED, reward=1), horizon=1)
    env.reset(seed=0)
    assert env.step(0)[1:4] == (1.0, True, False)
    with pytest.raises(ResetNeeded):
        env.step(0)


def test_a_dream_that_has_diverged_is_truncated() -> None:
    env = single(world_that_expects(DIVERGED, reward=1))
    env.reset(seed=0)
    assert env.step(0)[1:4] == (0.0, False, True)


def test_a_vector_begins_anew_in_the_same_step(world: WorldModel) -> None:
    envs, endless = vector(world, 2, horizon=2), vector(world, 2)
    endless.reset(seed=0)
    went_on = [endless.step(np.array([0, 1]))[0] for _ in range(2)]
    assert envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    envs.reset(seed=0)
    *_, infos = envs.step(np.array([0, 1]))
    assert infos == {}
    obs, reward, terminated, truncated, infos = envs.step(np.array([0, 1]))
    assert truncated.tolist() == [True, True]
    assert terminated.tolist() == [False, False]
    assert (reward.shape, obs.shape) == ((2,), (2, 84, 84))
    pool = {frame.tobytes() for frame in contexts().obs[:, -1].numpy()}
    assert all(frame.tobytes() in pool for frame in obs)
    assert np.array_equal(np.stack(infos["final_obs"]), went_on[1])
    assert infos["_final_obs"].tolist() == [True, True]
    assert envs.step(np.array([0, 0]))[3].tolist() == [False, False]


def test_a_vector_terminates_too() -> None:
    envs = vector(world_that_expects(TERMINATED, reward=1), 2)
    envs.reset(seed=0)
    _, reward, terminated, truncated, _ = envs.step(np.array([0, 1]))
    assert (reward.tolist(), terminated.tolist(), truncated.tolist()) == ([1, 1], [True, True], [False, False])


# What may go wrong


@pytest.mark.parametrize(
    ("obs", "action", "words"),
    [
        (np.zeros((N + 1, 84, 84), np.uint8), np.zeros(N - 1, int), r"must have uint8 \(1, 3, 84, 84\)"),
        (np.zeros((N, 84, 84), np.float32), np.zeros(N - 1, int), "float32"),
        (np.zeros((N, 84, 84), np.uint8), np.zeros(N, int), r"\(1, 2\)"),
        (np.zeros((N, 84, 84), np.uint8), np.array([0, 4]), r"not in 0\.\.3"),
    ],
)
def test_a_wrong_context_is_told(world: WorldModel, obs: np.ndarray, action: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        single(world).reset(options={"context": (obs, action)})


def test_contexts_of_a_vector(world: WorldModel) -> None:
    envs, given = vector(world, 2), contexts(2, seed=9)
    obs, _ = envs.reset(options={"context": (given.obs.numpy(), given.action.numpy())})
    assert np.array_equal(obs, given.obs[:, -1])


def test_a_wrong_action_is_told(world: WorldModel) -> None:
    env, envs = single(world), vector(world, 2)
    with pytest.raises(ResetNeeded):
        env.step(0)
    with pytest.raises(ResetNeeded):
        envs.step(np.array([0, 0]))
    env.reset()
    envs.reset()
    with pytest.raises(InvalidAction, match=r"action 4 is not in 0\.\.3"):
        env.step(4)
    with pytest.raises(InvalidAction, match="are not 2 numbers"):
        envs.step(np.array([0, 4]))
    with pytest.raises(InvalidAction, match="are not 2 numbers"):
        envs.step(np.array([0.7, 1.9]))


def test_what_is_shown_is_the_frame(world: WorldModel) -> None:
    env, envs = single(world), vector(world, 2)
    obs, _ = env.reset(seed=0)
    assert np.array_equal(env.render(), np.stack([obs] * 3, axis=-1))
    obs, _ = envs.reset(seed=0)
    assert np.array_equal(np.stack(envs.render())[..., 0], obs)
    assert WorldModelEnv(ParallelRollouts(world, contexts(), 1, 9), MEANINGS).render() is None


def test_keys_are_those_of_ale_py() -> None:
    real = gymnasium.make("ALE/Seaquest-v5").unwrapped  # it has all 18 actions
    env = WorldModelEnv.__new__(WorldModelEnv)
    env._action_meanings = real.get_action_meanings()
    theirs = {frozenset(keys): action for keys, action in real.get_keys_to_action().items() if keys != ("e",)}
    assert {frozenset(keys): action for keys, action in env.get_keys_to_action().items()} == theirs
    assert len(theirs) == 17


# A run folder, opened by Gymnasium


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("env=Breakout", *TINY, cwd=tmp_path_factory.mktemp("tiny"))


def test_importing_adamas_registers_and_is_light() -> None:
    code = f"import adamas, gymnasium, sys; gymnasium.spec('{NAME.partition(':')[2]}'); print({{'torch', 'cv2'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_gymnasium_finds_nothing_wrong(run: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(NAME, run=run, horizon=20, render_mode="rgb_array")
        check_env(env.unwrapped)
    assert env.unwrapped.get_action_meanings() == list(MEANINGS)


def test_a_vector_of_a_run_counts_episodes(run: Path) -> None:
    envs = RecordEpisodeStatistics(gymnasium.make_vec(NAME, num_envs=3, run=str(run), horizon=4))
    envs.action_space.seed(0)
    envs.reset(seed=0)
    for _ in range(4):
        *_, terminated, truncated, infos = envs.step(envs.action_space.sample())
        ended = np.flatnonzero(terminated | truncated)
        assert all(infos["episode"]["l"][i] <= 4 for i in ended)
    assert envs.episode_count >= 3


def test_without_its_replay_a_run_plays_the_game_for_contexts(run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "agent"
    shutil.copytree(run, bare, ignore=shutil.ignore_patterns("replay"))
    starts = saved_env.open_world(bare, CPU).starts
    assert starts.obs.shape == (saved_env.PLAYED, 4, 84, 84)
    assert starts.action.shape == (saved_env.PLAYED, 3)
    assert len(starts.obs.flatten(1).unique(dim=0)) == saved_env.PLAYED
    assert len(starts.action.unique()) > 1
    again = saved_env.open_world(bare, CPU).starts
    assert torch.equal(starts.obs, again.obs)


def test_it_is_the_averaged_policy_that_plays_for_contexts(made_run: Path, tmp_path: Path) -> None:
    run = set_on_2(made_run, tmp_path / "averaged")
    shutil.rmtree(run / "replay")
    assert (saved_env.open_world(run, CPU).starts.action == 2).all()


def test_contexts_come_from_the_replay(run: Path) -> None:
    starts = saved_env.open_world(run, CPU).starts
    rows = {frame.tobytes() for file in (run / "replay").glob("*.npz") for frame in np.load(file)["obs"]}
    assert all(frame.tobytes() in rows for frame in starts.obs[:, -1].numpy())


def test_a_run_that_cannot_be_opened_is_told(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        gymnasium.make(NAME, run=tmp_path)
    shutil.copytree(run, tmp_path / "free")
    settings = tmp_path / "free" / "config.yaml"
    save_config(replace(load_config(settings), policy="model_free"), settings)
    with pytest.raises(UserError, match="no world model"):
        gymnasium.make(NAME, run=tmp_path / "free")


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(run, tmp_path / "run")
    newest = max((tmp_path / "run" / "checkpoints").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    gymnasium.make(NAME, run=tmp_path / "run")
    assert "is damaged" in capsys.readouterr().err


def test_a_person_can_play_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame", reason="needs pygame: pip install 'gymnasium[classic-control]'")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    import pygame
    from gymnasium.utils.play import play as by_hand

    seen = []

    def callback(before, after, action, *_) -> None:
        seen.append((action, after))
        key = pygame.KEYDOWN if len(seen) == 1 else pygame.KEYUP
        pygame.event.post(pygame.event.Event(key, key=ord("d"), mod=0, unicode="d"))
        if len(seen) == 4:
            pygame.event.post(pygame.event.Event(pygame.QUIT))

    by_hand(gymnasium.make(NAME, run=run, render_mode="rgb_array"), callback=callback, fps=100, zoom=2)
    assert [action for action, _ in seen] == [0, MEANINGS.index("RIGHT"), 0, 0]


@pytest.mark.slow
def test_stable_baselines_trains_in_it(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3", reason="needs the extra sb3")
    arguments = ["--minutes", "0.02", "--envs", "2", "--horizon", "8", "--rollout", "8", "--games", "1"]
    done = run_script("studies/sb3_ppo.py", str(run), *arguments, "--device", "cpu", "--out", str(tmp_path / "a.zip"))
    assert done.returncode == 0, done.stderr
    assert "dreamed steps; reward of the last" in done.stdout
    assert "mean return of 1 full games" in done.stdout
    assert (tmp_path / "a.zip").is_file()
    done = run_script("studies/sb3_ppo.py", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n"), done.stderr[:6]) == (2, 1, "error:")
