"""One file, or one set of files, that is imported whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from adamas.conversion.steps import Arrays


class Source(NamedTuple):
    """What was found, before frames are read."""

    path: Path
    frames: int  # about; for the progress bar
    meaning: list[str]  # how it was understood, in words
    rows: Callable[
        [], Iterator[Arrays]
    ]  # columns of `adamas.data.storage`, in order; UserError for damage found on the way
