"""Rollouts in imagination: the policy acts in the world model."""

from __future__ import annotations

import torch

from adamas.agent.policy import Policy
from adamas.agent.rollout import Rollout
from adamas.data.batch import Trajectory
from adamas.utils.random import Random
from adamas.world_model.world_model import WorldModel


@torch.no_grad()
def imagine(world: WorldModel, policy: Policy, context: Trajectory, horizon: int, generator: Random) -> Rollout:
    """B rollouts of `horizon` steps that start at the end of `context`. Shapes are static: what follows an end is masked.

    A step into a frame that has lost track is not taken: the step before it is truncated, so that the value of its frame
    stands for what would have come. The states of both are burnt in on the context with the weights of now.
    """
    state = world.start(context)
    _, _, hidden = policy(context.obs[:, :-1], policy.initial_hidden(len(context.obs)))
    start, frames, steps, truncated = hidden, [state.obs], [], []
    alive = torch.ones(len(context.obs), dtype=torch.bool, device=context.obs.device)
    for t in range(horizon):
        action, log_p, value, hidden = policy.act(state.obs, hidden, generator)
        state, prediction = world.step(state, action, generator)
        taken = alive & ~prediction.diverged
        if t > 0:
            truncated.append(alive & prediction.diverged)  # step t-1
        frames.append(prediction.obs)
        steps.append((action, log_p, value, prediction.reward * taken, prediction.terminated & taken, taken))
        alive = taken & ~prediction.terminated
    truncated.append(torch.zeros_like(alive))
    _, last_value, _ = policy(state.obs[:, None], hidden)
    action, log_p, value, reward, terminated, mask = (torch.stack(column, dim=1) for column in zip(*steps, strict=True))
    value, obs = torch.cat([value, last_value], dim=1), torch.stack(frames, dim=1)
    return Rollout(start, obs, action, log_p, value, reward, terminated, torch.stack(truncated, dim=1), mask)
