"""What the program asks of the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adamas.cli import train
from adamas.config import Config
from adamas.utils import device
from adamas.utils.device import leave_a_core, pick_device
from adamas.utils.torchrun import SET

ROOT = Path(__file__).resolve().parents[1]
FAULTS = """
import resource, sys, torch
from adamas.utils.device import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB: 16,384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(40):
    last = faults()  # where a tensor lies settles after 2 to 9
print(last)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library manages memory in its own way")
@pytest.mark.parametrize(
    ("choice", "least", "most"), [("keep", 0, 100), pytest.param("as it is", 10_000, 10**6, marks=pytest.mark.slow)]
)
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


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({}, 3),
        ({"SLURM_CPUS_PER_TASK": "2"}, 2),
        ({"SLURM_CPUS_PER_TASK": "8"}, 3),
        ({"SLURM_CPUS_PER_TASK": "2", "OMP_NUM_THREADS": "3"}, 3),
    ],
    ids=str,
)
def test_a_run_takes_no_more_cores_than_slurm_gave_it(
    environment: dict[str, str], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(train, "lead", lambda *_: seen.append(torch.get_num_threads()))
    monkeypatch.setattr(device, "keep_freed_memory", lambda: None)
    try:
        torch.set_num_threads(3)
        train.run(Config(device="cpu"))
    finally:
        torch.set_num_threads(before)
    assert seen == [threads]


@pytest.mark.parametrize(
    ("name", "environment", "index"),
    [
        ("auto", {}, 0),
        ("cuda", {}, 0),
        ("cuda:1", {}, 1),
        ("auto", {**dict.fromkeys(SET, "1"), "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, 1),
        ("cuda", {**dict.fromkeys(SET, "0"), "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, 0),
        ("cuda", {"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, 0),  # left over, not torchrun's
    ],
    ids=str,
)
def test_a_gpu_is_named_by_its_index(
    name: str, environment: dict[str, str], index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.cuda.set_device refuses a GPU without one, and tensors never say that they are on such a one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert pick_device(name) == torch.device("cuda", index)
