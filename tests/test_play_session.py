"""A session of play without sockets: what each command does, to the byte."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CPU, read_dataset
from playing import BREAKOUT, CONFIG, do, new_session, play, save_models, set_on_2, unpack

from adamas.config.files import save_config
from adamas.envs.atari import AtariEnv
from adamas.play import protocol
from adamas.play.history import MOST_STATES
from adamas.play.keys import action_of, used
from adamas.play.load import open_agent
from adamas.play.session import Session, first_settings
from adamas.play.settings import Options, Settings
from adamas.training.load_run import OpenedRun
from adamas.training.models import Models
from adamas.utils.errors import UserError
from adamas.world_model.reward_end import CONTINUE, DIVERGED


def test_rewind_returns_the_same_bytes_and_then_the_same_future(session: Session) -> None:
    do(session, "player", player="agent")
    play(session, 4)
    here = session.state
    future = play(session, 6)
    hidden = session.state.world.hidden[0].clone()

    do(session, "rewind", steps=6)
    assert session.state is here
    assert session.paused
    assert not session.tick()  # a rewound game waits
    assert play(session, 6) == future
    assert torch.equal(session.state.world.hidden[0], hidden)


def test_the_page_is_told_when_the_model_last_predicted_that_the_dream_diverged(tmp_path: Path) -> None:
    config = copy.deepcopy(CONFIG)
    config.reward_end.predict_divergence = True
    models, run = Models(config, BREAKOUT, CPU), tmp_path / "run"
    run.mkdir()
    save_config(config, run / "config.yaml")
    save_models(models, run)
    session = new_session(open_agent(Options(run=str(run), device="cpu")), tmp_path)
    hidden, _, logits = session.agent.models.world.reward_end.head
    hidden.bias.data.fill_(10)
    told = []
    for certain in (CONTINUE, DIVERGED, CONTINUE):
        logits.weight.data.zero_()[3 + certain] = 10  # behind the rewards
        told += [unpack(shown)["diverged_at"] for shown in play(session, 2)]
    assert told == [None, None, 3, 4, 4, 4]


def test_what_was_rewound_can_be_gone_to_again_until_it_is_replaced(session: Session) -> None:
    play(session, 5)
    last = session.state
    do(session, "rewind", steps=3)
    assert (session.history.past, session.history.future) == (2, 3)
    do(session, "rewind", steps=-3)
    assert session.state is last
    do(session, "rewind", steps=99)
    assert (session.state.step, session.history.future) == (0, 5)
    do(session, "step")
    assert (session.state.step, session.history.future, session.paused) == (1, 0, True)


def test_a_position_of_the_timeline_is_the_same_however_often_it_is_asked_for(session: Session) -> None:
    play(session, 5)
    for position, past in ((3, 3), (1, 1), (1, 1), (4, 4), (-2, 0), (99, 5)):
        do(session, "go_to", position=position)
        assert (session.history.past, session.history.future, session.paused) == (past, 5 - past, True)


def test_the_real_game_is_rewound_with_the_world_model(agent: OpenedRun, tmp_path: Path) -> None:
    session = new_session(agent, tmp_path)
    do(session, "keys", held=["LEFT"], number=1)
    play(session, 5)
    left = session.state.real.obs
    do(session, "rewind", steps=5)
    do(session, "keys", held=["RIGHT"], number=2)
    play(session, 5)
    assert not np.array_equal(session.state.real.obs, left)
    do(session, "rewind", steps=5)
    do(session, "keys", held=["LEFT"], number=3)
    play(session, 5)
    assert np.array_equal(session.state.real.obs, left)


def test_the_real_game_gets_the_same_actions(session: Session, agent: OpenedRun) -> None:
    env = AtariEnv("Breakout", agent.config.atari, episodic_life=False)
    first = session.state
    assert np.array_equal(first.obs, first.real.obs)  # both start from the same frame
    env.load_state_dict(first.real.emulator)
    for key, action in (("RIGHT", 2), ("LEFT", 3), ("FIRE", 1)):
        do(session, "keys", held=[key], number=0)
        play(session, 1)
        assert np.array_equal(session.state.real.obs, env.step(action)[0])


@pytest.mark.parametrize("then", ["restart", "new_episode", "player"])
def test_a_key_that_was_tapped_before_does_not_act_in_what_begins(session: Session, then: str) -> None:
    if then == "player":
        do(session, "player", player="agent")
    do(session, "keys", held=["LEFT"], number=1)
    do(session, "keys", held=[], number=2)
    assert session.key_waits
    do(session, then, **({"player": "human"} if then == "player" else {}))
    assert not session.key_waits
    play(session, 1)
    assert session.state.action == 0


def test_restart_repeats_the_episode_and_a_new_episode_differs(session: Session) -> None:
    first = session.state
    future = play(session, 5)
    do(session, "restart")
    assert session.state is first
    assert play(session, 5) == future
    do(session, "new_episode")
    assert session.state.step == 0
    assert not np.array_equal(session.state.obs, first.obs)


def test_a_seed_gives_one_future_and_another_seed_another(agent: OpenedRun) -> None:
    def future(seed: int, then: int) -> list[float]:
        session = Session(agent, Settings(stop_at_end=False))
        do(session, "set", name="seed", value=seed)
        do(session, "player", player="agent")
        play(session, 6)
        do(session, "set", name="seed", value=then)
        play(session, 6)
        return [session.state.episode_return, *(state.action for state in session.history.states[1:])]

    assert future(5, 6) == future(5, 6)
    assert future(5, 6) != future(7, 6)
    assert future(5, 6)[1:7] == future(5, 7)[1:7]  # a seed acts from the next step on


def test_the_horizon_ends_a_dream_and_moves_at_once(session: Session) -> None:
    do(session, "set", name="horizon", value=10)
    play(session, 10)
    assert session.ended == "horizon"
    assert not session.tick()
    do(session, "set", name="horizon", value=11)
    assert session.tick()
    assert session.ended == "horizon"


def test_a_predicted_end_stops_the_dream_if_that_is_wanted(session: Session) -> None:
    while not session.state.terminated:
        play(session, 1)
    assert session.ended is None
    do(session, "set", name="stop_at_end", value=True)
    assert session.ended == "terminated"
    assert not session.tick()


def test_a_second_after_its_end_the_agent_starts_again(session: Session) -> None:
    do(session, "player", player="agent")
    do(session, "set", name="horizon", value=10)
    play(session, 10)
    assert [session.tick() for _ in range(3)] == [False, False, True]  # 3 ticks a second
    assert session.state.step == 0


def test_history_is_bounded(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adamas.play.history.MOST_STATES", 5)
    play(session, 9)
    assert session.history.past == 5
    assert MOST_STATES >= 300


def test_sliders_reach_the_sampler_at_the_next_step(session: Session) -> None:
    for steps in (1, 4, 10):
        do(session, "set", name="denoising_steps", value=steps)
        play(session, 1)
        assert len(session.state.trace) == steps
    do(session, "set", name="initial_noise", value="sigma_max")
    before = session.state
    play(session, 1)
    noisy = session.state.trace[0][0]
    do(session, "rewind", steps=1)
    assert session.state is before
    do(session, "set", name="initial_noise", value="unit")
    play(session, 1)
    assert noisy.float().std() > 1.5 * session.state.trace[0][0].float().std()  # 5 times the noise, clipped at white
    do(session, "set", name="show_denoising", value=False)
    play(session, 1)
    assert session.state.trace == []


def test_churn_changes_the_sampled_frame(agent: OpenedRun) -> None:
    def shown(churn: float) -> torch.Tensor:
        session = Session(agent, Settings(stop_at_end=False, denoising_steps=3, s_churn=churn))
        play(session, 1)
        return session.state.trace[1][0]

    assert not torch.equal(shown(0.0), shown(1.0))


def test_churn_is_refused_where_the_sampler_cannot_add_noise(agent: OpenedRun) -> None:
    config = copy.deepcopy(agent.config)
    config.sampler.method = "heun"
    heun = dataclasses.replace(agent, config=config)
    with pytest.raises(UserError, match="Euler steps only"):
        Session(heun, Settings(s_churn=1.0))
    session = Session(heun, first_settings(heun, Options()))
    with pytest.raises(UserError, match="Euler steps only"):
        do(session, "set", name="s_churn", value=0.5)
    assert session.settings.s_churn == 0
    shown, all_of_them = (
        {field["name"] for field in protocol.hello(one)["controls"]} for one in (session, Session(agent, Settings()))
    )
    assert all_of_them - shown == {"s_churn"}


def test_at_temperature_0_the_agent_does_what_is_likeliest(session: Session) -> None:
    do(session, "player", player="agent")
    do(session, "set", name="temperature", value=0)
    for _ in range(8):
        wanted = int(session.state.policy.logits.argmax())
        play(session, 1)
        assert session.state.action == wanted


def test_the_averaged_policy_is_the_one_that_plays(made_run: Path, tmp_path: Path) -> None:
    run = set_on_2(made_run, tmp_path / "averaged")
    session = Session(open_agent(Options(run=str(run), device="cpu")), Settings(stop_at_end=False))
    do(session, "player", player="agent")
    for _ in range(5):
        play(session, 1)
        assert session.state.action == 2


@pytest.fixture(scope="module")
def two_steps_on(agent: OpenedRun, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A session in which nothing changes any more."""
    session = new_session(agent, tmp_path_factory.mktemp("session"))
    play(session, 2)
    return session


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": "fly"},
        {"type": ["step"]},
        {"type": "step", "extra": 1},
        {"type": "pause"},
        {"type": "pause", "paused": 1},
        {"type": "rewind", "steps": 1.5},
        {"type": "rewind", "steps": True},
        {"type": "player", "player": "nobody"},
        {"type": "keys", "held": "LEFT", "number": 1},
        {"type": "keys", "held": ["JUMP"], "number": 1},
        {"type": "keys", "held": [["LEFT"]], "number": 1},
        {"type": "set", "name": "denoising_steps", "value": 11},
        {"type": "set", "name": "denoising_steps", "value": 2.5},
        {"type": "set", "name": "denoising_steps", "value": True},
        {"type": "set", "name": "s_churn", "value": float("nan")},
        {"type": "set", "name": "initial_noise", "value": "previous_frame"},  # this model was not trained for it
        {"type": "set", "name": "initial_noise", "value": "pink"},
        {"type": "set", "name": "nothing", "value": 1},
        {"type": "set", "name": "seed", "value": None},
        {"type": "set", "name": "initial_state", "value": "moon"},
    ],
)
def test_what_is_no_command_changes_nothing(two_steps_on: Session, message: dict) -> None:
    before = protocol.frame(two_steps_on)
    with pytest.raises(UserError):
        two_steps_on.do(message)
    assert protocol.frame(two_steps_on) == before
    assert two_steps_on._held == []


