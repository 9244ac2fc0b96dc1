"""Floating point operations of the updates of a whole run, `python scripts/speed/flops.py preset=cpu`; on a CPU, whatever the preset.

A multiplication and an addition are two. Counted with few rows of a batch, then scaled: each row takes as many. Playing,
evaluating and updates of a Q-network that follow a collected step are left out.
"""

from __future__ import annotations

import argparse
import sys

import torch
from speed_sides import count

from adamas.config import Config, command_line
from adamas.envs.make import action_meanings
from adamas.training.rehearsal import Rehearsal
from adamas.training.schedule import planned_updates
from adamas.utils.markdown import markdown_table
from adamas.utils.threads import SERIAL

ROWS = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="name=value", help="as `adamas train` takes them")
    return command_line.launch(lambda config: print(table(config)), argv=parser.parse_args().settings)


def table(config: Config) -> str:
    """What one update of each part takes, on average over a run, and what all of them take."""
    counted = {part: gigaflop(config, part) for part in config.parts}
    made = {part: planned_updates(config, part) for part in config.parts}
    rows = [
        [part, made[part], f"{counted[part]:,.1f}", f"{made[part] * counted[part] / 1e6:,.3f}"] for part in config.parts
    ]
    total = sum(made[part] * counted[part] for part in config.parts) / 1e6
    return markdown_table(
        ["part", "updates", "GFLOP an update", "PFLOP"], [*rows, ["all", "", "", f"{total:,.3f}"]], "lrrr"
    )


def gigaflop(config: Config, part: str) -> float:
    """Of an update, on average over the run."""
    rehearsal = Rehearsal(config, action_meanings(config), torch.device("cpu"), SERIAL)
    batch = getattr(config, part).optimization.batch_size
    return sum(
        share * count(rehearsal.updates(part, ROWS, variant, SERIAL)) * batch / ROWS / 1e9
        for share, variant in rehearsal.variants(part)
        if share
    )


if __name__ == "__main__":
    sys.exit(main())
