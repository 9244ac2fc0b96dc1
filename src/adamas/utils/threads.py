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
    """One thread for each of `cores`, but `most` at most: of more cores each thread has several, among which torch splits each
    operation, and of 2 to `most` threads there are so many as use most cores. Each share of a batch draws random numbers of
    its own, so results depend on `cores`, and they are part of a run.

    Args:
        least_rows: of a batch that is shared out, what a thread gets.
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
    """All threads share torch's cache of weights in bfloat16, and a thread that leaves its outermost autocast clears it. Inside
    one more, none does in the middle of another's work, which would then add up gradients in another order."""
    torch.set_num_threads(each)
    torch.autocast_increment_nesting()


SERIAL = Threads(1)  # all work where it is called for


def threads_of(device: torch.device, cores: int | None = None, compiled: bool = False) -> Threads:
    """Those that work is shared out to on this device, where there are so many `cores` (None: torch's own number). It is one, to
    which all cores belong, beside a GPU and where networks are compiled: torch does not compile beside a thread that runs
    what is compiled."""
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
