"""Rollouts made of the steps that are collected anyway, for the policy to learn from (policy=model_free, and actor_critic.real_share above 0)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from adamas.agent.actor_critic import ActorCritic
from adamas.agent.rollout import Rollout, joined
from adamas.training.collector import Collector, Ended, Step


class Collected(NamedTuple):
    """B rollouts of one game, one after the other, and what ended in them."""

    rollout: Rollout
    steps: int  # agent steps in all
    ended: list[Ended]


def collect_rollouts(
    collector: Collector, policy: ActorCritic, count: int, horizon: int, most: int, generator: torch.Generator
) -> Collected:
    """Collects `count` rollouts of `horizon` steps, but at most `most` steps, which must be 1 or more.

    A rollout ends where its episode does. One that is cut short by `most` is truncated, and rollouts for which no step is
    left are masked: shapes are static. Masked too are actions that the policy did not draw. Rewards become their sign.
    """
    rows: list[Rollout] = []
    ended: list[Ended] = []
    left = most
    while len(rows) < count and left:
        row, taken, end = _row(collector, policy, horizon, min(horizon, left), generator)
        rows.append(row)
        ended.append(end)
        left -= taken
    empty = rows[0]._replace(mask=torch.zeros_like(rows[0].mask))
    rows += [empty] * (count - len(rows))
    return Collected(joined(rows), most - left, ended)


def _row(
    collector: Collector, policy: ActorCritic, horizon: int, most: int, generator: torch.Generator
) -> tuple[Rollout, int, Ended]:
    """One rollout, its number of steps, and what ended with it."""
    start = collector.remembered(policy)
    steps: list[Step] = []
    while len(steps) < most and not (steps and steps[-1].over):
        steps.append(collector.take(policy, generator))
    last = steps[-1].next_obs
    with torch.no_grad():
        _, last_value, _ = policy(last[None, None].to(policy.device), steps[-1].hidden)
    over, missing = steps[-1].over, horizon - len(steps)

    def column(values: list[Tensor], padding: Tensor, count: int = missing) -> Tensor:
        return torch.stack([*values, *[padding] * count])[None].to(policy.device)  # (1, T, ...)

    no, zero, value = torch.tensor(False), torch.tensor(0.0), last_value[0, 0]
    cut = len(steps) < horizon and not over
    truncated = [torch.tensor(step.truncated) for step in steps[:-1]] + [torch.tensor(steps[-1].truncated or cut)]
    rollout = Rollout(
        start,
        column([step.obs for step in steps], last, missing + 1),
        column([step.action for step in steps], torch.tensor(0)),
        column([step.log_p for step in steps], torch.zeros_like(value)),
        column([step.value for step in steps], value, missing + 1),
        column([torch.tensor(step.reward).sign() for step in steps], zero),
        column([torch.tensor(step.terminated) for step in steps], no),
        column(truncated, no),
        column([torch.tensor(step.drawn) for step in steps], no),
    )
    return rollout, len(steps), steps[-1].ended
