"""Whether the networks of a run are compiled, and its updates recorded, on its device."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path

import torch

from adamas.config import Config
from adamas.utils.errors import UserError
from adamas.utils.torchrun import launched


def compiles(config: Config, device: torch.device) -> bool:
    """Whether the networks are compiled on this device: those of the world model, and an actor-critic."""
    if not config.has_world_model:
        return False
    return device.type == "cuda" and not _lacks(device) if config.compile == "auto" else config.compile


def records(config: Config, device: torch.device) -> bool:
    """Whether updates are recorded as CUDA graphs."""
    return device.type == "cuda" and launched().size == 1 if config.cuda_graphs == "auto" else config.cuda_graphs


def check_compiling(config: Config, device: torch.device) -> None:
    """Raises UserError if the networks cannot be compiled here, or updates not be recorded, though that was asked for."""
    if records(config, device) and device.type != "cuda":
        raise UserError(f"cuda_graphs=true needs a CUDA GPU, and this run's device is {device}: set cuda_graphs=auto")
    if compiles(config, device) and (lack := _lacks(device)):
        raise UserError(f"compile=true needs {lack}: install it or set compile=auto")


def _lacks(device: torch.device) -> str:
    """What compiling for this device needs and is not here; empty if nothing is."""
    if device.type != "cuda":
        compiler = os.environ.get("CXX", "g++")
        return "" if shutil.which(compiler) else f"a C++ compiler, and {compiler} is not here"
    if not importlib.util.find_spec("triton"):
        return "the package triton, which is not here"
    if not any(map(shutil.which, [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"])):
        return f"a C compiler, and {os.environ.get('CC', 'gcc')} is not here"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "the headers of Python (python3-dev), which are not here"
    return ""
