"""Which chip a run uses, and what that chip can do."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

import torch

from adamas.utils.errors import UserError, did_you_mean
from adamas.utils.torchrun import launched

KINDS = ("auto", "cpu", "cuda", "mps")
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8  # glibc's names for mallopt
GROW_BY = 2**28  # bytes


def pick_device(name: str) -> torch.device:
    """The device called `name` (auto: a CUDA GPU where there is one, else the CPU), or UserError if it is not here. A GPU
    has its index: the one in the name, else 0, and of several processes each has its own."""
    kind, _, index = name.partition(":")
    if kind not in KINDS or (index and not index.isdecimal()):
        hint = did_you_mean(kind, KINDS, f"use one of {', '.join(KINDS)} or cuda:0", cutoff=0.4)
        raise UserError(f"unknown device '{name}': {hint}")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if launched().size > 1 and kind != "cpu":
        return _own_gpu(kind, index)
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device={name}: this machine shows {torch.cuda.device_count()} CUDA GPUs; use device=cpu or another index"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("device=mps: this machine has no Apple GPU that torch can use; use device=cpu")
    return torch.device(kind, int(index or 0)) if kind == "cuda" else torch.device(kind)


def _own_gpu(kind: str, index: str) -> torch.device:
    """That of this process, of several that torchrun started."""
    local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if kind != "cuda" or index:
        chip = f"{kind}:{index}" if index else kind
        raise UserError(f"device={chip} is one chip for several processes: use device=cuda or device=cpu")
    if local >= there:
        raise UserError(f"torchrun started more processes than this machine has GPUs: --nproc-per-node={there}")
    return torch.device("cuda", local)


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether convolutions and matrix products run in bfloat16; `auto` asks the chip."""
    if precision == "auto" and device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported()  # torch 2.13 has no public name for it
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"


def set_tf32(precision: str) -> None:
    """float32 is float32. Else cuDNN may round the factors of what stays in float32, the LSTMs, to TF32's 10 bits, as it
    does by default."""
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    torch.backends.cuda.matmul.allow_tf32 = False


def keep_freed_memory() -> None:
    """Makes glibc keep the memory of a freed tensor for the next one; elsewhere nothing happens.

    Else it goes back to the kernel, which zeroes each page anew at its next use: that took more than half of the
    time of a policy's forward pass on two cores. All threads take it from one place, as only that one can be kept: else
    half as long again for an update of preset diamond's reward/end.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(ARENA_MAX, 1)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(TOP_PAD, GROW_BY)


def keep_to_granted_cores() -> None:
    """No more threads than SLURM gave the job: on a node whose cores are not fenced off, more of them would take time from
    other jobs, and wait for each other."""
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if granted.isdecimal() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), int(granted))))


def leave_a_core() -> None:
    """Lets torch use one core less than there are, for the browser beside it. On two cores two threads that wait for each
    other and for a browser are slower than one thread."""
    torch.set_num_threads(min(torch.get_num_threads(), max(1, (os.cpu_count() or 1) - 1)))


def describe(device: torch.device) -> str:
    """For a person: "cuda:0 (NVIDIA H200)", "cpu (2 threads)"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)


def is_out_of_memory(error: RuntimeError) -> bool:
    """On a CPU only if so much was asked for that the kernel refused; else it ends the process later."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def peak_usage() -> dict[str, str | int | None]:
    """What this process has taken so far: the GPU that holds most of it (None: no GPU), and most bytes at once of the
    GPU's memory and of the machine's (None: not known here)."""
    gpus = {i: torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count())}
    most = max(gpus, key=gpus.__getitem__, default=None)
    used = most is not None and gpus[most] > 0
    return {
        "gpu": torch.cuda.get_device_name(most) if used else None,
        "gpu_bytes": gpus[most] if used else None,
        "ram_bytes": _peak_memory(),
    }


def _peak_memory() -> int | None:
    try:
        import resource  # Windows has none
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
