"""Disks, rights, folders, clocks and locks that fail a run: one line, and nothing is lost that was saved earlier."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from common import EVERY_STEP, SMALL, Done, Forked, Row, adamas, ending, only_run, same, train

NOBODY = 65534  # a user
RIGHTS = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: what lets root read and write whatever it likes
MORE = ("collection.steps=80",)  # than the run has had


def disasters(folder: Path) -> Iterator[Row]:
    run = train(cwd=folder / "run")
    expected = ending(_resumed(copy(run, folder / "expected")))
    for name, make in DISASTERS.items():
        place = folder / name.replace(" ", "-")
        done, victim = make(run, place)
        print(name, done, flush=True)
        try:
            good = same(ending(_resumed(victim)), expected)
        except Exception as error:
            good = False
            print(name, repr(error), flush=True)
        clean = done.is_one_line if name not in HARMLESS else done.code == 0
        said = done.err.strip().splitlines()[-1:] or ["no error"]
        text = said[0].replace(str(folder), "DIR") if name not in HARMLESS else "goes on, exit code 0"
        after = "resumed, it ends as if nothing had been" if good else "RESUMED, IT ENDS OTHERWISE"
        yield Row(f"{name}: one line, nothing lost", "a resume with more steps", f"{text}; {after}", clean and good)
    yield first_save(folder)


def copy(run: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(run, place)
    return place


def _resumed(run: Path) -> Path:
    if not run.exists():
        raise RuntimeError(f"{run} is gone")
    done = adamas("train", f"resume={run}", *MORE, cwd=run.parent)
    if done.code:
        raise RuntimeError(done.err)
    return run


def disk_full(run: Path, place: Path) -> tuple[Done, Path]:
    """No file may grow beyond half a checkpoint, which the kernel refuses as it does a full disk."""
    victim = copy(run, place)
    room = min(path.stat().st_size for path in (victim / "checkpoints").iterdir()) // 2

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    return adamas("train", f"resume={victim}", *MORE, cwd=place.parent, before=limit), victim


def read_only(run: Path, place: Path) -> tuple[Done, Path]:
    victim = copy(run, place)
    subprocess.run(["chmod", "-R", "a-w", victim], check=True)
    done = adamas("train", f"resume={victim}", *MORE, cwd=place.parent, before=as_an_ordinary_user)
    subprocess.run(["chmod", "-R", "u+w", victim], check=True)
    return done, victim


def no_permission(run: Path, place: Path) -> tuple[Done, Path]:
    """A folder of somebody else."""
    victim = copy(run, place)
    for path in (victim, *victim.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o700 if path.is_dir() else 0o600)
    return adamas("train", f"resume={victim}", *MORE, cwd=place.parent, before=as_an_ordinary_user), victim


def as_an_ordinary_user() -> None:
    """Root without its rights over other people's files. Anybody else has none."""
    libc, header, rights = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)()
    libc.capget(header, rights)
    rights[0] &= ~RIGHTS  # the effective ones
    if libc.capset(header, rights):
        raise OSError(ctypes.get_errno(), "capset")


def folder_deleted(run: Path, place: Path) -> tuple[Done, Path]:
    """The folder is moved away while the run is at work, which is what deleting looks like to it."""
    victim = copy(run, place)
    process = Forked("train", f"resume={victim}", *MORE, EVERY_STEP, cwd=place.parent)
    first = {path.name for path in (victim / "checkpoints").iterdir()}
    while process.poll() is None and {path.name for path in (victim / "checkpoints").iterdir()} == first:
        time.sleep(0.01)
    away = place.with_name(place.name + "-away")
    shutil.rmtree(away, ignore_errors=True)
    victim.rename(away)
    done = process.wait()
    shutil.rmtree(victim, ignore_errors=True)
    away.rename(victim)
    return done, victim


def clock_back(run: Path, place: Path) -> tuple[Done, Path]:
    """By a day, under way."""
    victim = copy(run, place)

    def set_back() -> None:
        began, now, stamp = time.time(), time.time, os.utime
        time.time = lambda: now() - (86_400 if now() > began + 1 else 0)
        from adamas.utils import files

        publish = files.publish

        def publish_older(temporary: Path, path: Path) -> None:
            publish(temporary, path)
            stamp(path, (now() - 86_400, now() - 86_400))

        from adamas.data import storage
        from adamas.training import checkpoint

        files.publish = checkpoint.publish = storage.publish = publish_older

    return adamas("train", f"resume={victim}", *MORE, cwd=place.parent, before=set_back), victim


def two_processes(run: Path, place: Path) -> tuple[Done, Path]:
    victim = copy(run, place)
    lock = os.open(victim / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    done = adamas("train", f"resume={victim}", *MORE, cwd=place.parent)
    os.close(lock)
    return done, victim


def no_locks(run: Path, place: Path) -> tuple[Done, Path]:
    """A network file system that refuses them."""
    victim = copy(run, place)

    def refuse() -> None:
        def flock(*_: object) -> None:
            raise OSError(37, "No locks available")

        fcntl.flock = flock

    return adamas("train", f"resume={victim}", *MORE, cwd=place.parent, before=refuse), victim


DISASTERS: dict[str, Callable[[Path, Path], tuple[Done, Path]]] = {
    "disk full": disk_full,
    "read-only folder": read_only,
    "no permission": no_permission,
    "folder deleted under way": folder_deleted,
    "clock set back a day": clock_back,
    "two processes in one folder": two_processes,
    "no locks": no_locks,
}
HARMLESS = ("clock set back a day", "no locks")


def first_save(folder: Path) -> Row:
    """A disk that is full before anything is saved."""
    place = folder / "first"
    place.mkdir(exist_ok=True)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = adamas("train", "env=Breakout", *SMALL, cwd=place, before=limit)
    print("first save", done, flush=True)
    left = list(place.glob("runs/*/*"))
    with suppress(ValueError):
        shutil.rmtree(only_run(place))
    said = (done.err.strip().splitlines() or [""])[-1].replace(str(folder), "DIR")
    found = f"{said}; {'no folder is left' if not left else 'a folder is left'}"
    return Row("no room for the first save: one line, no folder", "a new run", found, done.is_one_line and not left)
