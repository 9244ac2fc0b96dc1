"""A session of play without sockets: what each command does, to the byte."""

from __future__ import annotations

import copy
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_world_model import wake

from adamas import config
from adamas.config import Config
from adamas.config.files import save_config
from adamas.data.replay import Replay, read_dataset
from adamas.envs.atari import AtariEnv, action_meanings
from adamas.play import load, protocol, recorder
from adamas.play.keys import action_of, used
from adamas.play.load import Agent, find_run, open_agent
from adamas.play.session import HISTORY, Session, first_settings
from adamas.play.settings import Options, Settings, change, describe, help_text, read
from adamas.training import checkpoint
from adamas.training.models import Models
from adamas.training.progress import Progress
from adamas.utils.errors import UserError

SMALL = {"patch": 4, "channels": [8, 8], "depths": [1, 1], "attention": False}
CONFIG = Config(
    precision="float32",
    device="cpu",
    denoiser=config.Denoiser(**SMALL, condition_channels=16, target="change", offset_noise=0.0),
    sampler=config.Sampler(steps=1),
    reward_end=config.RewardEnd(patch=4, channels=[8], depths=[1], attention=False, condition_channels=8, lstm_dim=8),
    actor_critic=config.ActorCritic(patch=4, channels=[8, 8], lstm_dim=8),
)


def make_run(path: Path, steps: int = 60) -> Path:
    """A run folder of Breakout as training leaves it, with untrained networks that are awake, and a replay."""
    torch.manual_seed(0)
    models = Models(CONFIG, action_meanings("Breakout"), torch.device("cpu"))
    wake(models.actor_critic)
    wake(models.reward_end)  # the denoiser stays asleep: its dream of a change of nothing is a standing picture
    path.mkdir(parents=True)
    save_config(CONFIG, path / "config.yaml")
    save_models(models, path)
    env, replay = AtariEnv("Breakout", CONFIG.atari, episodic_life=True), Replay(steps)
    obs, _ = env.reset(seed=0)
    for step in range(steps):
        next_obs, _, terminated, truncated, _ = env.step(1 + step % 3)
        replay.add(obs, 1 + step % 3, float(step % 20 in (10, 14)), terminated, truncated, next_obs)
        obs = next_obs
        if terminated or truncated:
            obs, _ = env.reset()
    replay.save(path / "replay")
    return path


def save_models(models: Models, path: Path) -> None:
    parts = {"models": models.state_dict(), "progress": Progress().state_dict()}
    checkpoint.save(path / "checkpoints", 3, parts, keep=2)


def set_on_2(run: Path, path: Path) -> Path:
    """A copy of the run, whose averaged policy does nothing but 2; its own weights know nothing of that."""
    shutil.copytree(run, path)
    averaged = copy.deepcopy(CONFIG)
    averaged.actor_critic.ema_decay = 0.9
    models = Models(averaged, action_meanings("Breakout"), torch.device("cpu"))
    models.agent.actor.bias.fill_(0)[2] = 1e3
    save_config(averaged, path / "config.yaml")
    save_models(models, path)
    return path


@pytest.fixture(scope="module")
def agent(made_run: Path) -> Agent:
    return open_agent(Options(run=str(made_run), device="cpu"))


@pytest.fixture
def session(agent: Agent, tmp_path: Path) -> Session:
    made = Session(agent, Settings(stop=False, fps=3))
    made.library.recordings = tmp_path / "recordings"
    return made


def do(session: Session, command: str, /, **arguments: object) -> None:
    session.do({"do": command, **arguments})


def play(session: Session, steps: int) -> list[bytes]:
    """What the page is shown of each step."""
    session.paused, shown = False, []
    for _ in range(steps):
        assert session.tick()
        shown.append(protocol.frame(session))
    return shown


def test_rewind_returns_the_same_bytes_and_then_the_same_future(session: Session) -> None:
    do(session, "who", who="agent")
    play(session, 4)
    here = session.moment
    future = play(session, 6)
    hidden = session.moment.world.hidden[0].clone()

    do(session, "rewind", steps=6)
    assert session.moment is here
    assert session.paused
    assert not session.tick()  # a rewound game waits
    assert play(session, 6) == future
    assert torch.equal(session.moment.world.hidden[0], hidden)


def test_what_was_rewound_can_be_gone_to_again_until_it_is_replaced(session: Session) -> None:
    play(session, 5)
    last = session.moment
    do(session, "rewind", steps=3)
    assert (session.past, session.ahead) == (2, 3)
    do(session, "rewind", steps=-3)
    assert session.moment is last
    do(session, "rewind", steps=99)
    assert (session.moment.step, session.ahead) == (0, 5)
    do(session, "step")
    assert (session.moment.step, session.ahead, session.paused) == (1, 0, True)


