"""`adamas data export`: the experience of a run, or a dataset, episode by episode for other tools."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adamas.config import Config
from adamas.conversion.minari_files import write_minari
from adamas.conversion.settings import ExportOptions
from adamas.data import storage
from adamas.data.dataset_table import DatasetTable, open_table
from adamas.envs.make import action_meanings, is_atari
from adamas.training.load_run import SavedRun, read_state, replay_files
from adamas.training.run_folder import RunFolder
from adamas.utils.console import progress_bar, say
from adamas.utils.errors import UserError
from adamas.utils.files import check_new, new_folder
from adamas.utils.images import write_mp4

EXACT = ["-crf", "2", "-color_range", "pc", "-vf", "scale=out_range=pc"]  # each grey within one or two levels


class Episode(NamedTuple):
    """T frames and the steps between them: T-1, or T where the frame that the last one led to was not stored."""

    obs: np.ndarray  # uint8 (T, 84, 84)
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


def export_data(options: ExportOptions) -> None:
    """Writes the folder options.out, whole or not at all. UserError when there is nothing to write."""
    run, out = Path(options.run), Path(options.out)
    check_new(out)
    files, actions = experience_of(run)
    table = open_table(files)
    with new_folder(out) as part, progress_bar(table.rows, " frames", desc="export", unit_scale=True) as bar:
        played = episodes(table, bar.update)
        if options.format == "mp4":
            count = _write_films(part, played)
        else:
            said = _described(SavedRun(run).config) if actions else "84x84 grey"
            count = write_minari(part, out.resolve().name, played, actions or int(table.action.max()) + 1, said)
    left_out = len(table.starts) - count
    say(f"{out}: {count} episodes" + (f"; {left_out} of a single frame left out" if left_out else ""))


def _described(config: Config) -> str:
    """What a run's frames and actions are."""
    frames = "84x84 grey" + (", 4 emulator frames a step" if is_atari(config.env) else "")
    return f"{frames}; actions {', '.join(action_meanings(config))}"


def experience_of(path: Path) -> tuple[list[Path], int | None]:
    """The files of a run, as its newest checkpoint names them, and how many actions its game has; or those of a dataset.
    UserError where there are none."""
    folder = RunFolder(path)
    if not folder.config.is_file():
        return storage.dataset_files(path), None
    files = replay_files(folder, read_state(path))
    if not files:
        raise UserError(f"{path} has no stored experience: it was exported without, or trained on a dataset")
    return files, len(action_meanings(SavedRun(path).config))


def episodes(table: DatasetTable, tick: Callable[[int], object]) -> Iterator[Episode]:
    """Those of two frames or more, in order."""
    for number in range(len(table.starts)):
        first, stop = table.bounds(number)
        tick(stop - first)
        if stop - first < 2:
            continue
        steps = slice(first, stop - int(table.final[stop - 1]))
        obs = np.stack([table.frame(row) for row in range(first, stop)])
        yield Episode(
            obs, *(column[steps] for column in (table.action, table.reward, table.terminated, table.truncated))
        )


def _write_films(folder: Path, played: Iterator[Episode]) -> int:
    """episode-00000.mp4 and episode-00000.csv, which `adamas data import` reads back."""
    count = 0
    for count, episode in enumerate(played, 1):
        name = f"episode-{count - 1:05d}"
        write_mp4(episode.obs, folder / f"{name}.mp4", EXACT)
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(("action", "reward", "terminated", "truncated"))
            for action, reward, *ends in zip(*episode[1:], strict=True):
                table.writerow((int(action), f"{reward:g}", *map(int, ends)))
    return count
