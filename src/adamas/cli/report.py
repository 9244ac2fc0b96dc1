"""`adamas report`: runs beside the published systems of Atari 100k."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from omegaconf import MISSING

from adamas.config.arguments import run_command
from adamas.config.schema import setting

USAGE = """
Compares runs with the published systems of Atari 100k.

usage: adamas report out=DIR [name=value ...]

  adamas report runs=runs out=DIR                       tables, figures and pictures of all runs below runs/
  adamas report runs=runs reference=Breakout out=DIR    is the newest run of Breakout on track?

Writes to out: atari100k.md (tables), atari100k.json and atari100k.csv (every figure, every run) and pictures,
atari100k-games.png, -intervals.png, -profiles.png and -improvement.png. Without runs it reports on the published systems.
With reference=GAME it draws the newest run of GAME in the first of the folders over all others of the same settings.
"""


@dataclass
class Options:
    """What is compared."""

    runs: list[str] = setting([], "run folders, or folders that hold some at any depth: [A,B]")
    reference: Optional[str] = setting(None, "learning curves of this game alone")
    out: str = setting(MISSING, "where to write")


def main(argv: list[str]) -> int:
    """The exit code."""
    return run_command(Options, argv, USAGE, run)


def run(options: Options) -> None:
    from adamas.benchmark.report import plot_reference, report

    folders, out = [Path(folder) for folder in options.runs], Path(options.out)
    if options.reference:
        plot_reference(folders, options.reference, out)
    else:
        report(folders, out)
