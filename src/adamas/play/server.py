"""The server: the page and the socket from one port, the model in one worker thread, one player at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_sockets
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from adamas.play import http, protocol, recorder
from adamas.play.auth import Doors
from adamas.play.session import Session
from adamas.utils.errors import UserError

T = TypeVar("T")
MOST_BYTES = 4096  # of a message from the page
MOST_UNSEEN = 2  # frames on their way to the page: a slow connection slows the game, it does not lag behind it
SLOW_ANSWER = 60  # seconds that a film of a recording may take to be made


@dataclass(eq=False)
class Seat:
    """One open page."""

    socket: ServerConnection
    client: str  # the same for all connections of one browser tab
    greeted: bool = False  # no frame before the hello that explains it
    sent: int = 0  # frames
    seen: int = 0  # by the page, which says so for each


class Server:
    """Lets one page at a time play the session, which only the worker thread ever touches."""

    def __init__(self, session: Session, doors: Doors) -> None:
        self.session, self.doors = session, doors
        self._worker = ThreadPoolExecutor(1)
        self._seat: Seat | None = None  # of the player

    async def run(self, host: str, port: int, ready: Callable[[int], None], stop: asyncio.Event) -> None:
        """Serves until `stop` is set, then saves what is being recorded.

        Args:
            ready: called with the port once the page can be opened.

        Raises:
            UserError: nothing can listen there.
        """
        options = {"max_size": MOST_BYTES, "open_timeout": SLOW_ANSWER, "process_request": self._answer}
        options["compression"] = None  # of noise there is little to gain; `ssh -C` does it for slow lines
        try:
            listening = await serve_sockets(self._talk, host, port, **options)
        except OSError as error:
            raise UserError(
                f"port={port} of {host} cannot be used ({error.strerror}): try another, or port=0"
            ) from error
        try:
            async with listening:
                ready(listening.sockets[0].getsockname()[1])
                tasks = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._play())]
                done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in waiting:
                    task.cancel()
        finally:
            await self._in_worker(self.session.close)
        for task in done:
            task.result()  # what went wrong in the game is not swallowed

    async def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """The response to a plain request; None for one that opens a socket."""
        refusal = http.gate(request, self.doors)
        path = http.path_of(request)
        if refusal or path == http.SOCKET:
            return refusal
        if path.startswith(http.DOWNLOADS):
            return await asyncio.to_thread(self._download, path.removeprefix(http.DOWNLOADS))
        return http.page(request)

    def _download(self, name: str) -> Response:
        """DATE-TIME.npz, .gif or .mp4. Runs in a thread of its own: a film takes time, and the game goes on."""
        stem, _, kind = name.rpartition(".")
        try:
            if kind not in recorder.KINDS:
                raise UserError(f"a recording is one of {', '.join(recorder.KINDS)}")
            path = self.session.library.recording(f"{stem}.npz")
            return http.attach(path if kind == "npz" else recorder.export(path, kind), download=True)
        except UserError as error:
            return http.answer(HTTPStatus.NOT_FOUND, str(error))

    async def _talk(self, socket: ServerConnection) -> None:
        """One page, from its first message to its last."""
        seat = Seat(socket, http.argument(socket.request, "client"))
        with contextlib.suppress(ConnectionClosed):
            if self._seat is None or (seat.client and self._seat.client == seat.client):
                await self._sit(seat)
            else:
                await self._say(seat, {"type": "busy"})
            async for message in socket:
                await self._hear(seat, message)
        if self._seat is seat:
            self._seat = None
            await self._in_worker(self.session.release)

    async def _sit(self, seat: Seat) -> None:
        """Makes it the player's. Whoever played before is told."""
        before, self._seat = self._seat, seat
        if before:
            await self._say(before, {"type": "taken"})
        await self._in_worker(self.session.release)
        await self._say(seat, await self._in_worker(lambda: protocol.hello(self.session)))
        seat.greeted = True
        await self._show(await self._in_worker(self._frame))

    async def _hear(self, seat: Seat, message: str | bytes) -> None:
        """Carries out one message. What cannot be carried out gets an error and changes nothing."""
        try:
            command = protocol.parse(message)
            if command == {"do": "take_over"}:
                await self._sit(seat)
            elif seat is not self._seat:
                raise UserError("somebody else is playing: take over first")
            elif command == {"do": "seen"} and seat.seen < seat.sent:
                seat.seen += 1
            elif command.get("do") == "look":
                await seat.socket.send(await self._in_worker(lambda: self._look(command)))
            else:
                await self._do(seat, command)
        except UserError as error:
            await self._say(seat, {"type": "error", "text": str(error)})

    def _look(self, command: dict[str, Any]) -> bytes:
        source, episode, step = (command.get(name) for name in ("source", "episode", "step"))
        if type(source) is not str or type(episode) is not int or type(step) is not int:
            raise UserError("look needs source, episode and step")
        return protocol.look(self.session.library.look(source, episode, step))

    async def _do(self, seat: Seat, command: dict[str, Any]) -> None:
        """A command of the session. Keys show in the frame of the next step, all others at once."""
        saved = self.session.saved
        await self._in_worker(lambda: self.session.do(command))
        if command["do"] != "keys":
            await self._show(await self._in_worker(self._frame))
        if self.session.saved != saved:
            await self._tell_saved(seat)

    async def _tell_saved(self, seat: Seat) -> None:
        shelf = await self._in_worker(lambda: protocol.shelf(self.session))
        await self._say(seat, {"type": "saved", "name": self.session.saved.name, **shelf})

    async def _play(self) -> None:
        """One step after the other, at the speed of the settings or as fast as the model can, while somebody watches."""
        due = time.perf_counter()
        while True:
            seat, saved = self._seat, self.session.saved
            if seat and seat.greeted and seat.sent - seat.seen <= MOST_UNSEEN:
                try:
                    await self._show(await self._in_worker(self._tick))
                except UserError as error:
                    self.session.paused = True
                    await self._say(seat, {"type": "error", "text": str(error)})
                if self.session.saved != saved:
                    await self._tell_saved(seat)
            now = time.perf_counter()
            due = max(due + 1 / self.session.settings.fps, now)
            await asyncio.sleep(due - now)

    def _tick(self) -> bytes | None:
        began = time.perf_counter()
        return self._frame(1000 * (time.perf_counter() - began)) if self.session.tick() else None

    def _frame(self, milliseconds: float | None = None) -> bytes:
        """The moment; with how long its step took, if it is a new one."""
        return protocol.frame(self.session, milliseconds=milliseconds)

    async def _show(self, frame: bytes | None) -> None:
        seat = self._seat
        if seat and seat.greeted and frame:
            seat.sent += 1
            with contextlib.suppress(ConnectionClosed):
                await seat.socket.send(frame)

    async def _say(self, seat: Seat, message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionClosed):
            await seat.socket.send(json.dumps(message))

    async def _in_worker(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function)


def serve(session: Session, doors: Doors, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Serves until Ctrl-C or SIGTERM."""

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows: there Ctrl-C interrupts
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await Server(session, doors).run(host, port, ready, stop)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
