"""Plain HTTP requests: the page and the downloads."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from adamas.play import recording_files
from adamas.play.auth import AccessControl
from adamas.play.dataset_viewer import DatasetViewer
from adamas.utils.errors import UserError, one_line

PAGE = Path(__file__).parent / "page"
PUBLIC_FILES = {f"/{path.name}": path for path in PAGE.iterdir() if path.suffix in (".css", ".js", ".svg")}
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


def check_access(request: Request, access: AccessControl) -> Response | None:
    """The response to a request that is refused, None for one that is allowed. Host comes first.

    PUBLIC_FILES hold no secrets, and a page has no way to send its token for them.
    """
    host, origin = _single_header(request, "Host"), _single_header(request, "Origin")
    if host is None or not access.allows_host(host):
        return text_response(
            HTTPStatus.MISDIRECTED_REQUEST, "this server is not known by that name: use public_origin="
        )
    if (origin is not None or path_of(request) == SOCKET) and not access.allows_origin(origin, host):
        return text_response(HTTPStatus.FORBIDDEN, "that page may not use this server")
    if path_of(request) not in PUBLIC_FILES and not access.allows_token(query_argument(request, "token")):
        return text_response(HTTPStatus.UNAUTHORIZED, "open the whole address that play.py printed, with its token")
    return None


def page_file(request: Request) -> Response:
    """One of the page's own files."""
    path = PAGE / "index.html" if path_of(request) == "/" else PUBLIC_FILES.get(path_of(request))
    if path is None:
        return text_response(HTTPStatus.NOT_FOUND, "there is nothing here")
    response = file_response(path)
    response.headers["Content-Security-Policy"] = content_security_policy(_single_header(request, "Host") or "")
    return response


def download(request: Request, datasets: DatasetViewer) -> Response:
    """/recordings/DATE-TIME.npz, .gif or .mp4. May take seconds. The name is one of a list, not a path to be opened."""
    stem, _, kind = unquote(path_of(request).removeprefix(DOWNLOADS)).rpartition(".")
    try:
        if kind not in recording_files.KINDS:
            raise UserError(f"a recording is one of {', '.join(recording_files.KINDS)}")
        path = datasets.recording(f"{stem}.npz")
        response = file_response(path if kind == "npz" else recording_files.export(path, kind))
    except (UserError, OSError) as error:
        return text_response(HTTPStatus.NOT_FOUND, one_line(error))
    response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(f'{path.stem}.{kind}', safe='')}"
    return response


def content_security_policy(host: str) -> str:
    """Nothing from elsewhere, nothing inline. Sockets are named one by one: not every browser counts them as 'self'."""
    own = "script-src 'self'; style-src 'self'; img-src 'self'"
    none = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return f"{none}; {own}; connect-src 'self' ws://{host} wss://{host}"


def text_response(status: HTTPStatus, text: str) -> Response:
    return _response(status, (text + "\n").encode(), "text/plain; charset=utf-8")


def file_response(path: Path) -> Response:
    return _response(HTTPStatus.OK, path.read_bytes(), TYPES[path.suffix])


def path_of(request: Request) -> str:
    return request.path.partition("?")[0]


def query_argument(request: Request, name: str) -> str:
    return parse_qs(request.path.partition("?")[2]).get(name, [""])[0]


def _response(status: HTTPStatus, body: bytes, kind: str) -> Response:
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


def _single_header(request: Request, name: str) -> str | None:
    """The header's value, and "" where it came more than once."""
    values = request.headers.get_all(name)
    return None if not values else values[0] if len(values) == 1 else ""
