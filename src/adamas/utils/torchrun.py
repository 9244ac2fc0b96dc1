"""What torchrun told this process: who of how many it is. Read without torch, which takes seconds to import."""

from __future__ import annotations

import os


def launched() -> tuple[int, int]:
    """(rank, size) that torchrun gave to this process; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def python() -> str:
    """What a person types in front of src/main.py for a run like this one."""
    size = launched()[1]
    return f"torchrun --nproc-per-node={size}" if size > 1 else "python"