def test_reality_goes_back_with_the_dream(session: Session) -> None:
    do(session, "keys", held=["LEFT"], number=1)
    play(session, 5)
    left = session.moment.real.obs
    do(session, "rewind", steps=5)
    do(session, "keys", held=["RIGHT"], number=2)
    play(session, 5)
    assert not np.array_equal(session.moment.real.obs, left)
    do(session, "rewind", steps=5)
    do(session, "keys", held=["LEFT"], number=3)
    play(session, 5)
    assert np.array_equal(session.moment.real.obs, left)


def test_reality_is_the_real_game_after_the_same_actions(session: Session, agent: Agent) -> None:
    env = AtariEnv("Breakout", agent.config.atari, episodic_life=False)
    start = session.moment
    assert np.array_equal(start.frame, start.real.obs)  # both start from the same frame
    env.load_state_dict(start.real.state)
    for key, action in (("RIGHT", 2), ("LEFT", 3), ("FIRE", 1)):
        do(session, "keys", held=[key], number=0)
        play(session, 1)
        assert np.array_equal(session.moment.real.obs, env.step(action)[0])


def test_reset_begins_the_same_dream_again_and_a_new_start_another(session: Session) -> None:
    first = session.moment
    future = play(session, 5)
    do(session, "reset")
    assert session.moment is first
    assert play(session, 5) == future
    do(session, "start")
    assert session.moment.step == 0
    assert not np.array_equal(session.moment.frame, first.frame)


def test_a_seed_gives_one_future_and_another_seed_another(agent: Agent) -> None:
    def future(seed: int, then: int) -> list[float]:
        session = Session(agent, Settings(stop=False))
        do(session, "set", name="seed", value=seed)
        do(session, "who", who="agent")
        play(session, 6)
        do(session, "set", name="seed", value=then)
        play(session, 6)
        return [session.moment.total, *(moment.action for moment in session._history[1:])]

    assert future(5, 6) == future(5, 6)
    assert future(5, 6) != future(7, 6)
    assert future(5, 6)[1:7] == future(5, 7)[1:7]  # a seed acts from the next step on


def test_the_horizon_ends_a_dream_and_moves_at_once(session: Session) -> None:
    do(session, "set", name="horizon", value=10)
    play(session, 10)
    assert session.over == "horizon"
    assert not session.tick()
    do(session, "set", name="horizon", value=11)
    assert session.tick()
    assert session.over == "horizon"


def test_a_predicted_end_stops_the_dream_if_that_is_wanted(session: Session) -> None:
    while not session.moment.terminated:
        play(session, 1)
    assert session.over is None
    do(session, "set", name="stop", value=True)
    assert session.over == "end"
    assert not session.tick()


def test_a_second_after_its_end_the_agent_starts_again(session: Session) -> None:
    do(session, "who", who="agent")
    do(session, "set", name="horizon", value=10)
    play(session, 10)
    assert [session.tick() for _ in range(3)] == [False, False, True]  # 3 ticks a second
    assert session.moment.step == 0


