"""How many threads work at each kind of thing. Results depend on it in their last bits, so it is part of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from adamas.utils.errors import UserError
from adamas.utils.records import read_record, write_record
from adamas.utils.waiting import Waiting


class Threads:
    """How many threads each kind of work has. A kind that is not named has `most`, as many as torch had at the start."""

    def __init__(self, counts: Mapping[str, int] | None = None, most: int | None = None) -> None:
        self.counts, self.most = dict(counts or {}), most or torch.get_num_threads()
        self.waiting = Waiting()

    def use(self, kind: str) -> None:
        """From now on, until another kind is named. While the machine is busy, threads sleep rather than spin."""
        count = min(self.counts.get(kind, self.most), self.most)
        if count != torch.get_num_threads():
            torch.set_num_threads(count)
        self.waiting.watch()

    def close(self) -> None:
        """Torch has as many threads as at the start, for what this process does next."""
        self.waiting.close()
        torch.set_num_threads(self.most)

    def describe(self) -> str:
        """ "2 threads; 1 for collect, games"."""
        fewer = [kind for kind, count in self.counts.items() if count < self.most]
        return f"{self.most} threads" + (f"; 1 for {', '.join(fewer)}" if fewer else "")

    def save(self, path: Path) -> None:
        write_record(path, {"most": self.most})


def saved_most(path: Path) -> int | None:
    """What `save` wrote; None where it did not."""
    if not path.exists():
        return None
    try:
        return int(read_record(path)["most"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged: delete it to go on with as many threads as there are now") from error
