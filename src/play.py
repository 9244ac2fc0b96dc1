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
    # torch takes seconds to import: not before the options are known to be right
    from adamas.play.auth import Doors, check_address
    from adamas.play.load import open_agent
    from adamas.play.server import serve
    from adamas.play.session import Session, first_settings
    from adamas.utils.device import describe, keep_freed_memory, leave_a_core

    check_address(options.host, options.public_origin)
    keep_freed_memory()
    leave_a_core()
    agent, doors = open_agent(options), Doors(options.public_origin)
    session = Session(agent, first_settings(agent, options))

    def announce(port: int) -> None:
        chip = describe(agent.models.device)
        print(f"playing {agent.config.env}: {agent.folder.path}, checkpoint {agent.checkpoint}, on {chip}")
        print(f"open    {options.public_origin or f'http://localhost:{port}'}/?token={doors.token}")
        print(f"remote  ssh -C -L {port}:localhost:{port} {getpass.getuser()}@{socket.gethostname()}", flush=True)

    serve(session, doors, options.host, options.port, announce)


def main(arguments: list[str]) -> int:
    """The exit code."""
    if {"-h", "--help"} & set(arguments):
        print(help_text())
        return 0
    return exit_code(lambda: play(read(Options(), arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
