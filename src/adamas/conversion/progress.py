"""The progress bar of an import or export."""

from __future__ import annotations

import sys

from tqdm import tqdm

from adamas.utils.console import Lasting


def progress_bar(total: int, what: str) -> tqdm:
    """Counts frames, on stderr; a line every half minute where that is no terminal."""
    live = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=what,
        unit=" frames",
        unit_scale=True,
        mininterval=0.2 if live else 30,
        file=Lasting(sys.stderr),
    )
