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
from adamas.training.rehearsal import Rehearsal
from adamas.training.schedule import epochs, planned_updates, real_share

STEPS_A_GAME = 1_000  # agent steps: a guess, before any game was played
FIRST_DREAM_AFTER = 1_000  # updates of the denoiser, or half of the first epoch's


@dataclass(frozen=True)
class Phase:
    """One kind of work.

    Args:
        name: of its counters in a checkpoint, its curves and its bar.
        planned: units in the whole run.
        seconds: expected seconds a unit, on this machine.
        shown: the curve whose newest value stands beside the bar.
    """

    name: str
    planned: Callable[[Config], int]
    seconds: Callable[[Rehearsal], float]
    shown: str = ""


def first_dream_after(c: Config) -> int:
    """Updates of the denoiser after which a first dream is shown; 0: none."""
    return min(FIRST_DREAM_AFTER, c.denoiser.optimization.first_updates // 2)


def _updates(part: str, shown: str) -> Phase:
    return Phase(part, lambda c: planned_updates(c, part), lambda rehearsal: rehearsal.update(part), shown)


def _evaluation(rehearsal: Rehearsal, games: int) -> float:
    played = games * rehearsal.acting(games) * STEPS_A_GAME
    return played + (_dreams(rehearsal) if rehearsal.config.policy == "imagined" else 0.0)


def _dreams(rehearsal: Rehearsal) -> float:
    """The sets of dreams of an evaluation."""
    e = rehearsal.config.evaluation
    return DREAM_SETS * ticks(e.dreams, e.dream_steps) * rehearsal.dreaming


COLLECT = Phase(
    "collect",
    lambda c: c.collection.steps if c.policy == "imagined" and not c.dataset else 0,
    lambda rehearsal: (2 if real_share(rehearsal.config) else 1) * rehearsal.acting(1),
)
PLAY = Phase(  # in the real game, and learn from it: policy=model_free
    "play",
    lambda c: c.collection.steps if c.policy == "model_free" else 0,
    lambda rehearsal: 2 * rehearsal.acting(1),
)
UPDATES = {
    part: _updates(part, shown)
    for part, shown in zip(PARTS, ("denoiser/loss", "reward_end/loss", "imagination/reward"), strict=True)
}
FIRST_DREAM = Phase("first dream", lambda c: int(c.policy == "imagined" and first_dream_after(c) > 0), _dreams)
EVALUATION = Phase(
    "evaluation",
    lambda c: math.ceil(epochs(c) / c.evaluation.every_epochs),
    lambda rehearsal: _evaluation(rehearsal, rehearsal.config.evaluation.games),
)
FINAL_EVALUATION = Phase(
    "final evaluation", lambda c: 1, lambda rehearsal: _evaluation(rehearsal, rehearsal.config.evaluation.final_games)
)
PHASES = (COLLECT, PLAY, *UPDATES.values(), FIRST_DREAM, EVALUATION, FINAL_EVALUATION)


def plan(config: Config) -> dict[Phase, int]:
    """The phases that a run has, with their units."""
    units = {phase: phase.planned(config) for phase in PHASES}
    return {phase: count for phase, count in units.items() if count}


def measure_costs(rehearsal: Rehearsal) -> dict[str, float]:
    """Expected seconds a unit of each planned phase, by its name."""
    return {phase.name: phase.seconds(rehearsal) for phase in plan(rehearsal.config)}
