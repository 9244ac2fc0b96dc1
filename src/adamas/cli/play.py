"""`adamas play`: plays a trained world model in the browser."""

from __future__ import annotations

import getpass
import socket
from dataclasses import replace

from adamas.config.arguments import run_command
from adamas.config.hints import game_name
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


def play(options: Options) -> None:
    """Opens a run, prints the page's address and serves it until Ctrl-C."""
    # torch takes seconds to import: not before the options are known to be right
    from adamas.play.auth import Doors, check_address
    from adamas.play.load import open_agent
    from adamas.play.server import serve
    from adamas.play.session import Session, first_settings
    from adamas.utils.device import describe, keep_freed_memory, leave_a_core

    if options.env:
        options = replace(options, env=game_name(options.env))
    check_address(options.host, options.public_origin)
    keep_freed_memory()
    leave_a_core()
    agent, doors = open_agent(options), Doors(options.public_origin)
    session = Session(agent, first_settings(agent, options))

    def announce(port: int) -> None:
        chip = describe(agent.models.device)
        say(f"playing {agent.config.env}: {agent.folder.path}, checkpoint {agent.checkpoint}, on {chip}")
        say(f"open    {options.public_origin or f'http://localhost:{port}'}/?token={doors.token}")
        say(f"remote  ssh -C -L {port}:localhost:{port} {getpass.getuser()}@{socket.gethostname()}")

    serve(session, doors, options.host, options.port, announce)
