"""The optimizer: torch's own AdamW on finite losses, and no harm done by the others."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from adamas.config import Optimization
from adamas.training.optimizer import LOOK_EVERY, PATIENCE, Optimizer
from adamas.utils.errors import UserError

NAN, INF = float("nan"), float("inf")
SPOIL = {  # what makes a loss bad, and with it its gradient or not
    "nan * loss": lambda loss: NAN * loss,
    "inf * loss": lambda loss: INF * loss,
    "loss + nan": lambda loss: loss + NAN,
    "loss - inf": lambda loss: loss - INF,
}


class Net(nn.Module):
    """One of each kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.linear = nn.Linear(4, 3)
        self.norm = nn.GroupNorm(1, 3)
        self.conv = nn.Conv1d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(self.linear(self.embedding(x)))[..., None])


def make(learning_rate: float = 1e-2, decay_updates: int = 0, **settings: float) -> tuple[Net, Optimizer]:
    torch.manual_seed(0)
    net, c = Net(), Optimization(learning_rate=learning_rate, decay_updates=decay_updates)
    return net, Optimizer("denoiser", net, c, **{"weight_decay": 0.1, **settings})


def update(optimizer: Optimizer, loss: Tensor) -> Tensor:
    optimizer.adamw.zero_grad()
    loss.backward()
    return optimizer.step(loss)


def losses(net: Net, count: int, seed: int = 0) -> Iterator[Tensor]:
    random = torch.Generator().manual_seed(seed)
    for _ in range(count):
        x = torch.randint(0, 5, (6,), generator=random)
        yield (net(x) - torch.randn(6, 2, 1, generator=random)).square().mean()


def weights(net: Net) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def assert_same(ours: Net, theirs: Net, **tolerance: float) -> None:
    torch.testing.assert_close(weights(ours), weights(theirs), **(tolerance or {"rtol": 0, "atol": 0}))


def train(net: Net, optimizer: Optimizer, count: int, seed: int = 0) -> list[Tensor]:
    return [update(optimizer, loss) for loss in losses(net, count, seed)]


@pytest.mark.parametrize("most", [1e9, 0.3])
def test_finite_updates_are_those_of_torchs_adamw_after_clipping(most: float) -> None:
    """Of losses of different size, as AdamW is blind to a scale that all gradients share."""
    net, optimizer = make(max_grad_norm=most)
    twin = copy.deepcopy(net)
    decayed = [twin.linear.weight, twin.conv.weight]
    free = [twin.embedding.weight, twin.linear.bias, twin.norm.weight, twin.norm.bias, twin.conv.bias]
    adamw = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": free, "weight_decay": 0}], lr=1e-2)
    norms = [update(optimizer, (1 + i % 3) * loss) for i, loss in enumerate(losses(net, 20))]
    assert min(norms) < 0.7 * max(norms)
    assert most > 1 or max(norms) > 2 * most
    for i, loss in enumerate(losses(twin, 20)):
        adamw.zero_grad()
        ((1 + i % 3) * loss).backward()
        nn.utils.clip_grad_norm_(twin.parameters(), most)
        adamw.step()
    assert_same(net, twin, rtol=1e-5, atol=1e-6)


def test_matrices_and_kernels_decay_and_nothing_else_does() -> None:
    net, optimizer = make(learning_rate=0.1, weight_decay=0.5)
    before = weights(net)
    update(optimizer, sum(0 * p.sum() for p in net.parameters()))
    for name, p in net.named_parameters():
        factor = 1 - 0.1 * 0.5 if name in ("linear.weight", "conv.weight") else 1
        torch.testing.assert_close(p.detach(), factor * before[name])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"warmup_updates": 4}, [0, 2.5e-3, 5e-3, 7.5e-3, 1e-2, 1e-2]),
        ({"decay_updates": 4, "warmup_updates": 2}, [0, 3.875e-3, 5.5e-3, 3.25e-3, 1e-3, 1e-3]),
        (
            {"decay_updates": 2, "warmup_updates": 2, "steps_per_update": 2},
            [0, 0, 2.75e-3, 2.75e-3, 1e-3, 1e-3],
        ),
    ],
    ids=["rises over the warm-up and stays", "falls to a tenth and stays", "counts batches, not passes over them"],
)
def test_the_learning_rate_is_linear_piece_by_piece(settings: dict[str, float], expected: list[float]) -> None:
    net, optimizer = make(**settings)
    rates = []
    for loss in losses(net, 6):
        rates.append(optimizer.learning_rate)
        update(optimizer, loss)
        assert {group["lr"] for group in optimizer.adamw.param_groups} == {rates[-1]}
    assert rates == pytest.approx(expected)


