"""What others call the columns of their data."""

from __future__ import annotations

from collections.abc import Collection

from adamas.conversion.settings import ImportOptions
from adamas.conversion.steps import Unsettled
from adamas.utils.errors import UserError

NAMES = {  # what others call an array, ours first
    "obs": ("obs", "observations", "observation", "frames", "frame", "images", "image", "states", "state", "screens"),
    "next_obs": ("next_obs", "next_observations", "next_observation", "next_states", "next_state"),
    "action": ("action", "actions", "act", "acts"),
    "reward": ("reward", "rewards", "rew", "rews"),
    "terminated": ("terminated", "terminals", "terminal", "terminations", "termination"),
    "truncated": ("truncated", "truncations", "truncation", "timeouts", "timeout"),
    "done": ("done", "dones", "ends", "end"),
    "is_first": ("is_first",),
    "is_last": ("is_last",),
    "is_terminal": ("is_terminal",),
}


def find_columns(there: Collection[str], options: ImportOptions, name: str) -> dict[str, str]:
    """{"obs": "images", ...}: what each of our columns is called among `there`.

    Raises:
        Unsettled: two are called what one of ours may be called.
        UserError: a column that was asked for is missing.
    """
    asked = _asked(options)
    names = {}
    for ours, theirs in NAMES.items():
        free = [name for name in theirs if name in there and name not in asked.values()]
        found = [asked[ours]] if ours in asked else free
        if len(found) > 1:
            raise Unsettled(f"{name}: '{found[0]}' or '{found[1]}'? set columns=[{ours}:{found[0]}] or the other")
        if found and found[0] not in there:
            raise UserError(f"{name}: '{found[0]}' is missing; it holds {', '.join(there)}")
        names.update({ours: found[0]} if found else {})
    return names


def _asked(options: ImportOptions) -> dict[str, str]:
    asked = {}
    for text in options.columns:
        ours, colon, theirs = text.partition(":")
        if not colon or ours not in NAMES:
            raise Unsettled(f"columns={text}: write [obs:NAME,action:NAME] with some of {', '.join(NAMES)}")
        asked[ours] = theirs
    return asked