def test_history_is_bounded(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adamas.play.session.HISTORY", 5)
    play(session, 9)
    assert session.past == 5
    assert HISTORY >= 300


def test_sliders_reach_the_sampler_at_the_next_step(session: Session) -> None:
    for steps in (1, 4, 10):
        do(session, "set", name="steps", value=steps)
        play(session, 1)
        assert len(session.moment.trace) == steps
    do(session, "set", name="noise", value="sigma_max")
    before = session.moment
    play(session, 1)
    noisy = session.moment.trace[0][0]
    do(session, "rewind", steps=1)
    assert session.moment is before
    do(session, "set", name="noise", value="unit")
    play(session, 1)
    assert noisy.float().std() > 1.5 * session.moment.trace[0][0].float().std()  # 5 times the noise, clipped at white
    do(session, "set", name="strip", value=False)
    play(session, 1)
    assert session.moment.trace == []


def test_churn_changes_what_is_dreamed(agent: Agent) -> None:
    def shown(churn: float) -> torch.Tensor:
        session = Session(agent, Settings(stop=False, steps=3, churn=churn))
        play(session, 1)
        return session.moment.trace[1][0]

    assert not torch.equal(shown(0.0), shown(1.0))


def test_at_temperature_0_the_agent_does_what_is_likeliest(session: Session) -> None:
    do(session, "who", who="agent")
    do(session, "set", name="temperature", value=0)
    for _ in range(8):
        wanted = int(session.moment.thought.logits.argmax())
        play(session, 1)
        assert session.moment.action == wanted


def test_the_averaged_policy_is_the_one_that_plays(made_run: Path, tmp_path: Path) -> None:
    run = set_on_2(made_run, tmp_path / "averaged")
    session = Session(open_agent(Options(run=str(run), device="cpu")), Settings(stop=False))
    do(session, "who", who="agent")
    for _ in range(5):
        play(session, 1)
        assert session.moment.action == 2


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"do": "fly"},
        {"do": ["step"]},
        {"do": "step", "extra": 1},
        {"do": "pause"},
        {"do": "pause", "paused": 1},
        {"do": "rewind", "steps": 1.5},
        {"do": "rewind", "steps": True},
        {"do": "who", "who": "nobody"},
        {"do": "keys", "held": "LEFT", "number": 1},
        {"do": "keys", "held": ["JUMP"], "number": 1},
        {"do": "keys", "held": [["LEFT"]], "number": 1},
        {"do": "set", "name": "steps", "value": 11},
        {"do": "set", "name": "steps", "value": 2.5},
        {"do": "set", "name": "steps", "value": True},
        {"do": "set", "name": "churn", "value": float("nan")},
        {"do": "set", "name": "noise", "value": "previous_frame"},  # this model was not trained for it
        {"do": "set", "name": "noise", "value": "pink"},
        {"do": "set", "name": "nothing", "value": 1},
        {"do": "set", "name": "seed", "value": None},
        {"do": "set", "name": "start", "value": "moon"},
    ],
)
def test_what_is_no_command_changes_nothing(session: Session, message: dict) -> None:
    play(session, 2)
    before = protocol.frame(session)
    with pytest.raises(UserError):
        session.do(message)
    assert protocol.frame(session) == before
    assert session._held == []


# Keys


def test_a_key_that_was_let_go_of_before_the_step_still_counts_once(session: Session) -> None:
    do(session, "keys", held=["LEFT"], number=1)
    do(session, "keys", held=[], number=2)
    play(session, 2)
    assert [moment.action for moment in session._history[1:]] == [3, 0]
    assert session.key_number == 2


def test_released_keys_do_nothing(session: Session) -> None:
    do(session, "keys", held=["LEFT"], number=1)
    session.release()
    play(session, 1)
    assert session.moment.action == 0


BREAKOUT = ("NOOP", "FIRE", "RIGHT", "LEFT")
ALL = tuple(
    way + fire if way + fire else "NOOP"
    for fire in ("", "FIRE")
    for way in ("", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT")
)


@pytest.mark.parametrize(
    ("held", "meanings", "action"),
    [
        ([], BREAKOUT, "NOOP"),
        (["LEFT"], BREAKOUT, "LEFT"),
        (["UP"], BREAKOUT, "NOOP"),
        (["LEFT", "RIGHT"], BREAKOUT, "RIGHT"),  # the last one pressed wins
        (["RIGHT", "LEFT"], BREAKOUT, "LEFT"),
        (["LEFT", "FIRE"], BREAKOUT, "FIRE"),
        (["FIRE", "UP", "RIGHT"], ALL, "UPRIGHTFIRE"),
        (["LEFT", "RIGHT", "DOWN"], ALL, "DOWNRIGHT"),
        (["FIRE"], ("UP", "DOWN"), "UP"),  # a game without NOOP
    ],
)
def test_keys_become_the_action_that_fits_best(held: list[str], meanings: tuple[str, ...], action: str) -> None:
    assert meanings[action_of(held, meanings)] == action


def test_the_page_shows_the_keys_of_the_game() -> None:
    assert used(BREAKOUT) == ["LEFT", "RIGHT", "FIRE"]
    assert used(ALL) == ["UP", "DOWN", "LEFT", "RIGHT", "FIRE"]


# Starts


def test_a_dream_can_start_in_the_replay_and_then_has_no_reality(session: Session, made_run: Path) -> None:
    stored = read_dataset(made_run / "replay", [1.0])._columns["obs"]
    do(session, "set", name="start", value="replay")
    assert session.moment.real is None
    assert any(np.array_equal(session.moment.frame, frame) for frame in stored.numpy())
    play(session, 2)
    assert session.moment.real is None


def test_a_start_in_the_game_is_a_function_of_its_number(agent: Agent) -> None:
    frames = [Session(agent, Settings(seed=seed)).moment.frame for seed in (4, 4, 5)]
    assert np.array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[0], frames[2])


