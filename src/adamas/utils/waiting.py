"""How the threads of torch wait for each other, which no result depends on.

By default libgomp's threads spin at a barrier for milliseconds as long as they are no more than the cores. On a machine
with other work one of them loses its core time and again, and the others burn theirs until it is back: updates took up to
thirty times as long. `wait_briefly` bounds that from the start, and `Waiting` lets them sleep at once while others want
the cores. On a quiet machine they spin, since to wake a thread costs more than most waits.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, MutableMapping
from pathlib import Path

GOMP_SPINS = (
    10_000  # of libgomp's loop, some 200 microseconds: fewer cost time on a quiet machine; its default is 300,000
)
KMP_MILLISECONDS = 1  # LLVM's and Intel's runtimes, whose default is 200, count whole ones
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")  # a user who set one has chosen
MARK = "ADAMAS_WAITING"  # in the environment: the choice is the program's own, also for the processes that it starts

MOST_CORES = 64  # a team of more threads could meet a limit on processes
LOOK_EVERY = 0.5  # seconds
BUSY, QUIET = 0.10, 0.03  # shares of the time that ready threads had no core: sleep above the one, spin below the other


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Bounds the spinning of this process and of those that it starts, unless the user has chosen. Returns whether it does
    here: the OpenMP runtime reads it when torch is imported."""
    if any(name in environment for name in WAITING):
        return False
    environment["GOMP_SPINCOUNT"], environment["KMP_BLOCKTIME"] = str(GOMP_SPINS), str(KMP_MILLISECONDS)
    environment[MARK] = "chosen"
    return "torch" not in sys.modules


class Waiting:
    """Lets the threads of this process sleep at barriers while the machine is busy, from `watch` to `close`.

    libgomp has no call for it. But where it manages more threads than there are cores it hardly spins, and it looks at
    that count at each wait: a thread that has a team of its own, and does nothing, is enough. Where there is no libgomp or
    no /proc, or the user has chosen how to wait, nothing happens.

    Args:
        delay: seconds, summed over this process's threads, that they were ready and had no core.
    """

    def __init__(
        self, delay: Callable[[], float | None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._delay, self._clock = delay or run_delay, clock
        self._at, self._before = clock(), self._delay()
        self._release: weakref.finalize | None = None  # also called when nobody has this object any more
        self._watcher: threading.Thread | None = None
        self._closed = threading.Event()
        self._gomp = None if _user_chose() or _cores() > MOST_CORES else _loaded_gomp()

    @property
    def sleeping(self) -> bool:
        return self._release is not None

    def watch(self) -> None:
        """Looks at the machine every LOOK_EVERY seconds, in a thread of its own: one update may take many of them."""
        if self._watcher is None and self._gomp is not None and self._before is not None:
            self._watcher = threading.Thread(
                target=_look_until, args=(weakref.ref(self), self._closed), name="watcher", daemon=True
            )
            self._watcher.start()

    def look(self) -> None:
        """Compares the time without a core with that of the look before, if that is LOOK_EVERY seconds ago."""
        now = self._clock()
        if self._gomp is None or self._before is None or now - self._at < LOOK_EVERY:
            return
        delay = self._delay() or 0.0
        share = (delay - self._before) / (now - self._at)
        self._at, self._before = now, delay
        if share > BUSY and not self.sleeping:
            self._release = weakref.finalize(self, _idle_team(self._gomp, _cores()).set)
        elif share < QUIET and self.sleeping:
            self._spin()

    def close(self) -> None:
        """They spin again, whatever comes."""
        self._closed.set()
        if self._watcher is not None:
            self._watcher.join()
        self._spin()

    def _spin(self) -> None:
        if self._release is not None:
            self._release()
            self._release = None


def _look_until(waiting: weakref.ref[Waiting], closed: threading.Event) -> None:
    """Also ends when nobody has `waiting` any more, or no thread can be made."""
    with contextlib.suppress(RuntimeError, OSError):
        while not closed.wait(LOOK_EVERY) and (there := waiting()) is not None:
            there.look()
            del there


def run_delay(tasks: Iterable[Path] | None = None) -> float | None:
    """Seconds that the threads of this process waited for a core, ever; None where the kernel does not tell."""
    total = None
    for task in tasks if tasks is not None else Path("/proc/self/task").glob("*"):
        try:
            total = (total or 0.0) + int((task / "schedstat").read_text().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):  # the thread has ended, or the kernel counts nothing
            continue
    return total


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _user_chose() -> bool:
    return MARK not in os.environ and any(name in os.environ for name in WAITING)


def _loaded_gomp() -> ctypes.CDLL | None:
    """The one that torch uses: it has to be loaded."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
        path = next(line.split(maxsplit=5)[5] for line in lines if "libgomp" in line)
        library = ctypes.CDLL(path)
        library.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        return library
    except (OSError, StopIteration, AttributeError):
        return None


def _idle_team(gomp: ctypes.CDLL, size: int) -> threading.Event:
    """Starts a thread whose team has so many threads. The team is gone after the event."""
    nothing = ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p)  # a C function that does nothing with a pointer
    ready, release = threading.Event(), threading.Event()

    def live() -> None:
        gomp.GOMP_parallel(nothing, None, size, 0)
        ready.set()
        release.wait()

    threading.Thread(target=live, name="idle team", daemon=True).start()
    ready.wait()
    return release
