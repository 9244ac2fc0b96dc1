"""The step of a learner: its gradients are those of the whole batch's mean, however the batch is divided."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
import torch
from helpers import CPU, PARTS, generator, short_episodes, small_learners, spy
from torch import Tensor, nn

from adamas.agent.imagination import imagine
from adamas.config import Optimization
from adamas.training.learner import Learner
from adamas.training.optimizer import Optimizer
from adamas.utils.logger import Ratio
from adamas.utils.random import Random
from adamas.world_model import edm


@pytest.fixture
def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which each part of a batch would draw for itself. Noise levels differ from row to row."""
    monkeypatch.setattr(edm, "draw_sigma", lambda count, *_: torch.full((count,), 0.5))
    monkeypatch.setattr(edm, "draw_noise", lambda sigma, shape, *_: torch.zeros(shape))


def make(part: str, micro_batch: int = 0, awake: bool = True, **settings: object) -> tuple[Learner, Any]:
    """A learner, and a batch of 8 whose rows differ in how many steps are valid."""
    learners = small_learners(autoregressive_steps=2, **settings)
    models, replay = learners.models, short_episodes()
    if awake:
        torch.nn.init.normal_(models.reward_end.head[-1].weight)  # a model that predicts ends
        torch.nn.init.normal_(models.actor_critic.critic.weight)
    learner = learners.by_part[part]
    learner.micro_batch = micro_batch
    if part == "actor_critic":
        context = replay.sample_contexts(8, 3, generator())
        rollout = imagine(models.world, models.actor_critic, context, 6, generator())
        return learner, models.actor_critic.with_targets(rollout)
    return learner, replay.sample(8, 6, generator(), first_target=3)


def plain(metrics: dict[str, Any]) -> dict[str, float]:
    """A mean as it is, a ratio as its two sums."""
    flat = {}
    for name, metric in metrics.items():
        both = metric if isinstance(metric, Ratio) else (metric,)
        flat |= {f"{name} {i}": float(number) for i, number in enumerate(both)}
    return flat


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("size", [3, 20])
@pytest.mark.usefixtures("without_noise")
def test_micro_batches_make_the_gradients_and_the_metrics_of_the_whole_batch(part: str, size: int) -> None:
    seen, found = [], []
    for micro_batch in (0, size):
        learner, batch = make(part, micro_batch)
        calls = spy(learner.module, "loss")
        metrics = learner.step(batch, generator())
        seen.append([learner.module.valid_steps(args[0]) for args, _ in calls])
        found.append(([p.grad for p in learner.module.parameters()], plain(metrics)))
    (whole,), parts = seen
    assert torch.equal(torch.cat(parts), whole)
    assert [len(rows) for rows in parts] == ([3, 3, 2] if size == 3 else [8])
    assert size >= 8 or len({int(rows.sum()) for rows in parts}) > 1, "all have as much padding"
    assert any(gradient.abs().sum() > 0 for gradient in found[0][0])
    torch.testing.assert_close(found[1][0], found[0][0])
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.usefixtures("without_noise")
def test_a_part_of_a_batch_that_is_nothing_but_padding_changes_nothing(part: str) -> None:
    found = []
    for micro_batch in (0, 4):
        learner, batch = make(part, micro_batch)
        rows = batch.rollout if part == "actor_critic" else batch
        rows = rows._replace(mask=rows.mask & (torch.arange(8) < 4)[:, None])
        batch = batch._replace(rollout=rows) if part == "actor_critic" else rows
        batch = batch if micro_batch else batch.rows(slice(0, 4))
        loss = learner.step(batch, generator())["loss"]
        found.append(([p.grad for p in learner.module.parameters()], loss))
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("part", PARTS)
def test_a_step_is_the_gradient_of_the_loss_clipped_and_then_one_step_of_adamw(part: str) -> None:
    """By hand, over some steps of different size, so that clipping too late would show."""
    learner, batch = make(part)
    twin, _ = make(part)
    optimizer, module = twin.optimizer, twin.module
    learner.optimizer.max_grad_norm = optimizer.max_grad_norm = 0.05
    for step, rows in enumerate((slice(0, 2), slice(0, 8), slice(5, 6))):
        metrics = learner.step(batch.rows(rows), generator(step))
        loss, _ = module.loss(batch.rows(rows), generator(step))
        module.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), 0.05)
        for group in optimizer.adamw.param_groups:
            group["lr"] = optimizer.learning_rate
        optimizer.adamw.step()
        optimizer.steps += 1
        torch.testing.assert_close(metrics["loss"], loss.detach())
        torch.testing.assert_close(metrics["grad_norm"], norm)
        torch.testing.assert_close(list(learner.module.parameters()), list(module.parameters()), rtol=1e-5, atol=1e-7)
    assert metrics["skipped_updates"] == 0
    assert learner.optimizer.steps == 3


