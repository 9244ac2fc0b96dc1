"""`adamas play`: plays a trained world model in the browser."""

from __future__ import annotations

import getpass
import socket
from dataclasses import replace

from adamas.config.arguments import run_command
from adamas.play.settings import Options
from adamas.utils.console import say

USAGE = """
Plays a trained world model in the browser.

usage: adamas play [name=value ...]

  adamas play                               the newest run in runs/, or else the agent that comes with a clone
  adamas play run=runs/Breakout/DATE-TIME   this run
"""


def main(argv: list[str]) -> int:
    """The exit code."""
    return run_command(Options, argv, USAGE, play)


def login() -> str:
    """USER@HOST; HOST where the user has no name, as in containers that run under any number."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError, ImportError):  # OSError from Python 3.13 on, ImportError on Windows
        return socket.gethostname()


def play(options: Options) -> None:
    """Opens a run, prints the page's address and serves it until Ctrl-C."""
    # torch takes seconds to import: not before the options are known to be right
    from adamas.envs.make import canonical
    from adamas.play.auth import AccessControl, check_address, host_in_url
    from adamas.play.load import open_agent
    from adamas.play.server import serve
    from adamas.play.session import Session, first_settings
    from adamas.utils.device import describe, keep_freed_memory, leave_a_core

    if options.env:
        options = replace(options, env=canonical(options.env))
    check_address(options.host, options.public_origin)
    keep_freed_memory()
    leave_a_core()
    agent, access = open_agent(options), AccessControl(options.public_origin)
    session = Session(agent, first_settings(agent, options))

    def announce(port: int) -> None:
        chip = describe(agent.models.device)
        say(f"playing {agent.config.env}: {agent.folder.path}, checkpoint {agent.checkpoint}, on {chip}")
        name = host_in_url(options.host)
        say(f"open    {options.public_origin or f'http://{name}:{port}'}/?token={access.token}")
        say(f"remote  ssh -C -L {port}:{name}:{port} {login()}")

    serve(session, access, options.host, options.port, announce)
