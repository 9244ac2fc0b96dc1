"""Updates that are replayed train as ordinary ones do. Where there is no GPU, a stand-in for its recordings runs the work again
and writes what it made to where the recording has it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from helpers import MEANINGS, short_episodes, small_config
from torch import Tensor
from torch.utils import _pytree as pytree

from adamas.config import PARTS
from adamas.training.cuda_graphs import WARM_UP, Capture, CudaCapture, Graphed
from adamas.training.generators import Generators
from adamas.training.learners import Learners
from adamas.training.models import Models
from adamas.training.updates import Updates
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

        def replay() -> None:
            made = work()
            pytree.tree_map(Tensor.copy_, places, made)
            pytree.tree_map(spoil, made)

        return places, replay

    def warm_up(self) -> AbstractContextManager:
        return nullcontext()


def spoil(x: Tensor) -> Tensor:
    return x.fill_(1)


def capture() -> Capture:
    return CudaCapture() if DEVICE.type == "cuda" else Rerun()


def trained(recorded: bool, folder: Any) -> tuple[dict[str, list[Tensor]], Learners]:
    """What some updates of each part leave: gradients, weights and means of the log; then the random numbers. The denoiser is
    fed its own frames from the middle on, so that its batches change their shape."""
    torch.manual_seed(0)
    c = small_config(
        reward_end={"imagined_share": 0.5},
        actor_critic={"epochs": 2, "minibatches": 2},
        target="change",
        autoregressive_steps=1,
        autoregressive_after=(ROUNDS - 1) // 2,
        ema_decay=0.9,
    )
    c.micro_batch = 3
    learners, random = Learners(Models(c, MEANINGS, DEVICE)), Generators.seeded(0, DEVICE)
    if recorded:
        learners.record(capture())
    models, replay, seen = learners.models, short_episodes(DEVICE), {}
    torch.nn.init.normal_(models.reward_end.head[-1].weight)  # a model that predicts ends
    for part in PARTS:
        logger, gradients = Logger(folder), []
        updates = Updates(learners, replay, random, logger)
        for _ in range(ROUNDS):
            updates.make(part)
            gradients += [p.grad.clone() for p in getattr(models, part).parameters()]
        means = [torch.as_tensor(total / weight).cpu() for total, weight in logger._sums.values() if weight]
        seen[part] = [*gradients, *means]
        seen[f"{part}'s weights"] = [p.detach() for p in getattr(models, part).parameters()]
    seen["average"] = [p.detach() for p in models.averages["denoiser"].parameters()]
    seen["random"] = list(random.state_dict().values())
    return seen, learners


def test_recorded_updates_are_the_same_updates(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adamas.training.updates.SEGMENT_FRAMES", 8)
    (expected, _), (found, learners) = trained(False, tmp_path), trained(True, tmp_path)
    works = [learner.gradients for learner in learners.by_part.values()]
    for work in (*works, learners.imagine_rollout, learners.imagine_segment):
        assert any(recording.replay for recording in work._recordings.values())
    for part, values in expected.items():
        torch.testing.assert_close(found[part], values, rtol=0, atol=0)


def test_what_a_run_returns_outlasts_the_next_run() -> None:
    double, generator = Graphed(lambda x, _: 2 * x, capture()), torch.Generator(DEVICE)
    kept = [double(torch.full((2,), float(i), device=DEVICE), generator) for i in range(6)]
    assert [x.tolist() for x in kept] == [[2.0 * i] * 2 for i in range(6)]


def test_each_shape_has_a_recording_of_its_own() -> None:
    negate, generator = Graphed(lambda x, _: -x, capture()), torch.Generator(DEVICE)
    for i in range(2 * ROUNDS):
        x = torch.full((2 + i % 2,), float(i), device=DEVICE)
        assert negate(x, generator).tolist() == [-float(i)] * (2 + i % 2)
    assert len(negate._recordings) == 2


def test_a_replay_draws_new_numbers() -> None:
    random, twin = (torch.Generator(DEVICE).manual_seed(0) for _ in range(2))
    draw = Graphed(lambda x, generator: x + torch.randn(3, generator=generator, device=DEVICE), capture())
    for _ in range(ROUNDS):
        drawn = draw(torch.zeros(3, device=DEVICE), random)
        assert torch.equal(drawn, torch.randn(3, generator=twin, device=DEVICE))
