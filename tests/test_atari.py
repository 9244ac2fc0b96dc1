"""The real emulator against ale-py's own vector env, against itself frame by frame, and against its own saved states."""

from __future__ import annotations

import functools
import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import NamedTuple

import ale_py
import cv2
import numpy as np
import pytest
import torch
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env
from helpers import mostly_slow

from adamas.config import Atari
from adamas.envs import atari
from adamas.envs.atari import AtariEnv, Emulator, check_game, game_names, make_vector_env
from adamas.utils.errors import UserError

ROMS = {  # the Atari 100k games
    "Alien": "alien",
    "Amidar": "amidar",
    "Assault": "assault",
    "Asterix": "asterix",
    "BankHeist": "bank_heist",
    "BattleZone": "battle_zone",
    "Boxing": "boxing",
    "Breakout": "breakout",
    "ChopperCommand": "chopper_command",
    "CrazyClimber": "crazy_climber",
    "DemonAttack": "demon_attack",
    "Freeway": "freeway",
    "Frostbite": "frostbite",
    "Gopher": "gopher",
    "Hero": "hero",
    "Jamesbond": "jamesbond",
    "Kangaroo": "kangaroo",
    "Krull": "krull",
    "KungFuMaster": "kung_fu_master",
    "MsPacman": "ms_pacman",
    "Pong": "pong",
    "PrivateEye": "private_eye",
    "Qbert": "qbert",
    "RoadRunner": "road_runner",
    "Seaquest": "seaquest",
    "UpNDown": "up_n_down",
}
STICKY = Atari(repeat_action_probability=0.25)
STEPS = 120  # of random play in each of the games
QUICK_DEATHS = ("Breakout", "RoadRunner", "Qbert")  # whole games of random play take 100 to 500 steps
LONG_RUNS = (*QUICK_DEATHS, "BankHeist")  # BankHeist reports 0 lives while the last one goes on
# Those that are always tried: with lives and without, with rewards and without.
FEW = ("BankHeist", "Breakout", "Freeway", "Pong", "UpNDown")


def without_noops(env: AtariEnv) -> AtariEnv:
    """Its games begin at once: what follows a reset depends on the seed alone."""
    start = env._emulator.start
    env._emulator.start = lambda seed, noops: start(seed, 0)
    return env


