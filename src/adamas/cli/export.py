"""`adamas export`: makes a small copy of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from adamas.config.arguments import run_command
from adamas.config.schema import knob
from adamas.utils.console import say

USAGE = """
Makes a small copy of a run, to share or to ship.

usage: adamas export run=RUN out=DIR [records=true]

The copy is a run folder of a fraction of the size, which `adamas play`, `adamas evaluate`, `initialize.from=` and
gymnasium.make("adamas:WorldModel-v0", run=DIR) take. It holds the weights without optimizers and experience, matrices and
kernels rounded to float16, and the curves without pictures; resume= needs the whole folder.
"""


@dataclass
class Options:
    """What is copied where."""

    run: str = knob(MISSING, "a run folder")
    out: str = knob(MISSING, "a folder that is not there yet")
    records: bool = knob(False, "without weights: what reports and showcases read")


def main(argv: list[str]) -> int:
    """The exit code."""
    return run_command(Options, argv, USAGE, run)


def run(options: Options) -> None:
    from adamas.training.export import export

    out = Path(options.out)
    export(Path(options.run), out, weights=not options.records)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    say(f"{out}: {size / 1e6:.1f} MB")
