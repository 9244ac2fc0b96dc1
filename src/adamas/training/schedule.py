"""How many epochs and updates a run has."""

from __future__ import annotations

import math

from adamas.config import Config


def epochs(config: Config) -> int:
    """Epochs of the whole run: a first one, those that collect more, and those after the last collection."""
    c = config.collection
    later = 0 if config.dataset else math.ceil(max(0, c.steps - c.first_steps) / c.steps_per_epoch)
    return 1 + later + (0 if config.policy == "model_free" else config.final_epochs)


def real_share(config: Config) -> float:
    """`actor_critic.real_share`, where there are real steps to learn from."""
    return 0.0 if config.dataset else config.actor_critic.real_share


def imagined_updates(updates: int, share: float) -> int:
    """How many of the imagined updates of the policy are left when this share gives way to real ones."""
    return round(updates * (1 - share))


def planned_updates(config: Config, part: str) -> int:
    """Updates of a part of PARTS in the whole run, but those of the policy from real rollouts; the most."""
    if config.policy == "model_free":
        return 0
    o = getattr(config, part).optimization
    share = real_share(config) if part == "actor_critic" else 0.0
    return imagined_updates(o.first_updates, share) + (epochs(config) - 1) * imagined_updates(o.updates, share)
