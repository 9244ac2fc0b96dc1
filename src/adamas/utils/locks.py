"""Locks between processes, which the kernel takes back from the dead."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

LOOKS, PAUSE = 5, 0.04  # at a lock, and seconds between them: somebody may just be looking whether it is free


def take_lock(path: Path) -> int:
    """The lock, as a descriptor: whoever has it open, or a copy that a process inherits, holds the lock.
    BlockingIOError: somebody does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(LOOKS):
        if (lock := _try(path)) is not None:
            return lock
        time.sleep(PAUSE)
    raise BlockingIOError(errno.EAGAIN, "another process holds this lock", str(path))


def is_locked(path: Path) -> bool:
    """Whether somebody holds it. Needs no right to write; a lock that cannot be read counts as free."""
    import fcntl  # Windows has none

    try:
        lock = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not see each other
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(lock)
    return False


def _try(path: Path) -> int | None:
    import fcntl

    lock = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return lock
