"""Data that comes with the code: beside src/ in a clone, inside the package in a wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def resource(name: str) -> Path:
    """The folder `config` or `results/published`."""
    packaged = PACKAGE / "resources" / name
    return packaged if packaged.exists() else PACKAGE.parents[1] / name
