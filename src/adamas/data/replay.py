"""All experience as flat arrays of bytes: one row a frame, in the order of play; a batch of segments is one gather.

A row is a step `(obs, action, reward, terminated, truncated)`, or the frame that an episode ended with (`final`),
which nobody acted on. The episode that has not ended yet counts as the newest one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adamas.data import sampling, storage
from adamas.data.batch import Segment, Trajectory, cut_segments
from adamas.data.direction_changes import DirectionChanges
from adamas.utils.transfer import to_device

HEADROOM = 1.05  # rows a step of `capacity`, for final frames
GROWTH = 1.125  # of the number of rows, when the headroom was not enough


class Replay:
    """Room for `capacity` steps; grows when many short episodes, or more steps, need it.

    Args:
        age_weights: share of the samples that each age group of episodes gets, oldest first.
        frame_shape: height and width of a frame in pixels.
        device: of the frames and of what is sampled. All else of a row is small, and stays on the CPU.
    """

    def __init__(
        self,
        capacity: int,
        age_weights: Sequence[float] = (0.1, 0.1, 0.1, 0.7),
        frame_shape: tuple[int, int] = (84, 84),
        device: torch.device | str = "cpu",
    ) -> None:
        self.num_rows = 0
        self.frame_shape = frame_shape
        self.device = torch.device(device)
        self.mixture: sampling.Mixture | None = None  # of datasets with shares
        self._age_weights = torch.tensor(age_weights, dtype=torch.float64)
        self._starts = torch.empty(0, dtype=torch.int64)  # first row of each episode
        self._events = torch.empty(0, dtype=torch.int64)  # rows of the steps that brought a reward or an end
        self._direction_changes = DirectionChanges()
        self._reward_counts = torch.zeros(3, dtype=torch.int64)  # steps with reward below, at, above 0
        self._chunks: list[dict[str, Any]] = []
        rows = int(capacity * HEADROOM) + 1
        self._columns = {name: self._allocate(name, rows) for name in storage.DTYPES}

    @property
    def num_steps(self) -> int:
        return int(self._reward_counts.sum())

    @property
    def num_episodes(self) -> int:
        return len(self._starts)

    @property
    def reward_counts(self) -> dict[int, int]:
        """Number of steps with a negative (-1), no (0) and a positive (+1) reward."""
        return dict(zip((-1, 0, 1), self._reward_counts.tolist(), strict=True))

    @property
    def edges(self) -> list[int]:
        """The rows at which its parts start, and the number of rows."""
        return self.mixture.edges.tolist() if self.mixture else [0, self.num_rows]

    def most_action(self, first: int, stop: int) -> int:
        """The greatest action that was ever taken in these rows."""
        return int(self._columns["action"][first:stop].max())

    def count_transitions(self, first: int, stop: int) -> int:
        """Steps of these rows, a whole part, whose next frame is known."""
        return stop - first - int(((self._starts >= first) & (self._starts < stop)).sum())

    def digest(self) -> str:
        """The digest of all that is stored but the frames, which would take seconds, and of the shares in which it is drawn."""
        digest = hashlib.sha256()
        for name, column in self._columns.items():
            if name != "obs":
                digest.update(column[: self.num_rows].numpy().tobytes())
        for column in self.mixture or ():
            digest.update(column.numpy().tobytes())
        return digest.hexdigest()

    def add(self, obs: Any, action: int, reward: float, terminated: bool, truncated: bool, next_obs: Any) -> None:
        """Writes one step, and its `next_obs` too when that is the true final frame of the episode.

        Args:
            obs, next_obs: uint8 (H, W), array or tensor.
        """
        self.extend(_row(obs, action, reward, terminated, truncated, final=False))
        if terminated or truncated:
            self.extend(_row(next_obs, 0, 0.0, False, False, final=True))

    def rows(self, first: int) -> dict[str, Tensor]:
        """The rows from `first` on, on the CPU, as `extend` takes them."""
        return {name: column[first : self.num_rows].cpu() for name, column in self._columns.items()}

    def span(self, first: int, stop: int, names: Sequence[str]) -> dict[str, Tensor]:
        """Some columns of the rows first..stop-1, on the CPU."""
        return {name: self._columns[name][first:stop].cpu() for name in names}

    def sample(
        self,
        batch_size: int,
        length: int,
        generator: torch.Generator,
        first_target: int = 0,
        event_share: float = 0.0,
        direction_change_share: float = 0.0,
    ) -> Segment:
        """Segments around rows that `sampling.by_age` draws; such a row stands at an index that is
        drawn uniformly from `first_target .. length - 1`. Beyond its episode a segment repeats the nearest frame.

        The share `event_share` of them is drawn uniformly from the steps that brought a reward or an end, and
        `direction_change_share` from the frames in which a small mover changed its direction and the two after it, as far as there are some. The
        frame that such a step led to, or such a frame, is what then stands at an index from `first_target` on.
        """
        bounds = self._bounds()
        if direction_change_share:
            self._direction_changes.search(self._columns["obs"][: self.num_rows], self._starts)
        events = sampling.uniform(self._events, int(batch_size * event_share), generator, self.mixture)
        changes = sampling.uniform(
            self._direction_changes.rows, int(batch_size * direction_change_share), generator, self.mixture
        )
        others = self._by_age(bounds, batch_size - len(events) - len(changes), generator)
        led_to = torch.randint(min(max(first_target, 1), length - 1), length, (len(events),), generator=generator)
        position = torch.randint(first_target, length, (len(changes) + len(others),), generator=generator)
        row, position = torch.cat([events, changes, others]), torch.cat([led_to - 1, position])
        return cut_segments(self._columns, bounds, row, position, length)

    def sample_contexts(self, batch_size: int, length: int, generator: torch.Generator) -> Trajectory:
        """`length` frames each, of which the last is one from which one can act. Before an episode its first frame repeats."""
        row = self._by_age(self._bounds(), batch_size, generator)
        segment = self._around_steps(row, length - 1, length)
        return Trajectory(segment.obs, segment.action[:, :-1])

    def sample_steps(self, batch_size: int, before: int, after: int, generator: torch.Generator) -> Segment:
        """Segments around steps. Every row is as likely; a final frame stands for the step before it, so that an episode's last
        step is drawn twice as often. The step stands at the index `before`, and `after` frames follow. Beyond its episode a segment
        repeats the nearest frame."""
        row = sampling.uniform(torch.arange(self.num_rows - 1), batch_size, generator, self.mixture)
        return self._around_steps(row, before, before + 1 + after)

    def _around_steps(self, row: Tensor, before: int, length: int) -> Segment:
        """Segments in which these rows stand at the index `before`; in place of a final frame, from which nobody acts, the one
        before it."""
        row = row - self._columns["final"][row].long()
        return cut_segments(self._columns, self._bounds(), row, torch.full_like(row, before), length)

    def frame_pairs(self, most: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """See `sampling.frame_pairs`."""
        return sampling.frame_pairs(self._columns["obs"], self._bounds(), most, generator)

    def save(self, folder: Path) -> dict[str, Any]:
        """Writes the rows since the last save as one new chunk. Returns the manifest, plain data, from which `load` restores
        all rows.

        Args:
            folder: this replay's alone, and the same at each save: what an abandoned run left there beyond the rows
                saved so far is removed.
        """
        first = sum(chunk["rows"] for chunk in self._chunks)
        if first < self.num_rows:
            folder.mkdir(parents=True, exist_ok=True)
            storage.remove_beyond(folder, first)
            new = {name: column[first : self.num_rows].cpu().numpy() for name, column in self._columns.items()}
            self._chunks.append(storage.write(folder, first, new))
        return {"rows": self.num_rows, "chunks": [dict(chunk) for chunk in self._chunks]}

    @staticmethod
    def verify(folder: Path, manifest: dict[str, Any]) -> None:
        """Raises UserError when a chunk is missing or damaged."""
        for chunk in manifest["chunks"]:
            storage.verify(folder / chunk["name"], chunk["sha256"])

    def load(self, folder: Path, manifest: dict[str, Any]) -> None:
        """Fills this empty replay with what `save` wrote to `folder` up to the time of `manifest`; chunks that are
        not in it are left alone. UserError when a chunk is missing or damaged."""
        if self.num_rows:
            raise ValueError("only an empty replay can load")
        self.verify(folder, manifest)  # before the first chunk is read: a replay is never half loaded
        self._reserve(manifest["rows"])
        for chunk in manifest["chunks"]:
            self._append_file(folder / chunk["name"])
        self._chunks = [dict(chunk) for chunk in manifest["chunks"]]

    def _by_age(self, bounds: Tensor, count: int, generator: torch.Generator) -> Tensor:
        return sampling.by_age(bounds, self._age_weights, count, generator, self.mixture)

    def append_files(self, files: Sequence[Path]) -> None:
        """Adds the rows of files that do not go on where this replay stops. UserError when one is missing or damaged."""
        for previous, file in zip([None, *files], files, strict=False):
            goes_on = storage.continues(file, previous)
            if not goes_on:
                self._cut()
            self._append_file(file, skip_final=not goes_on)

    def _append_file(self, path: Path, skip_final: bool = False) -> None:
        """`skip_final`: not the frame that an episode ended with of which nothing else is there."""
        columns = storage.read(path, self.frame_shape)
        first = int(skip_final and bool(columns["final"][0]))
        self.extend({name: torch.from_numpy(column[first:]) for name, column in columns.items()})

    def extend(self, rows: dict[str, Tensor]) -> None:
        """Adds rows that go on where this replay stops."""
        first, last = self.num_rows, self.num_rows + len(rows["obs"])
        if first == last:
            return
        self._reserve(last)
        for name, column in self._columns.items():
            column[first:last].copy_(to_device(rows[name], column.device))
        self.num_rows = last
        self._starts = torch.cat([self._starts, self._find_starts(first, last)])
        events = (rows["reward"] != 0) | rows["terminated"]
        self._events = torch.cat([self._events, first + events.nonzero().flatten()])
        signs = rows["reward"][~rows["final"]].sign().long()
        self._reward_counts += torch.bincount(signs + 1, minlength=3)

    def _find_starts(self, first: int, last: int) -> Tensor:
        """The rows of `first .. last - 1` that start an episode."""
        rows = slice(max(first - 1, 0), last)
        terminated, truncated, final = (self._columns[name][rows] for name in ("terminated", "truncated", "final"))
        starts = storage.after_end(terminated | truncated, final).nonzero().flatten() + rows.start + 1
        return starts if first else torch.cat([torch.zeros(1, dtype=torch.int64), starts])

    def _cut(self) -> None:
        """Ends an unfinished episode at its last frame, so that the rows to come are not taken for its sequel."""
        if self.num_rows and not self._columns["final"][self.num_rows - 1]:
            self._columns["truncated"][self.num_rows - 1] |= ~self._columns["terminated"][self.num_rows - 1]

    def _allocate(self, name: str, rows: int) -> Tensor:
        shape = (rows, *self.frame_shape) if name == "obs" else (rows,)
        device = self.device if name == "obs" else "cpu"
        return torch.empty(shape, dtype=getattr(torch, storage.DTYPES[name]), device=device)

    def _reserve(self, rows: int) -> None:
        have = len(self._columns["obs"])
        if rows <= have:
            return
        for name, column in self._columns.items():
            bigger = self._allocate(name, max(rows, int(have * GROWTH) + 1))
            bigger[: self.num_rows] = column[: self.num_rows]
            self._columns[name] = bigger

    def _bounds(self) -> Tensor:
        """int64 (episodes + 1,): the rows at which episodes start, and the number of rows. ValueError when there are none."""
        if not self.num_rows:
            raise ValueError("cannot sample from an empty replay")
        return torch.cat([self._starts, torch.tensor([self.num_rows])])


def read_files(files: Sequence[Path], age_weights: Sequence[float], device: torch.device | str = "cpu") -> Replay:
    """The rows of `.npz` files with the columns of `adamas.data.storage`, in this order.

    An episode goes on from one chunk of a run to the next one; any other file ends with its last row. Final frames may be lacking:
    then the row that ends an episode is its last.
    """
    replay = Replay(sum(map(storage.count_rows, files)), age_weights, device=device)
    replay.append_files(files)
    return replay


def _row(obs: Any, action: int, reward: float, terminated: bool, truncated: bool, final: bool) -> dict[str, Tensor]:
    obs = torch.as_tensor(obs)
    if obs.dtype != torch.uint8:
        raise TypeError(f"a stored frame is uint8, not {obs.dtype}")
    values = {"action": action, "reward": reward, "terminated": terminated, "truncated": truncated, "final": final}
    small = {name: torch.from_numpy(np.array([value], storage.DTYPES[name])) for name, value in values.items()}
    return {"obs": obs[None], **small}
