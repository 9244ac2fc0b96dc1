"""The command line of src/play.py, and the settings that can be changed during play. Each value is checked."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import Any, Optional

from adamas.config import Sampler
from adamas.config.arguments import unknown
from adamas.config.hints import KINDS
from adamas.config.rules import check_bounds
from adamas.config.schema import setting
from adamas.utils.errors import UserError


@dataclass(frozen=True)
class Options:
    """The command line of src/play.py."""

    run: Optional[str] = setting(None, "a run folder; without it the newest one, or else the agent in results/")
    env: Optional[str] = setting(None, "the newest run of this game")
    checkpoint: Optional[str] = setting(
        None, "file name or number in the run's checkpoints/; without it the newest one"
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps")
    fps: int = setting(15, "steps a second to start with; Atari itself runs at 15 of them", least=1, most=60)
    seed: int = setting(0, "of the noise and of the agent's actions", least=0, most=2**31 - 1)
    host: str = setting("127.0.0.1", "address to listen on; another than loopback needs public_origin too")
    port: int = setting(8000, "to listen on; 0 takes any that is free", least=0, most=65535)
    public_origin: Optional[str] = setting(None, "how a tunnel shows the page to browsers: https://NAME")


@dataclass(frozen=True)
class Settings:
    """What can be changed during play; it acts from the next step on."""

    denoising_steps: int = setting(1, "denoising steps", least=1, most=10)
    s_churn: float = setting(0.0, "churn", least=0, most=5)
    initial_noise: str = setting("unit", "initial noise", choices=("unit", "sigma_max"))
    temperature: float = setting(1.0, "temperature", least=0, most=3)
    fps: int = setting(15, "steps a second", least=1, most=60)
    horizon: int = setting(500, "horizon", least=10, most=2000)
    seed: int = setting(0, "seed", least=0, most=2**31 - 1)
    initial_state: str = setting("game", "initial state", choices=("game", "replay"))
    stop_at_end: bool = setting(True, "stop at end")
    show_denoising: bool = setting(True, "show denoising")


def can_churn(sampler: Sampler) -> bool:
    """Only Euler steps can add noise back."""
    return sampler.method == "euler"


def change(settings: Settings, name: str, value: Any) -> Settings:
    """A copy with another value of one setting.

    Raises:
        UserError: there is no such setting, or the value is of another kind or out of bounds.
    """
    fields = {item.name: item for item in dataclasses.fields(settings)}
    if name not in fields:
        raise unknown(name, fields)
    value = _of_kind(name, value, typing.get_type_hints(Settings)[name])
    bounds = fields[name].metadata
    if "choices" in bounds and value not in bounds["choices"]:
        raise UserError(f"{name}={value[:40]} is not one of {', '.join(bounds['choices'])}")
    check_bounds(name, value, bounds)
    return dataclasses.replace(settings, **{name: value})


def describe(settings: Settings) -> list[dict[str, Any]]:
    """Every setting with its kind, bounds and value, plain data from which the page builds its controls."""
    kinds = typing.get_type_hints(Settings)
    return [
        {"name": item.name, "kind": kinds[item.name].__name__, "value": getattr(settings, item.name), **item.metadata}
        for item in dataclasses.fields(settings)
    ]


def _of_kind(name: str, value: Any, kind: type) -> Any:
    """JSON does not tell 1.0 from 1."""
    if kind is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError as error:
            raise UserError(f"{name}={str(value)[:40]}: a number of fewer digits is needed") from error
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise UserError(f"{name}={str(value)[:40]}: {KINDS[kind]} is needed")
    return value
