"""How many epochs and updates a run has."""

from __future__ import annotations

import math

from adamas.config import Config


def epochs(config: Config) -> int:
    """Epochs of the whole run: a first one, those that collect more, and those after the last collection."""
    c = config.collection
    later = 0 if config.dataset else math.ceil(max(0, c.steps - c.first_steps) / c.steps_per_epoch)
    return 1 + later + (0 if config.policy == "model_free" else config.final_epochs)


def planned_updates(config: Config, part: str) -> int:
    """Updates of a part of PARTS in the whole run."""
    if config.policy == "model_free":
        return 0
    o = getattr(config, part).optimization
    return o.first_updates + (epochs(config) - 1) * o.updates
