"""Tries what the program promises, and writes a table of what was found.

usage: python scripts/trust/campaign.py [PART ...] [--kills 50] [--flips 8] [--inputs 100] [--minutes 60] [--folder DIR]

PARTS are kills, damage, disasters, numbers, inputs, server, training and play (so many minutes of each); all by default. A part
that is run again replaces its rows of results/trust/table.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path

from common import ROOT, Row

OUT = ROOT / "results" / "trust"


def main() -> int:
    arguments = read()
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="trust-"))
    folder.mkdir(parents=True, exist_ok=True)
    import logging.config  # noqa: F401

    import adamas.cli.evaluate
    import adamas.cli.train
    import adamas.training.trainer  # noqa: F401  before the first fork

    bad = 0
    for part in arguments.parts or PARTS:
        began = time.monotonic()
        rows: list[Row] = []
        for row in PARTS[part](folder / part, arguments):
            rows.append(row)
            save(part, rows, sys.argv, time.monotonic() - began)
            print(f"{'good' if row.good else 'BAD '}  {row.tried}: {row.found}", flush=True)
        bad += sum(not row.good for row in rows)
    return 1 if bad else 0


def read() -> argparse.Namespace:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    for name, default in (("kills", 50), ("flips", 8), ("inputs", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--folder", default="")
    return parser.parse_args()


def kills(folder: Path, a: argparse.Namespace) -> Iterable[Row]:
    from kills import kills

    return kills(folder, a.kills)


def damage(folder: Path, a: argparse.Namespace) -> Iterable[Row]:
    from damage import damage

    return damage(folder, a.flips)


def disasters(folder: Path, a: argparse.Namespace) -> Iterable[Row]:
    from disasters import disasters

    return disasters(folder)


def numbers(folder: Path, a: argparse.Namespace) -> Iterable[Row]:
    from numbers_not_finite import numbers

    return numbers(folder)


def inputs(folder: Path, a: argparse.Namespace) -> Iterable[Row]:
    from bad_inputs import bad_inputs
    from server import messages

    return [*bad_inputs(folder, a.inputs), messages(folder, a.inputs)]


def server(folder: Path, a: argparse.Namespace) -> Iterable[Row]:
    from server import server

    return server(folder)


def training(folder: Path, a: argparse.Namespace) -> Iterable[Row]:
    import endurance

    return [endurance.training(folder, a.minutes)]


def play(folder: Path, a: argparse.Namespace) -> Iterable[Row]:
    import endurance

    return [endurance.play(folder, a.minutes)]


PARTS: dict[str, Callable[[Path, argparse.Namespace], Iterable[Row]]] = {
    part.__name__: part for part in (kills, damage, disasters, numbers, inputs, server, training, play)
}


def save(part: str, rows: list[Row], argv: list[str], seconds: float) -> None:
    """Rows of other parts stay."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / "table.json"
    table = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    command = "python scripts/trust/campaign.py " + " ".join(word for word in argv[1:] if not word.startswith("/"))
    table[part] = {
        "command": command.replace(" --folder", ""),
        "date": date.today().isoformat(),
        "minutes": round(seconds / 60, 1),
        "rows": [row._asdict() for row in rows],
    }
    table = {name: table[name] for name in PARTS if name in table}
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    (OUT / "table.md").write_text("\n".join(markdown(table)) + "\n", encoding="utf-8")


def markdown(table: dict) -> list[str]:
    lines = ["# What the program promises, tried", ""]
    for name, part in table.items():
        lines += [f"## {name}", "", f"`{part['command']}`, {part['date']}, {part['minutes']} minutes.", ""]
        lines += ["| promise | tried | found | |", "|---|---|---|---|"]
        for row in part["rows"]:
            cells = [str(row[key]).replace("|", "\\|") for key in ("promise", "tried", "found")]
            lines.append(f"| {' | '.join(cells)} | {'good' if row['good'] else '**bad**'} |")
        lines.append("")
    return lines[:-1]


if __name__ == "__main__":
    raise SystemExit(main())
