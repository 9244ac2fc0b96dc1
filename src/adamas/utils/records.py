"""Records, a line of JSON each, with a digest of its own: of a `.jsonl` file damage costs a line and not the file."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adamas.utils.files import publish_text

DIGESTED = re.compile(
    r'(\{.*), "(.{6})": "(.{16})"\}', re.DOTALL
)  # also if a bit of the digest, or of its name, is damaged


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Writes a file of one record, whole or not at all."""
    publish_text(path, _with_digest(json.dumps(record)) + "\n")


def read_record(path: Path) -> dict[str, Any]:
    """What `write_record` wrote. ValueError if it is damaged; files of older versions, which have no digest, are taken if
    they are JSON."""
    return _checked(path.read_text(encoding="utf-8").strip())


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Adds a line, which is on the disk when it returns. What a kill left of a line goes first."""
    with open(path, "ab+") as file:
        file.seek(0)
        lines = file.read()
        rest = lines[lines.rfind(b"\n") + 1 :]
        if _is_whole(rest):  # an editor took the newline
            file.write(b"\n")
        else:
            file.truncate(len(lines) - len(rest))
        file.write(_with_digest(json.dumps(record)).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_records(path: Path, warn: Callable[[str], None]) -> list[dict[str, Any]]:
    """The records of a file; none where there is no file. A damaged line costs one to `warn`, and is left out; so does a
    last one that is cut off. Lines of older versions, which have no digest, are taken if they are JSON."""
    if not path.is_file():
        return []
    records: list[dict[str, Any]] = []
    *lines, rest = path.read_bytes().split(b"\n")
    if _is_whole(rest):  # an editor took the newline
        lines, rest = [*lines, rest], b""
    if rest or not lines:
        warn(f"{path}: {'its last line is cut off, and is left out' if rest else 'it is empty'}")
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                records.append(_checked(line.decode()))
            except ValueError:  # no UTF-8, no JSON, or another digest
                warn(f"{path}: line {number} is damaged, and is left out")
    return records


def _is_whole(line: bytes) -> bool:
    try:
        return bool(_checked(line.decode()))
    except ValueError:
        return False


def _with_digest(line: str) -> str:
    return line if line == "{}" else f'{line[:-1]}, "digest": "{_digest(line)}"}}'


def _checked(line: str) -> dict[str, Any]:
    if match := DIGESTED.fullmatch(line):
        line = match[1] + "}"
        if match[2] != "digest" or _digest(line) != match[3]:
            raise ValueError("another digest")
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("no record")
    return record


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()[:16]
