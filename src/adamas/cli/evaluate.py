"""`adamas evaluate`: measures how much of the detail of reality a run's world model keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from omegaconf import MISSING

from adamas.config.arguments import run_command
from adamas.config.schema import setting

USAGE = """
Measures how much of the detail of reality a run's world model keeps.

usage: adamas evaluate run=RUN [name=value ...]

Dreams the same held-out real play with each checkpoint that the run folder keeps. Prints the table of the newest one and
saves to RUN/evaluation: detail.md and detail.json (every figure at every step), detail.png (detail against horizon),
growth.png and contact_sheet.png (does detail grow or fade from checkpoint to checkpoint?), dreams.gif, dreams.png and
trajectory.png.
"""


@dataclass
class Options:
    """What is measured, and how much of it."""

    run: str = setting(MISSING, "a run folder")
    dreams: int = setting(64, "dreams of each set", least=1)
    steps: Optional[int] = setting(None, "steps of a dream; null: as many as in the run's own evaluations", least=1)
    seed: int = setting(
        0, "of the agent's own play and of its dreams; random play has its own", least=0, most=2**31 - 1
    )
    newest: bool = setting(False, "the newest checkpoint alone, without a contact sheet")
    frechet: int = setting(0, "Fréchet distance over so many frames; 0: none", least=0)
    inception: Optional[str] = setting(None, "a local file of Inception weights, for the FID too")
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps")
    out: Optional[str] = setting(None, "where to save; null: RUN/evaluation")


def main(argv: list[str]) -> int:
    """The exit code."""
    return run_command(Options, argv, USAGE, run)


def run(options: Options) -> None:
    from adamas.training.evaluate_run import evaluate

    evaluate(**vars(options))
