"""Checkpoints: named parts in one file that is whole or absent, and that tells its own damage.

A file is called `00001500-0123456789abcdef.pt`: the step, and the start of the sha256 of its content. It is what
`torch.save` writes and holds plain data alone, so reading one never runs code.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from adamas.training import safetensors
from adamas.utils.device import is_out_of_memory
from adamas.utils.errors import ABSENT, MissingFile, UserError
from adamas.utils.files import publish, sha256

DIGITS = 16  # of the digest, in the name
MISFITS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)  # of parts that are others
FORMAT = 2  # of the parts, which a checkpoint tells beside them


def save(folder: Path, step: int, parts: dict[str, Any], keep: int) -> Path:
    """Writes `parts` (tensors, numbers, strings, and lists and dicts of them) as the checkpoint of `step`.

    Of the older ones the newest are kept, `keep` in all. Others of this step or of later ones go: whoever saves now
    has gone back to an earlier checkpoint because they were damaged. OSError when there is no room for it, UserError for
    models that are not finite.
    """
    if bad := not_finite(parts.get("models")):
        raise UserError(
            f"nothing is saved: {bad} holds a number that is not finite; the last checkpoint in {folder} is good"
        )
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{step:08d}.tmp"
    _write({"format": FORMAT, **parts}, temporary)
    torch.load(temporary, weights_only=True, map_location="meta")  # what cannot be loaded must not replace what can
    path = folder / f"{step:08d}-{sha256(temporary)[:DIGITS]}.pt"
    publish(temporary, path)
    older = [other for other in newest_first(folder) if other != path and step_of(other) < step]
    _remove_all_but(folder, [path, *older[: keep - 1]])
    return path


def _write(parts: dict[str, Any], path: Path) -> None:
    try:
        with open(path, "wb") as file:
            torch.save(parts, file)
    except (OSError, RuntimeError) as error:
        path.unlink(missing_ok=True)
        if isinstance(error.__context__, OSError):  # of which torch makes a RuntimeError
            raise error.__context__ from error
        raise


def load(path: Path) -> dict[str, Any]:
    """The parts of a checkpoint, with all tensors on the CPU. UserError when the file is damaged, or of another format."""
    if path.name == safetensors.NAME:
        return safetensors.load_parts(path)
    try:
        if sha256(path)[:DIGITS] != path.stem.partition("-")[2]:
            raise UserError(f"checkpoint {path} is damaged: its content does not match the digest in its name")
        parts = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, EOFError, ImportError, pickle.UnpicklingError, *MISFITS) as error:
        if isinstance(error, OSError) and error.errno is not None and error.errno not in ABSENT:
            raise  # it says nothing of what is in the file
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        raise UserError(f"checkpoint {path} cannot be read: {type(error).__name__}") from error
    if not isinstance(parts, dict) or parts.pop("format", None) != FORMAT:
        raise UserError(f"checkpoint {path} was written by another version of adamas, and cannot be read by this one")
    if bad := not_finite(parts.get("models")):
        raise UserError(f"checkpoint {path} cannot be used: {bad} holds a number that is not finite")
    return parts


def not_finite(node: Any, name: str = "models") -> str:
    """The name of a tensor that holds NaN or an infinity; "" where there is none."""
    if isinstance(node, torch.Tensor):
        return "" if not node.is_floating_point() or bool(node.isfinite().all()) else name
    if not isinstance(node, (dict, list, tuple)):
        return ""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    return next(filter(None, (not_finite(value, f"{name}.{key}") for key, value in items)), "")


def load_newest(
    folder: Path, warn: Callable[[str], None], verify: Callable[[dict[str, Any]], None] = lambda parts: None
) -> tuple[dict[str, Any], Path]:
    """The parts and the path of the newest good checkpoint. Each damaged one that is newer costs a line to `warn`.

    Args:
        verify: raises UserError if something that the parts refer to is damaged.

    Raises:
        UserError: no checkpoint can be used; or the newest good one refers to a file that is missing. Whoever went on from an older
            one would remove it at the next save.
    """
    paths, errors = usable(folder), []
    for number, path in enumerate(paths, 1):
        try:
            parts = load(path)
            verify(parts)
            return parts, path
        except MissingFile as error:
            raise UserError(f"{error}; put it back, or delete {path} to go on from an older checkpoint") from error
        except UserError as error:
            errors.append(str(error))
            if number < len(paths):
                warn(f"{error}; trying the one before it")
    why = f": {errors[-1]}" if errors else ""
    raise UserError(f"{folder} holds no usable checkpoint{why}")


def usable(folder: Path) -> list[Path]:
    """What can be opened, the newest first: the checkpoints in the folder, or without any the weights beside it that
    `adamas export run=RUN safetensors=DIR` wrote."""
    shared = folder.parent / safetensors.NAME
    return newest_first(folder) or [shared] * shared.is_file()


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints in the folder, by the step in their names."""
    found = []
    for path in folder.glob("*.pt"):
        if re.fullmatch(rf"\d{{8,}}-[0-9a-f]{{{DIGITS}}}", path.stem):
            with suppress(FileNotFoundError):  # a run at work has just removed it
                found.append((step_of(path), path.stat().st_mtime_ns, path))
    return [path for *_, path in sorted(found, reverse=True)]


def step_of(path: Path) -> int:
    """What its name says; 0 of weights without a step."""
    return int(path.stem.partition("-")[0]) if path.suffix == ".pt" else 0


def _remove_all_but(folder: Path, keep: list[Path]) -> None:
    for path in [*newest_first(folder), *folder.glob("*.tmp")]:
        if path not in keep:
            path.unlink()
