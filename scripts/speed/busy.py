"""How much longer work takes beside other work: `PYTHONPATH=src python scripts/speed/busy.py --presets smoke,cpu`.

Each kind of work is timed in three processes, in turns, with the same load beside them: `as it was` (torch's
threads, which split each operation and spin), `chosen` (threads that work on shares of a batch) and `one thread`. Loads: nothing,
two and four loops of Python, and one process that makes updates of preset cpu's denoiser as this program does. A cell is
the median seconds, and how many times the quiet seconds of `as it was`. The work `loop` is a loop of Python as well: what any
program loses on this machine. Stop other programs first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SIDES = ("as it was", "chosen", "one thread")
LOADS = ("quiet", "2 loops", "4 loops", "1 run")
KINDS = ("loop", "acting", "dreams", "denoiser", "reward_end", "actor_critic")
LOOP = 1_000_000  # numbers that a loop of Python adds up: no thread of torch takes part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", default="smoke,cpu")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--least", type=int, default=3, help="runs of each measurement")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement, at least")
    parser.add_argument(
        "--whole", action="store_true", help="also the whole run env=Pong preset=smoke, as it is chosen"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "speed" / "busy")
    parser.add_argument("--serve", nargs=2, metavar=("SIDE", "PRESET"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve, arguments.kinds.split(","))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python scripts/speed/busy.py", *sys.argv[1:]])
    for preset in arguments.presets.split(","):
        table = measure(preset, arguments)
        text = f"Preset {preset}, {os.cpu_count()} cores: `{command}`\n\n{table}"
        (arguments.out / f"{preset}.md").write_text(text)
        print(text, flush=True)
    if arguments.whole:
        text = f"The run `env=Pong preset=smoke`: `{command}`\n\n{whole(arguments.loads.split(','), arguments.out)}"
        (arguments.out / "whole.md").write_text(text)
        print(text, flush=True)


# The process that starts the others


def ask(side: subprocess.Popen, kind: str) -> float:
    """Seconds of one run of the work."""
    side.stdin.write(f"{kind}\n")
    side.stdin.flush()
    return float(side.stdout.readline())


def medians(sides: dict[str, subprocess.Popen], kind: str, a: argparse.Namespace) -> dict[str, float]:
    """Seconds of the work of each side, which take turns, so that what else happens on the machine meets all alike."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    end = time.monotonic() + a.seconds * len(sides)
    while min(map(len, times.values())) < a.least or time.monotonic() < end:
        for side, process in sides.items():
            time.sleep(0.05)  # until the threads of the side before spin no more
            times[side].append(ask(process, kind))
    return {side: statistics.median(found) for side, found in times.items()}


def start(side: str, preset: str, a: argparse.Namespace) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    if side != "chosen":  # libgomp's own default, written out, is a choice of the user's
        environment["GOMP_SPINCOUNT"] = "300000"
    command = [sys.executable, __file__, "--serve", side, preset, "--kinds", a.kinds]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    print(side, process.stdout.readline().strip(), file=sys.stderr, flush=True)
    return process


def begin_load(load: str) -> list[subprocess.Popen]:
    if load == "quiet":
        return []
    count, kind = load.split()
    if kind == "loops":
        return [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(int(count))]
    runs = [start("chosen", "cpu", argparse.Namespace(kinds="denoiser")) for _ in range(int(count))]
    for run in runs:
        run.stdin.write("again and again\n")
        run.stdin.close()
    return runs


def beside(load: str, work: Callable[[], None]) -> None:
    others = begin_load(load)
    try:
        time.sleep(0.5 * bool(others))
        work()
    finally:
        for other in others:
            other.kill()


def measure(preset: str, a: argparse.Namespace) -> str:
    sides, loads = {side: start(side, preset, a) for side in a.sides.split(",")}, a.loads.split(",")
    kinds: list[str] = a.kinds.split(",")
    found: dict[str, dict[str, dict[str, float]]] = {load: {} for load in loads}
    try:
        for load in loads:
            beside(load, lambda load=load: found[load].update({kind: medians(sides, kind, a) for kind in kinds}))
            print(load, found[load], file=sys.stderr, flush=True)
    finally:
        for side in sides.values():
            side.kill()
    lines = ["| work | " + " | ".join(loads) + " |", "|" + "---|" * (1 + len(loads))]
    for kind in kinds:
        alone = next(iter(found[loads[0]][kind].values()))
        for side in sides:
            cells = (f"{found[load][kind][side]:.4f} ({found[load][kind][side] / alone:.2f}x)" for load in loads)
            lines.append(f"| {kind}, {side} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def whole(loads: list[str], out: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    seconds: dict[str, float] = {}
    for load in loads:

        def run(load: str = load) -> None:
            begun = time.monotonic()
            command = [sys.executable, str(ROOT / "src" / "main.py"), "env=Pong", "preset=smoke", "device=cpu"]
            subprocess.run(
                [*command, f"runs={out / 'runs'}"], env=environment, check=True, stderr=subprocess.DEVNULL, stdout=2
            )
            seconds[load] = time.monotonic() - begun

        beside(load, run)
    alone = seconds[loads[0]]
    return "\n".join(f"- {load}: {s:.0f} s ({s / alone:.2f}x)" for load, s in seconds.items()) + "\n"


# The process that is timed


def serve(side: str, preset: str, kinds: list[str]) -> None:
    import torch

    from adamas.config.command_line import compose_config
    from adamas.training.rehearsal import Rehearsal
    from adamas.utils.device import keep_freed_memory
    from adamas.utils.threads import Threads, threads_of

    keep_freed_memory()
    config = compose_config([f"preset={preset}", "env=Pong", "device=cpu"])
    config.denoiser.autoregressive_after = 0  # so that all updates of a part are alike
    config.reward_end.imagined_share = float(config.reward_end.imagined_share > 0)
    if side == "one thread":
        torch.set_num_threads(1)
    cores, chip = torch.get_num_threads(), torch.device("cpu")
    threads = threads_of(chip) if side == "chosen" else Threads(cores, most=1)
    rehearsal = Rehearsal(config, ("NOOP",) * 6, chip, threads)
    works: dict[str, Callable[[], None]] = {}
    for kind in kinds:
        if kind == "loop":
            works[kind] = lambda: sum(range(LOOP))
        elif kind == "acting":
            works[kind] = rehearsal._acting(1)
        elif kind == "dreams":
            works[kind] = rehearsal._dreaming(threads.count)
        else:
            batch = getattr(config, kind).optimization.batch_size
            works[kind] = rehearsal.updates(kind, batch, config, threads)
    with threads:
        for work in works.values():
            work()
        print(threads.describe(), flush=True)
        for line in sys.stdin:
            kind = line.strip()
            while kind not in works:  # a load
                works[kinds[0]]()
            begun = time.perf_counter()
            works[kind]()
            seconds = time.perf_counter() - begun
            print(seconds / (threads.count if kind == "dreams" else 1), flush=True)


if __name__ == "__main__":
    main()
