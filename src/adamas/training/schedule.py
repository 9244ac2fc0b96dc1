"""How many epochs, steps and updates a run has, and how many of them are ahead."""

from __future__ import annotations

import math
from collections.abc import Mapping

from adamas.config import Config
from adamas.config.rules import learns_from_steps
from adamas.training.progress import DIVERGED, IMAGINED, Progress

RARE_REWARDS = 10  # of the rarer signs (of -, 0 and +) that the first collection waits for


def finished(config: Config, progress: Progress) -> bool:
    """Between two epochs, whether there is none ahead. An epoch that was cut short has units done."""
    begun = any(units for phase, units in progress.done.items() if phase != "final evaluation")
    return (
        progress.epoch > 0
        and not begun
        and steps_left(config, progress) == 0
        and progress.final_epochs >= _final_epochs(config)
    )


def epochs_left(config: Config, progress: Progress) -> int:
    """Epochs that are not over: the one of now, those that collect more, and those after the last collection."""
    if finished(config, progress):
        return 0
    c, left, collected = config.collection, steps_left(config, progress), progress.done["collect"]
    wanted = c.first_steps if progress.epoch == 0 else c.steps_per_epoch
    collecting = math.ceil(max(0, left - max(0, wanted - collected)) / c.steps_per_epoch)
    if progress.epoch > 0 and not collected and not left:  # the last collection is over
        return _final_epochs(config) - progress.final_epochs
    return 1 + collecting + _final_epochs(config)


def _final_epochs(config: Config) -> int:
    return 0 if config.policy == "model_free" else config.final_epochs


def updates_left(config: Config, progress: Progress, part: str) -> int:
    """Updates of a part of PARTS, but those of the policy from real rollouts."""
    epochs = epochs_left(config, progress)
    if not epochs or config.policy == "model_free":
        return 0
    later = getattr(config, part).optimization.updates
    if part == "actor_critic":
        later = _imagined(config, later, progress.total)
    return max(0, updates_of_epoch(config, progress, part) - progress.done[part]) + (epochs - 1) * later


def planned_updates(config: Config, part: str) -> int:
    """The same of a whole run."""
    return updates_left(config, Progress(), part)


def updates_of_epoch(config: Config, progress: Progress, part: str) -> int:
    """Updates of a part of PARTS in this epoch; of the policy, those in imagination, by what is known so far."""
    optimization = getattr(config, part).optimization
    updates = optimization.first_updates if progress.epoch == 0 else optimization.updates
    return _imagined(config, updates, progress.done) if part == "actor_critic" else updates


def real_share(config: Config, counts: Mapping[str, int]) -> float:
    """The share of the imagined updates that give way: at least `actor_critic.real_share`, and as large as the share of the
    imagined rollouts that diverged, as a dream that goes wrong teaches the policy little.

    Args:
        counts: `done` or `total` of a Progress.
    """
    if not learns_from_steps(config):
        return 0.0
    return max(config.actor_critic.real_share, counts[DIVERGED] / max(1, counts[IMAGINED]))


def _imagined(config: Config, updates: int, counts: Mapping[str, int]) -> int:
    return round(updates * (1 - real_share(config, counts)))


def steps_left(config: Config, progress: Progress) -> int:
    """Agent steps that the run has yet to make in the real game."""
    return 0 if config.dataset else max(0, config.collection.steps - progress.steps)


def steps_to_collect(config: Config, progress: Progress, reward_counts: Mapping[int, int]) -> int:
    """Agent steps of this epoch: in the first one as many as it takes to see some rewards, within bounds.

    Args:
        reward_counts: steps so far by the sign of their reward.
    """
    c, done = config.collection, progress.done["collect"]
    if progress.epoch > 0:
        wanted = c.steps_per_epoch
    elif done < c.first_steps or sum(sorted(reward_counts.values())[:-1]) >= RARE_REWARDS:
        wanted = c.first_steps
    else:
        wanted = c.first_steps_most
    return min(wanted, done + steps_left(config, progress))
