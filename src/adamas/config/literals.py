"""Text settings as they were typed: Hydra's grammar would read `runs=2026_11_28` as a number and fail at `runs=a(b)`."""

from __future__ import annotations

from typing import Any, Optional

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString, Sweep
from hydra.errors import HydraException

from adamas.config.help import kinds
from adamas.utils.quoting import quoted, split


def literal(text: str, sweeping: bool) -> str:
    """An override, with quotes around the text of a text setting. What has quotes, lists, `null`, `${...}` and sweeps mean
    what they mean to Hydra."""
    key, equals, value = text.partition("=")
    if not equals or not is_text(key):
        return text
    value = value.strip()
    parsed = _parsed(key, value)
    if sweeping and isinstance(parsed, ChoiceSweep) and parsed.simple_form:
        return f"{key}={','.join(_literal_value(key, part.strip()) for part in split(value))}"
    if sweeping and parsed is None and "," in value and value.lower() != "null":  # some part of it is not Hydra's
        return f"{key}={','.join(_literal_value(key, part.strip()) for part in split(value))}"
    return f"{key}={_literal_value(key, value)}"


def is_text(key: str) -> bool:
    """A setting whose value is text, but for the preset, which is the name of a file."""
    return key in ("initialize.from", "dataset") or (key != "preset" and kinds().get(key) in (str, Optional[str]))


def _literal_value(key: str, value: str) -> str:
    parsed = _parsed(key, value)
    if not value or "${" in value or value.lower() == "null" or value[0] in "[{":
        return value
    return value if isinstance(parsed, (list, dict, Sweep, Glob, QuotedString)) else quoted(value)


def _parsed(key: str, value: str) -> Any:
    """What Hydra's grammar makes of the value; None where it makes nothing of it."""
    try:
        (override,) = OverridesParser.create().parse_overrides([f"{key}={value}"])
    except HydraException:
        return None
    return override._value
