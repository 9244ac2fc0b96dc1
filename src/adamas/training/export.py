"""A small copy of a run: all that it takes to play, dream and measure, and nothing to go on training with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adamas.config import PARTS
from adamas.training import checkpoint
from adamas.training.load_run import SavedRun
from adamas.training.models import best_weights
from adamas.training.run_folder import RunFolder
from adamas.training.scalars import read_scalars
from adamas.utils.files import check_new, new_folder
from adamas.utils.logger import Logger


def export(run: Path, out: Path, weights: bool = True) -> None:
    """Writes a run folder with the config, the records, the curves and the weights of `run`'s newest good checkpoint.

    Args:
        weights: without them the copy cannot play, and takes next to no room.

    Raises:
        UserError: `run` is no run folder, has a damaged config or no usable checkpoint, or something is at `out` already.
    """
    saved = SavedRun(run)
    theirs = saved.folder
    check_new(out)
    newest = saved.read() if weights else None
    with new_folder(out) as folder:
        ours = RunFolder(folder)
        for file in (theirs.config, theirs.origin, theirs.evaluations):
            if file.is_file():
                shutil.copy(file, folder)
        copy_curves(theirs, ours)
        if newest:
            parts, path = newest
            step = checkpoint.step_of(path) or parts["progress"]["saves"]
            checkpoint.save(ours.checkpoints, step, without_training(parts), keep=1)


def copy_curves(theirs: RunFolder, ours: RunFolder) -> None:
    """The scalars of TensorBoard."""
    logger = Logger(ours.tensorboard)
    for name, events in read_scalars(theirs.tensorboard).items():
        for event in events:
            logger.scalar(name, event.value, event.step, event.wall_time)
    logger.close()


def without_training(parts: dict[str, Any]) -> dict[str, Any]:
    """What is left of a checkpoint without optimizers, generators, experience and the raw weights of what is averaged.

    Matrices and kernels are rounded to float16, which what is computed in bfloat16 hardly notices.
    """
    models = parts["models"]
    weights = {name: {k: _half(v) for k, v in best_weights(models, name).items()} for name in PARTS if name in models}
    averages = {
        name: {"n_averaged": average["n_averaged"], **{f"module.{k}": v for k, v in weights[name].items()}}
        for name, average in models["averages"].items()
    }  # the same tensors, which a file holds once
    rest = {key: models[key] for key in ("action_meanings", "target", "meaning") if key in models}
    kept = {key: parts[key] for key in ("game", "progress")}
    return {**kept, "models": {**weights, "averages": averages, **rest}, "replay": None}


def _half(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.dtype == torch.float32 and tensor.dim() > 1 else tensor
