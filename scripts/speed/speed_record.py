"""What `speed.py`, beside this file, has measured: its JSON, its table, and its comparison with an earlier one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adamas.config import Config
from adamas.utils.errors import UserError
from adamas.utils.markdown import markdown_table

WORDS = {
    "denoiser": "denoiser update",
    "reward_end": "reward/end update",
    "actor_critic": "actor-critic update",
    "frame": "one sampled frame, batch 1",
    "imagine": "one imagined frame of a batch",
    "replay": "replay batch of segments",
    "collect": "agent step in the game",
    "epoch": "one epoch (projected)",
}
SAME = ("chip", "preset", "clock", "torch", "precision")  # what rows of one table have in common


def projected(record: dict[str, Any]) -> dict[str, Any]:
    """{"epoch": one epoch of the schedule out of the rows that it is made of}; {} where one is missing."""
    rows, updates = record["rows"], record["updates"]
    if not updates.keys() <= rows.keys():
        return {}
    mine = sum(count * rows[name]["seconds"] for name, count in updates.items())
    others = {
        side: sum(count * rows[name]["others"].get(side, rows[name]["seconds"]) for name, count in updates.items())
        for side in sorted(set.intersection(*(set(rows[name]["others"]) for name in Config().parts)))
    }
    ratio = {side: theirs / mine for side, theirs in others.items()}
    return {"epoch": {"seconds": mine, "others": others, "ratio": ratio}}


def with_earlier(record: dict[str, Any], path: Path) -> dict[str, Any]:
    """The record with the rows of an earlier one of the same machine and settings, and the epoch that all make."""
    try:
        earlier = json.loads(path.read_text())
    except (OSError, ValueError):
        earlier = {}
    if all(earlier.get(key) == record[key] for key in SAME):
        merged = {key: {**earlier[key], **record[key]} for key in ("rows", "seconds")}
        memory = {side: max(earlier["memory"].get(side) or 0, n or 0) for side, n in record["memory"].items()}
        used = max(earlier["gpu_bytes"] or 0, record["gpu_bytes"] or 0) or None
        record = {**record, **merged, "memory": {**earlier["memory"], **memory}, "gpu_bytes": used}
    return {**record, "rows": {**record["rows"], **projected(record)}}


def read_reference(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """A record to compare with. UserError unless it has ratios, of the same preset and clock."""
    try:
        reference = json.loads(path.read_text())
        theirs = {key: reference[key] for key in ("preset", "clock")}
        ratios = [row["ratio"] for row in reference["rows"].values()]
    except OSError as error:
        raise UserError(f"--check {path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"--check {path}: this is not a file that scripts/speed/speed.py wrote") from error
    if not any(ratios):
        raise UserError(f"--check {path}: it has no ratios; write it with --compare eager")
    for key, value in theirs.items():
        if value != record[key]:
            raise UserError(f"--check {path}: its {key} is {value}, not {record[key]}; only like can be compared")
    return reference


def tell_losses(record: dict[str, Any], reference: dict[str, Any], path: Path, tolerance: float) -> int:
    """Prints a line for each ratio that fell by more than the share `tolerance`, and returns the exit code."""
    rows = {**record["rows"], **projected(record)}
    pairs = [
        (row, side, was, rows[row]["ratio"][side])
        for row, entry in reference["rows"].items()
        for side, was in entry["ratio"].items()
        if side in rows.get(row, {}).get("ratio", {})
    ]
    if not pairs:
        raise UserError(f"--check {path}: it has no ratio of what was measured now")
    if reference["chip"] != record["chip"]:
        print(f"note: {path} is of {reference['chip']}, and this is {record['chip']}")
    lost = [pair for pair in pairs if pair[3] < pair[2] * (1 - tolerance)]
    for row, side, was, now in lost:
        print(f"slower: {row} is {now:.2f} times as fast as {side}, and was {was:.2f} times ({now / was - 1:+.0%})")
    if not lost:
        print(f"as fast as before: {len(pairs)} ratios are within {tolerance:.0%} of {path}")
    return 1 if lost else 0


def to_markdown(record: dict[str, Any]) -> str:
    peak, others = record["peak"], sorted({side for row in record["rows"].values() for side in row["ratio"]})
    head = ["work", "time", "a second", "GFLOP", "GFLOP/s", "share of the peak", "least time at the peak"]
    head += [f"times as fast as {side} (pairs from - to)" for side in others]
    body = [cells(name, record["rows"][name], peak["gflops"], others) for name in WORDS if name in record["rows"]]
    memory = ", ".join(f"{side} {n / 1e9:.1f} GB" for side, n in record["memory"].items() if n)
    lines = [
        f"# Speed: {record['chip']}, preset {record['preset']}",
        f"Peak of 3x3 convolutions: {peak['gflops']:.0f} GFLOP/s in {peak['type']}. Time is {record['clock']} time, the "
        f"median; ratios are medians of pairs. torch {record['torch']}, precision {record['precision']}, "
        f"{record['device']}.",
        markdown_table(head, body, "l" + "r" * (len(head) - 1)),
        f"Memory at most, a process each, over the rows that it was timed with: {memory}.",
    ]
    return "\n\n".join(lines) + "\n"


def cells(name: str, row: dict[str, Any], peak: float, others: list[str]) -> list[str]:
    shown = [WORDS[name], duration(row["seconds"]), f"{1 / row['seconds']:.3g}", *["-"] * 4]
    if row.get("gflop"):
        least = duration(row["gflop"] / peak)
        shown[3:] = [f"{row['gflop']:.3g}", f"{row['gflops']:.3g}", f"{row['share']:.0%}", least]
    for side in others:
        spread = row.get("range", {}).get(side)
        cell = f"{row['ratio'][side]:.2f}" if side in row["ratio"] else "-"
        shown.append(cell + (f" ({spread[0]:.2f} - {spread[1]:.2f})" if spread else ""))
    return shown


def duration(seconds: float) -> str:
    """0.0123 -> "12.3 ms"."""
    size, unit = next((s, u) for s, u in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")) if seconds >= s or u == "µs")
    return f"{seconds / size:.3g} {unit}" if seconds < 1000 else f"{seconds:.0f} s"
