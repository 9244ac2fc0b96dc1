"""One bit flipped, or the end cut off, in each file of a run folder: noticed, or without any effect."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from common import Row, apart, same, train

CPU = torch.device("cpu")
OPENED: list[str] = []  # files, while somebody looks
HARMLESS, TOLD, LOST = "no effect", "one line", "told of, and one save lost"


def damage(folder: Path, flips: int, seed: int = 0) -> list[Row]:
    """`flips` bits in each file, one at a time, and each file cut at three places."""
    sys.addaudithook(lambda event, arguments: OPENED.append(as_text(arguments[0])) if event == "open" else None)
    run = train("checkpoint.every_minutes=0.05", cwd=folder / "damaged")
    whole, reads = {}, defaultdict(set)
    for name, probe in PROBES.items():
        with opened() as files:
            whole[name] = probe(run)[0]
        for file in files:
            reads[file].add(name)
    draw, counts, faults = random.Random(seed), {"flipped": Counter(), "cut": Counter()}, []
    files = [path for path in sorted(run.rglob("*")) if path.is_file()]
    for path in files:
        original = path.read_bytes()
        for kind, data in variants(original, flips, draw):
            path.write_bytes(data)
            effects = apart(effects_of, sorted(reads[os.path.realpath(path)]), run, whole)
            worst = max(effects, key=lambda effect: RANK.get(effect, 3), default=HARMLESS)
            counts[kind][worst] += 1
            if worst not in (HARMLESS, TOLD, LOST):
                faults.append(f"{path.relative_to(run)} {kind}: {worst}")
                print(faults[-1], flush=True)
        path.write_bytes(original)
        print(
            f"{path.relative_to(run)}: read by {', '.join(sorted(reads[os.path.realpath(path)])) or 'nothing'}",
            flush=True,
        )
    shutil.rmtree(folder / "damaged")
    return [row(kind, len(files), counts[kind], flips, faults) for kind in counts]


def effects_of(probes: list[str], run: Path, whole: dict[str, Any]) -> list[str]:
    return [try_probe(name, run, whole[name]) for name in probes]


def row(kind: str, files: int, counts: Counter[str], flips: int, faults: list[str]) -> Row:
    what = f"one bit flipped, at {flips} places" if kind == "flipped" else "the end cut off at 3 places"
    bad = [fault for fault in faults if f" {kind}:" in fault]
    found = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) + (
        f": {'; '.join(bad)}" if bad else ""
    )
    tried = f"{what} in each of the {files} files of a run folder; {', '.join(PROBES)}"
    return Row("damage is noticed or has no effect", tried, found, not bad)


def variants(data: bytes, flips: int, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    if not data:
        return
    for _ in range(flips):
        flipped, bit = bytearray(data), draw.randrange(8 * len(data))
        flipped[bit // 8] ^= 1 << bit % 8
        yield "flipped", bytes(flipped)
    for length in (0, draw.randrange(len(data)), len(data) - 1):
        yield "cut", data[:length]


# What reads a run folder. Each returns what it found, and how many saves it lost.


def resume(run: Path) -> tuple[Any, int]:
    from adamas.config.files import load_config
    from adamas.training.run_folder import RunFolder
    from adamas.training.trainer import Trainer
    from adamas.utils.threads import saved_cores

    config, folder = load_config(run / "config.yaml"), RunFolder(run)
    threads = saved_cores(folder.threads)
    trainer = Trainer(config, folder, CPU)
    trainer.resume()
    found = {
        "threads": threads,
        "config": str(config),
        "models": trainer.models.state_dict(),
        "random": trainer.random.state_dict(),
    }
    found["optimizers"] = trainer.learners.state_dict()
    found["player"] = trainer.collector.state_dict()
    found["rows"] = trainer.replay.rows(0)
    return found, trainer.progress.saves


def play(run: Path) -> tuple[Any, int]:
    from adamas.data.dataset_table import open_table
    from adamas.play.load import open_agent
    from adamas.play.settings import Options

    agent = open_agent(Options(run=str(run), device="cpu"))
    table = open_table(agent.replay_files)
    frames = [table.frame(row) for row in range(table.rows)]
    return {"models": agent.models.state_dict(), "frames": frames, "action": table.action}, int(agent.checkpoint[:8])


def env(run: Path) -> tuple[Any, int]:
    from adamas.training.saved_env import open_world

    world = open_world(run, CPU)
    return {"models": world.models.state_dict(), "starts": list(world.starts)}, 0


def report(run: Path) -> tuple[Any, int]:
    from adamas.training.run_records import find_outcomes
    from adamas.utils.console import warn

    return [outcome._replace(config=str(outcome.config)) for outcome in find_outcomes([run], warn)], 0


def showcase(run: Path) -> tuple[Any, int]:
    from adamas.training.scalars import read_scalars

    return {
        name: [(e.wall_time, e.step, e.value) for e in events]
        for name, events in read_scalars(run / "tensorboard").items()
    }, 0


def status(run: Path) -> tuple[Any, int]:
    from adamas.training.run_folder import RunFolder

    progress = RunFolder(run).read_progress()
    return [progress.get(name) for name in ("epoch", "steps", "seconds", "left")], 0


def evaluate(run: Path) -> tuple[Any, int]:
    from adamas.training.load_run import SavedRun

    saved = SavedRun(run)
    path = saved.checkpoints()[-1]
    return saved.load(path, CPU)[0].state_dict(), 0


PROBES: dict[str, Callable[[Path], tuple[Any, int]]] = {
    probe.__name__: probe for probe in (resume, play, env, evaluate, report, showcase, status)
}
RANK = {HARMLESS: 0, TOLD: 1, LOST: 2}


def as_text(path: object) -> str:
    """tensorboard opens its files by names that are bytes."""
    return os.fsdecode(path) if isinstance(path, (bytes, str, os.PathLike)) else ""


@contextmanager
def opened() -> Iterator[set[str]]:
    """The files that are opened inside."""
    files: set[str] = set()
    OPENED.clear()
    yield files
    files.update(os.path.realpath(name) for name in OPENED)


def try_probe(name: str, run: Path, expected: Any) -> str:
    """What a damaged file has done to it."""
    from adamas.data import dataset_table
    from adamas.utils.errors import UserError

    for cache in (dataset_table._table, dataset_table._small_columns, dataset_table._block):
        cache.cache_clear()
    said = StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(said):
            found, _ = PROBES[name](run)
    except UserError as error:
        return TOLD if len(str(error).splitlines()) == 1 else f"{name} has several lines"
    except Exception as error:
        return f"{name} has a traceback, {type(error).__name__}"
    if same(found, expected):
        return HARMLESS
    return LOST if said.getvalue().strip() else f"{name} is silently other"
