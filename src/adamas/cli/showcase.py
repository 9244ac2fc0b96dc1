"""`adamas showcase`: what finished runs of one game have to show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from adamas.config.arguments import run_command
from adamas.config.schema import setting

USAGE = """
Shows what finished runs of one game took and reached.

usage: adamas showcase runs=[A,B] out=DIR [seed=0]

Writes to out:
  runs.md    each run with its command, wall-clock, memory and returns; the mean over the seeds with its interval; and
             what uniformly random play gets in the same emulator
  curve.csv  the returns of games against agent steps: each evaluated one, and the mean of those collected within 50 steps
  curve.png  the same as a picture
  agent.gif  the first minute of a real game, played by the first agent that has its weights
"""


@dataclass
class Options:
    """What is shown."""

    runs: list[str] = setting([], "run folders, or folders that hold some at any depth: [A,B]")
    out: str = setting(MISSING, "where to write")
    seed: int = setting(0, "of the game that is filmed", least=0, most=2**31 - 1)


def main(argv: list[str]) -> int:
    """The exit code."""
    return run_command(Options, argv, USAGE, run)


def run(options: Options) -> None:
    from adamas.benchmark.showcase import finished, show

    show(finished([Path(folder) for folder in options.runs]), Path(options.out), options.seed)
