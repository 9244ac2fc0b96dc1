"""Visitors of the play server that must not be served, and what the player notices of them: frames a second."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from common import ROOT, Row

sys.path.insert(0, str(ROOT / "tests"))
SECONDS = 4.0  # of each count
LONG = 30.0  # of the count while 1,000 connections are opened
PROMISE = "the play server serves nobody but its player"


def server(folder: Path) -> Iterator[Row]:
    """The server, its player and the visitors are three processes, as on three machines."""
    from playing import Served, make_run

    from adamas.play.load import open_agent
    from adamas.play.session import Session
    from adamas.play.settings import Options, Settings

    run = make_run(folder / "played") if not (folder / "played").exists() else folder / "played"
    session = Session(
        open_agent(Options(run=str(run), device="cpu")), Settings(stop_at_end=False, fps=15, horizon=2000)
    )
    session.datasets.recordings = folder / "recordings"
    served = Served(session)
    try:
        with served.open() as player:
            player.wait("frame")
            for name, visit in VISITS.items():
                player.send({"type": "new_episode"})  # no dream ends while it is measured
                before = frames_a_second(player)
                with visiting(visit, served) as counts:
                    during = frames_a_second(player, LONG if visit is many else SECONDS)
                made, got_in = counts()
                alive = frames_a_second(player) > 0
                found = f"{got_in} of {made} served; the player has {during:.1f} frames a second, {before:.1f} before"
                print(name, found, flush=True)
                yield Row(PROMISE, name, found, got_in == 0 and made > 0 and alive)
    finally:
        served.close()


def frames_a_second(player: object, seconds: float = SECONDS) -> float:
    count, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        header, _ = player.receive()  # type: ignore[attr-defined]
        count += header["type"] == "frame"
    return count / (time.monotonic() - began)


@contextlib.contextmanager
def visiting(
    visit: Callable[[object, random.Random], bool | None], served: object
) -> Iterator[Callable[[], tuple[int, int]]]:
    """Inside, a process visits again and again. Afterwards: how many visits there were, and how many were served."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        draw = random.Random(0)
        while True:
            try:
                got_in = visit(served, draw)
            except OSError:
                got_in = False
            os.write(write, b"1" if got_in else b"0")
    answer: list[bytes] = []
    yield lambda: (len(answer[0]), answer[0].count(b"1"))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(write)
    parts = []
    while part := os.read(read, 1 << 16):
        parts.append(part)
    os.close(read)
    answer.append(b"".join(parts))


# Each returns whether it was served.


def ask(served: object, data: bytes, answer: bool = True) -> bytes:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as line:  # type: ignore[attr-defined]
        line.sendall(data)
        return line.recv(100) if answer else b""


def request(served: object, path: str, host: str = "", *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host or served.host}", *headers, "", ""]  # type: ignore[attr-defined]
    return ask(served, "\r\n".join(lines).encode())


def ok(answer: bytes) -> bool:
    return b" 200 " in answer[:20] or b" 101 " in answer[:20]


SOCKET = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: " + "A" * 22 + "==",
)


def own(served: object) -> str:
    return f"Origin: http://{served.host}"  # type: ignore[attr-defined]


def foreign_origin(served: object, draw: random.Random) -> bool:
    origin = draw.choice(["http://evil.example", "null", "http://localhost", f"https://{served.host}", "file://"])
    return ok(request(served, f"/socket?token={served.access.token}&client=x", "", *SOCKET, f"Origin: {origin}"))


