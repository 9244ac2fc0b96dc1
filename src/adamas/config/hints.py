"""Words for what a user got wrong: one line that says what is wrong and what to do."""

from __future__ import annotations

import difflib
import re
from typing import Optional

from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    ConfigTypeError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from adamas.config.help import kinds, shown

KINDS = {
    int: "a whole number",
    Optional[int]: "a whole number",
    Optional[float]: "a number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Optional[str]: "text",
    list[int]: "a list of whole numbers such as [1,2]",
    list[float]: "a list of numbers such as [0.5,1]",
}


def in_words(error: BaseException) -> str:
    """One line for what Hydra, OmegaConf or YAML raised: what is wrong and what is needed."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return _setting_error_in_words(cause)
    text = str(error).partition("full_key:")[0]  # after it, OmegaConf names its own types
    return " ".join(text.split()) or type(error).__name__


def _setting_error_in_words(error: OmegaConfBaseException) -> str:
    name = error.full_key or ""
    if isinstance(error, (ConfigKeyError, ConfigAttributeError)):
        return unknown_key(name)
    if isinstance(error, MissingMandatoryValue):
        return f"{name} has no value: give it one"
    if isinstance(error, ValidationError):
        return f"{name}={shown(error.value)}: {_needed(name)}"
    if isinstance(error, ConfigTypeError):
        return f"{name}: {_needed(name)}"
    return f"{name}: {str(error).splitlines()[0]}"


def _needed(name: str) -> str:
    table = kinds()
    setting = name.partition("[")[0]  # the whole list, when the error is in one element
    if table.get(setting) is None:
        first = next(name for name in table if name.startswith(f"{setting}."))
        return f"this is a group of settings: set one of them, such as {first}"
    return f"{KINDS.get(table[setting], 'another value')} is needed"


def unknown_key(key: str) -> str:
    if key.startswith("env_kwargs."):
        return f"unknown key '{key}': write env_kwargs={{{key.partition('.')[2]}:VALUE}}"
    names = _similar(key)
    if not names:
        return f"unknown key '{key}': --help shows every setting"
    *most, last = names
    return f"unknown key '{key}': did you mean {', '.join(most) + ' or ' if most else ''}{last}?"


def _similar(key: str) -> list[str]:
    """Settings that `key` may have meant: the same name in some section, or a slip of the fingers."""
    names = list(kinds())
    same = [name for name in names if name.endswith(f".{key}")]
    if same or (same := difflib.get_close_matches(key, names, n=1)):
        return same
    ends = {name.rpartition(".")[2] for name in names}
    close = difflib.get_close_matches(key.rpartition(".")[2], sorted(ends), n=1)
    return [name for name in names if name.rpartition(".")[2] in close]


def game_name(text: str) -> str:
    """The game of one of Gymnasium's ids: "Breakout" of ALE/Breakout-v5, BreakoutNoFrameskip-v4 and Breakout-v4; else `text`."""
    match = re.fullmatch(r"(ALE/)?([A-Za-z0-9]+?)(NoFrameskip|Deterministic)?(-v\d+)?", text)
    return match[2] if match and (match[1] or match[4]) else text


def malformed(text: str) -> str:
    if text.partition("=")[2].startswith("{"):
        return (
            f"'{text}' cannot be read: write {{name:VALUE}} without spaces, or in quotes: 'env_kwargs={{name: VALUE}}'"
        )
    return f"'{text}' cannot be read: write name=value, and a list as name=[1,2]"
