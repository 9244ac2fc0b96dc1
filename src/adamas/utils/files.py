"""Files that are whole or absent, whatever kills the process, and digests that tell damage."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


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
