"""How the threads of torch wait for each other at barriers, which no result depends on.

By default libgomp's threads spin there for milliseconds as long as they are no more than the cores. On a machine with other
work one of them loses its core time and again, and the others burn theirs until it is back.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

GOMP_SPINS = (
    10_000  # of libgomp's loop, some 200 microseconds: fewer cost time on a quiet machine; its default is 300,000
)
KMP_MILLISECONDS = 1  # LLVM's and Intel's runtimes, whose default is 200, count whole ones
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")  # a user who set one has chosen


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Bounds the spinning of this process and of those that it starts, unless the user has chosen. Returns whether it does
    here: the OpenMP runtime reads it when torch is imported."""
    if any(name in environment for name in WAITING):
        return False
    environment["GOMP_SPINCOUNT"], environment["KMP_BLOCKTIME"] = str(GOMP_SPINS), str(KMP_MILLISECONDS)
    return "torch" not in sys.modules
