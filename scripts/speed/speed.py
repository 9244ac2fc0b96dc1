"""How fast the parts of a run are on this machine: `python scripts/speed/speed.py preset=diamond device=cpu --compare eager`.

Times each row (`--rows`) several times and shows the median: time, floating point operations a second, their share of the
convolution peak that it measures first, and how many times as fast it is as other code that runs in turns with it: plain
float32 eager (`--compare eager`) or the published code in a clone of it (`--published PATH`). Ratios are medians of pairs, so
that a machine with other work to do can measure them; on a very busy one measure processor time (`--clock processor`).
Writes JSON and a table into results/speed/, named by chip and preset; rows that were not chosen stay as they were there.
`--check FILE` compares the ratios with those of such a file instead, and exits with 1 where one fell by more than `--tolerance`.
Any setting of `adamas train` can be given as name=value.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from speed_published import check_sizes
from speed_record import duration, read_reference, tell_losses, to_markdown, with_earlier
from speed_sides import CLOCKS, ROWS, serve

from adamas.config import Config, command_line
from adamas.envs.atari import check_game
from adamas.utils.device import describe, pick_device
from adamas.utils.errors import UserError
from adamas.utils.files import publish_text

ROOT = Path(__file__).resolve().parents[2]
UNNAMED = ("preset", "device", "env", "seed", "runs")  # settings that the name of a preset need not tell


@dataclass
class Measured:
    """A row, as far as it was measured."""

    flops: float = 0.0  # a unit; 0: none are counted
    seconds: dict[str, list[float]] = field(default_factory=dict)  # of each side, a unit, one a round


class Side:
    """A process that times one kind of code, and answers questions about it one at a time."""

    def __init__(self, name: str, config: Config, device: torch.device, clock: str, path: Path | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, name, config, device, clock, path), daemon=True)
        self._process.start()
        theirs.close()
        self._receive("its start")

    def ask(self, method: str, *arguments: object) -> Any:
        self._connection.send((method, arguments))
        return self._receive(" ".join(map(str, (method, *arguments[:1]))))

    def close(self) -> None:
        self._process.terminate()
        self._process.join()

    def _receive(self, what: str) -> Any:
        try:
            fine, answer = self._connection.recv()
        except EOFError:
            raise UserError(f"{self.name}: its process died at {what}; is there enough memory?") from None
        if not fine:
            raise UserError(f"{self.name}, {what}: {answer}")
        return answer


def main() -> int:
    arguments = read_arguments()
    code = 0

    def run(config: Config) -> None:
        nonlocal code
        code = measure_and_tell(config, arguments)

    sys.argv = [sys.argv[0], *arguments.settings]
    return command_line.launch(run) or code


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="name=value", help="as `adamas train` takes them")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, help="what to time")
    parser.add_argument("--pairs", type=int, default=5, help="measurements of each row, in turns with other code")
    parser.add_argument("--compare", choices=["eager"], help="also time plain float32 eager")
    parser.add_argument("--published", type=Path, metavar="PATH", help="also time the code in this clone of DIAMOND")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="wall, or the processor time of all threads")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "speed", help="folder to write to")
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare with a file that this script wrote")
    parser.add_argument("--tolerance", type=float, default=0.2, help="share of a ratio that may be lost with --check")
    arguments = parser.parse_intermixed_args()
    if arguments.pairs < 1:
        parser.error("--pairs: a whole number from 1 on is needed")
    return arguments


def measure_and_tell(config: Config, arguments: argparse.Namespace) -> int:
    check_game(config.env)
    device = pick_device(config.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # where graphs are recorded
    if arguments.clock == "processor" and device.type != "cpu":
        raise UserError(f"--clock processor does not see what {device} does: use --clock wall")
    if arguments.published:
        check_sizes(config)
    record = conditions(config, device, arguments)
    reference = read_reference(arguments.check, record) if arguments.check else None
    if not reference:
        arguments.out.mkdir(parents=True, exist_ok=True)  # what cannot be written is not worth measuring
    wanted = {side for row in reference["rows"].values() for side in row["ratio"]} if reference else set()
    others = [side for side in ("eager",) if side in {arguments.compare, *wanted}]
    record |= measure(config, device, arguments, others + ["published"] * bool(arguments.published))
    if reference:
        return tell_losses(record, reference, arguments.check, arguments.tolerance)
    path = arguments.out / f"{slug(record['chip'])}-{short(record['preset'])}.json"
    record = with_earlier(record, path)
    publish_text(path, json.dumps(record, indent=1) + "\n")
    publish_text(path.with_suffix(".md"), to_markdown(record))
    print(f"\n{to_markdown(record)}\nwritten: {path} and {path.with_suffix('.md').name}")
    return 0


# What was measured where


def conditions(config: Config, device: torch.device, arguments: argparse.Namespace) -> dict[str, Any]:
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""  # costs.py looks for its GPUs here
    return {
        "chip": gpu or processor(),
        "gpu": gpu,
        "preset": named(config, arguments.settings),
        "device": describe(device),
        "clock": arguments.clock,
        "torch": torch.__version__,
        "precision": config.precision,
    }


def named(config: Config, settings: list[str]) -> str:
    """ "diamond actor_critic.horizon=5"."""
    return " ".join([config.preset, *sorted(word for word in settings if word.partition("=")[0] not in UNNAMED)])


def processor() -> str:
    """ "AMD EPYC, 2 threads"."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    threads = torch.get_num_threads()
    name = found[1].strip() if found else platform.processor() or platform.machine()
    return f"{name}, {threads} thread{'s' * (threads > 1)}"


def slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-").lower()


def short(preset: str) -> str:
    """A preset's name; with a digest of what was changed in it, if anything was."""
    name, *changes = preset.split(" ")
    return "-".join([slug(name), *[hashlib.sha256(" ".join(changes).encode()).hexdigest()[:8]] * bool(changes)])


def commit() -> str:
    try:
        found = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:  # no git here
        return "unknown"
    return found.stdout.strip() or "unknown"


# Measuring


def measure(config: Config, device: torch.device, arguments: argparse.Namespace, others: list[str]) -> dict[str, Any]:
    rows = [row for row in ROWS if row in arguments.rows]
    print(
        f"timing {', '.join(rows)}\n"
        f"  preset       {config.preset}\n"
        f"  device       {describe(device)}, {os.getloadavg()[0]:.1f} processes at work on {os.cpu_count()} cores\n"
        f"  clock        {arguments.clock}\n"
        f"  compared     {arguments.pairs} times in turns with: {', '.join(others) or 'nothing'}",
        flush=True,
    )
    sides: list[Side] = []
    try:
        for name in ("ours", *others):
            sides.append(Side(name, config, device, arguments.clock, arguments.published))
        peak, kind = sides[0].ask("peak")
        print(f"  peak         {peak / 1e9:.0f} GFLOP/s, 3x3 convolutions in {kind}", flush=True)
        measured = rounds(sides, rows, arguments.pairs)
        print(f"  compiled     {sides[0].ask('compiled')} graphs", flush=True)
        memory = {side.name: side.ask("memory") for side in sides}
    finally:
        for side in sides:
            side.close()
    table = {row: summary(found, peak) for row, found in measured.items()}
    updates = {name: getattr(config, name).optimization.updates for name in config.parts}
    return {
        "peak": {"gflops": peak / 1e9, "type": kind},
        "seconds": {row: table[row]["seconds"] for row in (*config.parts, "collect") if row in table},
        "gpu_bytes": memory["ours"] if device.type == "cuda" else None,
        "memory": memory,
        "updates": {**updates, "collect": config.collection.steps_per_epoch},
        "rows": {row: {**entry, "pairs": arguments.pairs, "commit": commit()} for row, entry in table.items()},
    }


def rounds(sides: list[Side], rows: list[str], pairs: int) -> dict[str, Measured]:
    """Every row `pairs` times by each side that has it, in turns; what comes first changes from round to round."""
    measured = {row: Measured() for row in rows}
    for row, found in measured.items():
        able = [side for side in sides if side.ask("has", row)]
        for side in able:
            found.flops = side.ask("warm_up", row, side.name == "ours") or found.flops
        for turn in range(pairs):
            for side in able if turn % 2 == 0 else able[::-1]:
                found.seconds.setdefault(side.name, []).append(side.ask("measure", row))
            shown = ", ".join(f"{side} {duration(seconds[-1])}" for side, seconds in found.seconds.items())
            print(f"  {row}: {turn + 1} of {pairs}, {shown}", flush=True)
    return measured


def summary(measured: Measured, peak: float) -> dict[str, Any]:
    """Medians; the ratios are medians over rounds, in which what slows the machine slows both."""
    mine = measured.seconds["ours"]
    seconds = statistics.median(mine)
    speed = measured.flops / seconds
    others = {side: theirs for side, theirs in measured.seconds.items() if side != "ours"}
    ratios = {side: [b / a for a, b in zip(mine, theirs, strict=True)] for side, theirs in others.items()}
    return {
        "seconds": seconds,
        "others": {side: statistics.median(theirs) for side, theirs in others.items()},
        "gflop": measured.flops / 1e9,
        "gflops": speed / 1e9,
        "share": speed / peak,
        "ratio": {side: statistics.median(pairs) for side, pairs in ratios.items()},
        "range": {side: [min(pairs), max(pairs)] for side, pairs in ratios.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
