"""The env of a run, of whatever kind: who uses one needs to know nothing of how its frames are made."""

from __future__ import annotations

import functools
import json
import re
import time

import gymnasium
from gymnasium.vector import VectorEnv

from adamas.config import Config
from adamas.config.hints import game_name
from adamas.envs import atari
from adamas.envs.atari import AtariEnv
from adamas.envs.env import PixelEnv
from adamas.envs.pixels import AT_ONCE, RegisteredEnv, SideBySide, as_json
from adamas.envs.registered import where
from adamas.utils.errors import UserError

EMULATOR_SECONDS = 5e-4  # a step of one emulator, about
TIMED = 30  # steps of another env


def is_atari(env: str) -> bool:
    """A bare name is one of ale-py's; the ids of all else have a version, a namespace or a module."""
    return re.search(r"[:/]|-v\d+$", env) is None


def canonical(env: str) -> str:
    """The game's name where `env` is Gymnasium's id of an Atari game, as other code bases write it; else `env`."""
    name, registered = game_name(env), gymnasium.registry.get(env)
    if registered and not str(registered.entry_point).startswith(
        "ale_py"
    ):  # Blackjack-v1 is no Atari game, and Blackjack-v4 is
        return env
    return name if name in atari.game_names() or env.startswith("ALE/") else env


def make_env(config: Config, *, episodic_life: bool = False, render_mode: str | None = None) -> PixelEnv:
    """The env of a run.

    Args:
        episodic_life: a lost life ends an episode, in the games that have lives.

    Raises:
        UserError: there is no such env, or none that can be learned from pixels.
    """
    if is_atari(config.env):
        return AtariEnv(config.env, config.atari, episodic_life=episodic_life, render_mode=render_mode)
    return _registered(config, render_mode)


def most_at_once(config: Config, count: int) -> int:
    """How many of `count` full games are played side by side."""
    return count if is_atari(config.env) else min(count, AT_ONCE)


def make_vector_env(config: Config, count: int) -> VectorEnv:
    """Full games side by side, rewards unclipped; obs uint8 (count, 1, 84, 84)."""
    if is_atari(config.env):
        return atari.make_vector_env(config.env, count, config.atari)
    return SideBySide([_registered(config) for _ in range(count)])


def _registered(config: Config, render_mode: str | None = None) -> RegisteredEnv:
    return RegisteredEnv(config.env, config.env_kwargs or {}, config.atari.max_episode_steps, render_mode)


def action_meanings(config: Config) -> tuple[str, ...]:
    """What the actions 0, 1, ... do: ("NOOP", "FIRE", "RIGHT", "LEFT") for Breakout."""
    if is_atari(config.env):
        return atari.action_meanings(config.env)
    return _looked_at(config.env, as_json(config.env_kwargs or {}))[0]


def check_env(config: Config) -> None:
    """UserError where the env cannot be had, or cannot be learned from pixels."""
    if is_atari(config.env):
        _check_bare(config.env)
        if config.env_kwargs:
            raise UserError(f"env_kwargs are for envs other than Atari's, and {config.env} is one: use atari.*")
        return
    if config.atari.repeat_action_probability:
        raise UserError(f"atari.repeat_action_probability is for Atari games, and env={config.env} is none: drop it")
    action_meanings(config)


def _check_bare(name: str) -> None:
    """UserError where it is no Atari game, with the id of another env of that name."""
    try:
        atari.check_game(name)
    except UserError:
        ids = [spec.id for spec in gymnasium.registry.values() if spec.name == name and spec.namespace is None]
        if ids:
            raise UserError(f"unknown game '{name}': did you mean {ids[-1]}?") from None
        raise


def step_seconds(config: Config) -> float:
    """About how long a step of the env takes."""
    return EMULATOR_SECONDS if is_atari(config.env) else _looked_at(config.env, as_json(config.env_kwargs or {}))[1]


@functools.cache
def _looked_at(env: str, kwargs: str) -> tuple[tuple[str, ...], float]:
    """The names of the actions and the seconds of a step, found out once in a process. `kwargs` is JSON."""
    made = RegisteredEnv(env, json.loads(kwargs), TIMED)
    try:
        return made.action_meanings, _time(made)
    except UserError:
        raise
    except Exception as error:  # whatever the env itself raises: here a line, later in the run with its traceback
        raise UserError(f"env={env} fails when it is played: {where(error)}") from error
    finally:
        made.close()


def _time(env: RegisteredEnv) -> float:
    env.reset(seed=0)
    begin, over = time.perf_counter(), False
    for step in range(TIMED):
        if over:
            env.reset()
        _, _, terminated, truncated, _ = env.step(step % len(env.action_meanings))
        over = terminated or truncated
    return (time.perf_counter() - begin) / TIMED
