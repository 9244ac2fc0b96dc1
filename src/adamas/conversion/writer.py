"""A dataset as it is written: chunks of a replay, source after source, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adamas.conversion.steps import Arrays
from adamas.data import storage

CHUNK = 8192  # rows of a file, 58 MB of frames


class DatasetWriter:
    """Rows come in with `add`; `keep` makes those since the last one count, `drop` takes them back.

    Args:
        folder: empty, and this writer's alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = self.episodes = self.sources = 0  # that are kept
        self.most_action = 0
        self._written = 0  # rows on disk
        self._parts: list[Arrays] = []  # not on disk yet
        self._new_files: list[Path] = []  # since `keep`
        self._new_rows = self._new_episodes = self._new_most = 0

    def add(self, columns: Arrays) -> None:
        self._parts.append(columns)
        self._new_rows += len(columns["obs"])
        self._new_episodes += int((columns["terminated"] | columns["truncated"]).sum())
        self._new_most = max(self._new_most, int(columns["action"].max()))
        if sum(len(part["obs"]) for part in self._parts) >= CHUNK:
            self._flush()

    def keep(self) -> None:
        self.sources += 1
        self.rows += self._new_rows
        self.episodes += self._new_episodes
        self.most_action = max(self.most_action, self._new_most)
        self._forget()

    def drop(self) -> None:
        for path in self._new_files:
            path.unlink()
        self._written = min(self._written, self.rows)
        self._parts = _first(self._parts, self.rows - self._written)
        self._forget()

    def close(self) -> None:
        self._flush()

    def _forget(self) -> None:
        self._new_files = []
        self._new_rows = self._new_episodes = self._new_most = 0

    def _flush(self) -> None:
        """Rows that are kept go to a file of their own: the others may be dropped."""
        kept = _first(self._parts, self.rows - self._written)
        new = self._parts[len(kept) :]
        for parts, may_go in ((kept, False), (new, True)):
            if parts:
                columns = {key: np.concatenate([part[key] for part in parts]) for key in storage.DTYPES}
                chunk = storage.write(self.folder, self._written, columns)
                self._written += chunk["rows"]
                self._new_files += [self.folder / chunk["name"]] if may_go else []
        self._parts = []


def _first(parts: list[Arrays], rows: int) -> list[Arrays]:
    """The parts that hold the first so many rows."""
    kept = []
    for part in parts:
        if rows <= 0:
            break
        kept.append(part)
        rows -= len(part["obs"])
    return kept
