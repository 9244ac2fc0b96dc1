"""A dataset as a user names it, and its card."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from adamas.config import Config
from adamas.config.files import config_of_run, load_config
from adamas.data_card import dreams
from adamas.data_card.card import Card, make_card
from adamas.data_card.source import FileSource
from adamas.envs.make import action_meanings
from adamas.evaluation.dreams import ticks
from adamas.training.load_run import SavedRun, files_of
from adamas.training.run_folder import RunFolder
from adamas.training.run_records import read_curve
from adamas.utils.console import warn
from adamas.utils.device import pick_device
from adamas.utils.errors import UserError


class Dataset(NamedTuple):
    """The rows, and what the run that they belong to knows of them."""

    source: FileSource
    action_names: tuple[str, ...] | None  # of the game, if it is known
    random_steps: int  # the first steps of a replay, of an untrained policy; 0: not known


def open_dataset(path: Path, env: str | None) -> Dataset:
    """A folder of `.npz` files or one such file. UserError if there is none, or none can be read."""
    config = _config_of(path)
    named = Config(env=env) if env else config
    names = action_meanings(named) if named else None
    random_steps = _untrained_steps(config, path.resolve().parent) if config and path.name == "replay" else 0
    return Dataset(FileSource(files_of(path)), names, random_steps)


def _untrained_steps(config: Config, run: Path) -> int:
    """The first steps of a run that its policy made before it had learned anything: those of the first epoch. 0: not known."""
    learned = config.dataset or config.initialize["from"] or config.policy != "imagined"
    first = [] if learned else [record for record in read_curve(RunFolder(run), warn) if record["epoch"] == 0]
    return first[0]["steps"] if first else 0


def card_of(dataset: Dataset, run: Path | None, device: str, bar: tqdm) -> Card:
    """The card, with the dreams of a run if there is one."""
    world, context = _world(run, dataset, device) if run else (None, 0)
    card = make_card(dataset.source, dataset.action_names, dataset.random_steps, bar.update)
    bar.update(dataset.source.rows)
    if world is not None:
        starts = dreams.initial_rows(dataset.source, card.clusters, context)
        bar.reset(ticks(len(starts), dreams.LENGTH))
        figures = dreams.measure(dataset.source, card.clusters, world, context, bar.update)
        card.figures["dreams"] = {"run": str(run), **figures}
    return card


def _world(run: Path, dataset: Dataset, device: str):  # type: ignore[no-untyped-def]
    saved = SavedRun(run)
    saved.check_world_model()
    models, _ = saved.load_newest(pick_device(device))
    most, count = int(dataset.source.columns["action"].max()), len(action_meanings(saved.config))
    if most >= count:
        raise UserError(f"the dataset holds action {most} but {saved.config.env} of {run} has {count} actions")
    return models.world, saved.config.denoiser.context


def _config_of(path: Path) -> Config | None:
    """Of the run that has this replay or these recordings."""
    folder = path.resolve().parent
    return load_config(config_of_run(folder)) if (folder / "config.yaml").is_file() else None
