"""Minari datasets on this machine, read and written by minari. Nothing is downloaded."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from adamas.config import SIZE
from adamas.conversion.pixels import RANGES, Pixels, layout_of, values_of
from adamas.conversion.settings import ImportOptions
from adamas.conversion.source import Source
from adamas.conversion.steps import Arrays, Unsettled, understand
from adamas.utils.errors import UserError

METADATA = "metadata.json"
DAMAGED = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    AssertionError,
    IndexError,
    RuntimeError,
    AttributeError,
    ImportError,
)


def minari_folder(source: Path) -> Path | None:
    """The folder that holds the data of a Minari dataset: `source`, its folder data, or those of the id `source`."""
    at_home = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    for folder in (source, source / "data", *(() if source.exists() else (at_home / source / "data",))):
        if (folder / METADATA).is_file():
            return folder
    return None


def minari_episodes(folder: Path, options: ImportOptions) -> list[tuple[str, Callable[[], Source]]]:
    """(name, how to open it) of each episode. UserError when the dataset cannot be read, or has other actions or frames."""
    storage = _open(folder)
    return [
        (f"{folder} episode {i}", lambda i=i: _episode(storage, folder, i, options))
        for i in range(storage.total_episodes)
    ]


def import_minari() -> Any:
    try:
        import minari
    except ImportError as error:
        raise UserError("Minari needs Python 3.11 or later and one more package: pip install 'adamas[data]'") from error
    return minari


def _open(folder: Path) -> Any:
    import_minari()
    from minari.dataset.minari_storage import MinariStorage

    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        if missing := [key for key in ("observation_space", "action_space") if key not in metadata]:
            # minari would make the env that the file names, and so run what it likes
            raise UserError(f"{folder / METADATA} has no {missing[0]}: save the dataset with its spaces")
        storage = MinariStorage.read(folder)
        _check_actions(storage.action_space, folder)
    except DAMAGED as error:
        raise UserError(f"{folder} cannot be read as a Minari dataset: {' '.join(str(error).split())}") from error
    return storage


def _check_actions(space: Any, folder: Path) -> None:
    if not isinstance(space, (Discrete, MultiDiscrete, MultiBinary)):
        raise UserError(f"{folder}: its action_space is {space}, but discrete actions are expected")


def _episode(storage: Any, folder: Path, number: int, options: ImportOptions) -> Source:
    name = f"{folder} episode {number}"
    try:
        (episode,) = storage.get_episodes([number])
        obs, kind = _frames(episode["observations"], storage.observation_space, options, name)
        given = {
            "reward": np.asarray(episode["rewards"]),
            "action": _flat_actions(episode["actions"], storage.action_space),
        }
        given |= {"terminated": np.asarray(episode["terminations"]), "truncated": np.asarray(episode["truncations"])}
        pixels = Pixels(layout_of(obs.shape, options, name), kind or values_of(obs.dtype, [obs], options, name))
    except DAMAGED as error:
        raise UserError(f"{name} cannot be read: {' '.join(str(error).split())}") from error
    steps = understand(len(obs), given, options, name)
    meaning = [pixels.describe(obs.shape, obs.dtype), f"actions are {storage.action_space}", *steps.meaning]
    return Source(folder, len(obs), meaning, lambda: _rows(storage, number, pixels, steps.columns, options, name))


def _rows(
    storage: Any, number: int, pixels: Pixels, columns: Arrays, options: ImportOptions, name: str
) -> Iterator[Arrays]:
    """The frames are read again: those of all episodes may not fit into memory."""
    (episode,) = storage.get_episodes([number])
    obs, _ = _frames(episode["observations"], storage.observation_space, options, name)
    yield {"obs": pixels.convert(obs), **columns}


def _frames(observations: Any, space: Any, options: ImportOptions, name: str) -> tuple[np.ndarray, str | None]:
    """(N, ...), and their values where the space tells them."""
    if isinstance(space, Dict):
        asked = dict(text.split(":", 1) for text in options.columns if ":" in text).get("obs")
        images = [key for key, part in space.spaces.items() if isinstance(part, Box) and len(part.shape) >= 2]
        if asked is None and len(images) != 1:
            raise Unsettled(f"{name}: its observations hold {', '.join(space.spaces)}: set columns=[obs:NAME]")
        key = asked or images[0]
        observations, space = observations[key], space.spaces[key]
    obs = np.asarray(observations)
    known = options.values == "auto" and isinstance(space, Box)
    ends = (float(space.low.min()), float(space.high.max())) if known else None
    return obs, next((values for values, bounds in RANGES.items() if bounds == ends), None)


def _flat_actions(actions: Any, space: Any) -> np.ndarray:
    """One number an action, from 0."""
    actions = np.asarray(actions)
    if isinstance(space, Discrete):
        return actions - space.start
    sizes = space.nvec if isinstance(space, MultiDiscrete) else np.full(space.n, 2)
    start = space.start if isinstance(space, MultiDiscrete) else 0
    return np.ravel_multi_index((actions - start).reshape(len(actions), -1).T.astype(int), sizes.reshape(-1))


def write_minari(folder: Path, name: str, played: Iterable[Any], actions: int, description: str) -> int:
    """FOLDER/data as minari has it, of episodes with obs, action, reward, terminated and truncated. How many there are.

    A last step whose next frame was not stored is left out, and its episode truncated before.
    """
    minari = import_minari()
    from minari.dataset.minari_storage import MinariStorage

    spaces = Box(0, 255, (SIZE, SIZE), np.uint8), Discrete(actions)
    storage = MinariStorage.new(folder / "data", *spaces, jpeg_encoding=False)
    storage.update_episodes(_buffer(number, episode) for number, episode in enumerate(played))
    identity = name if re.search(r"-v\d+$", name) else f"{name}-v0"  # without a version minari cannot read it
    storage.update_metadata({"dataset_id": identity, "minari_version": minari.__version__, "description": description})
    return storage.total_episodes


def _buffer(number: int, episode: Any) -> Any:
    from minari.data_collector.episode_buffer import EpisodeBuffer

    steps = len(episode.obs) - 1
    truncated = episode.truncated[:steps].copy()
    truncated[-1] |= not episode.terminated[steps - 1]
    return EpisodeBuffer(
        id=number,
        observations=episode.obs,
        actions=episode.action[:steps].astype(np.int64),
        rewards=episode.reward[:steps].tolist(),
        terminations=episode.terminated[:steps].tolist(),
        truncations=truncated.tolist(),
        infos={},
    )
