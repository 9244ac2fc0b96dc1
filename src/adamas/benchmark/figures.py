"""Pictures of the Atari 100k benchmark and of learning curves."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter

from adamas.benchmark.aggregates import Array, Estimate, performance_profile, profile_band

TITLES = {"iqm": "IQM", "median": "median", "mean": "mean", "optimality_gap": "optimality gap (less is better)"}
OURS = ("#d1495b", "#edae49", "#8f2d56", "#f4845f")  # colours of this project's systems, warm
COOL = ("#00798c", "#30638e", "#6a994e", "#7b6d8d")  # of others that are singled out
REST = "#b8bfc6"
INK = "#30363c"
PROFILE = np.geomspace(0.02, 10, 200)  # thresholds
LEGEND = 120  # characters in a line of it
RUNNING = 10  # collected games in a running mean
STYLE = {"font.size": 9, "axes.edgecolor": REST, "axes.spines.top": False, "axes.spines.right": False}
STYLE |= {"text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.titlesize": 10}


class Line(NamedTuple):
    """A learning curve."""

    name: str
    epoch: Sequence[int]
    score: Sequence[float]
    highlighted: bool


class Curve(NamedTuple):
    """What a run scored as it went on: (agent steps, return) of games."""

    system: str
    seed: int
    collected: Sequence[tuple[int, float]]  # in the order of play
    evaluated: Sequence[tuple[int, float]]  # means over full games, on the way
    final: tuple[int, float, float, float]  # that at the end, with the ends of its interval


def palette(systems: Sequence[str], ours: Sequence[str]) -> dict[str, str]:
    """Warm colours for `ours`, cool ones for the first few others, grey for the rest."""
    others = [name for name in dict.fromkeys(systems) if name not in ours]
    warm = {name: OURS[i % len(OURS)] for i, name in enumerate(ours)}
    return {**{name: COOL[i] if i < len(COOL) else REST for i, name in enumerate(others)}, **warm}


def plot_games(
    scores: Mapping[str, Mapping[str, Sequence[float]]], games: Sequence[str], colours: Mapping[str, str], path: Path
) -> None:
    """A bar a game and system, its mean, with a dot a seed; a game without a seed says so.

    Args:
        scores: {system: {game: one human-normalised score a seed}}; the first system sorts the games.
    """
    first = next(iter(scores.values()))
    order = sorted(games, key=lambda game: float(np.mean(first[game])) if first.get(game) else -1.0)
    high = 0.8 / len(scores)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8.5, 1.2 + len(order) * (0.17 + 0.13 * len(scores))), layout="constrained")
        for i, (system, of_game) in enumerate(scores.items()):
            for y, game in enumerate(order):
                _game_bar(axis, y + 0.4 - high * (i + 0.5), high, of_game.get(game, ()), colours[system])
            axis.barh(0, 0, color=colours[system], label=system)
        axis.axvline(1, color=INK, linewidth=0.9, linestyle="--")
        axis.annotate("human", (1, 1), xycoords=("data", "axes fraction"), xytext=(3, 2), textcoords="offset points")
        axis.set_xscale("symlog", linthresh=1, linscale=1.2)
        axis.xaxis.set_major_locator(FixedLocator([-0.5, 0, 0.25, 0.5, 0.75, 1, 2, 4, 8, 16]))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.set(yticks=range(len(order)), yticklabels=order, ylim=(-0.7, len(order) - 0.3))
        axis.set_xlabel("human-normalised score (0 random play, 1 a human; linear up to 1, logarithmic above)")
        axis.grid(axis="x", alpha=0.25)
        axis.tick_params(axis="y", length=0)
        axis.set_xlim(left=min(-0.06, *(min(s) - 0.03 for of_game in scores.values() for s in of_game.values() if s)))
        figure.legend(loc="outside upper right", frameon=False, ncols=2, fontsize=8)
        _save(figure, path)


def plot_intervals(aggregates: Mapping[str, Mapping[str, Estimate]], colours: Mapping[str, str], path: Path) -> None:
    """Every system's IQM, median, mean and optimality gap with 95% intervals, best IQM on top.

    A system of one seed has a hollow point and no interval.
    """
    order = sorted(aggregates, key=lambda name: aggregates[name]["iqm"].value)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(TITLES), figsize=(12, 0.9 + 0.27 * len(order)), sharey=True, layout="constrained"
        )
        for axis, (key, title) in zip(axes, TITLES.items(), strict=True):
            for y, name in enumerate(order):
                _interval(axis, y, aggregates[name][key], _dark(colours[name]))
            axis.set_title(title, loc="left")
            axis.grid(axis="x", alpha=0.25)
            axis.tick_params(axis="y", length=0)
            axis.spines["left"].set_visible(False)
        axes[0].set(yticks=range(len(order)), yticklabels=order, ylim=(-0.7, len(order) - 0.3))
        for label, name in zip(axes[0].get_yticklabels(), order, strict=True):
            label.set_color(_dark(colours[name]))
        figure.supxlabel(
            "human-normalised score, 26 games, 95% stratified bootstrap (hollow: one seed, no interval)", fontsize=9
        )
        _save(figure, path)


def plot_profiles(scores: Mapping[str, Array], colours: Mapping[str, str], path: Path) -> None:
    """Which share of runs is above each score; bands are 95% intervals. Systems in grey share one name."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8.5, 5), layout="constrained")
        rest = [name for name in scores if colours[name] == REST]
        for name in sorted(scores, key=lambda name: name not in rest):
            shown = {"color": colours[name], "linewidth": 0.9 if name in rest else 2}
            label = f"{len(rest)} others" if rest and name == rest[0] else None if name in rest else name
            axis.plot(PROFILE, performance_profile(scores[name], PROFILE), label=label, **shown)
            band = None if name in rest else profile_band(scores[name], PROFILE)
            if band:
                axis.fill_between(PROFILE, *band, color=colours[name], alpha=0.15, linewidth=0)
        axis.axvline(1, color=INK, linewidth=0.9, linestyle="--")
        axis.annotate("human", (1, 1), xycoords=("data", "axes fraction"), xytext=(4, -9), textcoords="offset points")
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator([0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]))
        axis.xaxis.set_minor_locator(FixedLocator([]))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.set(xlabel="human-normalised score", ylabel="share of runs above it", xlim=(0.02, 10), ylim=(0, 1))
        axis.grid(alpha=0.25)
        axis.legend(frameon=False)
        _save(figure, path)


