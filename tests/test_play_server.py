"""The play server over real sockets: which requests are served, and what a message may do."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from helpers import adamas, mostly_slow, read_dataset
from playing import PUBLIC, Player, Served, SharedStart, new_session
from websockets.exceptions import ConnectionClosed, InvalidStatus

from adamas.play import auth, protocol
from adamas.play.auth import AccessControl, check_address, host_in_url
from adamas.play.connections import MOST_CONNECTIONS, MOST_UNACKNOWLEDGED, quiet_logger
from adamas.play.server import MOST_BYTES, Server
from adamas.play.server import serve as serve_until_stopped
from adamas.play.session import Session
from adamas.play.settings import Settings
from adamas.training.load_run import OpenedRun
from adamas.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def serve(session: Session) -> Iterator[Served]:
    session.paused = True
    made = Served(session)
    yield made
    made.close()


@pytest.fixture
def served(agent: OpenedRun, start_alone: SharedStart, tmp_path: Path) -> Iterator[Served]:
    yield from serve(new_session(agent, tmp_path, start_alone, Settings().fps))


@pytest.fixture
def served_beside_real(agent: OpenedRun, start_beside_real: SharedStart, tmp_path: Path) -> Iterator[Served]:
    yield from serve(new_session(agent, tmp_path, start_beside_real, Settings().fps))


def refused(served: Served, **how: str) -> int:
    with pytest.raises(InvalidStatus) as caught, served.open(**how):
        pass
    return caught.value.response.status_code


# Access


def test_without_the_token_nobody_gets_in(served: Served) -> None:
    for token in ("", "x", served.access.token[:-1], served.access.token + "x", "é"):
        assert refused(served, token=token.replace("é", "%C3%A9")) == 401
        assert served.get(f"/?token={token.replace('é', '%C3%A9')}")[0] == 401
    assert served.get("/")[0] == 401
    assert served.get("/recordings/x.npz")[0] == 401
    assert served.get(f"/?token={served.access.token}")[0] == 200


def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(auth.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    mine = AccessControl()
    assert not mine.allows_token("x")
    assert not mine.allows_token("\udcff")  # a byte that is no text
    assert mine.allows_token(mine.token)
    assert len(compared) == 3
    assert len(mine.token) >= 32
    assert mine.token not in repr(mine)
    assert mine.token != AccessControl().token


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:1", "https://localhost", "null", None])
def test_a_foreign_page_cannot_open_a_socket(served: Served, origin: str | None) -> None:
    assert refused(served, origin=origin) == 403


def test_a_foreign_page_gets_nothing_else_either(served: Served) -> None:
    assert served.get(f"/?token={served.access.token}", Origin="http://evil.example")[0] == 403
    assert served.get("/page.js", Origin="http://evil.example")[0] == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "localhost:x", "", "127.0.0.2", "0.0.0.0"]
)
def test_another_name_is_misdirected(served: Served, host: str) -> None:
    for path in ("/page.js", f"/?token={served.access.token}"):
        assert served.get(path, Host=host, Origin=f"http://{host}")[0] == 421


def test_the_name_of_a_tunnel_is_let_in(served: Served) -> None:
    token = served.access.token
    assert served.get(f"/?token={token}", Host="dream.example", Origin=PUBLIC)[0] == 200
    assert served.get(f"/?token={token}", Host="localhost:9999")[0] == 200  # ssh -L 9999:...
    assert served.get(f"/?token={token}", Host="dream.example", Origin="http://evil.example")[0] == 403
    assert served.get(f"/?token={token}", Host="dream.example:1")[0] == 421


def test_the_name_of_a_tunnel_is_the_same_in_upper_case(served: Served) -> None:
    served.server.access = replace(served.access, public_origin="https://Dream.EXAMPLE")
    assert served.get(f"/?token={served.access.token}", Host="dream.example", Origin="https://dream.example")[0] == 200
    assert served.get(f"/?token={served.access.token}", Host="LOCALHOST:80")[0] == 200


def test_the_address_that_is_listened_on_is_let_in(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Server.run
    monkeypatch.setattr(Server, "run", lambda server, host, *rest: run(server, "127.0.0.2", *rest))
    other = Served(served.session)
    for host, status in (("127.0.0.2", 200), ("127.0.0.2:9999", 200), ("localhost", 200), ("127.0.0.3", 421)):
        connection = socket.create_connection(("127.0.0.2", other.port), timeout=30)
        connection.sendall(request(f"/?token={other.access.token}".encode(), host.encode()))
        assert int(rest_of(connection).split()[1]) == status
    other.close()


@pytest.mark.parametrize(
    ("host", "name"),
    [("127.0.0.1", "localhost"), ("localhost", "localhost"), ("127.0.0.2", "127.0.0.2"), ("::1", "[::1]")],
)
def test_the_address_is_written_as_a_browser_needs_it(host: str, name: str) -> None:
    assert host_in_url(host) == name
    assert AccessControl(host=host).allows_host(f"{name}:8000")


@pytest.mark.parametrize(
    ("host", "public", "words"),
    [
        ("127.0.0.1", None, None),
        ("localhost", None, None),
        ("::1", None, None),
        ("0.0.0.0", "http://name:8000", None),
        ("0.0.0.0", None, "can be reached by others"),
        ("10.0.0.7", None, "can be reached by others"),
        ("0.0.0.0", "HTTPS://Name:8000", None),
        ("127.0.0.1", "name", "must look like"),
        ("127.0.0.1", "https://name/path", "must look like"),
        ("127.0.0.1", "ftp://name", "must look like"),
        ("127.0.0.1", "https://", "must look like"),
        ("127.0.0.1", "https://name:443", "leave the port out"),
        ("127.0.0.1", "http://name:80", "leave the port out"),
        ("127.0.0.1", "http://name:443", None),
    ],
)
def test_an_open_address_needs_a_name(host: str, public: str | None, words: str | None) -> None:
    with pytest.raises(UserError, match=words) if words else contextlib.nullcontext():
        check_address(host, public)


def test_the_page_loads_nothing_from_elsewhere(served: Served) -> None:
    _, headers, body = served.get(f"/?token={served.access.token}")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    for text in (b"<style", b"style=", b"onclick=", b"//cdn", b"http"):
        assert text not in body
    for path, kind in (("/style.css", "text/css"), ("/page.js", "text/javascript"), ("/icon.svg", "image/svg+xml")):
        status, headers, body = served.get(path)
        assert (status, headers["Content-Type"].split(";")[0]) == (200, kind)
        assert body
    assert served.get(f"/nothing?token={served.access.token}")[0] == 404
    assert served.get(f"/../config.py?token={served.access.token}")[0] == 404


# Messages


def test_a_player_is_greeted_and_shown_the_dream(served_beside_real: Served) -> None:
    with served_beside_real.open() as player:
        hello, _ = player.receive()
        assert (hello["type"], hello["game"], hello["actions"]) == (
            "hello",
            "Breakout",
            ["NOOP", "FIRE", "RIGHT", "LEFT"],
        )
        assert hello["keys"] == ["LEFT", "RIGHT", "FIRE"]
        noises = [control["choices"] for control in hello["controls"] if control["name"] == "initial_noise"]
        assert noises == [["unit", "sigma_max"]]
        frame, pictures = player.receive()
        assert frame["pictures"] == ["dream", "real"]
        assert pictures[: 84 * 84] == served_beside_real.session.state.obs.tobytes()
        player.send({"type": "step"})
        frame, pictures = player.wait("frame")
        assert frame["pictures"] == ["dream", "real", "noisy 1", "denoised 1"]
        assert len(pictures) == 4 * 84 * 84
        assert abs(sum(frame["probabilities"]) - 1) < 1e-5


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[]",
        "7",
        "NaN",
        b"\x00\x01",
        '{"type": "fly"}',
        '{"type": "step", "type": 5}',
        '{"type": "set", "name": "s_churn", "value": NaN}',
        '{"type": "set", "name": "seed", "value": 1e999}',
        pytest.param('{"type": "set", "name": "s_churn", "value": 1%s}' % ("0" * 400), id="400 digits"),
        '{"type": "rewind", "steps": "1"}',
        '{"type": "seen", "number": 1}',
        '{"type": "view", "source": 1}',
        '{"type": "view", "source": "../../config", "episode": 0, "step": 0}',
        "[" * 2000,
    ],
)
def test_a_malformed_message_gets_an_error_and_changes_nothing(served: Served, message: str | bytes) -> None:
    with served.open() as player:
        player.wait("frame")
        before = protocol.frame(served.session)
        player.send(message)
        error, _ = player.receive()
        assert error["type"] == "error"
        assert "\n" not in error["text"]
        assert protocol.frame(served.session) == before
        player.send({"type": "step"})  # and the player plays on
        assert player.wait("frame")[0]["step"] == 1


def test_a_message_that_is_too_long_closes_the_socket_and_changes_nothing(served: Served) -> None:
    with served.open() as player:
        player.wait("frame")
        before = protocol.frame(served.session)
        player.send("x" * (MOST_BYTES + 1))
        with pytest.raises(ConnectionClosed) as caught:
            player.wait("error")
        assert caught.value.rcvd.code == 1009
    assert protocol.frame(served.session) == before
    with served.open() as player:
        assert player.receive()[0]["type"] == "hello"


def test_the_game_does_not_run_ahead_of_a_slow_page(served: Served) -> None:
    with served.open() as player:
        player.wait("frame")
        player.send({"type": "pause", "paused": False})
        header, _ = player.wait("frame", lambda frame: frame["step"] == 3)
        stuck = []
        with contextlib.suppress(TimeoutError):
            while True:  # from here on nothing is marked as seen
                stuck.append(player.socket.recv(timeout=1))
        assert len(stuck) <= MOST_UNACKNOWLEDGED + 1
        assert served.session.state.step <= header["step"] + MOST_UNACKNOWLEDGED + 1


def test_keys_come_back_with_the_frame_that_they_led_to(served: Served) -> None:
    with served.open() as player:
        player.wait("frame")
        player.send({"type": "keys", "held": ["LEFT"], "number": 41})
        player.send({"type": "step"})
        frame, _ = player.wait("frame")
        assert (frame["keys_number"], frame["action"]) == (41, 3)


def test_a_key_brings_the_next_step_forward_and_keeps_the_speed(served: Served) -> None:
    arrived = []
    with served.open() as player:
        player.send({"type": "set", "name": "fps", "value": 1})
        player.send({"type": "pause", "paused": False})
        step = player.wait("frame", lambda frame: frame["step"] > 0)[0]["step"]
        time.sleep(0.2)  # 0.8 s before the next step is due
        for number in (1, 2):
            pressed = time.monotonic()
            player.send({"type": "keys", "held": [], "number": 2 * number})
            player.send({"type": "keys", "held": ["LEFT"], "number": 2 * number + 1})
            frame, _ = player.wait("frame", lambda frame, number=number: frame["step"] == step + number)
            assert frame["keys_number"] == 2 * number + 1
            arrived.append(time.monotonic() - pressed)
    early, next_one = arrived
    assert early < 0.5  # at once
    assert 0.8 < 0.2 + early + next_one < 2.5  # the step after it comes no earlier than the due time of the first one


# Hostile input


def steps_on(player: Player) -> None:
    """The player is undisturbed: a step brings the next frame."""
    player.send({"type": "step"})
    step = player.wait("frame")[0]["step"]
    player.send({"type": "step"})
    assert player.wait("frame", lambda frame: frame["step"] == step + 1)


def raw(served: Served, data: bytes = b"") -> socket.socket:
    """A connection of bytes."""
    made = socket.create_connection(("127.0.0.1", served.port), timeout=30)
    made.sendall(data)
    return made


def rest_of(connection: socket.socket) -> bytes:
    """What it sends until it closes the connection."""
    received = b""
    with connection, contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            received += data
    return received


def request(path: bytes, host: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"Host: " + host, *headers, b"", b""])


@pytest.mark.parametrize(
    "path",
    [
        "/../auth.py",
        "/%2e%2e/auth.py",
        "/page.js/../../auth.py",
        "/page/page.js",
        "//etc/passwd",
        "/etc/passwd",
        "/index.html",
        "/recordings/../config.npz",
        "/recordings/%2e%2e/config.npz",
        "/recordings/..%2fconfig.npz",
        "/recordings/%2e%2e%2fconfig.npz",
        "/recordings/%252e%252e%252fconfig.npz",
        "/recordings/..%5cconfig.npz",
        "/recordings/%2fetc%2fpasswd.npz",
        "/recordings/%00.npz",
        "/recordings/%ff.npz",
        "/recordings/..\\config.npz",
        "/recordings//etc/passwd.npz",
        "/recordings/",
        "/recordings/.npz",
        "//[",
        "/\u0000",
    ],
)
def test_no_path_leads_out_of_the_page_and_the_recordings(served: Served, path: str) -> None:
    (served.session.datasets.recordings.parent / "config.npz").write_text("secret")
    host, token = served.host.encode(), served.access.token.encode()
    answer = rest_of(raw(served, request(path.encode() + b"?token=" + token, host)))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"secret" not in answer
    assert rest_of(raw(served, request(path.encode(), host))).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n",  # the start of TLS
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: " + b"a" * 100_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /?token=\xff\xe9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xff?token=%ff HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET /socket HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_without_a_traceback(
    served: Served, data: bytes, capfd: pytest.CaptureFixture
) -> None:
    with served.open() as player:
        player.wait("frame")
        with contextlib.suppress(ConnectionError):  # it may be refused before all of it is sent
            answer = rest_of(raw(served, data))
            assert not answer or int(answer.split()[1]) in (400, 401, 404, 405, 414, 421, 426, 431)
        steps_on(player)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x05hello", 1002),  # not masked
        (b"\xf1\x80" + bytes(4), 1002),  # reserved bits
        (b"\x83\x80" + bytes(4), 1002),  # a reserved kind
        (b"\x80\x80" + bytes(4), 1002),  # goes on where nothing began
        (b"\x09\x80" + bytes(4), 1002),  # a ping in pieces
        (b"\x89\xfe\x00\x80" + bytes(4 + 128), 1002),  # a ping that is too long
        (b"\x81\x82" + bytes(4) + b"\xff\xfe", 1007),  # no UTF-8
        (b"\x81\xff" + b"\xff" * 8 + bytes(4), 1009),  # a length of 2**64 - 1
        (b"\x81\xff" + (MOST_BYTES + 1).to_bytes(8, "big") + bytes(4), 1009),
        (b"\x01\xfe\x0f\xff" + bytes(4 + 4095) + b"\x80\x82" + bytes(4 + 2), 1009),  # too long in pieces
    ],
)
def test_a_malformed_frame_closes_its_socket_alone(
    served: Served, frame: bytes, code: int, capfd: pytest.CaptureFixture
) -> None:
    with served.open(client="player") as player, served.open(client="other") as other:
        player.wait("frame")
        assert other.receive()[0] == {"type": "busy"}
        other.socket.socket.sendall(frame)
        with pytest.raises(ConnectionClosed) as caught:
            other.receive()
        assert caught.value.rcvd is None or caught.value.rcvd.code == code
        steps_on(player)
    assert capfd.readouterr().err == ""


def test_who_does_not_read_holds_up_nobody_else(served: Served) -> None:
    served.session.do({"type": "set", "name": "denoising_steps", "value": 10})
    served.session.do({"type": "step"})
    stuck = raw(served, upgrade(served))
    for _ in range(200):  # frames of 150 kB each, of which none is read
        stuck.sendall(masked(b'{"type": "rewind", "steps": 0}'))
    wait_until(lambda: served.server._player and served.server._player.socket.transport.get_write_buffer_size() > 0)
    with served.open(client="next") as player:
        assert player.receive()[0] == {"type": "busy"}
        began = time.monotonic()
        player.send({"type": "take_over"})
        player.wait("frame")
        steps_on(player)
        player.send({"type": "pause", "paused": False})
        player.wait("frame", lambda frame: frame["step"] >= 6)
        assert time.monotonic() - began < 10
    stuck.close()


def upgrade(served: Served) -> bytes:
    """The request that opens a socket."""
    headers = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    headers += ["Sec-WebSocket-Key: " + "A" * 22 + "==", f"Origin: http://{served.host}"]
    path = f"/socket?token={served.access.token}&client=stuck"
    return request(path.encode(), served.host.encode(), *(header.encode() for header in headers))


def masked(text: bytes) -> bytes:
    """A frame of text, shorter than 126 bytes."""
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text


def wait_until(true: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "kind", mostly_slow(["idle", "half a request", "no token", "a foreign page"], ["half a request"])
)
def test_a_thousand_connections_are_not_served_and_the_player_is_undisturbed(
    served: Served, kind: str, capfd: pytest.CaptureFixture
) -> None:
    host = served.host.encode()
    data = {
        "idle": b"",
        "half a request": b"GET / HTTP/1.1\r\nHost:",
        "no token": request(b"/", host),
        "a foreign page": upgrade(served).replace(b"Origin: http://", b"Origin: http://evil."),
    }[kind]
    with served.open() as player, contextlib.ExitStack() as opened:
        player.wait("frame")
        for number in range(1000):
            with contextlib.suppress(ConnectionError):
                opened.enter_context(raw(served, data))
            if number % 250 == 0:
                steps_on(player)
        wait_until(lambda: len(served.server._connections) <= MOST_CONNECTIONS)
        steps_on(player)
        status, _, _ = served.get(f"/?token={served.access.token}")
        assert status == 200  # who has the token is served all the same
    assert capfd.readouterr().err == ""


def test_a_connection_that_says_nothing_does_not_hold_up_the_end(served: Served) -> None:
    other = Served(served.session)
    idle = [raw(other), raw(other, b"GET / HT")]
    began = time.monotonic()
    other.close()
    assert time.monotonic() - began < 10
    for connection in idle:
        connection.close()


def test_datasets_are_read_while_the_playing_thread_is_busy(served: Served) -> None:
    with served.open() as player:
        player.wait("frame")
        free = threading.Event()
        served.server._worker.submit(free.wait)
        player.send({"type": "view", "source": "replay", "episode": 0, "step": 3})
        try:
            assert player.wait("dataset_row")[0]["step"] == 3
        finally:
            free.set()


# One player at a time


def test_a_second_page_may_take_over_and_the_first_one_is_told(served: Served) -> None:
    with served.open(client="a") as first, served.open(client="b") as second:
        first.wait("frame")
        assert second.receive()[0] == {"type": "busy"}
        second.send({"type": "step"})
        assert "somebody else" in second.wait("error")[0]["text"]
        assert served.session.state.step == 0

        first.send({"type": "keys", "held": ["LEFT"], "number": 1})
        second.send({"type": "take_over"})
        assert first.wait("replaced")
        second.wait("hello")
        second.send({"type": "step"})
        assert second.wait("frame", lambda frame: frame["step"])[0]["action"] == 0  # keys of the first are let go of
        first.send({"type": "step"})
        assert "somebody else" in first.wait("error")[0]["text"]
        first.send({"type": "take_over"})
        assert second.wait("replaced")


def test_who_plays_already_is_not_replaced_by_asking_again(served: Served) -> None:
    with served.open() as player:
        player.wait("frame")
        player.send({"type": "take_over"})
        assert player.receive()[0]["type"] == "hello"
        assert player.receive()[0]["type"] == "frame"


def test_a_reload_finds_everything_as_it_was(served: Served) -> None:
    with served.open() as player:
        player.wait("frame")
        player.send({"type": "record", "on": True})
        player.send({"type": "keys", "held": ["LEFT"], "number": 1})
        for _ in range(3):
            player.send({"type": "step"})
        before, pictures = player.wait("frame", lambda frame: frame["step"] == 3)
    with served.open() as player:
        assert player.receive()[0]["type"] == "hello"
        after, again = player.receive()
        assert (after, again) == (before, pictures)
        assert after["recorded_steps"] == 3
        player.send({"type": "step"})
        assert player.wait("frame")[0]["action"] == 0  # nobody holds the key any more


def test_a_lost_connection_does_not_keep_its_own_page_out(served: Served) -> None:
    with served.open(client="tab") as lost, served.open(client="tab") as back:
        assert back.wait("frame")
        assert lost.wait("replaced")


def test_nobody_there_and_the_game_waits(served: Served) -> None:
    served.session.paused = False
    with served.open() as player:
        player.wait("frame", lambda frame: frame["step"] > 2)
    with served.open() as player:
        first = player.wait("frame")[0]["step"]
    step = served.session.state.step
    assert first <= step <= first + MOST_UNACKNOWLEDGED + 2


def test_a_fault_in_a_command_leaves_the_game_to_the_next_page(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with served.open(client="a") as player, monkeypatch.context() as patch:
        player.wait("frame")
        patch.setattr(served.session, "do", lambda command: 1 / 0)
        player.send({"type": "step"})
        with pytest.raises(ConnectionClosed):
            player.wait("error")
    with served.open(client="b") as player:
        assert player.receive()[0]["type"] == "hello"
        steps_on(player)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(("error", "logged"), [(ConnectionResetError(), False), (ZeroDivisionError(), True)])
def test_a_fault_in_a_response_is_logged_and_a_bad_request_is_not(error: Exception, logged: bool) -> None:
    how = (logging.ERROR, "", 0, "opening handshake failed", (), (type(error), error, None))
    assert bool(quiet_logger().filter(logging.LogRecord("", *how))) == logged


# Recordings


def test_recordings_are_saved_told_and_downloaded(served: Served, tmp_path: Path) -> None:
    with served.open() as player:
        player.wait("frame")
        player.send({"type": "record", "on": True})
        for _ in range(3):
            player.send({"type": "step"})
        player.send({"type": "record", "on": False})
        saved, _ = player.wait("saved")
        assert saved["recordings"] == [saved["name"]]
        assert saved["name"] in saved["sources"]
        player.send({"type": "view", "source": saved["name"], "episode": 0, "step": 1})
        look, picture = player.wait("dataset_row")
        assert (look["step"], len(picture)) == (1, 84 * 84)

    token = f"?token={served.access.token}"
    status, headers, body = served.get(f"/recordings/{saved['name']}{token}")
    assert status == 200
    assert headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{saved['name']}"
    (tmp_path / "downloaded.npz").write_bytes(body)
    assert read_dataset(tmp_path / "downloaded.npz", [1.0]).num_steps == 3
    assert served.get(f"/recordings/{saved['name'].replace('npz', 'gif')}{token}")[2].startswith(b"GIF89a")
    for name in ("nothing.npz", "../config.yaml", "%2e%2e/x.npz", saved["name"].replace("npz", "exe")):
        assert served.get(f"/recordings/{name}{token}")[0] == 404


def record(session: Session) -> None:
    """One step."""
    for command in ({"type": "record", "on": True}, {"type": "step"}):
        session.do(command)


def test_a_recording_of_any_name_is_downloaded(served: Served) -> None:
    record(served.session)
    served.session.do({"type": "record", "on": False})
    name, token = "my try 1%20 é?#\"'.v2.npz", f"?token={served.access.token}"
    saved = served.session.saved.rename(served.session.saved.with_name(name))
    for kind, begin in (("npz", b"PK"), ("gif", b"GIF89a")):
        path = f"/recordings/{quote(name.replace('npz', kind), safe='')}"
        status, headers, body = served.get(path + token)
        assert (status, body[: len(begin)]) == (200, begin)
        assert headers["Content-Disposition"].endswith(f"''{path.rpartition('/')[2]}")
    assert served.get(f"/recordings/{quote(quote(name))}{token}")[0] == 404  # it is decoded once
    assert sorted(path.name for path in saved.parent.iterdir()) == [name.replace("npz", "gif"), name]


def test_a_video_without_ffmpeg_is_refused_with_one_line(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg._utils", reason="mp4 needs the extra [video]")
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    monkeypatch.setattr(ffmpeg, "_get_ffmpeg_exe", lambda: None)
    record(served.session)
    served.session.do({"type": "record", "on": False})
    path = f"/recordings/{served.session.saved.stem}.mp4?token={served.access.token}"
    status, _, body = served.get(path)
    assert (status, body.count(b"\n")) == (404, 1)
    assert b"mp4 needs ffmpeg" in body
    assert not caplog.text


@pytest.fixture
def hangup() -> Iterator[list[int]]:
    """SIGHUP as often as nothing in play listens to it, instead of the end of the tests."""
    missed: list[int] = []

    def miss(number: int, frame: object) -> None:
        missed.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGHUP, miss)
    yield missed
    signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_closes_does_not_lose_the_recording(
    agent: OpenedRun, start_alone: SharedStart, tmp_path: Path, hangup: list[int]
) -> None:
    session = new_session(agent, tmp_path, start_alone)
    record(session)
    serve_until_stopped(session, AccessControl(), "127.0.0.1", 0, lambda port: signal.raise_signal(signal.SIGHUP))
    assert not hangup
    assert read_dataset(session.saved, [1.0]).num_steps == 1


def test_nohup_plays_on_without_its_terminal(
    agent: OpenedRun, start_alone: SharedStart, tmp_path: Path, hangup: list[int]
) -> None:
    def ready(port: int) -> None:
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    serve_until_stopped(new_session(agent, tmp_path, start_alone), AccessControl(), "127.0.0.1", 0, ready)


def test_stopping_the_server_saves_what_is_being_recorded(served: Served, made_run: Path) -> None:
    session = served.session
    with served.open() as player:
        player.wait("frame")
        player.send({"type": "record", "on": True})
        player.send({"type": "step"})
        player.wait("frame", lambda frame: frame["step"] == 1)
    other = Served(session)  # another server of the same session is stopped
    other.close()
    assert read_dataset(session.saved, [1.0]).num_steps == 1


# The program


def start(*arguments: str, cwd: Path) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "src" / "play.py"), *arguments]
    threads = str(os.cpu_count())  # what torch takes by itself, not what the other tests are given
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": threads}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=cwd, env=environment, text=True, **pipes)


def test_play_py_prints_an_address_and_ends_with_ctrl_c(made_run: Path, tmp_path: Path) -> None:
    process = start(f"run={made_run}", "port=0", "device=cpu", cwd=tmp_path)
    playing, address, remote = (process.stdout.readline().split() for _ in range(3))
    assert playing[:2] == ["playing", "Breakout:"]
    assert int(playing[-2].strip("(")) <= max(1, os.cpu_count() - 1), "a thread a core, but one"
    url = address[1]
    port = url.split(":")[2].split("/")[0]
    assert remote[1:5] == ["ssh", "-C", "-L", f"{port}:localhost:{port}"]
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
    connection.request("GET", url.partition(port)[2], headers={"Host": f"localhost:{port}"})
    assert connection.getresponse().status == 200
    code, _, err = run("port=" + port, f"run={made_run}", cwd=tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert f"port={port}" in err
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def run(*arguments: str, cwd: Path) -> tuple[int, str, str]:
    process = start(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.mark.parametrize("argument", ["prt=1", "run=nowhere", "host=0.0.0.0", "device=gpu"])
def test_a_users_error_is_one_line(argument: str, tmp_path: Path) -> None:
    code, out, err = adamas("play", argument, cwd=tmp_path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")


@pytest.mark.slow
def test_a_user_without_a_name_can_play(made_run: Path, tmp_path: Path) -> None:
    """As in a container that runs under a number of which its /etc/passwd knows nothing."""
    program = tmp_path / "nameless.py"
    program.write_text(
        "import pwd, runpy, sys\n"
        "def unknown(*key): raise KeyError('getpwuid(): uid not found')\n"
        "pwd.getpwuid = pwd.getpwnam = unknown\n"
        f"sys.argv = ['play.py', 'run={made_run}', 'port=0', 'device=cpu']\n"
        f"runpy.run_path({str(ROOT / 'src' / 'play.py')!r}, run_name='__main__')\n"
    )
    names = ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {"PYTHONPATH": str(ROOT / "src")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, str(program)], cwd=tmp_path, env=environment, text=True, **pipes)
    lines = [process.stdout.readline() for _ in range(3)]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert lines[2].split()[-1] == socket.gethostname()


def test_pictures_travel_as_raw_bytes() -> None:
    picture = np.arange(84 * 84, dtype=np.uint8).reshape(84, 84)
    data = protocol.pack({"a": 1}, [picture, picture.T])
    assert data == struct.pack("<I", 8) + b'{"a": 1}' + picture.tobytes() + np.ascontiguousarray(picture.T).tobytes()
