"""Plays a trained world model in the browser: `python src/play.py`, or `python src/play.py run=runs/Breakout/DATE-TIME`."""

from __future__ import annotations

import getpass
import socket
import sys

try:
    from adamas.utils.errors import exit_code
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is not installed here: pip install -e . where python is {sys.executable}")
from adamas.play.settings import Options, help_text, read


def play(options: Options) -> None:
    """Opens a run, prints the page's address and serves it until Ctrl-C."""
    # torch takes seconds to import: after the options were checked
    from adamas.play.auth import AccessControl, check_address
    from adamas.play.load import open_agent
    from adamas.play.server import serve
    from adamas.play.session import Session, first_settings
    from adamas.utils.device import describe, keep_freed_memory, leave_a_core

    check_address(options.host, options.public_origin)
    keep_freed_memory()
    leave_a_core()
    agent, access = open_agent(options), AccessControl(options.public_origin)
    session = Session(agent, first_settings(agent, options))

    def announce(port: int) -> None:
        chip = describe(agent.models.device)
        print(f"playing {agent.config.env}: {agent.folder.path}, checkpoint {agent.checkpoint}, on {chip}")
        print(f"open    {options.public_origin or f'http://localhost:{port}'}/?token={access.token}")
        print(f"remote  ssh -C -L {port}:localhost:{port} {login()}", flush=True)

    serve(session, access, options.host, options.port, announce)


def login() -> str:
    """USER@HOST; HOST where the user has no name, as in containers that run under any number."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError, ImportError):  # OSError from Python 3.13 on, ImportError on Windows
        return socket.gethostname()


def main(arguments: list[str]) -> int:
    """The exit code."""
    if {"-h", "--help"} & set(arguments):
        print(help_text())
        return 0
    return exit_code(lambda: play(read(Options(), arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