def test_without_a_replay_there_is_one_source(made_run: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(made_run, tmp_path / "bare", ignore=shutil.ignore_patterns("replay"))
    session = Session(open_agent(Options(run=str(bare))), Settings())
    assert session.starts.sources == ["game"]
    with pytest.raises(UserError):
        do(session, "set", name="start", value="replay")
    assert session.settings.start == "game"


# Recording


def test_a_recording_is_a_dataset_of_what_was_played(session: Session) -> None:
    play(session, 2)
    do(session, "record", on=True)
    frames = [session.moment.frame]
    do(session, "keys", held=["RIGHT"], number=1)
    for _ in range(5):
        play(session, 1)
        frames.append(session.moment.frame)
    do(session, "record", on=False)

    columns = dict(np.load(session.saved))
    moments = session._history[-6:]
    replay = read_dataset(session.saved.parent, [1.0])  # what training reads with dataset=
    ends = [moment.terminated for moment in moments[1:]]
    assert replay.num_steps == 5
    assert columns["action"][~columns["final"]].tolist() == [2] * 5
    assert columns["reward"][~columns["final"]].tolist() == [moment.reward for moment in moments[1:]]
    assert columns["terminated"][~columns["final"]].tolist() == ends
    assert np.array_equal(columns["obs"][~columns["final"]], np.stack(frames[:-1]))
    assert np.array_equal(columns["obs"][-1], frames[-1])
    assert columns["final"].sum() == sum(ends[:-1]) + 1
    assert np.array_equal(columns["reality"][-1], moments[-1].real.obs)


def test_what_is_rewound_is_not_in_the_recording(session: Session) -> None:
    do(session, "record", on=True)
    do(session, "keys", held=["LEFT"], number=1)
    play(session, 6)
    do(session, "rewind", steps=4)
    do(session, "keys", held=["RIGHT"], number=2)
    play(session, 3)
    do(session, "rewind", steps=1)
    do(session, "record", on=False)
    columns = np.load(session.saved)
    assert columns["action"][~columns["final"]].tolist() == [3, 3, 2, 2]


def test_a_recording_goes_on_over_a_new_start(session: Session) -> None:
    do(session, "record", on=True)
    play(session, 3)
    do(session, "start")
    play(session, 2)
    session.close()  # as when the server is stopped
    columns = np.load(session.saved)
    assert len(columns["obs"]) == 5 + columns["final"].sum()
    assert columns["truncated"].sum() + columns["terminated"].sum() == columns["final"].sum()
    assert read_dataset(session.saved, [1.0]).num_episodes == columns["final"].sum()


def test_nothing_played_is_nothing_saved(session: Session) -> None:
    do(session, "record", on=True)
    do(session, "record", on=False)
    assert session.saved is None
    assert not session.library.recordings.exists()


def test_a_recording_that_cannot_be_written_is_kept(session: Session, tmp_path: Path) -> None:
    do(session, "record", on=True)
    play(session, 2)
    session.library.recordings = tmp_path / "file" / "recordings"
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="it is kept"):
        do(session, "record", on=False)
    session.library.recordings = tmp_path / "recordings"
    do(session, "record", on=False)
    assert read_dataset(session.saved, [1.0]).num_steps == 2


