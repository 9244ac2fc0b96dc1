"""Locks between processes, which the kernel takes back from the dead."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

PAUSE = 0.04  # seconds between two looks at a lock


def take_lock(path: Path, patience: float = 0.2) -> int:
    """The lock, as a descriptor: whoever has it open, or a copy that a process inherits, holds the lock.

    Args:
        patience: seconds to wait for it. A fifth is enough where somebody just looks whether it is free.

    Raises:
        BlockingIOError: somebody holds it.
        OSError: the file system has no locks, or the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + patience
    while (lock := _try(path)) is None and time.monotonic() < until:
        time.sleep(PAUSE)
    if lock is not None:
        return lock
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
