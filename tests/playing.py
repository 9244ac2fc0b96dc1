"""What tests that play have in common: a run folder, a session, and a server in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import http.client
import json
import shutil
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch
from helpers import CPU, wake
from websockets.sync.client import ClientConnection, connect

from adamas import config
from adamas.config import Config
from adamas.config.files import save_config
from adamas.data.replay import Replay
from adamas.envs.atari import AtariEnv, action_meanings
from adamas.play import initial_states, protocol
from adamas.play.auth import AccessControl
from adamas.play.initial_states import played_state
from adamas.play.real_env import RealEnv
from adamas.play.server import Server
from adamas.play.session import Session
from adamas.play.settings import Settings
from adamas.play.step import InitialState
from adamas.training import checkpoint
from adamas.training.load_run import OpenedRun
from adamas.training.models import Models
from adamas.training.progress import Progress

CONFIG = Config(
    precision="float32",
    device="cpu",
    network=config.Network(architecture="adamas", patch=4, condition_channels=16, lstm_dim=8),
    denoiser=config.Denoiser(channels=[8, 8], depths=[1, 1], target="change", offset_noise=0.0),
    sampler=config.Sampler(steps=1),
    reward_end=config.RewardEnd(channels=[8], depths=[1]),
    actor_critic=config.ActorCritic(channels=[8, 8]),
)
BREAKOUT = ("NOOP", "FIRE", "RIGHT", "LEFT")
PUBLIC = "https://dream.example"


def make_run(path: Path, steps: int = 60) -> Path:
    """A run folder of Breakout as training leaves it, with untrained networks that are awake, and a replay."""
    torch.manual_seed(0)
    models = Models(CONFIG, action_meanings("Breakout"), CPU)
    wake(models.actor_critic)
    wake(models.reward_end)  # the denoiser stays asleep: its dream of a change of nothing is a still picture
    path.mkdir(parents=True)
    save_config(CONFIG, path / "config.yaml")
    env, replay = AtariEnv("Breakout", CONFIG.atari, episodic_life=True), Replay(steps)
    obs, _ = env.reset(seed=0)
    for step in range(steps):
        next_obs, _, terminated, truncated, _ = env.step(1 + step % 3)
        replay.add(obs, 1 + step % 3, float(step % 20 in (10, 14)), terminated, truncated, next_obs)
        obs = next_obs
        if terminated or truncated:
            obs, _ = env.reset()
    save_models(models, path, replay.save(path / "replay"))
    return path


def save_models(models: Models, path: Path, manifest: dict | None = None) -> None:
    parts = {"models": models.state_dict(), "progress": Progress().state_dict(), "replay": manifest}
    checkpoint.save(path / "checkpoints", 3, parts, keep=2)


def set_on_2(run: Path, path: Path) -> Path:
    """A copy of the run, whose averaged policy does nothing but 2; its own weights know nothing of that."""
    shutil.copytree(run, path)
    averaged = copy.deepcopy(CONFIG)
    averaged.actor_critic.ema_decay = 0.9
    models = Models(averaged, action_meanings("Breakout"), CPU)
    models.policy.actor.bias.data.fill_(0)[2] = 1e3
    save_config(averaged, path / "config.yaml")
    save_models(models, path)
    return path


class SharedStart:
    """Where all sessions of one agent begin: the policy plays up to there once, and not for every session.

    To go on there the real game has to be played again up to there; `beside_real=False` leaves it out.
    """

    def __init__(self, agent: OpenedRun, beside_real: bool = True) -> None:
        self.agent, self.beside_real = agent, beside_real
        self._get = functools.cache(functools.partial(played_state, agent, RealEnv(agent.config)))

    def __call__(self, agent: OpenedRun, real_env: RealEnv, context: int, number: int) -> InitialState:
        assert agent is self.agent
        state = self._get(context, number)
        return state if self.beside_real else state._replace(real=None)


def new_session(agent: OpenedRun, tmp_path: Path, start: SharedStart | None = None, fps: int = 3) -> Session:
    with pytest.MonkeyPatch.context() as patch:
        if start:
            patch.setattr(initial_states, "played_state", start)
        made = Session(agent, Settings(stop_at_end=False, fps=fps))
    made.datasets.recordings = tmp_path / "recordings"
    return made


def do(session: Session, command: str, /, **arguments: object) -> None:
    session.do({"type": command, **arguments})


def play(session: Session, steps: int) -> list[bytes]:
    """What the page is shown of each step."""
    session.paused, shown = False, []
    for _ in range(steps):
        assert session.tick()
        shown.append(protocol.frame(session))
    return shown


def unpack(frame: bytes) -> dict:
    """The header of what the page is shown."""
    (length,) = struct.unpack_from("<I", frame)
    return json.loads(frame[4 : 4 + length])


class Served:
    """A server in a thread of its own."""

    def __init__(self, session: Session) -> None:
        self.session, self.access = session, AccessControl(PUBLIC)
        self._stop: Future = Future()
        port: Future = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(port)))
        self._thread.start()
        self.port = port.result(timeout=30)
        self.host = f"localhost:{self.port}"

    async def _run(self, port: Future) -> None:
        stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._stop.add_done_callback(lambda _: self._loop.call_soon_threadsafe(stop.set))
        self.server = Server(self.session, self.access)
        await self.server.run("127.0.0.1", 0, port.set_result, stop)

    def close(self) -> None:
        self._stop.set_result(None)
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()

    def cut(self) -> None:
        """The player's connection breaks."""
        self._loop.call_soon_threadsafe(self.server._player.socket.transport.abort)

    def get(self, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """A plain request. Header names are written with _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest("GET", path, skip_host=True)
        for name, value in {"Host": self.host, **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.headers, response.read()

    @contextlib.contextmanager
    def open(self, token: str | None = None, origin: str | None = "own", client: str = "me") -> Iterator[Player]:
        query = f"token={self.access.token if token is None else token}&client={client}"
        origin = f"http://{self.host}" if origin == "own" else origin
        with connect(f"ws://{self.host}/socket?{query}", origin=origin, open_timeout=30, proxy=None) as socket:
            yield Player(socket)


class Player:
    """A page without a browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def send(self, message: object) -> None:
        self.socket.send(message if isinstance(message, (str, bytes)) else json.dumps(message))

    def receive(self) -> tuple[dict, bytes]:
        """The next message and the bytes of its pictures. Frames are marked as seen."""
        data = self.socket.recv(timeout=30)
        if isinstance(data, str):
            return json.loads(data), b""
        header = unpack(data)
        if header["type"] == "frame":
            self.send({"type": "acknowledge"})
        return header, data[4 + struct.unpack_from("<I", data)[0] :]

    def wait(self, kind: str, until=lambda header: True) -> tuple[dict, bytes]:
        while True:
            header, pictures = self.receive()
            if header["type"] == kind and until(header):
                return header, pictures