def test_a_schedule_goes_on_where_it_was_with_other_steps_an_update() -> None:
    net, optimizer = make(decay_updates=10, steps_per_update=6)
    train(net, optimizer, 30)
    other = make(decay_updates=10, steps_per_update=2)[1]
    other.load_state_dict(optimizer.state_dict())
    assert (other.steps, other.learning_rate) == (10, optimizer.learning_rate)


def test_without_a_warm_up_the_first_update_is_whole() -> None:
    assert make(warmup_updates=0)[1].learning_rate == 1e-2


@pytest.mark.parametrize("most", [1e-3, 0.1, 1e3])
def test_gradients_are_scaled_down_to_the_largest_norm(most: float) -> None:
    net, optimizer = make(max_grad_norm=most)
    (loss,) = losses(net, 1)
    raw = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
    norm = torch.cat([g.flatten() for g in raw]).norm()
    torch.testing.assert_close(update(optimizer, loss), norm)
    for p, g in zip(net.parameters(), raw, strict=True):
        torch.testing.assert_close(p.grad, g * min(1, most / norm.item()), rtol=1e-4, atol=0)


def test_gradients_do_not_add_up_from_update_to_update() -> None:
    net, optimizer = make()
    train(net, optimizer, 2)
    twin = copy.deepcopy(net)
    (loss,) = losses(net, 1, seed=5)
    (other,) = losses(twin, 1, seed=5)
    other.backward()
    update(optimizer, loss)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize("spoil", SPOIL.values(), ids=SPOIL)
@pytest.mark.parametrize("when", [0, 3])
def test_an_update_that_is_not_finite_changes_nothing_and_is_counted(spoil: Callable, when: int) -> None:
    net, optimizer = make()
    twin, other = make()
    train(net, optimizer, when)
    train(twin, other, when)
    for loss in losses(net, 2):
        update(optimizer, spoil(loss))
        assert_same(net, twin)
    assert (optimizer.skipped, other.skipped) == (2, 0)
    train(net, optimizer, 3, seed=7)  # as if nothing had been
    train(twin, other, 3, seed=7)
    assert_same(net, twin)
    assert optimizer.skipped == 2


def test_one_gradient_that_is_not_finite_is_enough() -> None:
    net, optimizer = make()
    before = weights(net)
    net.conv.bias.register_hook(lambda grad: grad * torch.tensor([1.0, NAN]))
    train(net, optimizer, 1)
    torch.testing.assert_close(weights(net), before, rtol=0, atol=0)


def bad_updates(net: Net, optimizer: Optimizer, count: int) -> None:
    for loss in losses(net, count):
        update(optimizer, NAN * loss)


@pytest.mark.parametrize("before", [0, 1, LOOK_EVERY - 1])
def test_many_bad_updates_in_a_row_end_the_run_with_the_weights_before_them(before: int) -> None:
    net, optimizer = make()
    train(net, optimizer, before)
    last_good = weights(net)
    with pytest.raises(
        UserError, match=r"^denoiser: .*not finite.*denoiser\.optimization\.learning_rate \(now 0\.01\)"
    ):
        bad_updates(net, optimizer, PATIENCE + LOOK_EVERY)
    assert optimizer.skipped >= PATIENCE
    torch.testing.assert_close(weights(net), last_good, rtol=0, atol=0)


def test_bad_updates_that_are_not_in_a_row_do_not_end_the_run() -> None:
    net, optimizer = make()
    for _ in range(5):
        bad_updates(net, optimizer, PATIENCE - 1)
        train(net, optimizer, 1)
    assert optimizer.skipped == 5 * (PATIENCE - 1)


def test_a_loaded_optimizer_keeps_the_settings_of_now() -> None:
    net, optimizer = make(weight_decay=0.5)
    train(net, optimizer, 1)
    _, other = make(weight_decay=0.25)
    other.load_state_dict(optimizer.state_dict())
    assert [group["weight_decay"] for group in other.adamw.param_groups] == [0.25, 0.0]


def test_a_saved_optimizer_goes_on_bit_for_bit() -> None:
    net, optimizer = make(warmup_updates=10)
    train(net, optimizer, 3)
    bad_updates(net, optimizer, 2)
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
    train(net, optimizer, 3, seed=1)

    other, loaded = make(warmup_updates=10)
    train(other, loaded, 1, seed=9)  # what it holds is replaced
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other.load_state_dict(state["net"])
    loaded.load_state_dict(state["optimizer"])
    assert (loaded.steps, loaded.skipped, loaded.in_a_row) == (5, 2, 2)
    train(other, loaded, 3, seed=1)
    assert_same(net, other)
