"""Which action the held keys stand for."""

from __future__ import annotations

from collections.abc import Sequence

from adamas.envs.keys import KEYS, keys_of_actions


def used(meanings: Sequence[str]) -> list[str]:
    """The keys that do something in this game."""
    return [key for key in KEYS if any(key in keys for keys in keys_of_actions(meanings))]


def action_of(held: Sequence[str], meanings: Sequence[str]) -> int:
    """The action that uses most of the held keys and no other key; of several, the one with the newest key.

    Args:
        held: some of KEYS, oldest first.
        meanings: of each action, as the env names it. Without a "NOOP" among them, no key means action 0.
    """
    keys_of = keys_of_actions(meanings)

    def worth(action: int) -> tuple[int, list[bool]]:
        keys = keys_of[action]
        return len(keys), [key in keys for key in reversed(held)]

    possible = [action for action, keys in enumerate(keys_of) if keys <= set(held)]
    return max(possible, key=worth, default=0)
