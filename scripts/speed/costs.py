"""Atari 100k on paper, `python scripts/speed/costs.py`: hours, memory and money for 26 games x 5 seeds, from measured step times.

Step times of the RTX 4090 are the published ones of DIAMOND's own code (64x64 colour). Those of other GPUs come from files
results/speed/*.json as `{"gpu": name, "preset": "diamond", "seconds": {phase: seconds a unit}, "gpu_bytes": most}`, whose
phases are those of `adamas.training.progress.plan`; without such a file a machine is "not measured". Prices are assumptions:
set your own with --price.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import NamedTuple

from adamas.config import SIZE, Config
from adamas.data.replay import HEADROOM
from adamas.training.progress import plan
from adamas.utils.errors import UserError, exit_code
from adamas.utils.markdown import markdown_table

RESULTS = Path(__file__).resolve().parents[2] / "results"
GAMES, SEEDS = 26, 5
MACHINES = (("RTX 4090", 1), ("H200", 1), ("H200", 8))  # GPU and how many
PRICES = {"RTX 4090": 0.40, "H200": 3.50}  # dollars a GPU and hour: assumed
UNKNOWN = "not measured"
GROWS = {
    "collect": "agent steps",
    "denoiser": "epochs x updates, batch, and the pixels and channels of the U-Net",
    "reward_end": "epochs x updates, batch x segment length",
    "actor_critic": "epochs x updates, batch x horizon x (denoising steps + 1)",
    "first look": "the steps of a dream",
    "evaluation": "epochs, and the longest of its games",
    "final evaluation": "the longest of its games",
}


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
    parser.add_argument(
        "--price", action="append", default=[], metavar="GPU=DOLLARS", help='an hour of one GPU, such as "H200=3.5"'
    )
    parser.add_argument("--speed", type=Path, default=RESULTS / "speed", help="folder of measured step times")
    parser.add_argument("--out", type=Path, help="also write to this file")
    arguments = parser.parse_args()
    text = to_markdown({"RTX 4090": PUBLISHED, **read_speeds(arguments.speed)}, read_prices(arguments.price))
    print(text, end="")
    if arguments.out:
        arguments.out.write_text(text)


def read_prices(given: list[str]) -> dict[str, float]:
    prices = dict(PRICES)
    for text in given:
        gpu, _, dollars = text.rpartition("=")
        try:
            prices[gpu] = float(dollars)
        except ValueError:
            raise UserError(f"--price {text}: write the GPU and dollars an hour, such as H200=3.5") from None
        if gpu not in PRICES:
            raise UserError(f"--price {text}: the GPUs are {' and '.join(PRICES)}")
    return prices


def read_speeds(folder: Path) -> dict[str, Speed]:
    """{GPU: what was measured of it} for the preset diamond; the last file by name counts."""
    if not folder.is_dir():
        raise UserError(f"--speed {folder} is not a folder")
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text())
            if record["preset"] != "diamond":
                continue
            memory = record.get("gpu_bytes")
            speed = Speed(f"measured ({path.name})", dict(record["seconds"]), memory and memory / 1e9)
            found |= {gpu: speed for gpu, _ in MACHINES if gpu in record["gpu"]}
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} does not hold gpu, preset and seconds: {error!r}") from error
    return found


def to_markdown(speeds: dict[str, Speed], prices: dict[str, float]) -> str:
    runs = GAMES * SEEDS
    lines = [
        "# Atari 100k on paper",
        f"`python {' '.join(sys.argv)}`: {GAMES} games x {SEEDS} seeds = {runs} runs of `preset=diamond`, one a GPU at a time.",
        markdown_table(
            ["machine", "a run", "all runs", "GPU hours", "money", "GPU memory a run", "step times"],
            (machine_row(gpu, count, speeds.get(gpu), prices[gpu], runs) for gpu, count in MACHINES),
            "lrrrrrl",
        ),
        "Prices are assumed, dollars a GPU and hour: " + ", ".join(f"{k} {v:.2f}" for k, v in prices.items()) + ".",
        "## Which part grows with what",
        phases(speeds),
        f"The replay is {plan(Config())['collect'] * HEADROOM * SIZE**2 / 1e9:.2f} GB, and grows with the agent steps.",
    ]
    return "\n\n".join(lines) + "\n"


def machine_row(gpu: str, count: int, speed: Speed | None, price: float, runs: int) -> list[str]:
    name = f"{count} x {gpu}"
    if speed is None:
        return [name, *[UNKNOWN] * 5, "-"]
    hours = sum(hours_of(phase, speed) or 0 for phase in planned())
    missing = [phase for phase in planned() if phase not in speed.seconds]
    days = math.ceil(runs / count) * hours / 24
    least = "at least " if missing else ""
    note = f"{speed.source}, without {', '.join(missing)}" if missing else speed.source
    memory = UNKNOWN if speed.gigabytes is None else f"{speed.gigabytes:.0f} GB"
    money = f"${runs * hours * price:,.0f}"
    return [name, f"{least}{hours:.1f} h", f"{days:,.0f} days", f"{runs * hours:,.0f}", money, memory, note]


def planned() -> dict[str, int]:
    """Units of each phase that a run has."""
    return {phase: units for phase, units in plan(Config()).items() if units}


def hours_of(phase: str, speed: Speed) -> float | None:
    """Of all its units in a run; None where its step time is not known."""
    return planned()[phase] * speed.seconds[phase] / 3600 if phase in speed.seconds else None


def phases(speeds: dict[str, Speed]) -> str:
    head, rows = ["part", "units a run", *(f"hours, {gpu}" for gpu in speeds), "grows with"], []
    for phase, units in planned().items():
        hours = [hours_of(phase, speed) for speed in speeds.values()]
        rows.append([phase, f"{units:,}", *(UNKNOWN if h is None else f"{h:.1f}" for h in hours), GROWS[phase]])
    return markdown_table(head, rows, "lr" + "r" * len(speeds) + "l")


if __name__ == "__main__":
    sys.exit(exit_code(main))
