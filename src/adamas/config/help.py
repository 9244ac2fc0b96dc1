"""The settings of a config as a table: their names, kinds, defaults and help."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adamas.config import Config
from adamas.utils.torchrun import command

HELP = """\
adamas trains a reinforcement-learning agent inside a diffusion world model of an Atari game, or of another Gymnasium env.

usage: {program} [name=value ...] [-m] [--cfg job] [--help]

  {program} env=Breakout                    train on Breakout
  {program} env=Pong preset=smoke           the same script from end to end, in a minute
  {program} resume=runs/Breakout/DATE-TIME  go on with a run
  {program} -m env=Breakout,Pong seed=1,2   four runs, one after the other
  {program} env=my_game:Catch-v0            another Gymnasium env, imported from my_game.py: docs/own-game.md
  {program} env=Pong --cfg job              print the whole config and stop

presets (when none is named: cpu with no CUDA GPU, diamond with one):
{presets}

settings and their defaults, some of which a preset changes:
{settings}"""


def help_text(config_dir: Path) -> str:
    return HELP.format(program=command("train"), presets=describe_presets(config_dir), settings=describe(Config))


def describe(config: type[Config]) -> str:
    """Every setting with its default, its help and its choices, section by section."""
    return "\n".join(map(str, all_settings(config())))


@dataclass(frozen=True)
class Setting:
    """One line of the help. A section has no kind: it holds the settings that follow it."""

    name: str
    help: str
    kind: Any = None
    default: Any = None
    choices: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if self.kind is None:
            return f"\n{self.name}: {self.help}"
        choices = f" ({', '.join(map(shown, self.choices))})" if self.choices else ""
        return f"  {f'{self.name}={shown(self.default)}':<48} {self.help}{choices}"


def all_settings(node: Any, prefix: str = "") -> Iterator[Setting]:
    hints = typing.get_type_hints(type(node))
    for item in dataclasses.fields(node):
        name, value, text = prefix + item.name, getattr(node, item.name), item.metadata.get("help", "")
        if dataclasses.is_dataclass(value):
            yield Setting(name, (value.__doc__ or "").splitlines()[0])
            yield from all_settings(value, prefix=f"{name}.")
        elif isinstance(value, dict):
            yield from (Setting(f"{name}.{key}", text[key], Any, default) for key, default in value.items())
        else:
            yield Setting(name, text, hints[item.name], value, item.metadata.get("choices", ()))


def kinds() -> dict[str, Any]:
    """The type of every setting, and None for a section, under its dotted name."""
    table: dict[str, Any] = {}
    for setting in all_settings(Config()):
        table.setdefault(setting.name.rpartition(".")[0] or setting.name, None)  # `initialize` has no line of its own
        table[setting.name] = setting.kind
    return table


def shown(value: Any) -> str:
    """A value as one would type it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{shown(one)}' for key, one in value.items())}}}"
    return f"[{','.join(map(shown, value))}]" if isinstance(value, list) else str(value)


def preset_names(config_dir: Path) -> list[str]:
    return sorted(path.stem for path in (config_dir / "preset").glob("*.yaml"))


def describe_presets(config_dir: Path) -> str:
    """Each preset with the first line of comment in its file."""
    lines = []
    for name in preset_names(config_dir):
        text = (config_dir / "preset" / f"{name}.yaml").read_text(encoding="utf-8")
        comments = [line.strip("# ") for line in text.splitlines() if line.startswith("#") and "@package" not in line]
        lines.append(f"  preset={name:<20} {comments[0] if comments else ''}")
    return "\n".join(lines)
