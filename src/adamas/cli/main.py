"""`adamas COMMAND name=value ...`: finds the command and hands it the rest."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version

from adamas.utils.console import say
from adamas.utils.errors import UserError, did_you_mean, exit_code

COMMANDS = {
    "train": "train an agent in a world model of a game, or go on with a run",
    "play": "play a trained world model in the browser",
    "evaluate": "measure how much of the detail of reality a run's world model keeps",
    "data": "import and export data, and say what they are worth",
    "export": "make a small copy of a run, to share or to ship",
    "benchmark": "make the runs of Atari 100k, here or on SLURM",
    "report": "compare runs with the published systems of Atari 100k",
    "showcase": "show what runs of one game took and reached, with a film of the agent",
}


def main(argv: list[str] | None = None) -> int:
    """The exit code."""
    command, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help", "help"):
        return exit_code(lambda: say(help_text()))
    if command == "--version":
        return exit_code(lambda: say(version("adamas")))
    if command not in COMMANDS:
        return exit_code(lambda: _unknown(command))
    return importlib.import_module(f"adamas.cli.{command}").main(arguments)


def help_text() -> str:
    lines = [f"  adamas {name:<10} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "adamas trains a reinforcement-learning agent inside a diffusion world model of an Atari game.",
            "",
            "usage: adamas COMMAND [name=value ...]",
            "",
            *lines,
            "",
            "`adamas COMMAND --help` shows the settings of a command.",
        ]
    )


def _unknown(command: str) -> None:
    meant = did_you_mean(command, COMMANDS, f"commands: {', '.join(COMMANDS)}")
    hint = f"write adamas train {command}" if "=" in command else meant
    raise UserError(f"unknown command '{command}': {hint}")
