"""The benchmark: `python scripts/atari100k.py games=all seeds=5 preset=diamond` makes the 26 x 5 runs of Atari 100k.

One after the other, one on each GPU where there are several, or on a SLURM cluster with --slurm. The same command again
leaves out what is finished and goes on with what was cut short; Ctrl-C saves. --status prints where each run stands.

games is `all` or some names, Breakout,Pong; seeds is how many, or which, [3,4]. runs= is the folder (runs/atari100k-PRESET).
Any other knob of src/main.py can follow. The queue keeps to the benchmark where a preset departs from it: 100 full games
at the end, no life-loss episodes and no epsilon in them, at most 27,000 agent steps each, no sticky actions. Departures
that are left, such as fewer collection.steps, are named; preset=smoke is not measured, and is left as it is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import torch

from adamas.benchmark.aggregates import read_published
from adamas.benchmark.queue import FAILED, FINISHED, QUEUED, RUNNING, Queue, Standing, Task
from adamas.benchmark.worker import Job, work_off
from adamas.config import Config
from adamas.config.files import load_config
from adamas.envs.atari import check_game
from adamas.training.estimate import in_words
from adamas.training.run_records import departures
from adamas.training.signals import StopRequest
from adamas.utils.errors import UserError, exit_code

RESULTS = Path(__file__).resolve().parents[1] / "results"
PROTOCOL = ("evaluation.final_games=100", "atari.max_episode_steps=27000", "atari.repeat_action_probability=0")
UNMEASURED = "smoke"  # the preset that only shows that everything runs
CLUSTER = {"timeout_min": 24 * 60, "gpus_per_node": 1, "cpus_per_task": 4, "slurm_signal_delay_s": 120}
ENDLESS = 10_000  # times that a job may run out of its time and go on in a new one
COLUMNS = ("game", "seed", "step", "return", "time left", "state")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="games=, seeds=, preset=, runs= and knobs")
    parser.add_argument("--status", action="store_true", help="print where each run stands")
    parser.add_argument(
        "--slurm",
        nargs="*",
        metavar="NAME=VALUE",
        help="submit to SLURM, with submitit's parameters, such as slurm_partition=gpu timeout_min=600; cluster=local is "
        "this machine (needs pip install 'adamas[slurm]')",
    )
    arguments = parser.parse_intermixed_args()
    return start(named(arguments.settings), arguments.status, arguments.slurm)


def start(settings: dict[str, str], status: bool, slurm: list[str] | None) -> int:
    games, seeds = games_of(settings.pop("games", "all")), seeds_of(settings.pop("seeds", "5"))
    preset = settings.pop("preset", "diamond")
    runs = Path(settings.pop("runs", f"runs/atari100k-{preset}")).resolve()
    tasks = [Task(game, seed) for seed in seeds for game in games]  # so that the first games x 1 soon tell something
    if status:
        if not runs.is_dir():
            raise UserError(f"{runs} is not there: without --status the queue begins")
        queue, jobs = Queue(runs, preset), jobs_of_cluster()
        tell(table([queue.standing(task, jobs) for task in tasks]))
        return 0
    protocol = named(() if preset == UNMEASURED else PROTOCOL)
    queue = Queue(runs, preset, tuple(f"{name}={value}" for name, value in {**protocol, **settings}.items()))
    words = departures(compose(queue, tasks[0]))
    queue.claim()
    print(f"{len(tasks)} runs in {runs}" + (f"; not Atari 100k: {', '.join(words)}" if words else ""), flush=True)
    tasks = [task for task in tasks if queue.standing(task, {}).state != FINISHED]
    return work(queue, tasks) if slurm is None else submit(queue, tasks, named(slurm))


def tell(text: str) -> None:
    """Prints it to whoever reads it, and no more than they want of it (`| head`)."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def work(queue: Queue, tasks: Sequence[Task]) -> int:
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    gpus = visible.split(",") if count > 1 else [None]
    with StopRequest() as stop:
        ended = work_off(queue, tasks, gpus, stop, say=lambda line: print(line, flush=True))
    print(summary([queue.standing(task, {}) for task in tasks]))
    failed = [str(task) for task, state in ended.items() if state == FAILED]
    if failed:
        raise UserError(
            f"{', '.join(failed)} failed: see {queue.runs / 'logs'}; the same command goes on with what is left"
        )
    return 130 if stop.requested else 0