def plot_improvement(reference: str, estimates: Mapping[str, Estimate], path: Path) -> None:
    """How probably a run of `reference` beats one of each other system on a game drawn at random."""
    order = sorted(estimates, key=lambda name: estimates[name].value)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.5, 0.9 + 0.27 * len(order)), layout="constrained")
        axis.axvline(0.5, color=INK, linewidth=0.9, linestyle="--")
        for y, name in enumerate(order):
            e = estimates[name]
            clear = e.low is not None and e.high is not None and not e.low <= 0.5 <= e.high
            _interval(axis, y, e, (OURS[0] if e.value < 0.5 else COOL[0]) if clear else _dark(REST))
        axis.set(yticks=range(len(order)), yticklabels=order, ylim=(-0.7, len(order) - 0.3), xlim=(0, 1))
        axis.set_title(f"probability that {reference} beats ...", loc="left")
        axis.set_xlabel("95% stratified bootstrap; grey: the interval holds one half; hollow: one seed, no interval")
        axis.grid(axis="x", alpha=0.25)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        _save(figure, path)


def plot_reference(lines: Sequence[Line], levels: Mapping[str, float], title: str, path: Path) -> None:
    """Learning curves of one game and preset, the highlighted one on top.

    Args:
        levels: scores to compare with; those far above the curves are named at the top.
    """
    others = [line.name for line in lines if not line.highlighted]
    colours = palette(others, [])
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 4.8), layout="constrained")
        for line in sorted(lines, key=lambda line: line.highlighted):
            shown = {"color": OURS[0], "linewidth": 2.4} if line.highlighted else {"color": _dark(colours[line.name])}
            axis.plot(line.epoch, line.score, marker=".", label=line.name, **shown)
        _levels(axis, levels, max(max(line.score) for line in lines))
        axis.set(xlabel="epoch", ylabel="mean return of full games")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_title(title, loc="left")
        axis.grid(alpha=0.25)
        figure.legend(loc="outside lower left", frameon=False, fontsize=8)
        _save(figure, path)


