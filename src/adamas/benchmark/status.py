"""Where the runs of a queue stand, as a table for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from adamas.benchmark.queue import FINISHED, RunStatus
from adamas.utils.console import format_duration

COLUMNS = ("game", "seed", "step", "return", "time left", "state")


def table(statuses: Sequence[RunStatus]) -> str:
    rows = [COLUMNS, *(_cells(status) for status in statuses)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, summary(statuses)])


def _cells(s: RunStatus) -> tuple[str, ...]:
    left = "-" if s.left is None else format_duration(s.left)
    steps, score = ("-" if s.steps is None else f"{s.steps:,}"), ("-" if s.score is None else f"{s.score:.1f}")
    return s.task.game, str(s.task.seed), steps, score, left, s.state


def summary(statuses: Sequence[RunStatus]) -> str:
    """How many are in which state, and how long one machine would take for what is left."""
    counts = Counter(s.state for s in statuses)
    words = ", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing left to do"
    whole = [s.seconds + (s.left or 0) for s in statuses if s.seconds and (s.left or s.state == FINISHED)]
    if not whole or counts[FINISHED] == len(statuses):
        return words
    mean = fmean(whole)
    left = sum(mean if s.left is None else s.left for s in statuses if s.state != FINISHED)
    return f"{words}; about {format_duration(left)} of work left"
