"""A run to export: small networks, a denoiser that changes what it sees, and no end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from helpers import PARTS
from playing import make_run

from adamas.training import checkpoint


def make_awake_run(path: Path) -> Path:
    """A run folder whose weights that are zero are random."""
    made, run = make_run(path / "made"), path / "run"
    parts, file = checkpoint.load_newest(made / "checkpoints", warn=pytest.fail)
    torch.manual_seed(1)
    models = parts["models"]
    for weights in (*(models[part] for part in PARTS), *models["averages"].values()):
        for tensor in weights.values():
            if tensor.is_floating_point() and not tensor.any():
                torch.nn.init.normal_(tensor, std=0.05)
    head = models["reward_end"]  # of which the end is a coin: sure that a dream goes on
    head["head.0.weight"].zero_()
    head["head.0.bias"].fill_(1.0)
    head["head.2.weight"][3] = 100.0
    run.mkdir()
    shutil.copy(made / "config.yaml", run)
    checkpoint.save(run / "checkpoints", checkpoint.step_of(file), {**parts, "game": "Breakout"}, keep=1)
    return run
