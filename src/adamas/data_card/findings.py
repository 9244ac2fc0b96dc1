"""What is wrong with a dataset, in words. A dataset as it should be has no findings."""

from __future__ import annotations

from typing import Any

from adamas.data_card.quality import MEANING

ANY = ("not finite", "unknown action", "frozen", "repeated")  # stages of which one row is worth a line
SOME = 0.001  # share of the rows from which the others are
DARKEST_WHITE = 32  # grey levels: frames that use fewer are probably scaled wrongly
FLICKER = 0.75  # share of changing pixels that change back at once
ONE_STEP = 0.05  # share of the episodes


def of(figures: dict[str, Any]) -> list[str]:
    """A line for each fault."""
    quality, rows = figures["quality"], figures["rows"]
    lines = [f"broken file: {line}" for line in figures["broken_files"]]
    low, high = quality["grey_levels"]
    if high - low < DARKEST_WHITE:
        lines.append(f"wrong value range: frames use grey levels {low}..{high}, of 0..255")
    for name, count in quality["dropped"].items():
        if count > (0 if name in ANY else SOME * rows):
            lines.append(f"{name}: {count:,} rows ({count / rows:.1%}): {MEANING[name]}")
    if quality["flicker"] > FLICKER:
        lines.append(f"flicker: {quality['flicker']:.0%} of the pixels that change are as before one frame later")
    if quality["one_step_episodes"] > max(1, ONE_STEP * figures["episodes"]):
        lines.append(f"episodes of one step: {quality['one_step_episodes']:,} of {figures['episodes']:,}")
    if figures["alignment"]["verdict"] == "shifted":
        lines.append(f"shifted actions: {figures['alignment']['reason']}")
    return lines + _coverage(figures["coverage"])


def _coverage(coverage: dict[str, Any]) -> list[str]:
    lines = []
    if coverage["never_taken"]:
        lines.append(f"actions never taken: {', '.join(coverage['never_taken'])}")
    if not any(action["positive"] or action["negative"] for action in coverage["actions"]):
        lines.append("no rewards: no step brings one")
    return lines
