"""Memory and open files of play and of training, at the start and at the end of some minutes."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from common import ROOT, SMALL, Forked, Row

sys.path.insert(0, str(ROOT / "tests"))
WARM = 0.25  # share of the time after which the first look is taken
GROWTH = 1.1  # of memory, that counts as flat


def usage(pid: int) -> tuple[float, int]:
    """Resident memory in MB, and open files."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir(f"/proc/{pid}/fd"))


def watched(pid: int, seconds: float) -> tuple[tuple[float, int], tuple[float, int]]:
    time.sleep(WARM * seconds)
    first = usage(pid)
    time.sleep((1 - WARM) * seconds)
    return first, usage(pid)


def row(what: str, minutes: float, first: tuple[float, int], last: tuple[float, int], work: str) -> Row:
    found = f"{first[0]:.0f} MB and {first[1]} open files at minute {WARM * minutes:.1f}, {last[0]:.0f} MB and {last[1]} at minute {minutes:.1f}{work}"
    flat = last[0] < GROWTH * first[0] and last[1] <= first[1] + 1
    return Row("memory and open files stay flat", f"{minutes:g} minutes of {what}", found, flat)


def training(folder: Path, minutes: float) -> Row:
    """Without end: it collects nothing more after its first epochs, and saves every few seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    process = Forked(
        "train",
        "env=Breakout",
        *SMALL,
        "final_epochs=1000000",
        "checkpoint.every_minutes=0.05",
        "evaluation.every_epochs=10",
        cwd=folder,
    )
    first, last = watched(process.pid, 60 * minutes)
    process.kill(signal.SIGTERM)
    done = process.wait()
    from adamas.training import checkpoint

    (run,) = folder.glob("runs/*/*")
    parts, _ = checkpoint.load_newest(run / "checkpoints", warn=print)
    progress = parts["progress"]
    work = f"; {progress['epoch']} epochs, {progress['saves']} saves, exit code {done.code}"
    return row("training", minutes, first, last, work)


def play(folder: Path, minutes: float) -> Row:
    """The server, with a page that looks on and begins again where a dream ends."""
    from playing import Served, make_run

    from adamas.play.load import open_agent
    from adamas.play.session import Session
    from adamas.play.settings import Options, Settings

    run = folder / "played"
    run = run if run.exists() else make_run(run)
    session = Session(open_agent(Options(run=str(run), device="cpu")), Settings(stop_at_end=False, fps=15))
    served, frames, began, first = Served(session), 0, time.monotonic(), None
    with served.open() as player:
        while time.monotonic() - began < 60 * minutes:
            message, _ = player.receive()
            frames += message["type"] == "frame"
            if message.get("ended"):
                player.send({"type": "new_episode"})
            if first is None and time.monotonic() - began > WARM * 60 * minutes:
                first = usage(os.getpid())
        last = usage(os.getpid())
    served.close()
    return row("play", minutes, first or last, last, f"; {frames} frames")
