"""The runs of the benchmark: which there are, and how they are started."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from adamas.benchmark.aggregates import read_published
from adamas.benchmark.queue import FAILED, FINISHED, Queue, Task, as_words
from adamas.benchmark.slurm import jobs_of_cluster, submit
from adamas.benchmark.status import summary, table
from adamas.benchmark.systems import departures
from adamas.benchmark.worker import work_off
from adamas.config import Config
from adamas.config.files import load_config
from adamas.config.hints import game_name
from adamas.envs.atari import check_game
from adamas.training.signals import StopRequest
from adamas.utils.console import say
from adamas.utils.device import pick_device
from adamas.utils.errors import UserError

PROTOCOL = ("evaluation.final_games=100", "atari.max_episode_steps=27000", "atari.repeat_action_probability=0")
UNMEASURED = "smoke"  # the preset that only shows that everything runs


def start(queue: Queue, tasks: Sequence[Task], slurm: Mapping[str, str] | None) -> int:
    """Works off the tasks here, or submits them with the parameters of `slurm`. The exit code."""
    config = compose(queue, tasks[0])
    if slurm is None:  # jobs have another machine
        pick_device(config.device)
    words = departures(config)
    queue.claim()
    say(f"{len(tasks)} runs in {queue.runs}" + (f"; not Atari 100k: {', '.join(words)}" if words else ""))
    tasks = [task for task in tasks if queue.status_of(task, {}).state != FINISHED]
    return work(queue, tasks) if slurm is None else submit(queue, tasks, slurm)


def show_status(queue: Queue, tasks: Sequence[Task]) -> int:
    """Prints where each task stands. Writes nothing. The exit code."""
    if not queue.runs.is_dir():
        raise UserError(f"{queue.runs} is not there: without --status the queue begins")
    with suppress(OSError, ValueError, TypeError, KeyError):
        say(f"{queue.runs}, begun with {as_words(queue.begun_with())}")
    jobs = jobs_of_cluster()
    say(table([queue.status_of(task, jobs) for task in tasks]))
    return 0


def make_queue(runs: Path, preset: str, settings: Sequence[str]) -> Queue:
    """With what the benchmark sets, and `settings`, arguments of `adamas train`, which may depart from it."""
    given = dict.fromkeys(word.partition("=")[0] for word in settings)
    protocol = [] if preset == UNMEASURED else [word for word in PROTOCOL if word.partition("=")[0] not in given]
    return Queue(runs.absolute(), preset, (*protocol, *settings))


def tasks_of(games: Sequence[str], seeds: Sequence[int]) -> list[Task]:
    """In such an order that the first games x 1 soon tell something."""
    return [Task(game, seed) for seed in seeds for game in games]


def work(queue: Queue, tasks: Sequence[Task]) -> int:
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    gpus: list[str | None] = [*visible.split(",")] if count > 1 else [None]
    with StopRequest() as stop:
        ended = work_off(queue, tasks, gpus, stop, say=say)
    say(summary([queue.status_of(task, {}) for task in tasks]))
    failed = [str(task) for task, state in ended.items() if state == FAILED]
    if failed:
        raise UserError(
            f"{', '.join(failed)} failed: see {queue.runs / 'logs'}; the same command goes on with what is left"
        )
    return 0


def compose(queue: Queue, task: Task) -> Config:
    """The config that a task begins with, as `adamas train` understands it; UserError if it does not."""
    command = [*queue.first_command(task), "--cfg", "job"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)
    if done.returncode == 2:
        raise UserError(done.stderr.splitlines()[-1].removeprefix("error: "))
    done.check_returncode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(done.stdout, encoding="utf-8")
        return load_config(path)


def games_of(names: Sequence[str]) -> list[str]:
    """ "all" stands for the 26. UserError if there is no such game."""
    if list(names) == ["all"]:
        return list(read_published().games)
    games = list(dict.fromkeys(map(game_name, names)))
    if not games:
        raise UserError("games=[] names none: games=all, or games=Pong,Alien")
    for game in games:
        check_game(game)
    return games


def seeds_of(text: str) -> list[int]:
    """ "3" -> 0, 1, 2; "[3]" or "3,4" -> those."""
    words, listed = text.strip("[]").split(","), set(text) & set("[,")
    if not all(word.isdecimal() for word in words) or (not listed and int(text) == 0):
        raise UserError(f"seeds={text}: give how many, 5, or which, [0,3]")
    return list(dict.fromkeys(map(int, words))) if listed else list(range(int(text)))
