"""Updates that are recorded, and networks that are compiled, train as ordinary ones do. Where there is no GPU, a stand-in for
its recordings runs the work again and writes what it made to where the recording has it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import MEANINGS, PARTS, short_episodes, small_config
from torch import Tensor
from torch.utils import _pytree as pytree

from adamas.config import Config
from adamas.training.compiling import check_compiling
from adamas.training.cuda_graphs import WARM_UP, Capture, CudaCapture, Graphed
from adamas.training.generators import Generators
from adamas.training.learners import Learners
from adamas.training.models import Models
from adamas.training.updates import Updates
from adamas.utils.errors import UserError
from adamas.utils.logger import Logger

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ROUNDS = 2 * WARM_UP + 3


class Rerun:
    """As a recording does: the work is done once, its values and random numbers do not count, and its places stay."""

    def __call__(self, work: Callable[[], Any], generator: torch.Generator) -> tuple[Any, Callable[[], None]]:
        state = generator.get_state()
        places = work()
        generator.set_state(state)
        pytree.tree_map(spoil, places)

        def repeat() -> None:
            made = work()
            pytree.tree_map(Tensor.copy_, places, made)
            pytree.tree_map(spoil, made)

        return places, repeat

    def warm_up(self) -> AbstractContextManager:
        return nullcontext()


def spoil(x: Tensor) -> Tensor:
    return x.fill_(1)


def make_capture() -> Capture:
    return CudaCapture() if DEVICE.type == "cuda" else Rerun()


def make_learners(rounds: int, compiled: bool = False, micro_batch: int = 0, policy: str = "imagined") -> Learners:
    """The denoiser is shown its own frames from the middle of the rounds on, so that its batches change their shape."""
    torch.manual_seed(0)
    c = small_config(
        reward_end={"imagined_share": 0.5, "predict_divergence": True},
        actor_critic={"epochs": 2, "minibatches": 2, "ema_decay": 0.9},
        target="change",
        autoregressive_after=(rounds - 1) // 2,
        ema_decay=0.9,
        policy=policy,
    )
    models = Models(replace(c, cuda_graphs=False, micro_batch=micro_batch), MEANINGS, DEVICE)
    torch.nn.init.normal_(models.reward_end.head[-1].weight)  # a model that predicts ends
    if compiled:
        models.compile()
    return Learners(models)


def trained(learners: Learners, rounds: int, parts: tuple[str, ...] = PARTS) -> dict[str, list[Tensor]]:
    """What some updates of each part leave: gradients and means of the log, weights, averages; then the random numbers."""
    models, random, seen = learners.models, Generators.seeded(0, DEVICE), {}
    replay = short_episodes(DEVICE)
    for part in parts:
        logger, gradients = Logger(Path()), []
        updates = Updates(learners, replay, random, logger)
        for _ in range(rounds):
            if part == "q_network":
                updates.after_step()
            if learners.models.config.has_world_model:
                updates.make(part)
            gradients += [p.grad.clone() for p in getattr(models, part).parameters()]
        means = [torch.tensor(total / weight) for total, weight in logger._sums.values() if weight]
        seen[part] = [*gradients, *means]
        seen[f"{part}'s weights"] = [p.detach() for p in getattr(models, part).parameters()]
    seen["averages"] = [p.detach() for average in models.averages.values() for p in average.parameters()]
    seen["random"] = list(random.state_dict().values())
    return seen


def test_recorded_updates_are_the_same_updates() -> None:
    expected = trained(make_learners(ROUNDS, micro_batch=3), ROUNDS)
    learners = make_learners(ROUNDS, micro_batch=3)
    learners.record(make_capture())
    found = trained(learners, ROUNDS)
    works = [learner.compute_gradients for learner in learners.by_part.values()]
    for work in (*works, learners.imagine_rollout, learners.imagine_segment):
        assert work._recordings
        assert all(recording.replay for recording in work._recordings.values())
    assert len(works[PARTS.index("denoiser")]._recordings) == 2, "with and without its own frames"
    for part, values in expected.items():
        torch.testing.assert_close(found[part], values, rtol=0, atol=0)


@pytest.mark.parametrize(("policy", "shapes"), [("model_free", 1), ("dyna", 2)])
def test_recorded_updates_of_a_q_network_are_the_same_updates(policy: str, shapes: int) -> None:
    """With dreams the first batch has none of their steps, and is of another shape."""
    expected = trained(make_learners(ROUNDS, policy=policy), ROUNDS, ("q_network",))
    learners = make_learners(ROUNDS, policy=policy)
    learners.record(make_capture())
    found = trained(learners, ROUNDS, ("q_network",))
    for work in (learners.by_part["q_network"].compute_gradients, learners.q_targets):
        assert len(work._recordings) == shapes
        assert list(work._recordings.values())[-1].replay
    for part, values in expected.items():
        torch.testing.assert_close(found[part], values, rtol=0, atol=0)


def test_what_a_call_returns_outlasts_the_next_one() -> None:
    double, generator = Graphed(lambda x, _: 2 * x, make_capture()), torch.Generator(DEVICE)
    kept = [double(torch.full((2,), float(i), device=DEVICE), generator) for i in range(2 * WARM_UP)]
    assert [x.tolist() for x in kept] == [[2.0 * i] * 2 for i in range(2 * WARM_UP)]


def test_each_shape_has_a_recording_of_its_own() -> None:
    negate, generator = Graphed(lambda x, _: -x, make_capture()), torch.Generator(DEVICE)
    for i in range(2 * ROUNDS):
        x = torch.full((2 + i % 2,), float(i), device=DEVICE)
        assert negate(x, generator).tolist() == [-float(i)] * (2 + i % 2)
    assert len(negate._recordings) == 2


def test_each_type_has_a_recording_of_its_own() -> None:
    halve, generator = Graphed(lambda x, _: x / 2, make_capture()), torch.Generator(DEVICE)
    for i in range(2 * ROUNDS):
        x = torch.tensor([i], dtype=(torch.int64, torch.float32)[i % 2], device=DEVICE)
        assert halve(x, generator).tolist() == [i / 2]
    assert len(halve._recordings) == 2


def test_a_repetition_draws_new_numbers() -> None:
    def draw(x: Tensor, generator: torch.Generator) -> Tensor:
        return x + torch.randn(3, generator=generator, device=DEVICE)

    graphed, generator = Graphed(draw, make_capture()), torch.Generator(DEVICE).manual_seed(0)
    twin = torch.Generator(DEVICE).manual_seed(0)
    for _ in range(ROUNDS):
        drawn = graphed(torch.zeros(3, device=DEVICE), generator)
        assert torch.equal(drawn, torch.randn(3, generator=twin, device=DEVICE))


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="nothing to compile with")
@pytest.mark.slow
@pytest.mark.parametrize("parts", [("reward_end",), PARTS])
def test_compiled_networks_train_as_they_do_otherwise(parts: tuple[str, ...]) -> None:
    expected, found = (trained(make_learners(1, compiled), 1, parts) for compiled in (False, True))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for part in parts:
        torch.testing.assert_close(found[part], expected[part], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"cuda_graphs": True},
            "cuda_graphs=true needs a CUDA GPU, and this run's device is cpu: set cuda_graphs=auto",
        ),
        (
            {"compile": True},
            "compile=true needs a C++ compiler, and no-such-compiler is not here: install it or set compile=auto",
        ),
    ],
)
def test_what_this_machine_cannot_do(settings: dict[str, bool], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=re.escape(told)):
        check_compiling(Config(**settings), torch.device("cpu"))
    check_compiling(Config(), torch.device("cpu"))
