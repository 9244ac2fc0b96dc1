"""Atari 100k on paper, `python scripts/speed/costs.py`: hours, memory and money for 26 games x 5 seeds, from measured step times.

Step times of the RTX 4090 are the published ones of DIAMOND's own code (64x64 colour). Those of other GPUs come from files
that `speed.py` wrote for preset=diamond; without such a file a machine is "not measured". Prices are assumptions.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import NamedTuple

from adamas.config import Config
from adamas.training.phases import plan
from adamas.utils.errors import UserError, exit_code
from adamas.utils.markdown import markdown_table

RESULTS = Path(__file__).resolve().parents[2] / "results"
GAMES, SEEDS = 26, 5
MACHINES = (("RTX 4090", 1), ("H200", 1), ("H200", 8))  # GPU and how many
PRICES = {"RTX 4090": 0.40, "H200": 3.50}  # dollars a GPU and hour: assumed
UNKNOWN = "not measured"


class Speed(NamedTuple):
    """What one GPU needs."""

    source: str
    seconds: dict[str, float]  # a unit of each phase that was measured
    gigabytes: float | None  # of GPU memory at most


PUBLISHED = Speed(
    "published (arXiv 2405.12399 and its code); its whole run took 2.9 days",
    {"denoiser": 0.088, "reward_end": 0.115, "actor_critic": 0.340},
    12,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=Path, default=RESULTS / "speed", help="folder of measured step times")
    print(to_markdown({"RTX 4090": PUBLISHED, **read_speeds(parser.parse_args().speed)}))


def read_speeds(folder: Path) -> dict[str, Speed]:
    """{GPU: what was measured of it} for the preset diamond; the last file by name counts."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text())
            memory = record["gpu_bytes"] and record["gpu_bytes"] / 1e9
            speed = Speed(f"measured ({path.name})", dict(record["seconds"]), memory)
            gpus = {gpu for gpu, _ in MACHINES if gpu in record["gpu"] and record["preset"] == "diamond"}
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is not a file that scripts/speed/speed.py wrote: {error!r}") from error
        found |= dict.fromkeys(gpus, speed)
    return found


def to_markdown(speeds: dict[str, Speed]) -> str:
    units = {phase.name: count for phase, count in plan(Config()).items()}
    head = ["machine", "a run", "all runs", "GPU hours", "money", "GPU memory a run", "step times"]
    body = [machine_row(gpu, count, speeds.get(gpu), units) for gpu, count in MACHINES]
    hours = [[name, f"{n:,}", *(phase_hours(name, n, speed) for speed in speeds.values())] for name, n in units.items()]
    lines = [
        "# Atari 100k on paper",
        f"`python {' '.join(sys.argv)}`: {GAMES} games x {SEEDS} seeds = {GAMES * SEEDS} runs of `preset=diamond`, one a "
        "GPU at a time.",
        markdown_table(head, body, "lrrrrrl"),
        "Prices are assumed, dollars a GPU and hour: " + ", ".join(f"{k} {v:.2f}" for k, v in PRICES.items()) + ".",
        "## Hours of each part",
        markdown_table(["part", "units a run", *speeds], hours, "lr" + "r" * len(speeds)),
    ]
    return "\n\n".join(lines)


def machine_row(gpu: str, count: int, speed: Speed | None, units: dict[str, int]) -> list[str]:
    if speed is None:
        return [f"{count} x {gpu}", *[UNKNOWN] * 5, "-"]
    runs, hours = GAMES * SEEDS, sum(n * speed.seconds.get(name, 0.0) for name, n in units.items()) / 3600
    missing = [name for name in units if name not in speed.seconds]
    return [
        f"{count} x {gpu}",
        f"{'at least ' if missing else ''}{hours:.1f} h",
        f"{math.ceil(runs / count) * hours / 24:,.0f} days",
        f"{runs * hours:,.0f}",
        f"${runs * hours * PRICES[gpu]:,.0f}",
        UNKNOWN if speed.gigabytes is None else f"{speed.gigabytes:.0f} GB",
        speed.source + (f", without {', '.join(missing)}" if missing else ""),
    ]


def phase_hours(name: str, units: int, speed: Speed) -> str:
    return f"{units * speed.seconds[name] / 3600:.1f}" if name in speed.seconds else UNKNOWN


if __name__ == "__main__":
    sys.exit(exit_code(main))
