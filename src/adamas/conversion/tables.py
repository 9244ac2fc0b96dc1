"""Actions, rewards and flags as text: a csv with a line of names, or JSON Lines."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from adamas.conversion.names import find_columns
from adamas.conversion.settings import ImportOptions
from adamas.conversion.steps import FLAGS, Arrays, Unsettled
from adamas.utils.errors import UserError

SUFFIXES = (".csv", ".jsonl", ".ndjson", ".json")
TRUTH = {"true": 1.0, "false": 0.0}


def table_beside(path: Path, options: ImportOptions) -> tuple[str | None, Arrays]:
    """The table of the same name as a film or a folder, and its columns action, reward and FLAGS; none where there is none.

    Raises:
        UserError: a table that has no actions, or a cell that is no number.
    """
    path = Path(os.path.abspath(path))  # "." has no name
    stem = path.name if path.is_dir() else path.stem
    files = [file for suffix in SUFFIXES if (file := path.with_name(stem + suffix)).is_file()]
    if not files:
        return None, {}
    if len(files) > 1:
        raise Unsettled(f"{path.name} has both {files[0].name} and {files[1].name} beside it: keep one")
    file = files[0]
    try:
        rows = _read_csv(file) if file.suffix == ".csv" else _read_lines(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    if not rows:
        raise UserError(f"{file} holds no rows: a line of names, action,reward, then one line a step expected")
    names = find_columns(list(rows[0]), options, str(file))
    if "action" not in names:
        raise UserError(f"{file} has no column 'action', but {', '.join(map(str, rows[0]))}: set columns=[action:NAME]")
    return str(file), {key: _column(rows, names[key], file) for key in ("action", "reward", *FLAGS) if key in names}


def _read_csv(file: Path) -> list[dict[str, Any]]:
    with file.open(newline="", encoding="utf-8-sig") as text:
        return [{(key or "").strip(): value for key, value in row.items()} for row in csv.DictReader(text)]


def _read_lines(file: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{file}, line {number}: not JSON; one object a line expected") from error
        if not isinstance(row, dict):
            raise UserError(f'{file}, line {number}: an object expected, such as {{"action": 0, "reward": 0}}')
        rows.append(row)
    return rows


def _column(rows: list[dict[str, Any]], name: str, file: Path) -> np.ndarray:
    return np.array([_number(row.get(name), f"{file}, row {i}", name) for i, row in enumerate(rows)])


def _number(cell: Any, where: str, name: str) -> float:
    text = str(cell).strip().lower()
    try:
        return TRUTH[text] if text in TRUTH else float(text)
    except ValueError as error:
        raise UserError(f"{where}: '{name}' is {str(cell)[:20]!r}, but a number is expected") from error
