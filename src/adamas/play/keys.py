"""Which action the held keys stand for."""

from __future__ import annotations

from collections.abc import Sequence

KEYS = ("UP", "DOWN", "LEFT", "RIGHT", "FIRE")


def keys_of(meaning: str) -> frozenset[str]:
    """{"UP", "RIGHT", "FIRE"} for "UPRIGHTFIRE", nothing for "NOOP"."""
    return frozenset(key for key in KEYS if key in meaning)


def used(meanings: Sequence[str]) -> list[str]:
    """The keys that do something in this game."""
    return [key for key in KEYS if any(key in keys_of(meaning) for meaning in meanings)]


def action_of(held: Sequence[str], meanings: Sequence[str]) -> int:
    """The action that uses most of the held keys and no other key; of several, the one with the newest key.

    Args:
        held: some of KEYS, oldest first.
        meanings: of each action, as ale-py names it. Without a "NOOP" among them, no key means action 0.
    """

    def worth(action: int) -> tuple[int, list[bool]]:
        keys = keys_of(meanings[action])
        return len(keys), [key in keys for key in reversed(held)]

    possible = [action for action, meaning in enumerate(meanings) if keys_of(meaning) <= set(held)]
    return max(possible, key=worth, default=0)
