"""Where a data card gets its rows from: the files of a dataset, or the replay of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from adamas.config import SIZE
from adamas.data import storage
from adamas.data.frame_files import frame_blocks
from adamas.data.replay import Replay
from adamas.data.storage import SMALL_COLUMNS
from adamas.utils.errors import UserError

BLOCK = 256  # frames at once, 1.8 MB
SLICE = 500  # rows in a row, of a replay that is not looked at whole


class Source:
    """The rows of a dataset in order. All but the frames are in memory.

    Attributes:
        columns: those of `adamas.data.storage` but obs, (rows,) each.
        starts: int64 (episodes,): the first row of each episode.
        broken: a line for each file that cannot be read, and is left out.
    """

    def __init__(self, columns: dict[str, np.ndarray], breaks: Sequence[int], broken: Sequence[str] = ()) -> None:
        self.columns, self.broken = columns, list(broken)
        self.rows = len(columns["final"])
        self.starts = storage.episode_starts(columns["terminated"], columns["truncated"], columns["final"], breaks)
        self.episode = np.repeat(np.arange(len(self.starts)), np.diff([*self.starts, self.rows]))  # of each row

    @property
    def leads_on(self) -> np.ndarray:
        """bool (rows,): whether the next row is the frame that the action of this one led to."""
        return np.append(self.episode[1:] == self.episode[:-1], False)

    def blocks(self) -> Iterator[np.ndarray]:
        """All frames in order, uint8 (N, 84, 84) each."""
        raise NotImplementedError

    def frames(self, rows: Sequence[int]) -> np.ndarray:
        """Some frames, uint8 (len(rows), 84, 84)."""
        wanted = np.asarray(rows, int)
        found = np.zeros((len(wanted), SIZE, SIZE), np.uint8)
        first = 0
        for block in self.blocks():
            here = (wanted >= first) & (wanted < first + len(block))
            found[here] = block[wanted[here] - first]
            first += len(block)
            if first > wanted.max(initial=-1):
                break
        return found


class FileSource(Source):
    """Of `.npz` files, in this order. UserError if none can be read."""

    def __init__(self, files: Sequence[Path]) -> None:
        parts, broken, self._files = [], [], []
        breaks, rows, previous = [], 0, None
        for file in files:
            try:
                part = storage.read(file, (SIZE, SIZE), SMALL_COLUMNS, finite=False)
                _check_frames(file, len(part["final"]))
            except UserError as error:
                broken.append(str(error))
                continue
            try:
                joined = storage.continues(file, previous)
            except UserError as error:  # a chunk is missing: what is there is looked at
                broken.append(str(error))
                joined = False
            breaks += [] if joined else [rows]
            parts.append(part)
            self._files.append(file)
            rows, previous = rows + len(part["final"]), file
        if not parts:
            raise UserError(broken[0] if len(broken) == 1 else f"no file can be read; the first: {broken[0]}")
        super().__init__(
            {name: np.concatenate([part[name] for part in parts]) for name in SMALL_COLUMNS}, breaks, broken
        )

    def blocks(self) -> Iterator[np.ndarray]:
        for file in self._files:
            yield from frame_blocks(file, BLOCK)


class ReplaySource(Source):
    """Of a replay in memory: all rows, or slices of SLICE rows from everywhere in it, about `most` together."""

    def __init__(self, replay: Replay, most: int) -> None:
        self._replay = replay
        slices = -(-replay.num_rows // SLICE)
        chosen = np.unique(np.linspace(0, slices - 1, min(slices, max(1, most // SLICE))).astype(int))
        spans = [(int(i) * SLICE, min((int(i) + 1) * SLICE, replay.num_rows)) for i in chosen]
        self._spans = spans
        parts = [replay.span(first, stop, SMALL_COLUMNS) for first, stop in spans]
        lengths = np.cumsum([0, *(stop - first for first, stop in spans)])
        breaks = [int(lengths[i]) for i in range(1, len(spans)) if spans[i][0] != spans[i - 1][1]]
        columns = {name: np.concatenate([part[name].numpy() for part in parts]) for name in SMALL_COLUMNS}
        super().__init__(columns, breaks)

    def blocks(self) -> Iterator[np.ndarray]:
        for first, stop in self._spans:
            for start in range(first, stop, BLOCK):
                yield self._replay.span(start, min(start + BLOCK, stop), ["obs"])["obs"].numpy()


def _check_frames(file: Path, rows: int) -> None:
    """UserError unless the file holds as many good frames as rows. Damage shows when all of it is read."""
    found = sum(len(block) for block in frame_blocks(file, 4 * BLOCK))
    if found != rows:
        raise UserError(f"{file}: column 'obs' has {found} rows, the others {rows}")
