"""`adamas data`: takes in data of others, gives a run's data out, and says what data are worth."""

from __future__ import annotations

import importlib

from adamas.utils.console import say
from adamas.utils.errors import UserError, did_you_mean, exit_code

COMMANDS = {
    "import": ("adamas.cli.data_import", "make a dataset for training of Minari, npz, videos or PNG"),
    "export": ("adamas.cli.data_export", "write the experience of a run as Minari or mp4"),
    "card": ("adamas.cli.data_card", "say what a dataset covers and what is wrong with it"),
    "filter": ("adamas.cli.data_card", "copy a dataset without what is wrong with it"),
}


def main(argv: list[str]) -> int:
    """The exit code."""
    command, *arguments = argv or ["--help"]
    if command in ("-h", "--help", "help"):
        return exit_code(lambda: say(help_text()))
    if command not in COMMANDS:
        return exit_code(lambda: _unknown(command))
    module = importlib.import_module(COMMANDS[command][0])
    return module.main([command, *arguments] if command in ("card", "filter") else arguments)


def help_text() -> str:
    lines = [f"  adamas data {name:<7} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "Data in and out, and what they are worth.",
            "",
            "usage: adamas data import SOURCE OUT [name=value ...]",
            "       adamas data export RUN OUT [name=value ...]",
            "       adamas data card DIR [name=value ...]",
            "       adamas data filter DIR OUT [name=value ...]",
            "",
            *lines,
            "",
            "`adamas data import --help` shows the settings of one of them.",
        ]
    )


def _unknown(command: str) -> None:
    hint = did_you_mean(command, COMMANDS, f"commands: {', '.join(COMMANDS)}")
    raise UserError(f"unknown command 'data {command}': {hint}")
