"""What belongs to which frame: actions, rewards and flags of others, in the way that `adamas.data.storage` has them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from adamas.conversion.settings import ImportOptions
from adamas.data.storage import DTYPES, SMALL_COLUMNS
from adamas.utils.errors import UserError

Arrays = dict[str, np.ndarray]
FLAGS = ("terminated", "truncated", "done", "is_first", "is_last", "is_terminal")


class Unsettled(UserError):
    """What could mean two things, or an option that cannot be: no file is imported until an option settles it."""


class Steps(NamedTuple):
    """The columns of storage but obs, (N,) each, one entry a frame, and in words how they were understood."""

    columns: Arrays
    meaning: list[str]


def understand(frames: int, given: Arrays, options: ImportOptions, name: str) -> Steps:
    """The steps between `frames` frames in a row.

    Args:
        given: any of action, reward and FLAGS; one entry a frame, or one fewer where the last frame is the final one of the
            only episode.
        name: of the file, for errors.

    Raises:
        UserError: an array that is malformed.
        Unsettled: one that could mean two things.
    """
    if frames < 2:
        raise UserError(f"{name}: obs has {frames} frame, but a step needs 2")
    for key, column in given.items():
        if column.shape[:1] not in ((frames,), (frames - 1,)):
            raise UserError(
                f"{name}: {key} has {len(column) if column.ndim else 'no'} entries, but there are {frames} frames: "
                f"{frames} or {frames - 1} expected"
            )
    meaning: list[str] = []
    action = _actions(given.get("action"), name, meaning)
    reward = _rewards(given.get("reward"), name)
    flags = {key: _flags(given[key], key, name) for key in FLAGS if key in given}
    short = {key for key, column in [("action", action), *flags.items()] if column is not None and len(column) < frames}
    if short or (action is None and not flags):
        steps = _one_episode(frames, flags, name, meaning)
    else:
        steps = _several_episodes(frames, flags, options, name, meaning)
    _place(steps, "action", action, options.actions, "led to frame t" if options.actions == "before" else "", meaning)
    rewards = _reward_convention(steps, reward, options, name)
    _place(steps, "reward", reward, rewards, "came with frame t", meaning)
    return Steps({key: steps[key].astype(DTYPES[key]) for key in SMALL_COLUMNS}, meaning)


def insert_final(columns: Arrays) -> tuple[Arrays, np.ndarray]:
    """Room for the final frames that the columns lack: columns with a row more for each, and bool (N,): the rows that such a
    frame follows."""
    ended = columns["terminated"] | columns["truncated"]
    lacks = ended & ~np.append(columns["final"][1:], False)
    places = np.flatnonzero(lacks) + 1
    return {key: np.insert(column, places, key == "final") for key, column in columns.items()}, lacks


def _one_episode(frames: int, flags: Arrays, name: str, meaning: list[str]) -> Arrays:
    """The last frame is the final one."""
    steps = _empty(frames)
    steps["final"][-1] = True
    terminated, truncated = _ends(flags, frames - 1)
    early = np.flatnonzero((terminated | truncated)[:-1])
    whole = next(
        (key for key in flags if len(flags[key]) == frames), None
    )  # a flag of each frame is that of its last step
    if len(early) and not (whole and early[0] == frames - 2):
        raise UserError(
            f"{name}: there is one frame more than steps, but step {early[0]} ends an episode: "
            f"as many frames as steps, or one episode a file, expected"
        )
    steps["terminated"][-2] = bool(terminated[-2:].any())
    steps["truncated"][-2] = not steps["terminated"][-2]
    meaning.append("one episode, whose last frame is its final one")
    return steps


def _several_episodes(frames: int, flags: Arrays, options: ImportOptions, name: str, meaning: list[str]) -> Arrays:
    steps = _empty(frames)
    terminated, truncated = _ends(flags, frames)
    if _marks_last_frame(flags, options, name, meaning):
        ended = terminated | truncated
        ended[-1] = True
        starts = np.concatenate([[True], ended[:-1]])
        if len(single := np.flatnonzero(ended & starts)):
            raise UserError(
                f"{name}: frame {single[0]} is both first and last of its episode, which has no step: "
                f"done=transition says that flags belong to the step after a frame"
            )
        steps["final"] = ended
        steps["terminated"][:-1] = (terminated & ended)[1:]
        steps["truncated"][:-1] = (ended & ~terminated)[1:]
        return steps
    steps["terminated"], steps["truncated"] = terminated, truncated & ~terminated
    steps["truncated"][-1] |= not terminated[-1]
    return steps


def _marks_last_frame(flags: Arrays, options: ImportOptions, name: str, meaning: list[str]) -> bool:
    """Whether flags mark frames rather than steps. UserError where nobody can tell."""
    if options.actions == "before":
        if options.done == "transition":
            raise Unsettled("actions=before leaves no step after the last frame of an episode: set done=last_frame")
        return True
    if options.done != "auto":
        meaning.append(f"done={options.done}, as asked for")
        return options.done == "last_frame"
    if "is_last" in flags or "is_terminal" in flags:
        meaning.append("is_last marks the last frame of an episode")
        return True
    if "terminated" not in flags and flags.get("done", np.zeros(1)).any():
        raise Unsettled(
            f"{name}: done[t] could be of the step after frame t, or mark frame t as the last of its episode: "
            f"set done=transition or done=last_frame"
        )
    if not flags:
        meaning.append("no flags: one episode, cut off at its last frame")
    elif {"terminated", "truncated"} & {*flags}:
        meaning.append("terminated[t] and truncated[t] are of the step after frame t")
    elif "is_first" in flags:
        meaning.append("is_first marks the first frame of an episode")
    return False


def _ends(flags: Arrays, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """terminated and truncated, bool (N,) each, at the entries that have them; N is at least `steps`."""
    n = max([steps, *map(len, flags.values())])
    full = {key: np.append(column, np.zeros(n - len(column), bool)) for key, column in flags.items()}
    nothing = np.zeros(n, bool)
    first = np.append(full["is_first"][1:], False) if "is_first" in full else nothing
    truncated = full.get("truncated", nothing)
    done, last = full.get("done", nothing), full.get("is_last", nothing)
    terminated = full.get("terminated", nothing) | full.get("is_terminal", nothing)
    if "terminated" not in full and "is_terminal" not in full:
        terminated = (done | last) & ~truncated
    return terminated, (truncated | done | last | first) & ~terminated


def _reward_convention(steps: Arrays, reward: np.ndarray | None, options: ImportOptions, name: str) -> str:
    if options.rewards != "auto" or reward is None:
        return options.rewards if reward is not None else "after"
    frames, final = len(steps["final"]), steps["final"]
    if len(reward) < frames or not final.any() or not reward.any():
        return "after"
    first = np.append(True, final[:-1])
    if options.actions == "before" or (reward[final].any() and not reward[first].any()):
        return "before"
    if reward[first].any() and not reward[final].any():
        return "after"
    raise Unsettled(
        f"{name}: reward[t] could be brought by what is done after frame t, or have come with frame t: "
        f"set rewards=after or rewards=before"
    )


def _place(
    steps: Arrays, key: str, column: np.ndarray | None, convention: str, before: str, meaning: list[str]
) -> None:
    """Writes action or reward to the frame that it follows."""
    if column is None:
        meaning.append(f"no {key}s: all are 0")
        return
    frames = len(steps["final"])
    full = np.append(column, np.zeros(frames - len(column), column.dtype))
    if convention == "before" and len(column) == frames:
        ends = steps["final"] | steps["terminated"] | steps["truncated"]
        full = np.append(full[1:], 0)
        full[ends & ~np.append(steps["final"][1:], False)] = 0
        meaning.append(f"{key}[t] {before}")
    else:
        meaning.append(f"{key}[t] follows frame t")
    steps[key] = np.where(steps["final"], 0, full)


def _actions(column: Any, name: str, meaning: list[str]) -> np.ndarray | None:
    if column is None:
        return None
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.dtype.kind not in "biuf":
        raise UserError(f"{name}: action is {column.dtype}, but must be whole numbers from 0 to 255")
    if column.ndim == 2 and np.isin(column, (0, 1)).all() and (column.sum(1) == 1).all():
        meaning.append(f"action is one of {column.shape[1]}, one-hot")
        column = column.argmax(1)
    if column.ndim != 1:
        raise UserError(f"{name}: action has shape {column.shape}, but one number a frame is expected")
    if not np.isfinite(column).all() or (column != np.floor(column)).any():
        raise UserError(f"{name}: action holds {_first_odd(column)}, but actions are discrete: whole numbers from 0")
    if column.min(initial=0) < 0 or column.max(initial=0) > 255:
        odd = column.min() if column.min() < 0 else column.max()
        raise UserError(f"{name}: action holds {odd:g}, but must be from 0 to 255")
    return column.astype(np.uint8)


def _first_odd(column: np.ndarray) -> float:
    return float(column[~np.isfinite(column) | (column != np.floor(column))][0])


def _rewards(column: Any, name: str) -> np.ndarray | None:
    if column is None:
        return None
    if column.dtype.kind not in "biuf" or column.size != len(column):
        raise UserError(f"{name}: reward is {column.dtype} {column.shape}, but one number a frame is expected")
    column = column.reshape(-1).astype(np.float32)
    if not np.isfinite(column).all():
        raise UserError(f"{name}: reward[{np.flatnonzero(~np.isfinite(column))[0]}] is not finite")
    return column


def _flags(column: Any, key: str, name: str) -> np.ndarray:
    if column.dtype.kind not in "biuf" or column.size != len(column) or not np.isin(column, (0, 1)).all():
        raise UserError(f"{name}: {key} is {column.dtype} {column.shape}, but one true or false a frame is expected")
    return column.reshape(-1).astype(bool)


def _empty(frames: int) -> Arrays:
    return {key: np.zeros(frames, DTYPES[key]) for key in SMALL_COLUMNS}
