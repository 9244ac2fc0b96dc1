"""The server: the page and the socket from one port, the model in one worker thread, one player at a time."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from websockets.asyncio.server import serve as serve_sockets
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from adamas.play import http, protocol
from adamas.play.auth import AccessControl
from adamas.play.connections import Client, LimitedConnection, quiet_logger
from adamas.play.session import Session
from adamas.training.signals import signals_to_handle
from adamas.utils.errors import UserError

T = TypeVar("T")
MOST_BYTES = 4096  # of a message from the page
RESPONSE_TIMEOUT = 60  # seconds, in which a video of a recording must be made
CLOSE_TIMEOUT = 2  # seconds that a page may take to close its connection


class Server:
    """One page at a time plays the session. What takes time in it runs in the worker thread; datasets have another thread."""

    def __init__(self, session: Session, access: AccessControl) -> None:
        self.session, self.access = session, access
        self._worker, self._viewer = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._connections: dict[LimitedConnection, None] = {}
        self._player: Client | None = None
        self._pressed = asyncio.Event()  # a key, since the last step

    async def run(self, host: str, port: int, ready: Callable[[int], None], stop: asyncio.Event) -> None:
        """Serves until `stop` is set, then saves what is being recorded.

        Args:
            ready: called with the port once the page can be opened.

        Raises:
            UserError: nothing can listen there.
        """
        self.access = replace(self.access, host=host)
        options = {"max_size": MOST_BYTES, "open_timeout": RESPONSE_TIMEOUT, "close_timeout": CLOSE_TIMEOUT}
        options["create_connection"] = functools.partial(LimitedConnection, others=self._connections)
        options["compression"] = None  # noise does not compress; `ssh -C` does it for slow lines
        options |= {"process_request": self._respond, "logger": quiet_logger()}
        try:
            listening = await serve_sockets(self._serve_client, host, port, **options)
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
                for idle in [connection for connection in self._connections if connection.request is None]:
                    idle.abort()
        finally:
            await self._in_worker(self.session.close)
        for task in done:
            task.result()  # an error in the game is not swallowed

    async def _respond(self, connection: LimitedConnection, request: Request) -> Response | None:
        """The response to a plain request; None for one that opens a socket."""
        refusal = http.check_access(request, self.access)
        if refusal or http.path_of(request) == http.SOCKET:
            return refusal
        if http.path_of(request).startswith(http.DOWNLOADS):
            return await asyncio.to_thread(http.download, request, self.session.datasets)
        return http.page_file(request)

    async def _serve_client(self, socket: LimitedConnection) -> None:
        """One page, from its first message to its last."""
        client = Client(socket, http.query_argument(socket.request, "client"))
        try:
            with contextlib.suppress(ConnectionClosed):
                if self._player is None or (client.tab and self._player.tab == client.tab):
                    await self._make_player(client)
                else:
                    await client.send({"type": "busy"})
                async for message in socket:
                    await self._receive(client, message)
        finally:
            if self._player is client:
                self._player = None
                await self._in_worker(self.session.release_keys)

    async def _make_player(self, client: Client) -> None:
        before, self._player = self._player, client
        if before and before is not client:
            await before.replace()
        await self._in_worker(self.session.release_keys)
        await client.send(await self._in_worker(lambda: protocol.hello(self.session)))
        client.greeted = True
        await self._send_frame(client)

    async def _receive(self, client: Client, message: str | bytes) -> None:
        """Carries out one message. What cannot be carried out gets an error and changes nothing."""
        try:
            command = protocol.parse(message)
            if command == {"type": "take_over"}:
                await self._make_player(client)
            elif client is not self._player:
                raise UserError("somebody else is playing: take over first")
            elif command == {"type": "acknowledge"} and client.acknowledged < client.sent:
                client.acknowledged += 1
            elif command.get("type") == "view":
                await client.send(await self._in_viewer(lambda: self._view(command)))
            else:
                await self._do(client, command)
        except UserError as error:
            await client.send({"type": "error", "text": str(error)})

    def _view(self, command: dict[str, Any]) -> bytes:
        source, episode, step = (command.get(name) for name in ("source", "episode", "step"))
        if type(source) is not str or type(episode) is not int or type(step) is not int:
            raise UserError("view needs source, episode and step")
        return protocol.dataset_row(self.session.datasets.row(source, episode, step))

    async def _do(self, client: Client, command: dict[str, Any]) -> None:
        """A command of the session. Keys show in the frame of the next step, all others at once."""
        saved = self.session.saved
        await self._in_worker(lambda: self.session.do(command))
        if command["type"] == "keys":
            if self.session.key_waits:
                self._pressed.set()
        else:
            await self._send_frame(client)
        await self._send_saved(client, saved)

    async def _send_frame(self, client: Client) -> None:
        """What the session shows now."""
        await client.send_frame(await self._in_worker(lambda: protocol.frame(self.session)))

    async def _send_saved(self, client: Client, before: Any) -> None:
        """Tells of a recording that was saved since `before` was the last one."""
        if self.session.saved != before:
            stored = await self._in_viewer(lambda: protocol.stored(self.session))
            await client.send({"type": "saved", "name": self.session.saved.name, **stored})

    async def _play(self) -> None:
        """Steps at the speed of the settings, or as fast as the model can, while a page shows them.

        A key that is pressed brings the next step forward, unless that came early already: the speed stays the same.
        """
        due = time.perf_counter()
        while True:
            client, saved = self._player, self.session.saved
            if client and client.ready:
                try:
                    await client.send_frame(await self._in_worker(self._tick))
                except UserError as error:
                    self.session.paused = True
                    await client.send({"type": "error", "text": str(error)})
                    await self._send_frame(client)
                await self._send_saved(client, saved)
            period, now = 1 / self.session.settings.fps, time.perf_counter()
            due = max(due + period, now)
            await asyncio.sleep(due - now - period)
            if not self.session.key_waits:
                self._pressed.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._pressed.wait(), due - time.perf_counter())

    def _tick(self) -> bytes | None:
        began = time.perf_counter()
        return protocol.frame(self.session, 1000 * (time.perf_counter() - began)) if self.session.tick() else None

    async def _in_worker(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function)

    async def _in_viewer(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._viewer, function)


def serve(session: Session, access: AccessControl, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Serves until Ctrl-C, SIGTERM or SIGHUP."""

    async def main() -> None:
        stop = asyncio.Event()
        for number in signals_to_handle("SIGINT", "SIGTERM", "SIGHUP"):
            with contextlib.suppress(NotImplementedError):  # Windows: there Ctrl-C interrupts
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await Server(session, access).run(host, port, ready, stop)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
