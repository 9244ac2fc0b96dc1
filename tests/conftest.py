"""Shared by all tests: one thread a process, since the tests run side by side."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # also for the processes that the tests start

import torch

torch.set_num_threads(1)