# Keys


def test_a_key_that_was_let_go_of_before_the_step_still_counts_once(session: Session) -> None:
    do(session, "keys", held=["LEFT"], number=1)
    do(session, "keys", held=[], number=2)
    play(session, 2)
    assert [state.action for state in session.history.states[1:]] == [3, 0]
    assert session.keys_number == 2


def test_released_keys_do_nothing(session: Session) -> None:
    do(session, "keys", held=["LEFT"], number=1)
    session.release_keys()
    play(session, 1)
    assert session.state.action == 0


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


# Initial states


def test_an_episode_can_begin_in_the_replay_and_then_has_no_real_game(session: Session, made_run: Path) -> None:
    stored = read_dataset(made_run / "replay", [1.0])._columns["obs"]
    do(session, "set", name="initial_state", value="replay")
    assert session.state.real is None
    assert any(np.array_equal(session.state.obs, frame) for frame in stored.numpy())
    play(session, 2)
    assert session.state.real is None


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_game_that_ends_at_once_repeats_its_first_frame(agent: OpenedRun, most: int) -> None:
    config = copy.deepcopy(agent.config)
    config.atari.max_episode_steps = most
    session = Session(dataclasses.replace(agent, config=config), Settings())
    obs, action = session.initial_states.get("game", 1).context
    assert obs.shape == (1, 4, 84, 84)
    assert all(torch.equal(frame, obs[0, 0]) for frame in obs[0, : 5 - most])
    assert (action.shape, action.dtype) == ((1, 3), torch.int64)
    assert not action[0, : 4 - most].any()
    do(session, "new_episode")


def test_a_start_in_the_game_is_a_function_of_its_number(agent: OpenedRun) -> None:
    frames = [Session(agent, Settings(seed=seed)).state.obs for seed in (4, 4, 5)]
    assert np.array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[0], frames[2])


def test_without_a_replay_there_is_one_source(made_run: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(made_run, tmp_path / "bare", ignore=shutil.ignore_patterns("replay"))
    session = Session(open_agent(Options(run=str(bare))), Settings())
    assert session.initial_states.sources == ["game"]
    with pytest.raises(UserError):
        do(session, "set", name="initial_state", value="replay")
    assert session.settings.initial_state == "game"


def test_settings_start_as_the_run_was_trained(agent: OpenedRun) -> None:
    settings = first_settings(agent, Options(fps=20, seed=3))
    assert (settings.denoising_steps, settings.initial_noise, settings.fps, settings.seed) == (1, "unit", 20, 3)
