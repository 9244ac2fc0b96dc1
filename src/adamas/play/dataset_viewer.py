"""Datasets and recordings, shown row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adamas.config.dataset_parts import parts_of
from adamas.data import storage
from adamas.data.dataset_table import DatasetTable, open_table
from adamas.training.load_run import OpenedRun
from adamas.utils.errors import UserError


class DatasetRow(NamedTuple):
    """One row of a dataset."""

    obs: np.ndarray  # uint8 (84, 84)
    facts: dict[str, Any]  # plain data


class DatasetViewer:
    """The replay of the agent's checkpoint, the dataset it was trained on, and its recordings.

    Any thread may call it.
    """

    def __init__(self, agent: OpenedRun) -> None:
        self.action_meanings = agent.models.action_meanings
        self.recordings = agent.folder.path / "recordings"
        self._replay_files = agent.replay_files
        self._datasets = [Path(part.path) for part in parts_of(agent.config.dataset)]

    def sources(self) -> list[str]:
        """The names of what can be shown now."""
        return [*self._folders(), *(path.name for path in self.recording_files())]

    def recording_files(self) -> list[Path]:
        """The recordings, newest first."""
        return sorted(storage.visible_files(self.recordings), reverse=True)

    def recording(self, name: str) -> Path:
        """The recording with that file name. UserError when there is none."""
        for path in self.recording_files():
            if path.name == name:
                return path
        raise UserError(f"there is no recording {name[:40]}")

    def row(self, source: str, episode: int, step: int) -> DatasetRow:
        """One step of one episode; numbers beyond the ends mean the first or the last one."""
        table = open_table(self._folders().get(source) or [self.recording(source)])
        episode = min(max(episode, 0), len(table.starts) - 1)
        first, stop = table.bounds(episode)
        row = min(max(first + step, first), stop - 1)
        facts = {"source": source, "episode": episode, "episodes": len(table.starts), **_facts(table, row, first, stop)}
        facts["action"] = None if table.final[row] else self._action_name(int(table.action[row]))
        return DatasetRow(table.frame(row), facts)

    def _folders(self) -> dict[str, list[Path]]:
        """The files of the replay and of the dataset, where there are any."""
        files = {"replay": self._replay_files}
        for number, path in enumerate(self._datasets, 1):
            name = "dataset" if len(self._datasets) == 1 else f"dataset {number}"
            files[name] = [path] if path.is_file() else storage.visible_files(path)
        return {name: paths for name, paths in files.items() if paths}

    def _action_name(self, action: int) -> str:
        """A dataset of another game may have more actions."""
        return self.action_meanings[action] if action < len(self.action_meanings) else str(action)


def _facts(table: DatasetTable, row: int, first: int, stop: int) -> dict[str, Any]:
    """What the page shows of a row of the episode that is rows first..stop-1."""
    rewards = np.flatnonzero(table.reward[first:stop])
    before, after = rewards[rewards < row - first], rewards[rewards > row - first]
    return {
        "step": row - first,
        "steps": stop - first,
        "reward": float(table.reward[row]),
        "return": float(table.reward[first : row + 1].sum()),
        "terminated": bool(table.terminated[row]),
        "truncated": bool(table.truncated[row]),
        "previous_reward": int(before[-1]) if len(before) else None,
        "next_reward": int(after[0]) if len(after) else None,
    }
