"""How many epochs, steps and updates a run has, and how many of them are ahead."""

from __future__ import annotations

import math
from collections.abc import Mapping

from adamas.config import Config
from adamas.training.progress import Progress

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
    c, left, collected = config.collection, steps_left(config, progress), progress.collected
    wanted = c.first_steps if progress.epoch == 0 else c.steps_per_epoch
    collecting = math.ceil(max(0, left - max(0, wanted - collected)) / c.steps_per_epoch)
    if progress.epoch > 0 and not collected and not left:  # the last collection is over
        return max(1, _final_epochs(config) - progress.final_epochs)  # a resume may want fewer: that of now is ended
    return 1 + collecting + _final_epochs(config)


def _final_epochs(config: Config) -> int:
    return config.final_epochs if config.has_world_model else 0


def updates_left(config: Config, progress: Progress, part: str) -> int:
    """Updates of a part of PARTS, but those of a Q-network after each collected step."""
    epochs = epochs_left(config, progress)
    if not epochs or not config.has_world_model or part not in config.parts:
        return 0
    later = getattr(config, part).optimization.updates
    return max(0, updates_of_epoch(config, progress, part) - progress.done[part]) + (epochs - 1) * later


def planned_updates(config: Config, part: str) -> int:
    """The same of a whole run."""
    return updates_left(config, Progress(), part)


def updates_of_epoch(config: Config, progress: Progress, part: str) -> int:
    """Updates of a part of PARTS in this epoch."""
    optimization = getattr(config, part).optimization
    return optimization.first_updates if progress.epoch == 0 else optimization.updates


def replayed_updates(config: Config, steps: int) -> int:
    """Updates of a Q-network after the collected step that made them `steps`."""
    if config.policy == "imagined" or steps <= config.q_network.learning_starts:
        return 0
    ratio = config.q_network.replay_ratio
    return math.floor(steps * ratio) - math.floor((steps - 1) * ratio)


def steps_left(config: Config, progress: Progress) -> int:
    """Agent steps that the run has yet to make in the real game."""
    return 0 if config.dataset else max(0, config.collection.steps - progress.steps)


def steps_to_collect(config: Config, progress: Progress, reward_counts: Mapping[int, int]) -> int:
    """Agent steps of this epoch: in the first one as many as it takes to see some rewards, within bounds.

    Args:
        reward_counts: steps so far by the sign of their reward.
    """
    c, done = config.collection, progress.collected
    if progress.epoch > 0:
        wanted = c.steps_per_epoch
    elif done < c.first_steps or sum(sorted(reward_counts.values())[:-1]) >= RARE_REWARDS:
        wanted = c.first_steps
    else:
        wanted = c.first_steps_most
    return min(wanted, done + steps_left(config, progress))
