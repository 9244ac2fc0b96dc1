"""The commands of a player: plain dicts such as {"type": "rewind", "steps": 10}."""

from __future__ import annotations

from typing import Any

from adamas.utils.errors import UserError

COMMANDS: dict[str, dict[str, type]] = {  # the arguments of each, and their types
    "keys": {"held": list, "number": int},  # the number comes back with the first frame that the keys acted on
    "player": {"player": str},
    "pause": {"paused": bool},
    "step": {},
    "rewind": {"steps": int},
    "go_to": {"position": int},  # on the timeline, from 0: the same whatever frames are still on their way to the page
    "restart": {},
    "new_episode": {},
    "set": {"name": str, "value": object},
    "record": {"on": bool},
}


def check_command(message: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name of the command and its arguments. UserError when it is none, or an argument has another type."""
    arguments = {name: value for name, value in message.items() if name != "type"}
    name = message.get("type")
    if not isinstance(name, str) or name not in COMMANDS:
        raise UserError(f"unknown command {str(name)[:40]}: commands: {', '.join(COMMANDS)}")
    wanted = COMMANDS[name]
    if arguments.keys() != wanted.keys():
        raise UserError(f"{name} needs {', '.join(wanted) or 'no arguments'}")
    for key, kind in wanted.items():
        if kind is not object and type(arguments[key]) is not kind:
            raise UserError(f"{name}: {key} must be a {kind.__name__}")
    return name, arguments
