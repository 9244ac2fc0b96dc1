"""Where networks are compiled and updates recorded, and that counting operations does not keep torch from compiling."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adamas.config import Config
from adamas.config.rules import check
from adamas.training.compiling import check_compiling, compiles, records
from adamas.utils.device import set_tf32
from adamas.utils.errors import UserError
from adamas.utils.torchrun import SET

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts" / "speed"))
import speed_sides

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def all_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What compiling for a GPU needs."""
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))


def test_auto_is_on_on_a_gpu_and_off_on_a_cpu(all_there: None, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config()
    assert (compiles(config, GPU), records(config, GPU)) == (True, True)
    assert (compiles(config, CPU), records(config, CPU)) == (False, False)
    assert not compiles(Config(policy="model_free", compile=True), GPU), "nothing of a Q-network is compiled"
    for name, value in zip(SET, ("0", "2", "localhost", "1"), strict=True):
        monkeypatch.setenv(name, value)
    assert (compiles(config, GPU), records(config, GPU)) == (True, False)


@pytest.mark.parametrize("lost", ["triton", "compiler", "headers"])
def test_auto_does_without_a_compiler(
    lost: str, all_there: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if lost == "triton":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    if lost == "compiler":
        monkeypatch.setattr(shutil, "which", lambda name: None)
    if lost == "headers":
        (tmp_path / "Python.h").unlink()
    assert not compiles(Config(), GPU)
    check_compiling(Config(), GPU)
    with pytest.raises(UserError, match=r"^compile=true needs .+ not here: install it or set compile=auto$"):
        check_compiling(Config(compile=True), GPU)


@pytest.mark.parametrize("name", ["compile", "cuda_graphs"])
def test_what_is_chosen_is_done(name: str, all_there: None) -> None:
    does = {"compile": compiles, "cuda_graphs": records}[name]
    for value in (True, False):
        config = check(Config(**{name: value}))
        assert does(config, GPU) is value
        assert does(config, CPU) is value
    with pytest.raises(UserError, match=re.escape(f"{name}=maybe is not one of auto, true, false")):
        check(Config(**{name: "maybe"}))


def test_float32_is_no_tf32() -> None:
    before = torch.backends.cudnn.allow_tf32
    try:
        for precision, allowed in (("float32", False), ("bfloat16", True), ("auto", True)):
            set_tf32(precision)
            assert torch.backends.cudnn.allow_tf32 is allowed
            assert torch.backends.cuda.matmul.allow_tf32 is False
    finally:
        torch.backends.cudnn.allow_tf32 = before


class Doubled(nn.Module):
    """torch does not compile its own modules alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.layer(x)


def test_counting_operations_does_not_keep_a_network_from_being_compiled() -> None:
    net, calls = Doubled(), []

    def backend(graph: Any, inputs: Any) -> Any:
        calls.append(graph)
        return graph

    net.compile(backend=backend)
    bench = speed_sides.Bench({"frame": (lambda: net(torch.zeros(2, 3)), 1)}, CPU, "wall")
    assert bench.warm_up("frame", count_flops=True) == 2 * 2 * 3 * 3
    assert len(calls) == 1


def test_an_lstm_of_cudnn_is_counted() -> None:
    """By the shapes that torch hands to the count: no GPU is needed."""
    counted = {}
    count = speed_sides.FlopCounterMode

    def catch(display: bool, custom_mapping: dict) -> Any:
        counted.update(custom_mapping)
        return count(display=display, custom_mapping=custom_mapping)

    speed_sides.FlopCounterMode = catch
    try:
        speed_sides.count(lambda: None)
    finally:
        speed_sides.FlopCounterMode = count
    weights = [(28, 5), (28, 7), (28,), (28,)]
    forward = counted[torch.ops.aten._cudnn_rnn]((3, 6, 5), weights, 4)
    assert forward == 2 * 3 * 6 * (5 * 28 + 7 * 28)
    assert counted[torch.ops.aten._cudnn_rnn_backward]((3, 6, 5), weights, 4) == 2 * forward
