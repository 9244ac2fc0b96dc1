"""What the world model is worth: dreams beside what really happened, and how much of its detail they keep."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from torch import Tensor

from adamas.agent.policy import Policy
from adamas.config import Config
from adamas.config.rules import SHORTER_DREAMS
from adamas.data.batch import Trajectory
from adamas.envs.make import make_env
from adamas.evaluation.clips import record
from adamas.evaluation.detail import Detail, background, measure
from adamas.evaluation.dreams import Dreams, dream, film, grid, spread, trajectory
from adamas.utils.console import warn
from adamas.utils.errors import UserError
from adamas.utils.threads import SERIAL, Threads
from adamas.world_model.world_model import WorldModel

FIXED_SEED = 1_000_000_007  # of random play; the seeds of training are far from it
FRESH_SEED = 7  # of other noise on the same play
SHOWN = 4  # dreams of each set in the moving picture
SHOWN_STILL = 2  # dreams of each set in the still picture
_FIXED_CLIPS: dict[str, Trajectory] = {}  # that of the newest config


DREAM_SETS = 3  # that `evaluate_world` dreams


class Evaluation(NamedTuple):
    """Two sets of dreams: `random_play`, the same uniformly random play and the same noise each time, compares checkpoints;
    `agent_play`, what the agent does now and new noise, is what imagination meets. The second is not there where the agent's
    games are too short for it."""

    detail: dict[str, Detail]  # of both sets, and the baselines "copy" and "real" on random play
    spread: Tensor  # float (T,): see `dreams.spread`, of random play under its noise and under other noise
    film: Tensor  # uint8 (T, height, width): see `dreams.film`, random play on top
    grid: Tensor  # uint8 (height, width): see `dreams.grid`, random play on top
    trajectory: Tensor  # uint8 (height, width): see `dreams.trajectory`


def evaluate_world(
    world: WorldModel,
    policy: Policy,
    config: Config,
    seed: int,
    each_step: Callable[[], None] = lambda: None,
    threads: Threads = SERIAL,
) -> Evaluation:
    """Evaluates on real actions of games played for the purpose: no frame of them is ever trained on.

    Args:
        seed: of the agent's play, and of the noise on it.
        each_step, threads: see `dream`.
    """
    clip, context = fixed_clip(config), config.denoiser.context
    fixed = dream(world, clip, context, FIXED_SEED, each_step, threads)
    fresh = dream(world, clip, context, FRESH_SEED, each_step, threads)
    sets = {"random_play": fixed}
    try:
        own = record_clip(policy, config, seed)
    except UserError as error:  # games that a good agent soon ends
        warn(f"no dreams of the agent's own play: {error}")
    else:
        sets["agent_play"] = dream(world, own, context, seed, each_step, threads)
    detail = {**{name: measure_dreams(dreams) for name, dreams in sets.items()}, **baselines(fixed)}
    shown, steps = [*sets.values()], trajectory(world, clip, context, FIXED_SEED)
    return Evaluation(detail, spread(fixed, fresh), film(shown, SHOWN), grid(shown, SHOWN_STILL), steps)


def fixed_clip(config: Config) -> Trajectory:
    """Uniformly random play, so that it is the same whatever the agent has learned. Played once, for all evaluations of a run."""
    key = repr(config)
    if key not in _FIXED_CLIPS:
        _FIXED_CLIPS.clear()
        _FIXED_CLIPS[key] = record_clip(None, config, FIXED_SEED)
    return _FIXED_CLIPS[key]


def record_clip(policy: Policy | None, config: Config, seed: int) -> Trajectory:
    """`evaluation.dreams` clips, each as long as the context and a dream together."""
    steps = config.denoiser.context - 1 + config.evaluation.dream_steps
    with closing(make_env(config)) as env:
        try:
            return record(policy, env, config.evaluation.dreams, steps, seed)
        except UserError as error:
            raise UserError(f"{error}: {SHORTER_DREAMS}") from error


def measure_dreams(dreams: Dreams) -> Detail:
    """Moving is what differs from the median of the real frames."""
    return measure(dreams.imagined, dreams.real, dreams.previous, background(dreams.real))


def baselines(dreams: Dreams) -> dict[str, Detail]:
    """What `copy`, the last real frame over and over, and reality itself get for the same clips."""
    copy = dreams.previous[:, None].expand_as(dreams.real)
    return {
        "copy": measure_dreams(dreams._replace(imagined=copy)),
        "real": measure_dreams(dreams._replace(imagined=dreams.real)),
    }
