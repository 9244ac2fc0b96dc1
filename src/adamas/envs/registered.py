"""An env of Gymnasium's registry, made and found fit, or one line that says why not."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.error import Error as GymnasiumError

from adamas.envs.actions import MOST, count_actions
from adamas.envs.screens import holds_pictures
from adamas.utils.errors import UserError, did_you_mean, one_line

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # a line on stdout of each env that draws with pygame
OURS = ("render_mode", "disable_env_checker", "vectorization_mode", "id")  # not for `env_kwargs`


def make_registered(env_id: str, kwargs: Mapping[str, Any]) -> gymnasium.Env:
    """As `gymnasium.make` makes it, with `render_mode="rgb_array"` where observations are no pictures.

    Raises:
        UserError: there is no such env, it cannot be made with these arguments, or it has no pixels or no finite number of actions.
    """
    spec = find(env_id)
    _check_kwargs(env_id, spec, kwargs)
    env = _make(env_id, kwargs)
    try:
        _check_actions(env_id, spec, env)
        if holds_pictures(env.observation_space):
            return env
    except UserError:
        env.close()
        raise
    modes = env.metadata.get("render_modes", [])
    env.close()
    if "rgb_array" not in modes:
        raise UserError(
            f"env={env_id} shows no pixels: its observations are {_short(env.observation_space)}, no picture of uint8 or of floats in "
            "0..1, and it has no render_mode rgb_array"
        )
    return _make(env_id, kwargs, render_mode="rgb_array")


def find(env_id: str) -> EnvSpec:
    """Imports the module that the id names, and finds the env. UserError with a hint where there is none."""
    module, colon, name = env_id.rpartition(":")
    if colon and not (module and name):
        raise UserError(f"env={env_id} cannot be read: write PACKAGE:ID, such as my_game:Ball-v0")
    if module:
        _import(env_id, module)
    try:
        return gymnasium.spec(name)
    except GymnasiumError as error:
        raise UserError(f"env={env_id} is not known: {_hint(module, name)}") from error


def _import(env_id: str, module: str) -> None:
    """Also a file of the current folder, which the installed program does not have on its path."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = f"it needs {error.name}" if error.name and not f"{module}.".startswith(f"{error.name}.") else ""
        absent = f"no module {module} is installed or in this folder: install it, or go to the folder of {module}.py"
        raise UserError(f"env={env_id}: {missing or absent}") from error
    except Exception as error:
        raise UserError(f"env={env_id}: {module} cannot be imported: {where(error)}") from error


def _hint(module: str, name: str) -> str:
    known = [one for one in gymnasium.registry if not (module and one.startswith("ALE/"))]
    bare = {spec_id.rpartition("/")[2].rpartition("-v")[0].lower(): spec_id for spec_id in known}
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if not module and not near:
        near = [bare[key] for key in difflib.get_close_matches(name.partition("-v")[0].lower(), bare, n=1)]
    if near:
        return f"did you mean {module}:{near[0]}?" if module else f"did you mean {near[0]}?"
    if module:
        return f"importing {module} registers no {name}"
    return "write PACKAGE:ID, such as my_game:Ball-v0, if a package has to be imported to register it"


def _check_kwargs(env_id: str, spec: EnvSpec, kwargs: Mapping[str, Any]) -> None:
    if taken := sorted(set(kwargs) & set(OURS)):
        raise UserError(f"env_kwargs: {taken[0]} is set by adamas: drop it")
    names = _parameters(spec)
    for key in kwargs:
        if names is not None and key not in names:
            hint = did_you_mean(key, names, f"it takes {', '.join(names) or 'none'}")
            raise UserError(f"env_kwargs: env={env_id} does not take '{key}': {hint}")


def _parameters(spec: EnvSpec) -> list[str] | None:
    """Of what makes the env; None where it takes any, or tells nothing."""
    try:
        creator = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
        found = inspect.signature(creator).parameters.values()  # type: ignore[arg-type]
    except Exception:  # the module of the env cannot be imported, say: making it tells why
        return None
    if any(one.kind is one.VAR_KEYWORD for one in found):
        return None
    return [one.name for one in found if one.name not in OURS]


def _make(env_id: str, kwargs: Mapping[str, Any], **ours: Any) -> gymnasium.Env:
    try:
        return gymnasium.make(env_id.rpartition(":")[2], disable_env_checker=True, **kwargs, **ours)
    except Exception as error:  # of Gymnasium, or whatever the env itself raises
        given = f" with env_kwargs={dict(kwargs)}" if kwargs else ""
        raise UserError(f"env={env_id} cannot be made{given}: {where(error)}") from error


def _check_actions(env_id: str, spec: EnvSpec, env: gymnasium.Env) -> None:
    count = count_actions(env.action_space)
    if count is None:
        way = ": set env_kwargs={continuous:false}" if "continuous" in (_parameters(spec) or []) else ""
        raise UserError(
            f"env={env_id} has the action space {_short(env.action_space)}, and adamas needs a Discrete or MultiDiscrete one{way}"
        )
    if count > MOST:
        raise UserError(f"env={env_id} has {count:,} actions: the most is {MOST}")


def _short(space: Any) -> str:
    text = " ".join(repr(space).split())
    return text if len(text) <= 80 else f"{type(space).__name__}{getattr(space, 'shape', None) or ''}"


def where(error: Exception) -> str:
    """What was raised, and the line of the user's file that did."""
    text = f"{type(error).__name__}: {one_line(error)}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    theirs = "gymnasium" not in last.filename and "importlib" not in last.filename
    return f"{text} ({os.path.basename(last.filename)}, line {last.lineno})" if theirs else text