def test_a_long_recording_is_saved_by_itself(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adamas.play.session.MOST_RECORDED", 4)
    do(session, "record", on=True)
    play(session, 4)
    assert session.recorder is None
    assert read_dataset(session.saved, [1.0]).num_steps == 4


def test_films_show_reality_the_dream_and_their_difference(session: Session) -> None:
    do(session, "record", on=True)
    play(session, 3)
    do(session, "record", on=False)
    film = recorder.film(session.saved)
    size, gap = 84 * recorder.SCALE, 2 * recorder.SCALE
    frames = np.load(session.saved)
    assert film.shape == (len(frames["obs"]), size, 3 * size + 2 * gap)
    assert np.array_equal(film[:, :: recorder.SCALE, : size : recorder.SCALE], frames["reality"])
    assert np.array_equal(film[:, :: recorder.SCALE, size + gap : -size - gap : recorder.SCALE], frames["obs"])
    assert set(film[0, :, -size:].unique().tolist()) == {128}  # both start from the same frame: grey is no difference
    path = recorder.export(session.saved, "gif")
    with Image.open(path) as picture:
        assert picture.size == (film.shape[2], film.shape[1])
        assert 1 <= picture.n_frames <= len(film)  # PIL joins frames that are alike


def test_a_film_shows_the_first_frames_of_a_long_recording(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MOST_FILMED", 3)
    do(session, "record", on=True)
    play(session, 5)
    do(session, "record", on=False)
    assert len(recorder.film(session.saved)) == 3


def test_a_video_can_be_played(session: Session) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="mp4 needs the extra [video]")
    import cv2

    do(session, "record", on=True)
    play(session, 5)
    do(session, "record", on=False)
    path = recorder.export(session.saved, "mp4")
    video = cv2.VideoCapture(str(path))
    count = 0
    while video.read()[0]:
        count += 1
    assert count == len(np.load(session.saved)["obs"])
    assert not list(path.parent.glob("*.tmp"))


# Looking at datasets


def test_a_dataset_is_looked_at_step_by_step(session: Session, made_run: Path) -> None:
    columns = dict(np.load(next((made_run / "replay").glob("*.npz"))))
    look = session.library.look("replay", 0, 3)
    assert np.array_equal(look.obs, columns["obs"][3])
    assert (look.facts["step"], look.facts["action"]) == (3, BREAKOUT[columns["action"][3]])
    assert (look.facts["previous_reward"], look.facts["next_reward"]) == (None, 10)
    look = session.library.look("replay", 0, 10)
    assert (look.facts["reward"], look.facts["return"], look.facts["next_reward"]) == (1.0, 1.0, 14)
    beyond = session.library.look("replay", 99, 10**9).facts
    assert (beyond["episode"], beyond["step"]) == (beyond["episodes"] - 1, beyond["steps"] - 1)


def test_a_recording_is_on_the_shelf_at_once(session: Session) -> None:
    do(session, "record", on=True)
    play(session, 2)
    do(session, "start")
    play(session, 2)
    do(session, "record", on=False)
    assert session.library.sources() == ["replay", session.saved.name]
    look = session.library.look(session.saved.name, 99, 99)
    assert look.facts["action"] is None  # a final frame
    assert np.array_equal(look.obs, session.moment.frame)
    with pytest.raises(UserError):
        session.library.look("../config.yaml", 0, 0)


# Opening


def test_settings_start_as_the_run_was_trained(agent: Agent) -> None:
    settings = first_settings(agent, Options(fps=20, seed=3))
    assert (settings.steps, settings.noise, settings.fps, settings.seed) == (1, "unit", 20, 3)


def test_the_newest_run_is_found(made_run: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for age, name in enumerate(["Breakout/b", "Breakout/a", "Pong/c"]):
        shutil.copytree(made_run, runs / name)
        for path in (runs / name / "checkpoints").iterdir():
            os.utime(path, (time.time() - age, time.time() - age))
    (runs / "Breakout" / "unfinished").mkdir()
    assert find_run(None, runs, tmp_path / "none") == runs / "Breakout/b"
    assert find_run("Pong", runs, tmp_path / "none") == runs / "Pong/c"
    assert find_run(None, tmp_path / "nothing", made_run) == made_run  # the agent that ships
    with pytest.raises(UserError, match="train one with"):
        find_run("Pong", tmp_path / "nothing", made_run)
    with pytest.raises(UserError, match="train one with"):
        find_run(None, tmp_path / "nothing", tmp_path / "none")


@pytest.mark.parametrize("name", ["3", "00000003", None])
def test_a_checkpoint_is_found_by_its_number(made_run: Path, name: str | None) -> None:
    (path,) = (made_run / "checkpoints").iterdir()
    wanted = name if name != "00000003" else path.name
    assert open_agent(Options(run=str(made_run), checkpoint=wanted)).checkpoint == path.name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prt=1"], "unknown key 'prt': did you mean port?"),
        (["port=x"], "port=x: a whole number is needed"),
        (["port=70000"], "the most is 65535"),
        (["run"], "write key=value"),
        (["checkpoint=4"], "there are 3"),
        (["env=Pong"], "is of Breakout, not of env=Pong"),
        (["env=Breakot"], "did you mean Breakout?"),
    ],
)
def test_a_wrong_word_on_the_command_line_is_one_line(made_run: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(UserError) as caught:
        open_agent(read(Options(run=str(made_run)), arguments))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_free_run_has_no_dream(made_run: Path, tmp_path: Path) -> None:
    path = shutil.copytree(made_run, tmp_path / "run")
    text = (path / "config.yaml").read_text().replace("policy: imagined", "policy: model_free")
    (path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match="no world model"):
        open_agent(Options(run=str(path)))


def test_every_option_and_setting_is_described() -> None:
    assert all(f"{field['name']}=" in help_text() for field in describe(Options()))
    kinds = {field["kind"] for field in describe(Settings())}
    assert kinds == {"int", "float", "bool", "str"}
    assert change(Settings(), "churn", 1).churn == 1.0
    assert load.SHIPPED.parts[-3:] == ("results", "breakout-cpu", "agent")
