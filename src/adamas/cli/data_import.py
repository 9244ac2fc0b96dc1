"""`adamas data import`: makes a dataset for training of the data of others."""

from __future__ import annotations

from adamas.config.arguments import run_command, with_names
from adamas.conversion.settings import ImportOptions

USAGE = """
Makes a dataset for training of the data of others.

usage: adamas data import SOURCE OUT [name=value ...]

  adamas data import films OUT                      films (mp4, GIF, ...), one an episode
  adamas data import play.npz OUT                   npz, one file or a folder of them
  adamas data import atari/breakout/expert-v0 OUT   a Minari dataset of this machine; pip install 'adamas[data]'
  adamas data import pictures OUT                   one folder of PNG an episode

Actions, rewards and flags of films and pictures are read from a table of the same name beside them: NAME.csv with a line of
names (action,reward,terminated,truncated), or NAME.jsonl. Without a table there is one action. Frames become 84x84 grey, as
those of Atari do. How the files were understood is said; what could mean two things is refused with the setting that
settles it. A file that is malformed costs a line, and the others are imported.
"""


def main(argv: list[str]) -> int:
    """The exit code."""
    return run_command(ImportOptions, with_names(argv, ("source", "out")), USAGE, run)


def run(options: ImportOptions) -> None:
    from adamas.conversion.importing import import_data

    import_data(options)
