"""SIGKILL at random moments of a tiny run, which then is resumed to its end."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

from common import SMALL, Forked, Row, adamas, ending, only_run, same, train

NOW_AND_THEN, OFTEN = "checkpoint.every_minutes=0.008", "checkpoint.every_minutes=0.001"
EMPTY = "before the first save"


def kills(folder: Path, count: int, seed: int = 0) -> list[Row]:
    """Each kill hits a run of its own. The moments are spread over the time that one run takes; every fourth run saves
    sixteen times a second, so that many hit the writing of a checkpoint, and every tenth is killed in its first second."""
    expected, seconds = ending(train(cwd=folder / "whole")), {}
    for often in (False, True):
        began = time.monotonic()
        train(OFTEN if often else NOW_AND_THEN, cwd=folder / f"often-{often}")
        seconds[often] = time.monotonic() - began
    draw, places, bad = random.Random(seed), Counter(), []
    for number in range(count):
        often = number % 4 == 1
        moment = min(1.0, seconds[often]) if number % 10 == 0 else seconds[often]
        cwd = folder / f"kill-{number}"
        place = kill_once(cwd, often, moment * draw.random(), places)
        try:
            good = same(ending(only_run(cwd)), expected)
        except Exception as error:
            good, place = False, f"{place}: {error!r}"
        if not good:
            bad.append(place)
        print(f"kill {number}: {place}, {'equal' if good else 'NOT EQUAL'}", flush=True)
    found = ", ".join(f"{count} in {place}" for place, count in sorted(places.items()))
    tried = f"{count} SIGKILLs, each of a run of its own at a random moment ({found})"
    good = f"{count - len(bad)} of {count} endings equal bit for bit to that of a run never killed"
    return [Row("killed at any moment, a run goes on and ends the same", tried, good, not bad)]


def kill_once(cwd: Path, often: bool, moment: float, places: Counter[str]) -> str:
    """Starts, kills after `moment` seconds, and resumes to the end. Returns what was at work."""
    cwd.mkdir(parents=True)
    words = [OFTEN if often else NOW_AND_THEN]
    process = Forked("train", "env=Breakout", *SMALL, *words, cwd=cwd)
    time.sleep(moment)
    process.kill()
    killed = process.wait().code
    place = place_of(cwd) if killed else "no kill: it had ended"
    places[place] += 1
    if place == EMPTY:  # nothing was promised yet: it begins again
        for run in cwd.glob("runs/*/*"):
            done = adamas("train", f"resume={run}", cwd=cwd)
            if not done.is_one_line:
                return f"{place}, no clean error: {done.err[-300:]}"
            for path in sorted(run.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            if run.exists():
                run.rmdir()
        train(cwd=cwd)
    else:
        done = adamas("train", f"resume={only_run(cwd)}", cwd=cwd)
        if done.code:
            return f"{place}, resume failed: {done.err[-500:]}"
    return place


def place_of(cwd: Path) -> str:
    """The phase at the last save, and whether a file was being written."""
    from adamas.training import checkpoint

    runs = list(cwd.glob("runs/*/*"))
    if not runs or not checkpoint.newest_first(runs[0] / "checkpoints"):
        return EMPTY
    if list(runs[0].rglob("*.tmp")):
        return "the writing of a file"
    parts, _ = checkpoint.load_newest(runs[0] / "checkpoints", warn=lambda line: None)
    done = parts["progress"]["done"]
    return [*done, "collect"][len(done) - 1] if done else "the first or a new epoch"
