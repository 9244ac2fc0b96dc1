"""Stored experience of a run's game."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from adamas.config import Config
from adamas.config.dataset_parts import parts_of
from adamas.data.replay import Replay
from adamas.data.sampling import Mixture
from adamas.data.storage import count_rows
from adamas.envs.make import action_meanings
from adamas.training.load_run import files_of
from adamas.utils.console import warn
from adamas.utils.errors import UserError


def read_experience(dataset: Any, config: Config, device: torch.device) -> Replay:
    """A dataset, which is a folder of `.npz` files or one such file; or several, mixed. UserError if one holds actions that the game does
    not have.

    Args:
        dataset: a path, or the setting `dataset`.
    """
    parts = parts_of(str(dataset) if isinstance(dataset, Path) else dataset)
    paths = [Path(part.path) for part in parts]
    files = [files_of(path) for path in paths]
    replay = read_parts(files, [part.share for part in parts], config.replay.age_weights, device)
    count, edges = len(action_meanings(config)), replay.edges
    for path, first, stop in zip(paths, edges[:-1], edges[1:], strict=True):
        if replay.count_transitions(first, stop) == 0:
            raise UserError(
                f"{path} holds no step that leads to another frame: are `terminated` and `truncated` inverted?"
            )
        most = replay.most_action(first, stop)
        if most >= count:
            raise UserError(f"{path} holds action {most} but {config.env} has {count} actions: is it of another game?")
        ends = replay.span(first, stop, ["terminated", "final"])
        if ends["terminated"].any() and not ends["final"].any():
            warn(f"{path} has no frames after its ends: the world model cannot learn from it when an episode is over")
    return replay


def read_parts(
    parts: Sequence[Sequence[Path]], shares: Sequence[float | None], age_weights: Sequence[float], device: torch.device
) -> Replay:
    """Several datasets, each as its files in order. Samples are drawn from each in its share, or where shares are None as often
    as its number of rows makes it."""
    replay = Replay(sum(count_rows(file) for part in parts for file in part), age_weights, device=device)
    edges = [0]
    for files in parts:
        replay.append_files(files)
        edges.append(replay.num_rows)
    if len(parts) > 1:
        rows = torch.tensor(edges)
        weights = rows.diff() if None in shares else torch.tensor(shares)
        replay.mixture = Mixture(rows, weights.double())
    return replay