def plot_curves(curves: Sequence[Curve], levels: Mapping[str, float], title: str, path: Path) -> None:
    """Returns against agent steps: a line a seed, the running mean of collected games; a dot an evaluation; a diamond that
    at the end, with its interval."""
    colours = dict(zip(dict.fromkeys(curve.system for curve in curves), cycle((*OURS, *COOL)), strict=False))
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 4.8), layout="constrained")
        seen: list[float] = []
        for i, curve in enumerate(curves):
            colour = colours[curve.system]
            scores = [score for _, score in curve.collected]
            means = [np.mean(scores[max(0, i - RUNNING + 1) : i + 1]) for i in range(len(scores))]
            axis.plot([step for step, _ in curve.collected], means, color=colour, linewidth=1.2, alpha=0.8)
            dots = [score for _, score in curve.evaluated]
            axis.plot([step for step, _ in curve.evaluated], dots, ".", color=colour, markersize=7, alpha=0.8)
            steps, mean, low, high = curve.final
            beside = steps * (1.015 + 0.015 * i)  # each other, after the curves
            axis.errorbar(beside, mean, [[mean - low], [high - mean]], fmt="D", color=colour, markersize=5)
            seen += [*means, *dots, mean]
        for name, colour in colours.items():
            axis.plot([], [], ".-", color=colour, label=textwrap.fill(name, LEGEND))
        _levels(axis, levels, max(seen))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axis.set(xlabel="agent steps in the real game", ylabel="return")
        axis.set_title(
            f"{title}: games collected (mean of {RUNNING}) and evaluated (dots; diamonds at the end)", loc="left"
        )
        axis.grid(alpha=0.25)
        figure.legend(loc="outside lower left", frameon=False, fontsize=8)
        _save(figure, path)


def _levels(axis: plt.Axes, levels: Mapping[str, float], most: float) -> None:
    """Dashed lines; a level that is far above `most`, the top of the curves, is named instead."""
    top = most + abs(most) / 2
    beyond = [f"{name} {level:g}" for name, level in levels.items() if level > top]
    for name, level in levels.items():
        if level <= top:
            axis.axhline(level, color=INK, linewidth=0.9, linestyle="--")
            place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
            axis.annotate(f"{name} {level:g}", (1, level), xytext=(4, 0), **place)
    if beyond:
        axis.annotate("above: " + ", ".join(beyond), (1, 1), xycoords="axes fraction", ha="right", va="top")


def _game_bar(axis: plt.Axes, y: float, high: float, scores: Sequence[float], colour: str) -> None:
    if not len(scores):
        axis.annotate(
            "missing", (0, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7, color=colour
        )
        return
    axis.barh(y, np.mean(scores), height=high * 0.92, color=colour, alpha=0.55)
    axis.plot(scores, [y] * len(scores), ".", color=colour, markersize=3.5)


def _interval(axis: plt.Axes, y: float, estimate: Estimate, colour: str) -> None:
    if estimate.low is not None:
        axis.plot([estimate.low, estimate.high], [y, y], color=colour, alpha=0.45, linewidth=5, solid_capstyle="butt")
    face = "white" if estimate.low is None else colour
    axis.plot(estimate.value, y, "o", markersize=4.5, markeredgecolor=colour, markerfacecolor=face)


def _dark(colour: str) -> str:
    return "#737c85" if colour == REST else colour  # a point and a word need more ink than a line


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
    plt.close(figure)
