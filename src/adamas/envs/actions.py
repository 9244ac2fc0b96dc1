"""The actions of a Gymnasium env as one Discrete space from 0, and what they are called."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete, Space

from adamas.envs.keys import DIRECTIONS, directions

MOST = 256  # actions: the replay keeps them as bytes
KEYS = {"w": "UP", "s": "DOWN", "a": "LEFT", "d": "RIGHT", " ": "FIRE"}  # as most envs have them
CODES = {1073741906: "UP", 1073741905: "DOWN", 1073741904: "LEFT", 1073741903: "RIGHT"}  # pygame's arrows
ORDER = ("UP", "DOWN", "RIGHT", "LEFT", "FIRE")  # in a name of ale-py


class Actions(NamedTuple):
    """Action i is called `meanings[i]`, and the env knows it as `of_env(i)`."""

    meanings: tuple[str, ...]
    of_env: Callable[[int], Any]


def count_actions(space: Space) -> int | None:
    """How many actions there are; None where they are not finitely many alternatives."""
    if isinstance(space, Discrete):
        return int(space.n)
    if isinstance(space, MultiDiscrete) and space.nvec.ndim == 1:
        return math.prod(map(int, space.nvec))  # of Python's integers, which do not overflow
    return None


def read_actions(env: gymnasium.Env) -> Actions:
    """Of an env whose actions can be counted."""
    space = env.action_space
    if isinstance(space, MultiDiscrete):
        every = [np.array(one) + space.start for one in itertools.product(*map(range, space.nvec))]
        names = tuple(" ".join(map(str, one)) for one in every)
        return Actions(names, lambda action: every[action].astype(space.dtype))
    first, count = int(space.start), int(space.n)
    return Actions(_name(env, first, count), lambda action: first + action)


def _name(env: gymnasium.Env, first: int, count: int) -> tuple[str, ...]:
    """The env's own names, and the keys that it has for its actions; numbers where it tells nothing."""
    names = [str(name) for name in _ask(env, "get_action_meanings") or ()]
    keys = _keys(_ask(env, "get_keys_to_action"))
    known = len(names) == count
    return tuple(_called(names[i] if known else None, keys.get(first + i), str(i)) for i in range(count))


def _called(name: str | None, keys: str | None, number: str) -> str:
    if not keys or (name and directions(name) == directions(keys)):
        return name or number
    return f"{name} ({keys})" if name else keys


def _ask(env: gymnasium.Env, method: str) -> Any:
    """What a method without arguments tells; None where the env has none, or it fails."""
    try:
        return env.get_wrapper_attr(method)()
    except Exception:  # it is for people, and what it raises is the env's own affair
        return None


def _keys(held: Any) -> dict[int, str]:
    """{2: "UPRIGHT"} of {("w", "d"): 2}, as `gymnasium.utils.play` takes it; what has other keys is left out."""
    names: dict[int, str] = {}
    for keys, action in held.items() if isinstance(held, Mapping) else ():
        known = [_key(key) for key in (keys if isinstance(keys, (tuple, list)) else [keys])]
        if all(known) and isinstance(action, (int, np.integer)):
            names.setdefault(int(action), "".join(sorted(known, key=ORDER.index)) or "NOOP")
    return {action: name for action, name in names.items() if directions(name) is not None}


def _key(key: Any) -> str | None:
    if isinstance(key, (int, np.integer)):
        return CODES.get(int(key)) or KEYS.get(chr(int(key)).lower() if 0 <= key < 128 else "")
    return KEYS.get(str(key).lower()) or (str(key).upper() if str(key).upper() in DIRECTIONS else None)
