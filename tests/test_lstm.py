"""The recurrent layer: a sequence and its steps are the same."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from adamas.networks.lstm import LSTM


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.booleans(), st.integers(0, 2**16))
@settings(deadline=None, max_examples=40)
def test_steps_make_what_the_sequence_makes(b: int, t: int, ins: int, width: int, fresh: bool, seed: int) -> None:
    torch.manual_seed(seed)
    ours, theirs = LSTM(ins, width), nn.LSTM(ins, width, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(b, t, ins)
    state = None if fresh else (torch.randn(1, b, width), torch.randn(1, b, width))
    wanted, end = theirs(x, state)
    for rows in (x.split(1, 1), [x]):
        outputs, now = [], state
        for row in rows:
            output, now = ours(row, now)
            outputs.append(output)
        torch.testing.assert_close(torch.cat(outputs, 1), wanted, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(now, end, rtol=1e-5, atol=1e-6)


def test_a_step_has_the_gradients_of_a_sequence() -> None:
    torch.manual_seed(0)
    ours, theirs = LSTM(3, 5), nn.LSTM(3, 5, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    x, state = torch.randn(2, 1, 3), (torch.randn(1, 2, 5), torch.randn(1, 2, 5))
    for lstm in (ours, theirs):
        output, (h, c) = lstm(x, state)
        (output.square().sum() + h.sum() + c.cos().sum()).backward()
    for mine, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, wanted.grad, rtol=1e-5, atol=1e-6)
