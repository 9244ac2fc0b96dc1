"""`name=value` arguments of a command, read into a dataclass that is its schema: its fields are settings as those of Config."""

from __future__ import annotations

import dataclasses
import os
import shlex
import typing
from collections.abc import Callable, Iterable
from typing import Any, Optional, TypeVar

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from adamas.config.help import shown
from adamas.config.hints import KINDS
from adamas.config.rules import check_bounds
from adamas.utils.console import say
from adamas.utils.errors import UserError, did_you_mean, exit_code
from adamas.utils.quoting import escaped, split, unquoted

T = TypeVar("T")


def run_command(schema: type[T], argv: list[str], usage: str, run: Callable[[T], int | None]) -> int:
    """Reads the arguments, runs, and returns the exit code; --help prints `usage` and every setting."""
    if {"-h", "--help"} & set(argv):
        return exit_code(lambda: say(help_text(schema, usage)))
    return exit_code(lambda: run(read(schema, argv)))


def with_names(argv: list[str], names: tuple[str, ...]) -> list[str]:
    """`SOURCE OUT name=value` -> `source=SOURCE out=OUT name=value`: words without a name get these, in order. A path that exists
    may have "=" in it."""
    is_named = ["=" in word and not os.path.exists(word) for word in argv]
    given = {word.partition("=")[0] for word, named in zip(argv, is_named, strict=True) if named}
    rest = iter([name for name in names if name not in given])
    return [
        word if named or word.startswith("-") or not (name := next(rest, "")) else f"{name}={word}"
        for word, named in zip(argv, is_named, strict=True)
    ]


def read(schema: type[T], argv: list[str]) -> T:
    """An instance of the dataclass `schema`.

    Text is taken as it is, without the quotes around it; a list is [A,B]; `--name` stands for name=true.

    Raises:
        UserError: an argument that is unknown, of another kind, out of bounds, or missing.
    """
    fields = {item.name: item for item in dataclasses.fields(schema)}  # type: ignore[arg-type]
    kinds = typing.get_type_hints(schema)
    values = OmegaConf.structured(schema)
    OmegaConf.set_readonly(values, False)  # a frozen dataclass is read-only
    for text in argv:
        name, value = _name_and_value(text, fields)
        _set(values, name, value, kinds[name])
    for name, item in fields.items():
        if OmegaConf.is_missing(values, name):
            raise UserError(f"{name}= is needed: {item.metadata['help']}")
        _check(name, values[name], item.metadata)
    return typing.cast(T, OmegaConf.to_object(values))


def help_text(schema: type[Any], usage: str) -> str:
    """`usage`, and a line for each field."""
    lines = [
        f"  {_with_default(item):<22} {item.metadata['help']}{_choices(item)}" for item in dataclasses.fields(schema)
    ]
    return "\n".join([usage.strip(), "", *lines])


def unknown(name: str, names: Iterable[str]) -> UserError:
    """An error with the name that was probably meant."""
    known = list(names)
    return UserError(f"unknown key '{name}': {did_you_mean(name, known, 'keys: ' + ', '.join(known))}")


def _name_and_value(text: str, fields: dict[str, dataclasses.Field[Any]]) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if name.startswith("--"):  # --status, and --out=DIR of habit
        name, value = name[2:].replace("-", "_"), value if equals else "true"
    elif not equals:
        raise UserError(f"'{text}' cannot be read: write {shlex.quote(f'{next(iter(fields))}={text}')}, or see --help")
    if name not in fields:
        raise unknown(name, fields)
    return name, value


def _set(values: Any, name: str, text: str, kind: Any) -> None:
    value: Any = text
    if text == "null" and type(None) in typing.get_args(kind):
        value = None
    elif kind in (str, Optional[str]):
        value = unquoted(text)
    elif kind == list[str]:
        if not text:
            raise UserError(f"{name}= names none: leave it out, or give some: {name}=[A,B]")
        inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        value = [unquoted(part.strip()) for part in split(inner)] if inner.strip() else []
    try:
        OmegaConf.update(values, name, _uninterpolated(value), merge=False)
    except OmegaConfBaseException as error:
        raise UserError(f"{name}={text}: {KINDS.get(kind, 'another value')} is needed") from error


def _uninterpolated(value: Any) -> Any:
    if isinstance(value, list):
        return [escaped(part) for part in value]
    return escaped(value) if isinstance(value, str) else value


def _check(name: str, value: Any, metadata: Any) -> None:
    choices = metadata.get("choices")
    if choices and value not in choices:
        raise UserError(f"{name}={value} is not one of {', '.join(map(str, choices))}")
    if value is not None:
        check_bounds(name, value, metadata)


def _with_default(item: dataclasses.Field[Any]) -> str:
    default = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
    return f"{item.name}={item.name.upper() if default == MISSING else shown(default)}"


def _choices(item: dataclasses.Field[Any]) -> str:
    choices = item.metadata.get("choices", ())
    return f" ({', '.join(map(str, choices))})" if choices else ""
