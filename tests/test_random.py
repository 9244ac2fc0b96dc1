"""Random numbers: their distribution, and that a sample's do not depend on its batch."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import generator

from adamas.networks.blocks import dropout
from adamas.utils.random import categorical, exponential, normal, seeded, uniform


def test_draws_have_the_frequencies_of_the_softmax() -> None:
    logits = torch.tensor([2.0, 0.0, -1.0, -4.0, -math.inf])
    count = 200_000
    seen = torch.bincount(categorical(logits.expand(count, 5), generator()), minlength=5).double()
    expected = count * logits.double().softmax(-1)
    assert seen[4] == 0
    chi_square = ((seen - expected)[:4] ** 2 / expected[:4]).sum()
    assert chi_square < 16.3  # 3 degrees of freedom: one seed in a thousand is above


def test_draws_are_independent_from_place_to_place() -> None:
    pairs = categorical(torch.zeros(100_000, 2, 2), generator())
    assert pairs.shape == (100_000, 2)
    assert torch.bincount(pairs @ torch.tensor([2, 1])).div(100_000).tolist() == pytest.approx([0.25] * 4, abs=6e-3)


def test_a_draw_depends_on_its_generator_alone() -> None:
    logits = torch.randn(1000, 3, generator=generator())
    one, again, other = (categorical(logits, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(one, categorical(logits + 7.0, generator(1)))  # what all logits share means nothing


def test_what_a_sample_draws_does_not_depend_on_its_batch() -> None:
    for kind in (normal, exponential, uniform):
        together = kind((3, 2, 5), seeded([7, 8, 9]))
        assert torch.equal(together[1:2], kind((1, 2, 5), seeded([8])))
        assert torch.equal(kind((3, 2, 5), generator(4)), kind((3, 2, 5), generator(4)))


def test_one_generator_for_all_draws_what_torch_draws() -> None:
    assert torch.equal(normal((4, 3), generator()), torch.randn(4, 3, generator=generator()))
    assert torch.equal(exponential((4, 3), generator()), torch.empty(4, 3).exponential_(generator=generator()))


def test_a_generator_is_needed_for_each_sample() -> None:
    with pytest.raises(ValueError, match="2 generators cannot serve a batch of 3"):
        normal((3, 1), seeded([0, 1]))


def test_categories_are_drawn_sample_by_sample() -> None:
    logits = torch.randn(3, 2, 4, generator=generator())
    together = [categorical(logits, seeded([7 + i, 8 + i, 9 + i])) for i in range(20)]
    alone = [categorical(logits[1:2], seeded([8 + i])) for i in range(20)]
    assert all(torch.equal(a[1:2], b) for a, b in zip(together, alone, strict=True))


def test_uniform_draws_fill_the_interval() -> None:
    seen = uniform((100_000,), generator())
    assert seen.min() >= 0
    assert seen.max() < 1
    assert torch.histc(seen, 10, 0, 1).tolist() == pytest.approx([10_000] * 10, abs=500)


def test_dropout_keeps_the_mean() -> None:
    x, rate = torch.full((4, 50_000), 3.0), torch.tensor([[0.4], [0.4], [0.4], [0.0]])
    kept = dropout(x, rate, seeded([1, 2, 3, 4]))
    torch.testing.assert_close(kept[:3].unique(), torch.tensor([0.0, 5.0]))
    assert kept.mean(1).tolist() == pytest.approx([3.0] * 4, abs=0.05)
    assert torch.equal(kept[3], x[3])
    assert dropout(x.bfloat16(), rate, generator()).dtype == torch.bfloat16
