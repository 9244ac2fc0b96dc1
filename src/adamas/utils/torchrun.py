"""What torchrun told this process: who of how many it is. Read without torch, which takes seconds to import."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

SET = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # by torchrun; torch.distributed needs them all


class Launched(NamedTuple):
    """This process among those of a run."""

    rank: int = 0
    size: int = 1  # how many there are


def launched() -> Launched:
    """What torchrun gave to this process; the default without it, also where only some of SET is left over."""
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return Launched()
    return Launched(rank, size) if set(SET) <= os.environ.keys() and 0 <= rank < size else Launched()


def left_over() -> str:
    """A line that says which variables were ignored; "" where there are none."""
    names = [f"{name}={os.environ[name]}" for name in ("RANK", "WORLD_SIZE") if name in os.environ]
    if not names or launched() != Launched() or names == ["RANK=0", "WORLD_SIZE=1"]:
        return ""
    return f"{' '.join(names)} is ignored: torchrun has not set it, this is one process"


def command(name: str, *arguments: str) -> str:
    """What a person types for `adamas name argument ...`, in the way in which this program was started."""
    script, size = Path(sys.argv[0]).name == f"{'main' if name == 'train' else name}.py", launched().size
    runner = ["torchrun", f"--nproc-per-node={size}"] if size > 1 and name == "train" else ["python"]
    if script:
        words = [*runner, f"src/{Path(sys.argv[0]).name}"]
    else:
        words = ["adamas", name] if runner == ["python"] else [*runner, "-m", "adamas.cli", name]
    return shlex.join([*words, *arguments])
