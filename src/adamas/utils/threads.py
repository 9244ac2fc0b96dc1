"""The threads of a run on a CPU: each does a share of the work from end to end, and they wait for each other at its end.

Threads that split each operation meet at a barrier thousands of times an update, and beside other programs each of these
waits for whichever of them has lost its core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch

from adamas.utils.errors import UserError
from adamas.utils.records import read_record, write_record

MOST_SHARES = 4  # of a batch of 32 rows; 8 shares cost a quarter more work
LEAST_ROWS = 8  # of a share: with fewer, what each operation costs by itself is felt
Result = TypeVar("Result")


class Threads:
    """Threads that share the rows of a batch out among themselves.

    Up to `most` cores each thread has one core. On more cores each has several, and torch splits its operations among these; the
    number of threads, 2 to `most`, is the one that leaves the fewest cores idle.

    Each share draws random numbers of its own. So results depend on `cores`, which a run saves.

    Args:
        cores: that the threads have in all.
        most: threads at most.
        least_rows: that each thread gets of a batch at least.
    """

    def __init__(self, cores: int, most: int = MOST_SHARES, least_rows: int = LEAST_ROWS) -> None:
        several = range(2, min(cores, most) + 1)
        self.cores, self.least_rows = cores, least_rows
        self.count = max(several, key=lambda count: (cores // count * count, count), default=1)
        self.each = cores // self.count
        self._before = torch.get_num_threads()
        self._pool: ThreadPoolExecutor | None = None

    def map(self, work: Callable[..., Result], *arguments: Iterable) -> list[Result]:
        """What `work` makes of each argument, in order; with gradients and in the precision that are asked for here."""
        if self.count == 1:
            return list(map(work, *arguments))
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.count, "share", _begin, (self.each,))
        gradients, autocast = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu")

        def as_here(*argument: Any) -> Result:
            with torch.set_grad_enabled(gradients), torch.autocast("cpu", dtype, enabled=autocast):
                return work(*argument)

        try:
            return list(self._pool.map(as_here, *arguments))
        finally:
            torch.clear_autocast_cache()

    def __enter__(self) -> Threads:
        """From now on this thread has as many as each of the others."""
        torch.set_num_threads(self.each)
        return self

    def __exit__(self, *_: object) -> None:
        """Torch has as many threads as before, for what this process does next."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        torch.set_num_threads(self._before)

    def describe(self) -> str:
        """ "2 threads", "4 threads of 2 cores each"."""
        many = f"{self.count} thread{'s' * (self.count > 1)}"
        return many if self.each == 1 else f"{many} of {self.each} cores each"

    def save(self, path: Path) -> None:
        write_record(path, {"most": self.cores})


def _begin(each: int) -> None:
    """Begins a thread of the pool. It stays inside one level of autocast.

    Torch has one cache of bfloat16 weights for all threads, and clears it when any thread leaves its outermost autocast. In the
    middle of another thread's work that would change the order in which gradients are added up.
    """
    torch.set_num_threads(each)
    torch.autocast_increment_nesting()


SERIAL = Threads(1)  # all work where it is called for


def threads_of(device: torch.device, cores: int | None = None, compiled: bool = False) -> Threads:
    """The threads of a run on this device, with so many `cores` (None: torch's own number).

    One thread has all cores beside a GPU, and where networks are compiled: torch cannot compile in one thread while another runs
    compiled code.
    """
    cores = cores or torch.get_num_threads()
    return Threads(cores) if device.type == "cpu" and not compiled else Threads(cores, most=1)


def saved_cores(path: Path) -> int | None:
    """What `save` wrote; None where it did not."""
    if not path.exists():
        return None
    try:
        return int(read_record(path)["most"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged: delete it to go on with as many threads as there are now") from error
