"""Connections of the server: how many there may be, and what one open page has been sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.protocol import State

MOST_CONNECTIONS = 64
MOST_UNACKNOWLEDGED = (
    2  # frames on their way to the page: a slow connection slows the game down, it does not lag behind
)
BAD_REQUESTS = (WebSocketException, ConnectionError, EOFError)


class LimitedConnection(ServerConnection):
    """Where MOST_CONNECTIONS are open, the oldest one that is not in use makes room for it, or else it is closed."""

    def __init__(self, *args: Any, others: dict[LimitedConnection, None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.others = others  # all that are open, this one among them, oldest first

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.others[self] = None
        if len(self.others) > MOST_CONNECTIONS:
            next((other for other in self.others if not other.in_use), self).abort()

    @property
    def in_use(self) -> bool:
        """Not before its request, and not after a plain response to it."""
        answered = self.response is not None and self.state is not State.OPEN
        return self.request is not None and not (answered and not self.transport.get_write_buffer_size())

    def connection_lost(self, exc: Exception | None) -> None:
        self.others.pop(self, None)
        super().connection_lost(exc)

    def abort(self) -> None:
        """Closes it without a word. What waits to be sent is lost."""
        self.others.pop(self, None)
        self.transport.abort()


def quiet_logger() -> logging.Logger:
    """For the websockets library: requests that are no HTTP are no event to print a traceback for."""
    logger = logging.getLogger("adamas.play.websockets")
    logger.addFilter(_is_no_bad_request)
    return logger


def _is_no_bad_request(record: logging.LogRecord) -> bool:
    """An error in our own response is logged. websockets 15 and 16 call it a failed handshake, too."""
    error = record.exc_info[1] if record.exc_info else None
    return record.msg != "opening handshake failed" or not isinstance(error, BAD_REQUESTS)


@dataclass(eq=False)
class Client:
    """One open page."""

    socket: LimitedConnection
    tab: str  # the same for all connections of one browser tab
    greeted: bool = False  # no frame before the hello that explains it
    sent: int = 0  # frames
    acknowledged: int = 0  # frames

    @property
    def ready(self) -> bool:
        """Whether it may be sent another frame by itself."""
        return self.greeted and self.sent - self.acknowledged <= MOST_UNACKNOWLEDGED

    async def send(self, message: dict[str, Any] | bytes) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self.socket.send(message if isinstance(message, bytes) else json.dumps(message))

    async def send_frame(self, frame: bytes | None) -> None:
        if self.greeted and frame:
            self.sent += 1
            await self.send(frame)

    async def replace(self) -> None:
        """Tells it that another page plays now. One that does not read what it is sent is closed instead."""
        if self.socket.transport.get_write_buffer_size():
            self.socket.abort()
        await self.send({"type": "replaced"})