def test_a_batch_of_padding_has_loss_0_and_moves_nothing_but_by_decay() -> None:
    learner, batch = make("reward_end")
    before = [p.detach().clone() for p in learner.module.parameters()]
    metrics = learner.step(batch._replace(mask=batch.mask & False), generator())
    assert metrics["loss"] == 0
    assert metrics["grad_norm"] == 0
    torch.testing.assert_close(list(learner.module.parameters()), before, rtol=1.1e-4, atol=0)  # 1e-2 of 1e-2


def test_the_loss_alone_runs_at_the_precision_of_the_config() -> None:
    learner, batch = make("denoiser", precision="bfloat16")
    inside: list[torch.dtype] = []
    learner.module.net.unet.conv_in.register_forward_hook(lambda module, args, output: inside.append(output.dtype))
    learner.step(batch, generator())
    assert set(inside) == {torch.bfloat16}
    assert {p.grad.dtype for p in learner.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("part", ["denoiser", "reward_end"])
def test_losses_and_gradients_in_bfloat16_are_those_of_float32(part: str) -> None:
    """Within what three digits can hold; with attention, and weights that are awake everywhere."""
    losses: list[float] = []
    gradients: list[Tensor] = []
    for precision in ("float32", "bfloat16"):
        levels = {"channels": [32, 32], "depths": [1, 1]}
        learner, batch = make(part, 0, False, architecture="diamond", precision=precision, reward_end=levels, **levels)
        batch = batch.rows(slice(0, 4))
        random = generator(2)
        for parameter in learner.module.parameters():
            parameter.data += 0.03 * torch.randn(parameter.shape, generator=random)
        losses.append(float(learner.backward(batch, torch.Generator(CPU).manual_seed(0))[0]))
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in learner.module.parameters()]))
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert (gradients[1] - gradients[0]).norm() < 0.03 * gradients[0].norm()
    assert not torch.equal(*gradients), "one of them was to be in bfloat16"


class Rows(NamedTuple):
    """A batch of pictures."""

    obs: Tensor

    def rows(self, index: slice) -> Rows:
        return Rows(self.obs[index])


class Twins(nn.Module):
    """Two kernels that are only ever added: autograd gives both the same gradient."""

    def __init__(self, layout: torch.memory_format) -> None:
        super().__init__()
        kernels = (torch.zeros(2, 3, 4, 5).to(memory_format=layout) for _ in range(2))
        self.one, self.other = (nn.Parameter(kernel) for kernel in kernels)

    def valid_steps(self, batch: Rows) -> Tensor:
        return torch.ones(len(batch.obs), dtype=torch.bool)

    def loss(self, batch: Rows, generator: Random) -> tuple[Tensor, dict[str, Tensor]]:
        return ((self.one + self.other) * batch.obs).flatten(1).sum(1).mean(), {}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("micro_batch", [0, 2])
def test_parameters_that_share_a_gradient_each_get_their_own_in_their_own_layout(
    micro_batch: int, layout: torch.memory_format
) -> None:
    module, obs = Twins(layout), torch.randn(6, 2, 3, 4, 5, generator=generator())
    learner = Learner(module, Optimizer("denoiser", module, Optimization()), nullcontext, micro_batch=micro_batch)
    learner.backward(Rows(obs), generator())
    assert module.one.grad.data_ptr() != module.other.grad.data_ptr()
    for parameter in (module.one, module.other):
        torch.testing.assert_close(parameter.grad, obs.mean(0))
        assert parameter.grad.stride() == parameter.stride(), "a fused AdamW pairs elements by their place in memory"
