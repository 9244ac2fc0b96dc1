"""`adamas benchmark`: makes the runs of Atari 100k."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Optional

from adamas.config.arguments import run_command, unknown
from adamas.config.help import kinds
from adamas.config.schema import setting
from adamas.utils.errors import UserError

USAGE = """
Makes the runs of Atari 100k, one after the other, one on each GPU, or as jobs on SLURM.

usage: adamas benchmark [name=value ...] [--status] [--slurm [name=value ...]]

  adamas benchmark games=all seeds=5 preset=diamond            26 games x 5 seeds
  adamas benchmark games=all seeds=5 preset=diamond --status   where each run stands
  adamas benchmark preset=diamond --slurm slurm_partition=gpu timeout_min=600

The same command again leaves out what is finished and goes on with what was cut short; Ctrl-C saves. Any setting of
`adamas train` can follow. The benchmark's protocol is kept where a preset departs from it: 100 full games at the end of at
most 27,000 agent steps each, no sticky actions. Departures that are left, such as fewer collection.steps, are named;
preset=smoke is not measured, and is left as it is. After --slurm come parameters of submitit, which it needs
(pip install submitit); cluster=local tries the same on this machine.
"""

OWN = {  # settings of `adamas train` that the queue gives each run
    "env": "the runs of a queue have games=[Pong,Breakout]",
    "seed": "the runs of a queue have seeds=5, or seeds=[0,3]",
    "resume": "the same command again goes on with what was cut short",
}


@dataclass
class Options:
    """The settings of the queue."""

    games: list[str] = setting(["all"], "all 26, or some: [Breakout,Pong]")
    seeds: str = setting("5", "how many, 5, or which, [0,3]")
    preset: str = setting("diamond", "the preset of all runs")
    runs: Optional[str] = setting(None, "the folder of the queue; null: runs/atari100k-PRESET")
    status: bool = setting(False, "print where each run stands, and start nothing")


def main(argv: list[str]) -> int:
    """The exit code."""
    own, slurm = _until_slurm(argv)
    names = {item.name for item in fields(Options)}
    settings = [word for word in own if "=" in word and not word.startswith("--") and _name(word) not in names]
    mine = [word for word in own if word not in settings]
    return run_command(Options, mine, USAGE, lambda options: benchmark(options, settings, slurm))


def benchmark(options: Options, settings: list[str], slurm: list[str] | None) -> int:
    """`settings`: arguments of `adamas train`. `slurm`: parameters of submitit; None without --slurm."""
    known = {item.name for item in fields(Options)} | set(kinds()) - set(OWN)
    for word in settings:
        if _name(word) in OWN:
            raise UserError(f"{word}: {OWN[_name(word)]}")
        if _name(word) not in known:
            raise unknown(_name(word), known)
    parameters = None if slurm is None else dict(map(_parameter, slurm))
    from adamas.benchmark.launch import games_of, make_queue, seeds_of, show_status, start, tasks_of

    tasks = tasks_of(games_of(options.games), seeds_of(options.seeds))
    queue = make_queue(Path(options.runs or f"runs/atari100k-{options.preset}"), options.preset, settings)
    return show_status(queue, tasks) if options.status else start(queue, tasks, parameters)


def _until_slurm(argv: list[str]) -> tuple[list[str], list[str] | None]:
    """What stands before --slurm, and behind it up to the next option."""
    if "--slurm" not in argv:
        return argv, None
    own, rest = argv[: argv.index("--slurm")], argv[argv.index("--slurm") + 1 :]
    end = next((i for i, word in enumerate(rest) if word.startswith("-")), len(rest))
    return own + rest[end:], rest[:end]


def _name(word: str) -> str:
    return word.partition("=")[0]


def _parameter(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise UserError(f"--slurm {word} cannot be read: write name=value")
    return name, value
