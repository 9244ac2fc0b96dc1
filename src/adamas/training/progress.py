"""Where a run stands."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """Counters that a checkpoint keeps. A phase that is cut short goes on from `done`."""

    epoch: int = 0
    final_epochs: int = 0  # epochs since the last collection
    done: Counter[str] = field(default_factory=Counter)  # units of each phase in this epoch
    total: Counter[str] = field(default_factory=Counter)  # units of each phase in the run
    saves: int = 0
    seconds: float = 0.0  # wall-clock of all sessions of the run

    @property
    def steps(self) -> int:
        """Agent steps made in the real game."""
        return self.total["collect"]

    @property
    def collected(self) -> int:
        """Agent steps made in this epoch."""
        return self.done["collect"]

    def tick(self, phase: str, units: int = 1) -> None:
        self.done[phase] += units
        self.total[phase] += units

    def next_epoch(self) -> None:
        self.final_epochs = 0 if self.collected or self.epoch == 0 else self.final_epochs + 1
        self.epoch += 1
        self.done.clear()

    def state_dict(self) -> dict[str, Any]:
        return {k: dict(v) if isinstance(v, Counter) else v for k, v in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """KeyError, TypeError or ValueError for what is no such state."""
        for name, mine in vars(self).items():
            value = state[name]
            if isinstance(mine, Counter):
                value = Counter({str(phase): int(units) for phase, units in value.items()})
            elif type(value) not in (int, type(mine)) or value < 0:
                raise ValueError(f"{name}={value}")
            setattr(self, name, value)
