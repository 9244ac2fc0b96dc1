"""Envs that are no Atari game: what of them becomes frames and actions, what is refused, and runs that stop and go on."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pixel_games
import pytest
import torch
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.spaces import MultiDiscrete
from gymnasium.utils.env_checker import check_env as checked_by_gymnasium
from helpers import (
    ALWAYS,
    SELDOM,
    TINY,
    adamas,
    change_config,
    final_parts,
    launch,
    mostly_slow,
    only_run,
    same,
    train,
    wait_for_saves,
)
from pixel_games import SIDE, Square

from adamas.config import Atari, Config
from adamas.data.frames import to_frame
from adamas.envs.actions import count_actions
from adamas.envs.atari import game_names
from adamas.envs.keys import keys_of_actions
from adamas.envs.make import action_meanings, canonical, check_env, is_atari, make_env, make_vector_env
from adamas.evaluation.games import UniformPlay, play_games
from adamas.play.keys import action_of, used
from adamas.play.load import open_agent
from adamas.play.real_env import RealEnv
from adamas.play.session import Session, first_settings
from adamas.play.settings import Options
from adamas.training.load_run import SavedRun
from adamas.utils.errors import UserError


def config(name: str, limit: int = 27_000, **kwargs: Any) -> Config:
    return Config(env=f"pixel_games:{name}-v0", env_kwargs=kwargs or None, atari=Atari(max_episode_steps=limit))


def play(env: Any, steps: int, seed: int = 0) -> list[Any]:
    """All that is seen of random play that goes on with the episode that runs."""
    seen: list[Any] = []
    for action in np.random.default_rng(seed).integers(env.action_space.n, size=steps).tolist():
        obs, *outcome = env.step(action)
        seen.append((obs.tobytes(), *outcome))
        if outcome[1] or outcome[2]:
            seen.append(env.reset()[0].tobytes())
    return seen


# Frames


@pytest.mark.parametrize("name", ["Hw", "Hw1", "Hwc", "Chw", "Rendered"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_pictures_of_every_layout_become_the_same_frames(name: str, dtype: str) -> None:
    if name == "Rendered" and dtype != "uint8":
        pytest.skip("it observes numbers")
    kwargs = {} if name == "Rendered" else {"dtype": dtype}
    env, plain = make_env(config(name, **kwargs)), Square("hwc")
    obs, _ = env.reset(seed=3)
    plain.reset(seed=env.state_dict()["seed"])
    for action in (0, 1, 2, 2):
        picture = plain.picture()
        grey = picture[..., 0] if name in ("Hw", "Hw1") else picture
        assert obs.dtype == np.uint8
        assert np.array_equal(obs, to_frame(grey))
        obs, reward, *_ = env.step(action)
        assert reward == plain.step(action)[1]


def test_a_small_picture_is_enlarged_to_squares_and_a_large_one_averaged() -> None:
    small = np.zeros((21, 21), np.uint8)
    small[5, 6] = 200
    shown = to_frame(small)
    assert shown.shape == (84, 84)
    assert (shown[20:24, 24:28] == 200).all()
    assert shown.sum() == 16 * 200
    large = np.arange(168 * 168, dtype=np.int64).reshape(168, 168) % 251
    mean = large.reshape(84, 2, 84, 2).mean((1, 3))
    assert np.abs(to_frame(large.astype(np.uint8)) - mean).max() <= 1
    assert to_frame(np.full((84, 84, 3), 77, np.uint8)).tolist() == [[77] * 84] * 84


def test_what_a_player_sees_is_in_colour() -> None:
    env = make_env(config("Hwc"), render_mode="rgb_array")
    env.reset(seed=0)
    shown = env.render()
    assert shown is not None
    assert shown.shape == (SIDE, SIDE, 3)
    assert len({tuple(pixel) for pixel in shown.reshape(-1, 3).tolist()}) == 2
    assert make_env(config("Hwc")).render() is None


def test_it_keeps_to_the_interface_of_gymnasium() -> None:
    made = make_env(config("Hwc"), render_mode="rgb_array")
    assert isinstance(made, gymnasium.Env)
    checked_by_gymnasium(made, skip_render_check=True)
    with pytest.raises(InvalidAction):
        made.step(3)
    with pytest.raises(ResetNeeded):
        make_env(config("Hwc")).step(0)


# Actions and keys


def test_several_choices_are_one_action_each_combination() -> None:
    assert action_meanings(config("Two")) == ("0 0", "0 1", "1 0", "1 1", "2 0", "2 1")
    env, plain = make_env(config("Two")), Square()
    env.reset(seed=0)
    plain.reset(seed=env.state_dict()["seed"])
    plain.direction = lambda action: 2  # type: ignore[method-assign]
    assert np.array_equal(env.step(5)[0], to_frame(plain.step(0)[0]))


def test_actions_that_do_not_begin_at_0_and_what_they_are_called() -> None:
    assert action_meanings(config("Late")) == ("wait (NOOP)", "back (LEFT)", "move_right")
    env = make_env(config("Late"))
    env.reset(seed=0)
    env.step(0)
    assert keys_of_actions(env.action_meanings) == [frozenset(), {"LEFT"}, {"RIGHT"}]


@pytest.mark.parametrize(
    ("meanings", "keys"),
    [
        (("NOOP", "FIRE", "UPRIGHT", "DOWNLEFTFIRE"), ["", "FIRE", "UP RIGHT", "DOWN FIRE LEFT"]),
        (("0", "1", "2"), ["0", "1", "2"]),
        (("noop", "move_left", "do", "look_left", "upgrade"), ["", "LEFT", "1", "2", "3"]),
        (("0 0", "0 1", "1 0"), ["1", "2", "3"]),
        (tuple(f"thing {letter}" for letter in "abcdefghijkl"), [*"1234567890", "", ""]),
    ],
)
def test_keys_are_told_from_the_names_of_the_actions(meanings: tuple[str, ...], keys: list[str]) -> None:
    assert [" ".join(sorted(held)) for held in keys_of_actions(meanings)] == [" ".join(sorted(k.split())) for k in keys]
    for action, held in enumerate(keys_of_actions(meanings)):
        assert not held or action_of([*held], meanings) == action
    assert {key for held in keys_of_actions(meanings) for key in held} == {*used(meanings)}


def test_the_keys_of_atari_games_are_the_words_of_their_actions() -> None:
    for game in ("Breakout", "MsPacman", "Boxing", "Enduro"):
        names = action_meanings(Config(env=game))
        words = ("UP", "DOWN", "LEFT", "RIGHT", "FIRE")
        assert keys_of_actions(names) == [frozenset(word for word in words if word in name) for name in names]


# What is refused, and the names of envs


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"env": "pixel_games:Blind-v0"}, "shows no pixels: its observations are Box(-1.0, 1.0, (4,), float32)"),
        (
            {"env": "pixel_games:Steered-v0"},
            "adamas needs a Discrete or MultiDiscrete one: set env_kwargs={continuous:false}",
        ),
        ({"env": "Pendulum-v1"}, "has the action space Box(-2.0, 2.0, (1,), float32), and adamas needs"),
        ({"env": "pixel_games:Many-v0"}, "has 400 actions: the most is 256"),
        ({"env": "pixel_games:Hwcc-v0"}, "is not known: did you mean pixel_games:Hwc-v0?"),
        ({"env": "pixel_games:Nothing/AtAll-v0"}, "importing pixel_games registers no Nothing/AtAll-v0"),
        ({"env": "CartPoel-v1"}, "did you mean CartPole-v1?"),
        ({"env": "CartPole"}, "did you mean CartPole-v1?"),
        ({"env": "Brekout-v4"}, "did you mean Breakout-v4?"),
        ({"env": "Zzz-v0"}, "write PACKAGE:ID"),
        ({"env": "pixel_games:"}, "write PACKAGE:ID"),
        ({"env": "no_such_module:X-v0"}, "no module no_such_module is installed or in this folder"),
        ({"env": "needy_module:X-v0"}, "it needs no_such_package"),
        ({"env": "broken_module:X-v0"}, "cannot be imported: SyntaxError"),
        (
            {"env": "pixel_games:Wrong-v0"},
            "fails when it is played: ZeroDivisionError: this game is wrong (pixel_games.py, line",
        ),
        ({"env": "pixel_games:Unfinished-v0"}, "cannot be made: KeyError: 'no such level' (pixel_games.py, line"),
        ({"env": "pixel_games:Hwc-v0", "env_kwargs": {"lenght": 3}}, "does not take 'lenght': did you mean length?"),
        ({"env": "pixel_games:Hwc-v0", "env_kwargs": {"render_mode": "human"}}, "render_mode is set by adamas"),
        ({"env": "Breakout", "env_kwargs": {"mode": 1}}, "env_kwargs are for envs other than Atari's"),
        ({"env": "pixel_games:Hwc-v0", "atari": Atari(repeat_action_probability=0.25)}, "is for Atari games"),
    ],
)
def test_what_cannot_be_played_is_one_line(
    given: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needy_module.py").write_text("import no_such_package\n")
    (tmp_path / "broken_module.py").write_text("def (\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(UserError) as caught:
        check_env(Config(**given))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["env=pixel_games:Steered-v0"], "set env_kwargs={continuous:false}"),
        (["env=pixel_games:Hwc-v0", "env_kwargs={lenght:3}"], "did you mean length?"),
        (["env=pixel_games:Hwc-v0", "env_kwargs=3"], "env_kwargs=3 must be arguments and their values"),
        (["env=pixel_games:Hwc-v0", "env_kwargs={length:", "3}"], "without spaces, or in quotes"),
        (["env=pixel_games:Hwc-v0", "env_kwargs.length=3"], "write env_kwargs={length:VALUE}"),
        (["env=pixel_games:Hwc-v0", "env_kwargs={length:5}"], "100 games in a row ended before"),
        (["env=pixel_games:Unlucky-v0", "evaluation.dreams=9"], "100 games in a row ended before"),
        (["env=pixel_games:Hwc-v0", "env_kwargs={length:5}", "policy=dyna"], "100 games in a row ended before"),
    ],
)
def test_the_command_line_says_it_before_anything_is_made(words: list[str], said: str, tmp_path: Path) -> None:
    done = adamas("train", "preset=smoke", "device=cpu", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert said in done.stderr.splitlines()[-1]
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Breakout", "Breakout"),
        ("ALE/Breakout-v5", "Breakout"),
        ("BreakoutNoFrameskip-v4", "Breakout"),
        ("Breakout-v4", "Breakout"),
        ("CartPole-v1", "CartPole-v1"),
        ("Blackjack-v1", "Blackjack-v1"),
        ("MinAtar/Breakout-v1", "MinAtar/Breakout-v1"),
        ("my_game:Breakout-v4", "my_game:Breakout-v4"),
    ],
)
def test_ids_of_atari_games_are_names_of_games(text: str, name: str) -> None:
    assert canonical(text) == name
    assert is_atari(name) == (name == "Breakout")


def test_every_atari_game_is_one() -> None:
    assert all(map(is_atari, game_names()))


# Games


def test_a_game_ends_by_itself_by_its_limit_and_by_ours() -> None:
    for made, steps, terminated in (
        (config("Hwc"), 30, True),
        (config("Limited"), 12, False),
        (config("Hwc", 7), 7, False),
    ):
        env = make_env(made, episodic_life=True)
        env.reset(seed=0)
        ends = [env.step(0)[2:] for _ in range(steps)]
        assert not any(end[0] or end[1] for end in ends[:-1])
        assert ends[-1][:2] == (terminated, not terminated)
        assert ends[-1][2] == {"game_over": terminated}


def test_full_games_are_played_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adamas.envs.make.AT_ONCE", 2)
    games = play_games(UniformPlay(3), config("Hwc"), 5, seed=1)
    assert games.lengths == [30] * 5
    assert len(set(games.returns)) > 1
    assert play_games(UniformPlay(3), config("Hwc"), 5, seed=1) == games


def test_games_side_by_side_are_those_played_alone() -> None:
    vector, alone = make_vector_env(config("Hwc"), 2), make_env(config("Hwc"))
    obs, _ = vector.reset(seed=4)
    assert obs.shape == (2, 1, 84, 84)
    alone.reset(seed=5)
    for t in range(30):
        obs, reward, terminated, _, _ = vector.step(np.array([0, t % 3]))
        frame, alone_reward, over, _, _ = alone.step(t % 3)
        assert np.array_equal(obs[1, 0], frame)
        assert (reward[1], terminated[1]) == (alone_reward, over)
    assert not vector.step(np.array([1, 1]))[1].any(), "what has ended stays as it is"


# Saved and restored


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("steps", [0, 17, 30, 47])
def test_a_saved_env_goes_on_as_if_nothing_had_happened(steps: int) -> None:
    env, other = make_env(config("Hwc", length=25)), make_env(config("Hwc", length=25))
    assert env.deterministic
    env.reset(seed=8)
    play(env, steps)
    state = through_a_file(env.state_dict())
    other.reset(seed=1)
    play(other, 5)
    assert other.load_state_dict(state)
    assert play(other, 40, seed=2) == play(env, 40, seed=2)


def test_an_env_that_ignores_its_seed_is_found_out_and_is_not_restored() -> None:
    env = make_env(config("Unseeded"))
    assert not env.deterministic
    env.reset(seed=0)
    assert not env.load_state_dict(through_a_file(env.state_dict()))
    assert make_env(config("Rendered")).deterministic
    assert make_env(Config(env="Breakout")).deterministic


def test_a_game_that_ends_earlier_now_is_not_played_beyond_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env(config("Hwc", length=25))
    env.reset(seed=0)
    play(env, 20)
    state = through_a_file(env.state_dict())
    really = pixel_games.Square.step

    def shorter(self: Any, action: Any) -> Any:
        assert self.steps < 10, "step() after the end"
        obs, reward, _, truncated, info = really(self, action)
        return obs, reward, self.steps >= 10, truncated, info

    monkeypatch.setattr(pixel_games.Square, "step", shorter)
    assert not env.load_state_dict(state)


def test_a_game_that_was_changed_since_is_not_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env(config("Hwc"))
    env.reset(seed=0)
    play(env, 9)
    state = through_a_file(env.state_dict())
    monkeypatch.setattr(pixel_games, "STEP", 5)
    assert not env.load_state_dict(state)
    with pytest.raises(UserError, match=r"env_kwargs=\{\}, this run env_kwargs=\{\"length\": 9\}"):
        make_env(config("Hwc", length=9)).load_state_dict(state)


def test_actions_beyond_what_numpy_counts_are_counted() -> None:
    assert count_actions(MultiDiscrete([2] * 64)) == 2**64


# Whole runs


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("env=pixel_games:Hwc-v0", "env_kwargs={length:20}", *TINY, cwd=tmp_path_factory.mktemp("own"))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["imagined", "model_free"])
def test_a_run_killed_and_resumed_ends_like_one_that_was_not(policy: str, own_run: Path, tmp_path: Path) -> None:
    arguments = ["env=pixel_games:Hwc-v0", "env_kwargs={length:20}", *TINY, f"policy={policy}"]
    whole = own_run if policy == "imagined" else train(*arguments, cwd=tmp_path)
    killed = tmp_path / "killed"
    killed.mkdir()
    process = launch("train", *arguments, ALWAYS, cwd=killed)
    wait_for_saves(process.is_alive, killed, 8)
    process.kill()
    process.join()
    assert process.exitcode != 0, "it was too quick to be killed"
    done = adamas("train", f"resume={only_run(killed)}", SELDOM, cwd=killed)
    assert done.returncode == 0, done.stderr
    assert same(final_parts(only_run(killed)), final_parts(whole))


@pytest.mark.parametrize("policy", mostly_slow(["imagined", "model_free"], ["imagined"]))
def test_where_the_env_cannot_be_restored_a_resume_begins_a_new_episode(policy: str, tmp_path: Path) -> None:
    arguments = ["env=pixel_games:Unseeded-v0", *TINY, f"policy={policy}", ALWAYS]
    process = launch("train", *arguments, cwd=tmp_path)
    wait_for_saves(process.is_alive, tmp_path, 8)
    process.terminate()
    process.join()
    said = "plays differently from the same seed and actions: a resume begins a new episode"
    assert said in (tmp_path / "stderr").read_text()
    done = adamas("train", f"resume={only_run(tmp_path)}", SELDOM, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "does not go on with the episode that was saved: a new one begins" in done.stderr
    if policy == "imagined":
        rows = final_parts(only_run(tmp_path))["replay"]
        ended = rows["terminated"] | rows["truncated"]
        broken_off = np.flatnonzero(rows["final"][1:] & ~ended[:-1])
        assert len(broken_off) == 1, "the episode that was broken off has a last frame, and no end that anybody saw"


def test_dreams_that_a_resume_makes_longer_than_games_are_refused_at_once(own_run: Path, tmp_path: Path) -> None:
    done = adamas("train", f"resume={own_run}", "evaluation.dream_steps=30", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "100 games in a row ended before 33 steps: lower evaluation.dream_steps" in done.stderr


def test_everything_else_that_a_run_is_for_works_too(own_run: Path, tmp_path: Path) -> None:
    assert own_run.parent.name == "pixel_games-Hwc-v0"
    done = adamas("evaluate", f"run={own_run}", "dreams=1", f"out={tmp_path / 'e'}", "device=cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 dreams of 4 steps each" in done.stdout, "as in the run"
    for what in ("out", "safetensors"):
        done = adamas("export", f"run={own_run}", f"{what}={tmp_path / what}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    card = (tmp_path / "safetensors" / "README.md").read_text()
    assert "Atari" not in card
    assert "atari" not in card
    env = gymnasium.make("adamas:WorldModel-v0", run=str(tmp_path / "out"), device="cpu")
    env.reset(seed=0)
    assert env.step(1)[0].shape == (84, 84)
    assert env.unwrapped.get_keys_to_action() == {("0",): 0, ("1",): 1, ("2",): 2}


@pytest.mark.slow
def test_its_replay_is_a_dataset(own_run: Path, tmp_path: Path) -> None:
    train(f"dataset={own_run / 'replay'}", "env=pixel_games:Hwc-v0", *TINY, cwd=tmp_path)


def open_session(run: Path) -> Session:
    options = Options(run=str(run), device="cpu")
    agent = open_agent(options)
    return Session(agent, first_settings(agent, options))


def test_the_game_is_played_beside_its_dream_and_rewound(own_run: Path, tmp_path: Path) -> None:
    session = open_session(own_run)
    session.do({"type": "keys", "held": ["2"], "number": 1})
    session.do({"type": "step"})
    assert session.state.action == 2
    for _ in range(4):
        session.do({"type": "step"})
    later = session.state.real
    session.do({"type": "rewind", "steps": 4})
    for _ in range(4):
        session.do({"type": "step"})
    assert session.state.real is not None
    assert np.array_equal(session.state.real.obs, later.obs)


def test_a_game_that_cannot_be_restored_leaves_the_page_when_play_is_rewound() -> None:
    real = RealEnv(config("Unseeded"))
    first = real.reset(0)
    second = real.step(first, 1)
    assert second is not None
    assert real.step(second, 1) is not None
    assert real.step(first, 1) is None


def test_a_run_can_be_opened_where_its_env_is_not_installed(own_run: Path, tmp_path: Path) -> None:
    models, _ = SavedRun(own_run).load_newest(torch.device("cpu"))
    change_config(own_run, env="gone_module:Hwc-v0")
    try:
        again, _ = SavedRun(own_run).load_newest(torch.device("cpu"))
        with pytest.raises(UserError, match="no module gone_module"):
            open_session(own_run)
    finally:
        change_config(own_run, env="pixel_games:Hwc-v0")
    assert again.action_meanings == models.action_meanings == ("0", "1", "2")


def test_the_page_gets_the_keys_of_each_action(own_run: Path) -> None:
    from adamas.web.export import describe, open_rounded, play

    shipped = open_rounded(own_run)
    facts = json.loads(json.dumps(describe(shipped, play(shipped))))
    assert facts["keys"] == ["0", "1", "2"]
    assert facts["action_keys"] == [["0"], ["1"], ["2"]]
