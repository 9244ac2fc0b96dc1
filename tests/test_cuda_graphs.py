"""Updates that are replayed, and networks that are compiled, train as ordinary ones do. Where there is no GPU, a stand-in for
its recordings runs the work again and writes what it made to where the recording has it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_distributed import short_episodes
from test_fit import MEANINGS, small_config
from torch import Tensor
from torch.utils import _pytree as pytree

from adamas.config import Config
from adamas.data.replay import Replay
from adamas.training.cuda_graphs import WARM_UP, CudaCapture, Graphs, Work
from adamas.training.models import Models
from adamas.training.updates import UPDATES, Generators
from adamas.utils.device import check_compiling
from adamas.utils.errors import UserError
from adamas.utils.logger import Logger

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ROUNDS = 2 * WARM_UP + 3


def rerun(work: Work, generator: torch.Generator) -> tuple[Any, Callable[[], None]]:
    """As a recording does: the work is done once, its values and random numbers do not count, and its places stay."""
    state = generator.get_state()
    places = work()
    generator.set_state(state)
    pytree.tree_map(spoil, places)

    def replay() -> None:
        made = work()
        pytree.tree_map(Tensor.copy_, places, made)
        pytree.tree_map(spoil, made)

    return places, replay


def spoil(x: Tensor) -> Tensor:
    return x.fill_(1)


def capture() -> Callable:
    return CudaCapture() if DEVICE.type == "cuda" else rerun


def trained(
    rounds: int,
    graphs: Graphs | None = None,
    compiled: bool = False,
    parts: tuple[str, ...] = tuple(UPDATES),
    micro_batch: int = 0,
) -> dict[str, list[Tensor]]:
    """What some updates of each part leave: gradients, weights and means of the log; then the random numbers. The denoiser is
    fed its own frames from the middle on, so that its batches change their shape."""
    torch.manual_seed(0)
    c = small_config(
        actor_critic={"normalize_advantages": True, "epochs": 2, "minibatches": 2},
        target="change",
        fed_back_frames=1,
        fed_back_after=(rounds - 1) // 2,
        dreamed_share=0.5,
        ema_decay=0.9,
    )
    c.compile = compiled
    c.reward_end.optimization = replace(c.reward_end.optimization, micro_batch=micro_batch)
    models, random = Models(c, MEANINGS, DEVICE), Generators.seeded(0, DEVICE)
    models.graphs = graphs or models.graphs
    torch.nn.init.normal_(models.reward_end.head[-1].weight)  # a model that predicts ends
    replay, seen = short_episodes(), {}
    replay = replay if DEVICE.type == "cpu" else moved(replay)
    for part in parts:
        logger, gradients = Logger(Path()), []
        for _ in range(rounds):
            UPDATES[part](models, replay, random, logger)
            gradients += [p.grad.clone() for p in getattr(models, part).parameters()]
        means = [torch.as_tensor(total / weight).cpu() for total, weight in logger._sums.values() if weight]
        seen[part] = [*gradients, *means]
        seen[f"{part}'s weights"] = [p.detach() for p in getattr(models, part).parameters()]
    seen["average"] = [p.detach() for p in models.averages["denoiser"].parameters()]
    seen["random"] = list(random.state_dict().values())
    return seen


def moved(replay: Replay) -> Replay:
    there = Replay(60, device=DEVICE)
    there.extend(replay.rows(0))
    return there


def test_recorded_updates_are_the_same_updates() -> None:
    graphs = Graphs(capture())
    expected, found = trained(ROUNDS, micro_batch=3), trained(ROUNDS, graphs, micro_batch=3)
    replayed = {name for (name, *_), recording in graphs._recordings.items() if recording.replay}
    assert replayed == {"denoiser", "dream_segment", "reward_end", "dream", "actor_critic"}
    for part, values in expected.items():
        torch.testing.assert_close(found[part], values, rtol=0, atol=0)


def test_what_a_run_returns_outlasts_the_next_run_of_another_name() -> None:
    """And of the same name too: only the gradients are in the recording's own memory."""
    graphs, generator = Graphs(capture()), torch.Generator(DEVICE)
    kept = [
        graphs.run("double", lambda x: 2 * x, torch.full((2,), float(i), device=DEVICE), generator) for i in range(6)
    ]
    assert [x.tolist() for x in kept] == [[2.0 * i] * 2 for i in range(6)]


def test_each_shape_has_a_recording_of_its_own() -> None:
    graphs, generator = Graphs(capture()), torch.Generator(DEVICE)
    for i in range(2 * ROUNDS):
        x = torch.full((2 + i % 2,), float(i), device=DEVICE)
        assert graphs.run("negate", torch.neg, x, generator).tolist() == [-float(i)] * (2 + i % 2)
    assert len(graphs._recordings) == 2


def test_a_replay_draws_new_numbers() -> None:
    graphs, generator = Graphs(capture()), torch.Generator(DEVICE).manual_seed(0)
    twin = torch.Generator(DEVICE).manual_seed(0)
    for _ in range(ROUNDS):
        drawn = graphs.run(
            "draw",
            lambda x: x + torch.randn(3, generator=generator, device=DEVICE),
            torch.zeros(3, device=DEVICE),
            generator,
        )
        assert torch.equal(drawn, torch.randn(3, generator=twin, device=DEVICE))


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="nothing to compile with")
@pytest.mark.parametrize("parts", [("reward_end",), pytest.param(tuple(UPDATES), marks=pytest.mark.slow)])
def test_compiled_networks_train_as_they_do_otherwise(parts: tuple[str, ...]) -> None:
    expected, found = (trained(1, compiled=compiled, parts=parts) for compiled in (False, True))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for part in parts:
        torch.testing.assert_close(found[part], expected[part], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"cuda_graphs": True},
            "cuda_graphs=true needs a CUDA GPU, and this run's device is cpu: set cuda_graphs=false",
        ),
        (
            {"compile": True},
            "compile=true needs a C++ compiler, and no-such-compiler is not here: install it or set compile=false",
        ),
    ],
)
def test_what_this_machine_cannot_do(settings: dict[str, bool], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=re.escape(told)):
        check_compiling(Config(**settings), torch.device("cpu"))
    check_compiling(Config(), torch.device("cpu"))