def random_actions(env: AtariEnv, steps: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(env.action_space.n, size=steps).tolist()


def game_seed(env: AtariEnv) -> int:
    return env.state_dict()["emulator"]["seed"]


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Seen(NamedTuple):
    """All that an agent sees of a step, and of the reset before it if there was one."""

    start: bytes | None
    obs: bytes
    reward: float
    terminated: bool
    truncated: bool
    info: dict

    @property
    def ends(self) -> bool:
        return self.terminated or self.truncated


def play(env: AtariEnv, reset: bool, action: int) -> Seen:
    start = env.reset()[0].tobytes() if reset else None
    obs, *outcome = env.step(action)
    return Seen(start, obs.tobytes(), *outcome)


class Run:
    """A run of random play; the env is saved before every step of which `save(step, seen so far)` is true."""

    def __init__(self, env: AtariEnv, steps: int, save: Callable[[int, list[Seen]], bool] = lambda step, seen: False):
        self.episodic_life = env.episodic_life
        self.actions, self.seen, self.seeds, self.saved = random_actions(env, steps), [], [], {}
        for step, action in enumerate(self.actions):
            if save(step, self.seen):
                self.saved[step] = through_a_file(env.state_dict())
            self.seen.append(play(env, self.resets(step), action))
            self.seeds.append(game_seed(env))

    def resets(self, step: int) -> bool:
        return step == 0 or self.seen[step - 1].ends

    def starts_game(self, step: int) -> bool:
        return step == 0 or self.seeds[step] != self.seeds[step - 1]

    def lives_lost(self) -> int:
        return sum(seen.terminated and not seen.info["game_over"] for seen in self.seen)

    def games_over(self) -> int:
        return sum(seen.info["game_over"] for seen in self.seen)

    def assert_goes_on(self, env: AtariEnv, step: int, steps: int) -> None:
        """Loads what was saved before `step` and plays the next `steps` again."""
        env.load_state_dict(self.saved[step])
        for t in range(step, min(step + steps, len(self.actions))):
            assert play(env, self.resets(t), self.actions[t]) == self.seen[t]


# --- against AtariVectorEnv


@functools.cache
def run_of(game: str, episodic_life: bool) -> Run:
    env = without_noops(AtariEnv(game, STICKY, episodic_life=episodic_life))
    env.np_random = np.random.default_rng(0)  # as reset(seed=...) would, but without a game of its own
    return Run(env, 4 * STEPS if game in LONG_RUNS else STEPS, save=lambda step, seen: step == STEPS // 2)


def assert_bit_identical(runs: tuple[Run, ...], vector: AtariVectorEnv) -> None:
    """The vector env agrees with `runs`, which share actions and seeds, on all but the frames at the end of a game, and the
    end of the last but one life in games that report 0 lives while the last one goes on: to the vector env that is none.

    In a run whose lives are not episodes only the end of a game is one.
    """
    last, lives = None, 0
    for step, action in enumerate(runs[0].actions):
        if runs[0].starts_game(step):
            obs, info = vector.reset(seed=np.array([runs[0].seeds[step]]))
            last, lives = obs.tobytes(), info["lives"][0]
        starts = [run.seen[step].start for run in runs]
        obs, rewards, terminations, truncations, info = vector.step(np.array([action]))
        lives_before, lives = lives, info["lives"][0]
        over = terminations[0] and lives == 0
        for run, start, seen in zip(runs, starts, (run.seen[step] for run in runs), strict=True):
            assert start == (last if run.resets(step) else None)  # after a lost life: the frame of the step before
            terminated = (terminations[0] or lives == 0 < lives_before) if run.episodic_life else over
            assert (seen.reward, seen.terminated, seen.truncated) == (rewards[0], terminated, truncations[0])
            assert seen.info["lives"] == lives
            assert seen.obs == obs.tobytes() or seen.info["game_over"]
            assert seen.info["game_over"] == over
        last = obs.tobytes()


@pytest.mark.parametrize("game", mostly_slow(ROMS, FEW))
def test_it_is_bit_identical_to_the_vector_env(game):
    vector = AtariVectorEnv(
        ROMS[game],
        1,
        repeat_action_probability=0.25,
        stack_num=1,
        noop_max=0,
        life_loss_info=True,
        reward_clipping=False,
        use_fire_reset=False,
    )
    assert_bit_identical((run_of(game, episodic_life=True), run_of(game, episodic_life=False)), vector)


@pytest.mark.parametrize("game", QUICK_DEATHS)
def test_full_games_are_bit_identical_to_the_vector_env_of_evaluation(game, monkeypatch):
    run = run_of(game, episodic_life=False)
    monkeypatch.setattr(atari, "NOOP_MAX", 0)
    assert_bit_identical((run,), make_vector_env(game, 1, STICKY))


@pytest.mark.slow
def test_many_of_the_runs_above_lose_lives():
    assert sum(run_of(game, episodic_life=True).lives_lost() > 0 for game in ROMS) >= 8


def test_the_runs_above_lose_lives_and_games():
    last_lives = [seen for seen in run_of("BankHeist", episodic_life=True).seen if seen.info["lives"] == 0]
    assert last_lives[0].terminated, "the last but one life is over"
    assert any(not seen.ends for seen in last_lives)
    for game in QUICK_DEATHS:
        assert run_of(game, episodic_life=True).lives_lost() > 1
        assert run_of(game, episodic_life=True).games_over() == run_of(game, episodic_life=False).games_over() > 0
        assert run_of(game, episodic_life=False).lives_lost() == 0


def test_vector_env_plays_full_games_with_unclipped_rewards():
    vector = make_vector_env("Qbert", 2, Atari())
    obs, info = vector.reset(seed=0)
    assert obs.shape == (2, 1, 84, 84)
    rng, lives, largest_reward, over = np.random.default_rng(0), info["lives"], 0, np.zeros(2, bool)
    while not over.all():
        _, rewards, terminated, truncated, info = vector.step(rng.integers(6, size=2))
        assert (info["lives"][terminated] == 0).all()
        assert not truncated.any()
        largest_reward, over = max(largest_reward, *rewards), over | terminated
    assert (lives > 1).all()
    assert largest_reward >= 25  # a cube of Qbert


# --- against the raw emulator, frame by frame


class Raw:
    """ALE without any preprocessing: the frames of a game one by one."""

    def __init__(self, game: str, seed: int) -> None:
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(roms.get_rom_path(ROMS[game]))
        self.ale.reset_game()
        self.actions = self.ale.getMinimalActionSet()

    def frames(self, action: int, count: int) -> list[np.ndarray]:
        """Up to `count` frames: as many as the game still has."""
        frames = []
        while len(frames) < count and not self.ale.game_over():
            self.ale.act(self.actions[action])
            frames.append(self.ale.getScreenGrayscale())
        return frames

    def colours(self, action: int) -> np.ndarray:
        """The next frame, uint8 (210, 160, 3)."""
        self.ale.act(self.actions[action])
        return self.ale.getScreenRGB()


def resized(frame: np.ndarray) -> np.ndarray:
    return cv2.resize(frame, (84, 84), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("game", QUICK_DEATHS)
def test_every_frame_is_fresh_and_the_last_one_of_a_game_is_the_last_one_of_the_emulator(game):
    env = without_noops(AtariEnv(game, Atari(), episodic_life=True))
    env.reset(seed=0)
    raw = Raw(game, game_seed(env))
    lost = 0
    for action in random_actions(env, steps=1000, seed=1):  # with which the games end on the last frame of a step
        obs, _, terminated, _, info = env.step(action)
        frames = raw.frames(action, count=4)
        assert info["game_over"] == raw.ale.game_over()
        if info["game_over"]:
            assert np.array_equal(obs, resized(frames[-1]))
            break
        assert np.array_equal(obs, resized(np.maximum(frames[-2], frames[-1])))
        if terminated:
            lost += 1
            env.reset()
    assert info["game_over"]
    assert lost > 0


def ball_mass(frames: np.ndarray) -> np.ndarray:
    """The sum over |grey - background| between the bricks and the paddle, where nothing but the ball ever moves: (N,)."""
    frames = frames.astype(float)
    top, bottom = 95 * frames.shape[1] // 210, 185 * frames.shape[1] // 210  # both are whole pixels at 84 too
    return np.abs(frames - np.median(frames, axis=0))[:, top:bottom].sum(axis=(1, 2))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_greyscale_and_resize_keep_the_ball_of_breakout(seed):
    """Its mass in colour on the emulator's own screen, and in the frames of the agent, whose pixels are larger.

    Over these games the two differ by 1.1 % at most, which is the rounding of its 4 to 9 pixels.
    """
    env = without_noops(AtariEnv("Breakout", Atari(), episodic_life=False))
    obs, _ = env.reset(seed=seed)
    raw = Raw("Breakout", game_seed(env))
    screens, frames = [], []
    for action in random_actions(env, steps=400, seed=seed):
        obs, _, terminated, _, _ = env.step(action)
        if terminated:
            break
        colours = [raw.colours(action) for _ in range(4)][-2:]
        screens.append(np.max([colour @ (0.299, 0.587, 0.114) for colour in colours], axis=0))
        frames.append(obs)
    before, after = ball_mass(np.stack(screens)), ball_mass(np.stack(frames)) * (210 * 160) / (84 * 84)
    there = before > 0
    assert 50 < there.sum() < len(there)
    assert np.array_equal(after > 0, there)
    np.testing.assert_allclose(after[there], before[there], rtol=0.02)


def test_noops_are_frames_without_action_before_the_first_frame(monkeypatch):
    monkeypatch.setattr(atari, "NOOP_MAX", 2)
    env = AtariEnv("Breakout", Atari(), episodic_life=False)
    seen = set()
    for seed in range(8):
        obs, _ = env.reset(seed=seed)
        noops = env.state_dict()["emulator"]["noops"]
        if noops not in seen:
            raw = Raw("Breakout", game_seed(env))
            assert np.array_equal(obs, resized(raw.frames(0, noops)[-1]))
        seen.add(noops)
    assert seen == {1, 2}


def test_noops_of_the_vector_env_are_at_most_as_many(monkeypatch):
    monkeypatch.setattr(atari, "NOOP_MAX", 2)
    frames = make_vector_env("Breakout", 16, Atari()).reset(seed=0)[1]["episode_frame_number"]
    assert set(frames - frames.min()) == {0, 1, 2}


# --- saving and loading


@pytest.mark.parametrize("game", mostly_slow(ROMS, FEW))
def test_a_loaded_env_goes_on_as_the_saved_one(game):
    other = without_noops(AtariEnv(game, STICKY, episodic_life=True))
    run_of(game, episodic_life=True).assert_goes_on(other, STEPS // 2, steps=50)


@pytest.mark.parametrize(
    ("game", "episodic_life", "cap"),
    [("Breakout", True, 200), ("RoadRunner", False, 190), pytest.param("Qbert", True, 100, marks=pytest.mark.slow)],
)
def test_a_loaded_env_goes_on_from_every_kind_of_moment(game, episodic_life, cap):
    config = Atari(repeat_action_probability=0.25, max_episode_steps=cap)
    moments = {}

    def is_first_of_its_kind(step: int, seen: list[Seen]) -> bool:
        kind = (
            "before the first reset"
            if step == 0
            else (*seen[-1][3:5], seen[-1].info["game_over"], bool(seen[-1].start))
        )
        return moments.setdefault(kind, step) == step

    env = AtariEnv(game, config, episodic_life=episodic_life)
    env.np_random = np.random.default_rng(0)
    run = Run(env, steps=500, save=is_first_of_its_kind)
    other = AtariEnv(game, config, episodic_life=episodic_life)
    for step in run.saved:
        run.assert_goes_on(other, step, steps=110)
    over = (True, False, True, False) if game != "Qbert" else (False, True, False, False)  # or cut short by the cap
    assert moments.keys() >= {"before the first reset", (False, False, False, False), (False, False, False, True), over}
    assert ((True, False, False, False) in moments) == episodic_life  # a lost life


def test_saving_changes_nothing_and_a_saved_state_does_not_change():
    saved, plain = (AtariEnv("Breakout", STICKY, episodic_life=True) for _ in range(2))
    for env in (saved, plain):
        env.reset(seed=3)
    state = saved.state_dict()
    for action in random_actions(saved, 20):
        saved.state_dict()
        assert play(saved, False, action) == play(plain, False, action)
    assert len(state["emulator"]["actions"]) == 0


def test_a_state_of_another_game_or_another_kind_of_step_is_refused(monkeypatch):
    state = AtariEnv("Pong", Atari(), episodic_life=True).state_dict()
    with pytest.raises(UserError, match="game=Pong, this run game=Breakout"):
        AtariEnv("Breakout", Atari(), episodic_life=True).load_state_dict(state)
    with pytest.raises(UserError, match=r"probability=0\.0, this run repeat_action_probability=0\.25"):
        AtariEnv("Pong", STICKY, episodic_life=True).load_state_dict(state)
    monkeypatch.setattr(atari, "FRAME_SKIP", 3)
    with pytest.raises(UserError, match="frame_skip=4, this run frame_skip=3"):
        AtariEnv("Pong", Atari(), episodic_life=True).load_state_dict(state)


def test_a_game_that_plays_differently_is_refused():
    env = AtariEnv("Breakout", Atari(), episodic_life=True)
    env.reset(seed=0)
    for action in (1, 2, 2, 2, 2):
        env.step(action)
    state = env.state_dict()
    state["emulator"]["actions"][2] = 3
    with pytest.raises(UserError, match="plays differently"):
        env.load_state_dict(state)


# --- the episode contract


def test_gymnasium_checks_it():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(not set|different from the unwrapped|spec).*")
        check_env(AtariEnv("Breakout", Atari(), episodic_life=True, render_mode="rgb_array"))


def test_it_renders_the_screen_in_colour_when_asked_to():
    env = AtariEnv("Breakout", Atari(), episodic_life=True, render_mode="rgb_array")
    env.reset(seed=0)
    screen = env.render()
    assert screen.shape == (210, 160, 3)
    assert tuple(screen[60, 80]) == (200, 72, 72), "the red bricks"
    assert AtariEnv("Breakout", Atari(), episodic_life=True).render() is None


def test_before_its_first_reset_it_can_be_saved_and_rendered():
    fresh = AtariEnv("Breakout", Atari(), episodic_life=True, render_mode="rgb_array")
    assert fresh.render().shape == (210, 160, 3)
    loaded = AtariEnv("Breakout", Atari(), episodic_life=True)
    loaded.load_state_dict(AtariEnv("Breakout", Atari(), episodic_life=True).state_dict())
    with pytest.raises(ResetNeeded):
        loaded.step(0)
    assert np.array_equal(loaded.reset(seed=3)[0], fresh.reset(seed=3)[0])


def test_the_seed_decides_the_run():
    runs = []
    for seed in (0, 0, 1):
        env = AtariEnv("Breakout", STICKY, episodic_life=False)
        env.reset(seed=seed)
        runs.append(Run(env, steps=300))
    assert runs[0].seen == runs[1].seen
    assert runs[0].seen != runs[2].seen
    assert runs[0].games_over() > 0  # so that the seed of a second game counts too


def test_every_game_has_its_own_seed_and_a_seed_ends_the_game():
    env = AtariEnv("Breakout", Atari(), episodic_life=True)
    env.reset(seed=0)
    seeds = [game_seed(env)]
    for _ in range(2):
        env.reset()
        seeds.append(game_seed(env))
    assert len(set(seeds)) == 3
    env.reset(seed=0)
    assert game_seed(env) == seeds[0]


def steps_to_first_lost_life(seed: int) -> int:
    env = AtariEnv("Breakout", Atari(), episodic_life=True)
    env.reset(seed=seed)
    return 1 + next(t for t, action in enumerate(random_actions(env, 500)) if env.step(action)[2])


def test_a_lost_life_goes_on_unless_there_is_a_seed():
    env = AtariEnv("Breakout", Atari(), episodic_life=True)
    for seed in (None, 7):
        _, start = env.reset(seed=0)
        before = game_seed(env)
        for action in random_actions(env, steps_to_first_lost_life(seed=0)):
            *_, terminated, truncated, info = env.step(action)
        assert (terminated, truncated, info) == (True, False, {"lives": start["lives"] - 1, "game_over": False})
        _, after = env.reset(seed=seed)
        assert (game_seed(env) == before) == (after["lives"] < start["lives"]) == (seed is None)


def test_the_step_cap_counts_the_steps_of_a_game_and_not_of_a_life():
    cap = steps_to_first_lost_life(seed=0) + 5
    env = AtariEnv("Breakout", Atari(max_episode_steps=cap), episodic_life=True)
    env.reset(seed=0)
    seed, ends = game_seed(env), []
    for action in random_actions(env, cap):
        _, _, terminated, truncated, _ = env.step(action)
        ends.append((terminated, truncated))
        if terminated:
            env.reset()
    assert ends[-1] == (False, True)
    assert sum(truncated for _, truncated in ends) == 1
    env.reset()
    assert game_seed(env) != seed


def test_a_life_lost_at_the_step_cap_ends_the_game_too():
    cap = steps_to_first_lost_life(seed=0)
    env = AtariEnv("Breakout", Atari(max_episode_steps=cap), episodic_life=True)
    env.reset(seed=0)
    seed = game_seed(env)
    for action in random_actions(env, cap):
        *_, terminated, truncated, info = env.step(action)
    assert (terminated, truncated, info["game_over"]) == (True, True, False)
    env.reset()
    assert game_seed(env) != seed


def test_the_step_cap_of_the_vector_env_is_the_same():
    vector = make_vector_env("Pong", 1, Atari(max_episode_steps=9))
    vector.reset(seed=0)
    assert [bool(vector.step(np.array([0]))[3][0]) for _ in range(9)] == [False] * 8 + [True]


def test_a_step_outside_an_episode_and_an_unknown_action_are_refused():
    env = AtariEnv("Breakout", Atari(max_episode_steps=1), episodic_life=True)
    with pytest.raises(ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    for action in (-1, 4):
        with pytest.raises(InvalidAction, match=r"0\.\.3: NOOP, FIRE, RIGHT, LEFT"):
            env.step(action)
    env.step(0)
    with pytest.raises(ResetNeeded):
        env.step(0)


# --- games


def test_all_games_are_known():
    assert len(game_names()) == 104
    assert set(ROMS) < set(game_names())
    assert not {"Combat", "Joust", "MazeCraze", "Warlords"} & set(game_names())  # for two players only


@pytest.mark.slow
@pytest.mark.parametrize("game", sorted(set(game_names()) - set(ROMS)))
def test_every_other_game_runs(game):
    emulator = Emulator(game, repeat_action_probability=0.0)
    emulator.start(seed=0, noops=0)
    frames = [emulator.obs()]
    for action in range(len(emulator.action_meanings)):
        emulator.play(action)
        frames.append(emulator.obs())
    assert all(frame.shape == (84, 84) and frame.dtype == np.uint8 for frame in frames)
    assert not emulator.over


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Brekout", "did you mean Breakout?"),
        ("breakout", "did you mean Breakout?"),
        ("ms_pacman", "did you mean MsPacman?"),
        ("ALE/Pong-v5", "did you mean Pong?"),
        ("xyzzy", "104 games are known, such as Breakout, MsPacman and Pong"),
    ],
)
def test_an_unknown_game_gets_a_hint(name, hint):
    for attempt in (check_game, lambda name: AtariEnv(name, Atari(), episodic_life=True)):
        with pytest.raises(UserError) as error:
            attempt(name)
        assert str(error.value) == f"unknown game '{name}': {hint}"


def test_known_games_pass():
    for name in game_names():
        check_game(name)


def test_the_emulator_is_quiet():
    code = "import adamas.envs.atari as a; from adamas.config import Atari; a.AtariEnv('Pong', Atari(), episodic_life=True).reset(seed=0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
