"""What a run says before it begins."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from adamas.config import Config
from adamas.config.help import shown
from adamas.training.pace import Pace
from adamas.training.phases import plan, units_left
from adamas.training.progress import Progress
from adamas.utils.quoting import assignment
from adamas.utils.torchrun import command


def in_words(seconds: float) -> str:
    """3_700 -> "1 h 2 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = max(1, round(seconds / 60))
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    named = [(days, "days" if days > 1 else "day"), (hours, "h"), (minutes if not days else 0, "min")]
    return " ".join(f"{n} {name}" for n, name in named if n)


def announce(config: Config, folder: Path, device: str, progress: Progress, costs: Mapping[str, float]) -> str:
    """What the run will do, where, and about how long it will take."""
    units = {phase.name: count for phase, count in plan(config).items()}
    phases = {name: count * costs[name] for name, count in units.items()}
    left = Pace(costs).total(units_left(config, progress))
    steps = (
        f"{config.collection.steps:,} agent steps" if not config.dataset else f"no steps, but {shown(config.dataset)}"
    )
    return "\n".join(
        [
            f"adamas learns {config.env} ({config.policy}, preset {config.preset}, seed {config.seed}) from {steps}",
            f"  device       {device}",
            f"  run folder   {folder}",
            f"  watch        tensorboard --logdir {shlex.quote(str(folder.parent.parent))}",
            f"  plan         {', '.join(f'{name} {count:,}x' for name, count in units.items())}",
            f"  time         about {in_words(left)} ({', '.join(f'{k} {in_words(v)}' for k, v in phases.items())})",
            f"  stop         Ctrl-C saves; go on with: {command('train', assignment('resume', folder))}",
        ]
    )
