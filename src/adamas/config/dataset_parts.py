"""The setting `dataset`: one path, or several with shares."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from adamas.utils.errors import UserError

SHARE = re.compile(r"(.+):(\d*\.?\d+)")


class Part(NamedTuple):
    """One of the datasets that are mixed."""

    path: str
    share: float | None  # of the samples; None: as large as its number of frames makes it


def parts_of(dataset: Any) -> list[Part]:
    """`A` -> A alone. `[A:0.8,B:0.2]` -> both, with their shares. `[A,B]` -> both, every frame as likely as any other. None ->
    none. UserError for what is none of these."""
    if dataset is None:
        return []
    if isinstance(dataset, str) and dataset:
        return [Part(dataset, None)]
    if (
        isinstance(dataset, str)
        or not isinstance(dataset, Sequence)
        or not dataset
        or not all(isinstance(text, str) for text in dataset)
    ):
        raise UserError(f"dataset={dataset}: write dataset=FOLDER, dataset=[A,B] or dataset=[A:0.8,B:0.2]")
    parts = [_part(text) for text in dataset]
    if len({part.path for part in parts}) < len(parts):
        raise UserError(f"dataset={_shown(dataset)} names a folder twice: give it a larger share")
    shares = [part.share for part in parts if part.share is not None]
    if shares and (len(shares) < len(parts) or abs(sum(shares) - 1) > 1e-6 or min(shares) <= 0):
        raise UserError(
            f"dataset={_shown(dataset)}: give each folder a share above 0, as [A:0.8,B:0.2], that add up to 1"
        )
    return parts


def with_paths(dataset: Any, paths: Sequence[str]) -> Any:
    """The same setting with other paths."""
    if dataset is None or isinstance(dataset, str):
        return paths[0] if paths else None
    shares = [part.share for part in parts_of(dataset)]
    return [
        path if share is None else f"{path}:{Decimal(repr(share)):f}" for path, share in zip(paths, shares, strict=True)
    ]


def _part(text: str) -> Part:
    match = SHARE.fullmatch(text)
    return Part(match[1], float(match[2])) if match else Part(text, None)


def _shown(dataset: Sequence[str]) -> str:
    return f"[{','.join(dataset)}]"
