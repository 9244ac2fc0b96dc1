"""How many agent steps a run makes, and when."""

from __future__ import annotations

from collections.abc import Mapping

from adamas.config import Config
from adamas.training.phases import COLLECT, PLAY
from adamas.training.progress import Progress

RARE_REWARDS = 10  # of the rarer signs (of -, 0 and +) that the first collection waits for


def steps_left(config: Config, progress: Progress) -> int:
    """Agent steps that the run has yet to make in the real game."""
    return 0 if config.dataset else max(0, config.collection.steps - progress.steps)


def steps_to_collect(config: Config, progress: Progress, reward_counts: Mapping[int, int]) -> int:
    """Agent steps of this epoch: in the first one as many as it takes to see some rewards, within bounds.

    Args:
        reward_counts: steps so far by the sign of their reward.
    """
    c, done = config.collection, progress.done[COLLECT.name]
    if progress.epoch > 0:
        wanted = c.steps_per_epoch
    elif done < c.first_steps or sum(sorted(reward_counts.values())[:-1]) >= RARE_REWARDS:
        wanted = c.first_steps
    else:
        wanted = c.first_steps_most
    return min(wanted, done + steps_left(config, progress))


def steps_to_play(config: Config, progress: Progress) -> int:
    """The same of policy=model_free. A rollout too long in one epoch is made up for in the next."""
    c, done = config.collection, progress.done[PLAY.name]
    end = min(c.steps, c.first_steps + progress.epoch * c.steps_per_epoch)
    return end - (progress.steps - done)
