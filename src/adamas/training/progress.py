"""Where a run stands and what lies ahead of it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from adamas.config import PARTS, Config


@dataclass
class Progress:
    """Counters that a checkpoint keeps. A phase that is cut short goes on from `done`."""

    epoch: int = 0
    final_epochs: int = 0  # epochs that collected nothing more
    done: Counter[str] = field(default_factory=Counter)  # units of each phase in this epoch
    total: Counter[str] = field(default_factory=Counter)  # units of each phase in the run
    saves: int = 0
    seconds: float = 0.0  # wall-clock of all sessions of the run

    @property
    def steps(self) -> int:
        """Agent steps made in the real game."""
        return self.total["collect"] + self.total["play"]

    def tick(self, phase: str, units: int = 1) -> None:
        self.done[phase] += units
        self.total[phase] += units

    def next_epoch(self) -> None:
        collected = self.done["collect"] or self.done["play"]
        self.final_epochs += self.epoch > 0 and not collected
        self.epoch += 1
        self.done.clear()

    def state_dict(self) -> dict[str, Any]:
        return {k: dict(v) if isinstance(v, Counter) else v for k, v in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, Counter(value) if isinstance(value, dict) else value)


def plan(config: Config) -> dict[str, int]:
    """Units of each phase in the whole run; a unit is an agent step, an update, or an evaluation."""
    c = config.collection
    later = 0 if config.dataset else math.ceil(max(0, c.steps - c.first_steps) / c.steps_per_epoch)
    epochs = 1 + later + (0 if config.policy == "model_free" else config.final_epochs)
    units = {"evaluation": math.ceil(epochs / config.evaluation.every_epochs), "final evaluation": 1}
    if config.policy == "model_free":
        return {"play": c.steps, **units}
    budgets = {name: getattr(config, name).optimization for name in PARTS}
    updates = {name: o.first_updates + (epochs - 1) * o.updates for name, o in budgets.items()}
    look = int(min(config.evaluation.first_look, updates["denoiser"]) > 0)
    return {"collect": 0 if config.dataset else c.steps, **updates, "first look": look, **units}
