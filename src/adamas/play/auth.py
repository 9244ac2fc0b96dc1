"""Which requests are served: those with the token, an allowed Host and, where a page sends them, our own Origin.

A foreign page can make a browser send requests here, but it does not know the token and has another Origin. A domain name
that was rebound to this machine (DNS rebinding) is not an allowed Host.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from adamas.utils.errors import UserError

DEFAULT_PORTS = {"http": "80", "https": "443"}
LOCAL = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class AccessControl:
    """What a request must have."""

    public_origin: str | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    host: str = "127.0.0.1"  # that the server listens on

    def allows_host(self, host: str | None) -> bool:
        """With any port: `ssh -L` may lead here from another one."""
        host = (host or "").lower()
        name, port = split_port(host)
        own = name in (*LOCAL, host_in_url(self.host)) and (port is None or port.isdecimal())
        return own or (self._public is not None and host == urlsplit(self._public).netloc)

    def allows_origin(self, origin: str | None, host: str) -> bool:
        """A page may only use the server that it came from. `host` is an allowed one."""
        return origin is not None and origin.lower() in (f"http://{host}".lower(), self._public)

    def allows_token(self, token: str) -> bool:
        """In constant time, whatever bytes were sent."""
        return hmac.compare_digest(token.encode(errors="surrogateescape"), self.token.encode())

    @property
    def _public(self) -> str | None:
        """Browsers send names in lower case."""
        return self.public_origin.lower() if self.public_origin else None


def host_in_url(host: str) -> str:
    """What a browser on this machine calls the address that the server listens on: "localhost", "127.0.0.2", "[::1]"."""
    if host == "127.0.0.1":
        return "localhost"
    return f"[{host}]".lower() if ":" in host else host.lower()


def split_port(host: str) -> tuple[str, str | None]:
    """("localhost", "8000") for "localhost:8000", ("[::1]", None) for "[::1]"."""
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and not host.endswith("]") else (host, None)


def check_address(host: str, public_origin: str | None) -> None:
    """Raises UserError for an address that others can reach without a public_origin, and for one that is no origin."""
    if public_origin is not None:
        parts = urlsplit(public_origin)
        if (
            parts.scheme not in ("http", "https")
            or f"{parts.scheme}://{parts.netloc}".lower() != public_origin.lower()
            or not parts.netloc
        ):
            raise UserError(f"public_origin={public_origin} must look like https://NAME or https://NAME:PORT")
        if split_port(parts.netloc)[1] == DEFAULT_PORTS[parts.scheme]:
            raise UserError(
                f"public_origin={public_origin}: leave the port out, as browsers do with that of {parts.scheme}"
            )
    if not _is_loopback(host) and not public_origin:
        raise UserError(
            f"host={host} can be reached by others: give the name they use as public_origin=http://NAME:PORT too"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
