"""The command line of src/play.py, and the settings that can be changed during play. Each value is checked."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from dataclasses import dataclass
from typing import Any, Optional, TypeVar

from adamas.config.hints import KINDS
from adamas.config.rules import check_bounds
from adamas.config.schema import knob
from adamas.utils.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """The command line of src/play.py."""

    run: Optional[str] = knob(None, "a run folder; without it the newest one, or else the agent in results/")
    env: Optional[str] = knob(None, "the newest run of this game")
    checkpoint: Optional[str] = knob(None, "file name or number in the run's checkpoints/; without it the newest one")
    device: str = knob("auto", "auto, cpu, cuda, cuda:1, mps")
    fps: int = knob(15, "steps a second to start with; Atari itself runs at 15 of them", least=1, most=60)
    seed: int = knob(0, "of the noise and of the agent's actions", least=0, most=2**31 - 1)
    host: str = knob("127.0.0.1", "address to listen on; another than loopback needs public_origin too")
    port: int = knob(8000, "to listen on; 0 takes any that is free", least=0, most=65535)
    public_origin: Optional[str] = knob(None, "how a tunnel shows the page to browsers: https://NAME")


@dataclass(frozen=True)
class Settings:
    """What can be changed during play; it acts from the next step on."""

    denoising_steps: int = knob(1, "denoising steps", least=1, most=10)
    s_churn: float = knob(0.0, "churn", least=0, most=5)
    initial_noise: str = knob("unit", "initial noise", choices=("unit", "sigma_max"))
    temperature: float = knob(1.0, "temperature", least=0, most=3)
    fps: int = knob(15, "steps a second", least=1, most=60)
    horizon: int = knob(500, "horizon", least=10, most=2000)
    seed: int = knob(0, "seed", least=0, most=2**31 - 1)
    initial_state: str = knob("game", "initial state", choices=("game", "replay"))
    stop_at_end: bool = knob(True, "stop at end")
    show_denoising: bool = knob(True, "show denoising")


def change(node: T, name: str, value: Any) -> T:
    """A copy of the dataclass `node` with another value in one field, which keeps its kind and its bounds.

    Raises:
        UserError: there is no such field, or the value is not one for it.
    """
    fields = {item.name: item for item in dataclasses.fields(node)}
    if name not in fields:
        raise UserError(f"unknown key '{name}': {_hint(name, list(fields))}")
    value = _of_kind(name, value, typing.get_type_hints(type(node))[name])
    _check(name, value, fields[name].metadata)
    return dataclasses.replace(node, **{name: value})


def read(node: T, arguments: list[str]) -> T:
    """`node` with what `key=value` arguments set."""
    for text in arguments:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"'{text}' cannot be read: write key=value; --help shows every key")
        node = change(node, name, _parse(value, typing.get_type_hints(type(node)).get(name)))
    return node


def describe(node: Any) -> list[dict[str, Any]]:
    """Every field with its kind, bounds and value, plain data from which the page builds its controls."""
    hints = typing.get_type_hints(type(node))
    return [
        {"name": item.name, "kind": hints[item.name].__name__, "value": getattr(node, item.name), **item.metadata}
        for item in dataclasses.fields(node)
    ]


def help_text() -> str:
    """Every option of the command line with its default."""
    lines = [
        f"  {item.name + '=' + ('' if item.default is None else str(item.default)):<18} {item.metadata['help']}"
        for item in dataclasses.fields(Options)
    ]
    return "\n".join(["play a trained world model in the browser: python src/play.py [key=value ...]", "", *lines])


def _parse(text: str, kind: Any) -> Any:
    try:
        return {int: int, float: float}.get(kind, str)(text)
    except ValueError:
        return text  # `_of_kind` says what is needed


def _of_kind(name: str, value: Any, kind: Any) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    wanted = str if kind == Optional[str] else kind
    if type(value) is not wanted or (wanted is float and not math.isfinite(value)):
        raise UserError(f"{name}={str(value)[:40]}: {KINDS[kind]} is needed")
    return value


def _check(name: str, value: Any, bounds: Any) -> None:
    if "choices" in bounds and value not in bounds["choices"]:
        raise UserError(f"{name}={value[:40]} is not one of {', '.join(bounds['choices'])}")
    check_bounds(name, value, bounds)


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"keys: {', '.join(known)}"
