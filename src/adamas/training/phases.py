"""The phases of a run as values: what each is called, how many units of it a run has, and what a unit costs.

A unit is an agent step, an update, or an evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from adamas.config import PARTS, Config
from adamas.evaluation.dreams import ticks
from adamas.evaluation.evaluate import DREAM_SETS
from adamas.training.progress import Progress
from adamas.training.rehearsal import Rehearsal
from adamas.training.schedule import epochs_left, finished, steps_left, updates_left

STEPS_A_GAME = 1_000  # agent steps: a guess, before any game was played
FIRST_DREAM_AFTER = 1_000  # updates of the denoiser, or half of the first epoch's


@dataclass(frozen=True)
class Phase:
    """One kind of work.

    Args:
        name: of its counters in a checkpoint, its curves and its bar.
        left: units that a run has ahead, from where it stands.
        seconds: expected seconds a unit, on this machine.
        shown: the curve whose newest value stands beside the bar.
    """

    name: str
    left: Callable[[Config, Progress], int]
    seconds: Callable[[Rehearsal], float]
    shown: str = ""


def first_dream_after(c: Config) -> int:
    """Updates of the denoiser after which a first dream is shown; 0: none."""
    return min(FIRST_DREAM_AFTER, c.denoiser.optimization.first_updates // 2)


def _updates(part: str, shown: str) -> Phase:
    return Phase(
        part, lambda c, progress: updates_left(c, progress, part), lambda rehearsal: rehearsal.update(part), shown
    )


def _first_dreams_left(c: Config, progress: Progress) -> int:
    shown = c.has_world_model and first_dream_after(c) > 0
    return int(shown and progress.epoch == 0 and not progress.done["first dream"])


def _evaluations_left(c: Config, progress: Progress) -> int:
    first, every = progress.epoch, c.evaluation.every_epochs
    due = math.ceil((first + epochs_left(c, progress)) / every) - math.ceil(first / every)
    return max(0, due - progress.done["evaluation"])


def _evaluation(rehearsal: Rehearsal, games: int) -> float:
    played = games * rehearsal.acting(games) * STEPS_A_GAME
    return played + (_dreams(rehearsal) if rehearsal.config.has_world_model else 0.0)


def _dreams(rehearsal: Rehearsal) -> float:
    """The sets of dreams of an evaluation."""
    e = rehearsal.config.evaluation
    return DREAM_SETS * ticks(e.dreams, e.dream_steps) * rehearsal.dreaming


COLLECT = Phase("collect", steps_left, lambda rehearsal: rehearsal.acting(1) + rehearsal.replaying)
UPDATES = {
    part: _updates(part, shown)
    for part, shown in zip(
        PARTS, ("denoiser/loss", "reward_end/loss", "imagination/reward", "imagination/reward"), strict=True
    )
}
FIRST_DREAM = Phase("first dream", _first_dreams_left, _dreams)
EVALUATION = Phase(
    "evaluation",
    _evaluations_left,
    lambda rehearsal: _evaluation(rehearsal, rehearsal.config.evaluation.games),
)
FINAL_EVALUATION = Phase(
    "final evaluation",
    lambda c, progress: int(not (finished(c, progress) and progress.done["final evaluation"])),
    lambda rehearsal: _evaluation(rehearsal, rehearsal.config.evaluation.final_games),
)
PHASES = (COLLECT, *UPDATES.values(), FIRST_DREAM, EVALUATION, FINAL_EVALUATION)


def plan(config: Config) -> dict[Phase, int]:
    """The phases that a run has, with their units."""
    units = {phase: phase.left(config, Progress()) for phase in PHASES}
    return {phase: count for phase, count in units.items() if count}


def units_left(config: Config, progress: Progress) -> dict[str, int]:
    """Units of each phase, by its name, that a run has ahead from where it stands."""
    return {phase.name: phase.left(config, progress) for phase in PHASES}


def measure_costs(rehearsal: Rehearsal) -> dict[str, float]:
    """Expected seconds a unit of each phase, by its name, that a run has. One that is resumed may have been begun with other settings."""
    config = rehearsal.config
    planned = plan(config)
    trained = config.parts if config.resume and config.has_world_model else ()
    return {phase.name: phase.seconds(rehearsal) for phase in PHASES if phase in planned or phase.name in trained}
