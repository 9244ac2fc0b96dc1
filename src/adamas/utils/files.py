"""Files and folders that are whole or absent, whatever kills the process, and digests that tell damage."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adamas.utils.errors import UserError


def publish(temporary: Path, path: Path) -> None:
    """Gives a finished file its name for good: after a power cut `path` is the new file or what it was before."""
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())  # before the rename, or the name could outlive the content
    os.replace(temporary, path)
    sync_folder(path.parent)


def publish_text(path: Path, text: str) -> None:
    """Writes a small file whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    publish(temporary, path)


def check_new(path: Path) -> None:
    """UserError where `path` is something already, but an empty folder, or where no folder can be."""
    if any(parent.is_file() for parent in path.parents):
        raise UserError(f"{path} would be inside a file: name a folder that is not there yet")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} is already there: give another name, or remove it")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `path` in the end. `path` is an empty folder or not there yet. After an exception
    nothing is left of it."""
    path = path.resolve()
    part = path.with_name(f".{path.name}-{secrets.token_hex(4)}.part")
    part.mkdir(parents=True)
    try:
        yield part
        if path.is_dir():
            path.rmdir()
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The file's digest, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
