"""Datasets and recordings, to look at step by step."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adamas.config import SIZE
from adamas.data import storage
from adamas.play.load import Agent
from adamas.utils.errors import UserError


class Look(NamedTuple):
    """One row of a dataset."""

    obs: np.ndarray  # uint8 (84, 84)
    facts: dict[str, Any]  # plain data


class Library:
    """What a run can show: its replay, the dataset it learned from, its recordings."""

    def __init__(self, agent: Agent) -> None:
        self.meanings = agent.meanings
        self.recordings = agent.folder.path / "recordings"
        self._folders = {"replay": agent.folder.replay}
        if agent.config.dataset:
            self._folders["dataset"] = Path(agent.config.dataset)

    def sources(self) -> list[str]:
        """What there is now."""
        folders = [name for name, path in self._folders.items() if path.is_file() or any(path.glob("*.npz"))]
        return folders + [path.name for path in self.files()]

    def files(self) -> list[Path]:
        """The recordings, newest first."""
        return sorted(self.recordings.glob("*.npz"), reverse=True)

    def recording(self, name: str) -> Path:
        """The recording with that file name. UserError when there is none."""
        for path in self.files():
            if path.name == name:
                return path
        raise UserError(f"there is no recording {name[:40]}")

    def look(self, source: str, episode: int, step: int) -> Look:
        """One step of one episode; numbers beyond the ends mean the first or last one."""
        path = self._folders.get(source) or self.recording(source)
        table = _table(path)
        episode = int(np.clip(episode, 0, len(table.starts) - 1))
        first, last = table.starts[episode], [*table.starts, table.rows][episode + 1]
        row = int(np.clip(first + step, first, last - 1))
        facts = {"source": source, "episode": episode, "episodes": len(table.starts), **table.facts(row, first, last)}
        facts["action"] = None if table.final[row] else self.meanings[table.action[row]]
        return Look(table.frame(row), facts)


class Table:
    """All rows of a dataset but for their frames, of which one file at a time is in memory."""

    def __init__(self, path: Path) -> None:
        self._files = storage.dataset_files(path)
        parts = [_small(file) for file in self._files]
        joined = [
            storage.continues(file, before) for before, file in zip([None, *self._files], self._files, strict=False)
        ]
        self._firsts = np.cumsum([0, *(len(part["final"]) for part in parts)])
        self.rows = int(self._firsts[-1])
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self.action, self.reward, self.final = columns["action"], columns["reward"], columns["final"]
        self.terminated, self.truncated = columns["terminated"], columns["truncated"]
        after_end = storage.after_end(self.terminated | self.truncated, self.final)
        files = [first for first, goes_on in zip(self._firsts, joined, strict=False) if not goes_on]
        self.starts = sorted({*map(int, files), *map(int, np.flatnonzero(after_end) + 1)})

    def frame(self, row: int) -> np.ndarray:
        number = int(np.searchsorted(self._firsts, row, side="right")) - 1
        return _frames(self._files[number])[row - self._firsts[number]]

    def facts(self, row: int, first: int, last: int) -> dict[str, Any]:
        """What a person wants to know of a row of the episode that is rows first..last-1."""
        rewards = np.flatnonzero(self.reward[first:last])
        before, after = rewards[rewards < row - first], rewards[rewards > row - first]
        return {
            "step": row - first,
            "steps": int(last - first),
            "reward": float(self.reward[row]),
            "return": float(self.reward[first : row + 1].sum()),
            "terminated": bool(self.terminated[row]),
            "truncated": bool(self.truncated[row]),
            "previous_reward": int(before[-1]) if len(before) else None,
            "next_reward": int(after[0]) if len(after) else None,
        }


@lru_cache(maxsize=4)
def _table(path: Path) -> Table:
    return Table(path)


@lru_cache(maxsize=1)
def _frames(path: Path) -> np.ndarray:
    return storage.read(path, (SIZE, SIZE))["obs"]


def _small(path: Path) -> dict[str, np.ndarray]:
    return {name: column for name, column in storage.read(path, (SIZE, SIZE)).items() if name != "obs"}
