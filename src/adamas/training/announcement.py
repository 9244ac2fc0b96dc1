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
from adamas.utils.console import format_duration
from adamas.utils.quoting import assignment
from adamas.utils.torchrun import command


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
            f"  time         about {format_duration(left)} ({', '.join(f'{k} {format_duration(v)}' for k, v in phases.items())})",
            f"  stop         Ctrl-C saves; go on with: {command('train', assignment('resume', folder))}",
        ]
    )
