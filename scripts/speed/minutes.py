"""Where the time of a run goes: `python scripts/speed/minutes.py results/speed/CHIP-cpu.json preset=cpu`.

Prints a table of the phases of a run: their units, what a unit costs on this machine (measured as before each run), and the minutes
of all. For what the file of `speed.py` has counted, also the minutes that it would take at the peak of convolutions that the file
names. Settings are those of `adamas train`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from speed import named

from adamas.config import Config, command_line
from adamas.envs.make import action_meanings
from adamas.training.phases import measure_costs, plan
from adamas.training.rehearsal import Rehearsal
from adamas.utils.device import pick_device
from adamas.utils.errors import UserError
from adamas.utils.markdown import markdown_table
from adamas.utils.threads import threads_of

HEADER = ("phase", "units", "ms a unit", "minutes", "share", "minutes at the peak")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("settings", nargs="*", metavar="name=value", help="as `adamas train` takes them")
    arguments = parser.parse_args()
    return command_line.launch(
        lambda config: print(table(config, read(arguments.record, config, arguments.settings))), argv=arguments.settings
    )


def read(path: Path, config: Config, settings: list[str]) -> dict:
    """A file of `speed.py`. UserError if it is none, or of other settings."""
    try:
        record = json.loads(path.read_text())
        measured, _, _ = record["preset"], record["rows"].keys(), float(record["peak"]["gflops"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no file of scripts/speed/speed.py: {error}") from error
    if measured != (wanted := named(config, settings)):
        raise UserError(
            f"{path} is of preset {measured}: give the file of preset {wanted}, or the settings of this one"
        )
    return record


def table(config: Config, record: dict) -> str:
    units = plan(config)
    chip = pick_device(config.device)
    with threads_of(chip) as threads:
        costs = measure_costs(Rehearsal(config, action_meanings(config), chip, threads))
    total = sum(count * costs[phase.name] for phase, count in units.items())
    rows = []
    for phase, count in units.items():
        seconds, row = count * costs[phase.name], record["rows"].get(phase.name)
        least = f"{count * row['gflop'] / record['peak']['gflops'] / 60:.1f}" if row else "-"
        rows.append(
            [
                phase.name,
                count,
                f"{1e3 * costs[phase.name]:.1f}",
                f"{seconds / 60:.1f}",
                f"{seconds / total:.0%}",
                least,
            ]
        )
    return markdown_table(HEADER, [*rows, ["all", "", "", f"{total / 60:.1f}", "", ""]], "lrrrrr")


if __name__ == "__main__":
    raise SystemExit(main())
