"""Which keys stand for which action, told from the names of the actions alone."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

DIRECTIONS = ("UP", "DOWN", "LEFT", "RIGHT", "FIRE")
DIGITS = tuple("0123456789")
KEYS = (*DIRECTIONS, *DIGITS)
NOTHING = ("NOOP", "NONE", "IDLE")  # names of the action that no key means
HELD = re.compile(r"(UP|DOWN)?(RIGHT|LEFT)?(FIRE)?")  # ale-py's names, but for NOOP


def keys_of_actions(meanings: Sequence[str]) -> list[frozenset[str]]:
    """The keys to hold for each action: {"UP", "RIGHT", "FIRE"} for "UPRIGHTFIRE", {"LEFT"} for "move_left", none for "NOOP".

    What names no direction gets a number key, its own number if it has no other name; an eleventh such action gets no key.
    """
    return [*_keys_of_actions(tuple(meanings))]


@functools.cache
def _keys_of_actions(meanings: tuple[str, ...]) -> tuple[frozenset[str], ...]:
    keys: list[frozenset[str] | None] = []
    for meaning in meanings:
        named = directions(meaning)
        keys.append(None if named in keys and named and not _is_atari(meaning) else named)
    free = [digit for digit in DIGITS[1:] + DIGITS[:1] if digit not in meanings]
    for action, meaning in enumerate(meanings):
        if keys[action] is None:
            digit = meaning if meaning in DIGITS else free.pop(0) if free else None
            keys[action] = frozenset([digit] if digit else [])
    return tuple(key for key in keys if key is not None)


def directions(meaning: str) -> frozenset[str] | None:
    """The keys that a name tells, those in brackets before others; none for NOOP; None where it tells nothing."""
    bracket = re.search(r"\(([A-Z]+)\)$", meaning)
    words = [bracket[1]] if bracket else re.findall(r"[A-Z]+", meaning.upper())
    if "".join(words) in NOTHING:
        return frozenset()
    held = [match for word in words if (match := HELD.fullmatch(word))]
    return frozenset(key for match in held for key in match.groups() if key) or None


def _is_atari(meaning: str) -> bool:
    return HELD.fullmatch(meaning) is not None
