"""Who is let in: the token, and the names under which this server may be spoken to.

A foreign page can make a browser send requests here, but neither knows the token nor has our Origin; a name that was
rebound to this machine is not an allowed Host.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from adamas.utils.errors import UserError

LOCAL = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Doors:
    """What a request must show."""

    public_origin: str | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    def refuse_host(self, host: str | None) -> bool:
        """Any port will do: `ssh -L` may lead here from another one."""
        name, port = split_port(host or "")
        allowed = name in LOCAL and (port is None or port.isdecimal())
        return not (allowed or (self.public_origin and host == urlsplit(self.public_origin).netloc))

    def refuse_origin(self, origin: str | None, host: str) -> bool:
        """A page may only talk to the server that it came from. `host` has been let in."""
        return origin not in (f"http://{host}", self.public_origin)

    def refuse_token(self, token: str) -> bool:
        """Takes as long for a near miss as for a far one."""
        return not hmac.compare_digest(token.encode(), self.token.encode())


def split_port(host: str) -> tuple[str, str | None]:
    """("localhost", "8000") for "localhost:8000", ("[::1]", None) for "[::1]"."""
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and not host.endswith("]") else (host, None)


def check_address(host: str, public_origin: str | None) -> None:
    """Raises UserError for an address that is open to others without a name, and for a name that is no origin."""
    if public_origin is not None:
        parts = urlsplit(public_origin)
        if (
            parts.scheme not in ("http", "https")
            or f"{parts.scheme}://{parts.netloc}" != public_origin
            or not parts.netloc
        ):
            raise UserError(f"public_origin={public_origin} must look like https://NAME or https://NAME:PORT")
    if not _is_loopback(host) and not public_origin:
        raise UserError(f"host={host} lets others in: give the name they use as public_origin=http://NAME:PORT too")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
