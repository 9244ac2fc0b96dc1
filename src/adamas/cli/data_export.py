"""`adamas data export`: writes the experience of a run for other tools."""

from __future__ import annotations

from adamas.config.arguments import run_command, with_names
from adamas.conversion.settings import ExportOptions

USAGE = """
Writes the experience of a run, or a dataset, for other tools.

usage: adamas data export RUN OUT [format=minari|mp4]

  format=minari   OUT/data as Minari has it: minari.MinariDataset("OUT/data"); pip install 'adamas[data]'
  format=mp4      one film an episode, and beside it a csv of actions, rewards and flags, which `adamas data import` reads;
                  pip install 'adamas[video]'
"""


def main(argv: list[str]) -> int:
    """The exit code."""
    return run_command(ExportOptions, with_names(argv, ("run", "out")), USAGE, run)


def run(options: ExportOptions) -> None:
    from adamas.conversion.exporting import export_data

    export_data(options)