def submit(queue: Queue, tasks: Sequence[Task], parameters: dict[str, str]) -> int:
    """One job a run, under a name of its own, so that what is queued already can be left out."""
    try:
        import submitit
    except ModuleNotFoundError:
        raise UserError("--slurm needs submitit: pip install -e '.[slurm]'") from None
    cluster, known = parameters.pop("cluster", "slurm"), jobs_of_cluster()
    try:
        executor = submitit.AutoExecutor(queue.runs / "slurm", cluster=cluster, slurm_max_num_timeout=ENDLESS)
        for task in tasks:
            if queue.standing(task, known).state in (QUEUED, RUNNING):
                continue
            values = {name: int(value) if value.isdecimal() else value for name, value in parameters.items()}
            executor.update_parameters(name=queue.job_name(task), **{**CLUSTER, **values})
            print(f"{task}: job {executor.submit(Job(queue, task)).job_id}", flush=True)
    except (NameError, ValueError, RuntimeError, submitit.core.utils.FailedJobError) as error:
        raise UserError(f"--slurm: {' '.join(str(error).split())}") from error
    return 0


def jobs_of_cluster() -> dict[str, str]:
    """{name: state} of my jobs that wait or run on SLURM; nothing where there is none."""
    if not shutil.which("squeue"):
        return {}
    listing = subprocess.run(["squeue", "--me", "-h", "-o", "%T %j"], capture_output=True, text=True, check=False)
    lines = [line.partition(" ") for line in listing.stdout.splitlines()]
    return {name: QUEUED if state == "PENDING" else RUNNING for state, _, name in lines}


def compose(queue: Queue, task: Task) -> Config:
    """The config of a task, as src/main.py understands it; UserError if it does not."""
    done = subprocess.run([*queue.command(task), "--cfg", "job"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(done.stderr.strip().removeprefix("error: "))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(done.stdout)
        return load_config(path)


def table(standings: Sequence[Standing]) -> str:
    rows = [COLUMNS, *(cells(standing) for standing in standings)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, summary(standings)])


def cells(s: Standing) -> tuple[str, ...]:
    left = "-" if s.left is None else in_words(s.left)
    steps, score = ("-" if s.steps is None else f"{s.steps:,}"), ("-" if s.score is None else f"{s.score:.1f}")
    return s.task.game, str(s.task.seed), steps, score, left, s.state


def summary(standings: Sequence[Standing]) -> str:
    """How many are in which state, and how long one machine would take for what is left."""
    counts = Counter(s.state for s in standings)
    words = ", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing left to do"
    whole = [s.seconds + (s.left or 0) for s in standings if s.seconds and (s.left or s.state == FINISHED)]
    if not whole or counts[FINISHED] == len(standings):
        return words
    mean = fmean(whole)
    left = sum(mean if s.left is None else s.left for s in standings if s.state != FINISHED)
    return f"{words}; about {in_words(left)} of work left"


def games_of(text: str) -> list[str]:
    """UserError if there is no such game."""
    if text == "all":
        return list(read_published(RESULTS / "published" / "atari100k_scores.json").games)
    games = unique(text.strip("[]").split(","))
    for game in games:
        check_game(game)
    return games


def seeds_of(text: str) -> list[int]:
    """ "3" -> 0, 1, 2; "[3]" or "3,4" -> those."""
    words, listed = text.strip("[]").split(","), set(text) & set("[,")
    if not all(word.isdecimal() for word in words) or (not listed and int(text) == 0):
        raise UserError(f"seeds={text}: give how many, 5, or which, [0,3]")
    return [int(seed) for seed in unique(words)] if listed else list(range(int(text)))


def unique(words: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(words))


def named(settings: Sequence[str]) -> dict[str, str]:
    for text in settings:
        if "=" not in text:
            raise UserError(f"'{text}' cannot be read: write name=value; --help shows what there is")
    return {name: value for name, _, value in (text.partition("=") for text in settings)}


if __name__ == "__main__":
    sys.exit(exit_code(main))
