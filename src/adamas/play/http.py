"""The page and the downloads: what a plain HTTP request gets. Pure but for reading files."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from adamas.play.auth import Doors

PAGE = Path(__file__).parent / "page"
FILES = {"/": "index.html", "/style.css": "style.css", "/page.js": "page.js", "/icon.svg": "icon.svg"}
SOCKET, DOWNLOADS = "/socket", "/recordings/"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".gif": "image/gif",
    ".mp4": "video/mp4",
    ".npz": "application/octet-stream",
}
OPEN = ("/style.css", "/page.js", "/icon.svg")  # no secrets, and a page has no way to send its token for them


def gate(request: Request, doors: Doors) -> Response | None:
    """What refuses the request, None for one that is let in. Host first: nothing is said under a foreign name."""
    host, origin = _only(request, "Host"), _only(request, "Origin")
    if doors.refuse_host(host):
        return answer(HTTPStatus.MISDIRECTED_REQUEST, "this server is not known under that name: use public_origin=")
    if (origin is not None or path_of(request) == SOCKET) and doors.refuse_origin(origin, host):
        return answer(HTTPStatus.FORBIDDEN, "that page may not talk to this server")
    if path_of(request) not in OPEN and doors.refuse_token(argument(request, "token")):
        return answer(HTTPStatus.UNAUTHORIZED, "open the whole address that play.py printed, with its token")
    return None


def page(request: Request) -> Response:
    """One of the page's own files."""
    name = FILES.get(path_of(request))
    if name is None:
        return answer(HTTPStatus.NOT_FOUND, "there is nothing here")
    response = attach(PAGE / name)
    response.headers["Content-Security-Policy"] = policy(_only(request, "Host") or "")
    return response


def policy(host: str) -> str:
    """Nothing from elsewhere, nothing inline. The sockets are spelled out: not every browser counts them as 'self'."""
    own = "script-src 'self'; style-src 'self'; img-src 'self'"
    none = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return f"{none}; {own}; connect-src 'self' ws://{host} wss://{host}"


def answer(status: HTTPStatus, text: str) -> Response:
    return respond(status, (text + "\n").encode(), "text/plain; charset=utf-8")


def attach(path: Path, download: bool = False) -> Response:
    """The file as a response, to be shown or to be saved."""
    response = respond(HTTPStatus.OK, path.read_bytes(), TYPES[path.suffix])
    if download:
        response.headers["Content-Disposition"] = f'attachment; filename="{path.name}"'
    return response


def respond(status: HTTPStatus, body: bytes, kind: str) -> Response:
    headers = {
        "Content-Type": kind,
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Connection": "close",
    }
    return Response(status.value, status.phrase, Headers(headers), body)


def path_of(request: Request) -> str:
    return urlsplit(request.path).path


def argument(request: Request, name: str) -> str:
    return parse_qs(urlsplit(request.path).query).get(name, [""])[0]


def _only(request: Request, name: str) -> str | None:
    """The header's value, and "" where it came more than once."""
    values = request.headers.get_all(name)
    return None if not values else values[0] if len(values) == 1 else ""