def foreign_host(served: object, draw: random.Random) -> bool:
    host = draw.choice(["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "0.0.0.0", "[::2]"])
    return ok(request(served, f"/?token={served.access.token}", host))


def no_token(served: object, draw: random.Random) -> bool:
    return ok(request(served, draw.choice(["/", "/recordings/a.npz"]))) or ok(
        request(served, "/socket?client=x", "", *SOCKET, own(served))
    )


def wrong_token(served: object, draw: random.Random) -> bool:
    token = served.access.token
    wrong = draw.choice([token[:-1], token + "x", token.swapcase(), "%00", "x" * 3000, "", "%ff", f"{token}%00"])
    return ok(request(served, f"/socket?token={wrong}&client=x", "", *SOCKET, own(served)))


def path_traversal(served: object, draw: random.Random) -> bool:
    up = draw.choice(["../", "..%2f", "%2e%2e/", "..\\", "....//", "/"]) * draw.randrange(1, 6)
    path = draw.choice(["", "recordings/", "page/"]) + up + draw.choice(["etc/passwd", "config.yaml", "http.py"])
    return ok(request(served, f"/{path}?token={served.access.token}")) and "passwd" in path


def opened(served: object, data: bytes, client: str) -> bytes:
    """What a socket of another page, which waits for its turn, is answered to raw bytes."""
    lines = [
        f"GET /socket?token={served.access.token}&client={client} HTTP/1.1",
        f"Host: {served.host}",
        *SOCKET,
        own(served),
        "",
        "",
    ]
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as line:
        line.sendall("\r\n".join(lines).encode())
        line.recv(4096)
        line.sendall(data)
        got = b""
        line.settimeout(1)
        with contextlib.suppress(OSError):
            while len(got) < 100_000 and (part := line.recv(4096)):
                got += part
        return got


def oversized(served: object, draw: random.Random) -> bool:
    length = draw.choice([5_000, 65_535, 1 << 20, 1 << 40])
    head = (
        bytes([0x81, 0xFE]) + length.to_bytes(2, "big")
        if length < 1 << 16
        else bytes([0x81, 0xFF]) + length.to_bytes(8, "big")
    )
    return b'"frame"' in opened(served, head + bytes(4) + b" " * min(length, 70_000), "large")


def malformed(served: object, draw: random.Random) -> bool:
    return b'"frame"' in opened(served, draw.randbytes(draw.randrange(1, 200)), "odd")


def many(served: object, draw: random.Random) -> bool:
    """1,000 at once, of which each says nothing, or half a request."""
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            with contextlib.suppress(OSError):
                line = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=10))
                line.sendall(draw.choice([b"G", b"GET / HTTP/1.1\r\nHost:"]))
    return False


def slow_reader(served: object, draw: random.Random) -> bool:
    """Asks with the token, and never reads the answer."""
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=10))
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            line.sendall(f"GET /?token={served.access.token} HTTP/1.1\r\nHost: {served.host}\r\n\r\n".encode())
        time.sleep(0.5)
    return False


VISITS = {
    "foreign Origin": foreign_origin,
    "foreign Host": foreign_host,
    "no token": no_token,
    "wrong token": wrong_token,
    "path traversal": path_traversal,
    "oversized frames": oversized,
    "malformed frames": malformed,
    "1,000 connections at a time": many,
    "20 slow readers at a time": slow_reader,
}


def messages(folder: Path, count: int) -> Row:
    """Messages of the player that hypothesis draws: an error each, and the game goes on."""
    import json

    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
    from playing import make_run

    from adamas.play import protocol
    from adamas.play.load import open_agent
    from adamas.play.session import Session
    from adamas.play.settings import Options, Settings
    from adamas.utils.errors import UserError

    run = folder / "played"
    run = run if run.exists() else make_run(run)
    session, counts = Session(open_agent(Options(run=str(run), device="cpu")), Settings(stop_at_end=False)), [0, 0, 0]
    session.datasets.recordings = folder / "recordings"
    leaf = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9))
    kinds = [
        "step",
        "set",
        "keys",
        "rewind",
        "restart",
        "pause",
        "record",
        "new_episode",
        "player",
        "view",
        "acknowledge",
    ]
    names = ["name", "value", "keys", "steps", "number", "paused", "player", "source", "on"]
    value = st.recursive(
        leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    )
    good = st.dictionaries(st.sampled_from(names), value, max_size=3)
    object_ = st.builds(lambda kind, rest: json.dumps({"type": kind, **rest}), st.sampled_from(kinds), good)
    message = st.one_of(object_, object_, value.map(json.dumps), st.text(max_size=30), st.binary(max_size=30))

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(message)
    def each(text: str | bytes) -> None:
        try:
            session.do(protocol.parse(text))
            counts[1] += 1
        except UserError as error:
            counts[0] += len(str(error).splitlines()) == 1
            counts[2] += len(str(error).splitlines()) != 1
        except Exception as error:
            counts[2] += 1
            print(repr(text)[:200], repr(error), flush=True)

    each()
    session.close()
    found = f"{counts[0]} one-line errors, {counts[1]} that were no mistakes, {counts[2]} faults"
    return Row("bad input costs one line, no traceback", f"{sum(counts)} of WebSocket messages", found, counts[2] == 0)
