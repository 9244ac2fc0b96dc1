"""How many threads work at each kind of thing: one where more of them gain little, as in small networks.

Results depend on it in their last bits. So it is decided once a run, kept in the run's folder, and the same at a resume.
It is measured by the processor time of the thread that leads, which hardly depends on what else the machine does: a run
that began beside others is not stuck with one thread when they are gone. Who sets OMP_NUM_THREADS decides for all kinds.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from adamas.utils.errors import UserError
from adamas.utils.files import publish_text
from adamas.utils.waiting import Waiting

GAIN = 1.1  # twice the threads are taken if work is done so many times as fast
TIMES = 3  # the fastest counts
MOST_SECONDS = 1.0  # work that takes longer is timed once


class Threads:
    """Of each kind of work. A kind that is not named has `most`, as many as torch had at the start."""

    def __init__(self, counts: Mapping[str, int] | None = None, most: int | None = None) -> None:
        self.counts, self.most = dict(counts or {}), most or torch.get_num_threads()
        self.waiting = Waiting()

    def use(self, kind: str) -> None:
        """From now on, until another kind is named. Also looks whether the machine is busy."""
        count = min(self.counts.get(kind, self.most), self.most)
        if count != torch.get_num_threads():
            torch.set_num_threads(count)
        self.waiting.look()

    def describe(self) -> str:
        """ "2 threads; 1 for collect, games"."""
        fewer: dict[int, list[str]] = {}
        for kind, count in self.counts.items():
            if count < self.most:
                fewer.setdefault(count, []).append(kind)
        parts = [f"{count} for {', '.join(kinds)}" for count, kinds in sorted(fewer.items())]
        return "; ".join([f"{self.most} threads", *parts])

    def save(self, path: Path) -> None:
        publish_text(path, json.dumps({"most": self.most, "counts": self.counts}) + "\n")


def are_chosen(device: torch.device) -> bool:
    """Whether there is something to choose, and the user has left it to the program."""
    return device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > 1


def saved(path: Path) -> Threads:
    """Of a run that is resumed. One without the file had all of torch's threads for everything."""
    if "OMP_NUM_THREADS" in os.environ or not path.exists():
        return Threads()
    try:
        kept = json.loads(path.read_text())
        return Threads({kind: int(count) for kind, count in kept["counts"].items()}, int(kept["most"]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged: set OMP_NUM_THREADS, or delete it to go on with all cores") from error


def fastest_count(work: Callable[[], object], most: int) -> int:
    """Doubles one thread as long as that gains enough. Leaves torch with as many threads as it had."""
    had = torch.get_num_threads()
    try:
        work()  # sets things up
        count, seconds = 1, _leading_seconds(work, 1)
        while count < most:
            twice = min(2 * count, most)
            faster = _leading_seconds(work, twice)
            if seconds < GAIN * faster:
                return count
            count, seconds = twice, faster
        return count
    finally:
        torch.set_num_threads(had)


def _leading_seconds(work: Callable[[], object], threads: int) -> float:
    """Processor time of this thread, which has its share of the work."""
    torch.set_num_threads(threads)
    least = float("inf")
    for _ in range(TIMES):
        start = time.thread_time()
        work()
        least = min(least, time.thread_time() - start)
        if least > MOST_SECONDS:
            break
    return least
