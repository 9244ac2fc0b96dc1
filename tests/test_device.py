"""What the program asks of the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from adamas.device import leave_a_core

FAULTS = """
import resource, sys, torch
from adamas.device import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB: 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(8):
    least = faults()  # where a tensor lies settles after a few
print(least)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library manages memory in its own way")
@pytest.mark.parametrize(("choice", "least", "most"), [("keep", 0, 100), ("as it is", 10_000, 10**6)])
def test_freed_memory_is_not_faulted_in_again(choice: str, least: int, most: int) -> None:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES", "THP_"))}
    output = subprocess.check_output([sys.executable, "-c", FAULTS, choice], env=plain, text=True)
    assert least <= int(output) <= most


@pytest.mark.parametrize(
    ("cores", "threads", "left"), [(2, 2, 1), (1, 1, 1), (8, 8, 7), (8, 3, 3), (None, 4, 1)], ids=str
)
def test_a_core_is_left_to_others(cores: int | None, threads: int, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        leave_a_core()
        assert torch.get_num_threads() == left
    finally:
        torch.set_num_threads(before)
