"""Rollouts for the policy: in imagination, and in the real game."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from adamas.agent.actor_critic import ActorCritic, Hidden, Rollout
from adamas.envs.atari import AtariEnv
from adamas.networks.categorical import draw
from adamas.replay import Segment
from adamas.world_model.world_model import WorldModel


@torch.no_grad()
def imagine(
    world: WorldModel, policy: ActorCritic, context: Segment, horizon: int, generator: torch.Generator
) -> Rollout:
    """B rollouts of `horizon` steps that start at the end of `context`. Shapes are static: what follows an end is masked.

    Both recurrent states are burnt in on the context with the weights of now.
    """
    state = world.start(context.obs, context.action[:, :-1])
    _, _, hidden = policy(context.obs[:, :-1], policy.initial_hidden(len(context.obs)))
    start, frames, steps = hidden, [state.obs[:, -1]], []
    alive = torch.ones(len(context.obs), dtype=torch.bool, device=context.obs.device)
    for _ in range(horizon):
        logits, _, hidden = policy(state.obs[:, -1:], hidden)
        action = draw(logits[:, 0], generator)
        state, prediction = world.step(state, action, generator)
        frames.append(prediction.obs)
        steps.append((action, prediction.reward * alive, prediction.terminated & alive, alive))
        alive = alive & ~prediction.terminated
    action, reward, terminated, mask = (torch.stack(column, dim=1) for column in zip(*steps, strict=True))
    return Rollout(start, torch.stack(frames, dim=1), action, reward, terminated, torch.zeros_like(terminated), mask)


class RealRollouts:
    """Plays B games side by side. A rollout ends where its episode does; its game waits for the next rollout."""

    def __init__(self, envs: list[AtariEnv], policy: ActorCritic, seed: int) -> None:
        self.envs = envs
        obs = [env.reset(seed=seed + i)[0] for i, env in enumerate(envs)]
        self.obs = torch.from_numpy(np.stack(obs))  # uint8 (B, H, W)
        self.hidden: Hidden = policy.initial_hidden(len(envs))
        self.returns = [0.0] * len(envs)

    @torch.no_grad()
    def play(self, policy: ActorCritic, horizon: int, generator: torch.Generator) -> tuple[Rollout, list[float]]:
        """The next rollout, and the returns of the games that ended in it. Rewards become their sign."""
        device = policy.device
        start = hidden = self.hidden
        alive = torch.ones(len(self.envs), dtype=torch.bool)
        frames, steps, ended = [self.obs], [], []
        for _ in range(horizon):
            logits, _, hidden = policy(frames[-1][:, None].to(device), hidden)
            action = draw(logits[:, 0].cpu(), generator)
            obs, reward, terminated, truncated = self._step(frames[-1], action, alive, ended)
            frames.append(obs)
            steps.append((action, reward, terminated, truncated, alive))
            alive = alive & ~(terminated | truncated)
        self.obs, self.hidden = self._next_start(frames[-1], hidden, alive)
        columns = (torch.stack(column, dim=1).to(device) for column in zip(*steps, strict=True))
        return Rollout(start, torch.stack(frames, dim=1).to(device), *columns), ended

    def _step(self, last: Tensor, action: Tensor, alive: Tensor, ended: list[float]) -> tuple[Tensor, ...]:
        obs, reward = last.clone(), torch.zeros(len(alive))
        terminated, truncated = torch.zeros_like(alive), torch.zeros_like(alive)
        for i in alive.nonzero()[:, 0].tolist():
            frame, r, terminated[i], truncated[i], info = self.envs[i].step(int(action[i]))
            obs[i], reward[i] = torch.from_numpy(frame), float(np.sign(r))
            self.returns[i] += r
            if info["game_over"] or truncated[i]:
                ended.append(self.returns[i])
                self.returns[i] = 0.0
        return obs, reward, terminated, truncated

    def _next_start(self, last: Tensor, hidden: Hidden, alive: Tensor) -> tuple[Tensor, Hidden]:
        obs = last.clone()
        for i in (~alive).nonzero()[:, 0].tolist():
            obs[i] = torch.from_numpy(self.envs[i].reset()[0])
        goes_on = alive.to(hidden[0].device)[None, :, None]
        return obs, tuple(torch.where(goes_on, h, 0.0) for h in hidden)

    def state_dict(self) -> dict[str, Any]:
        return {
            "envs": [env.state_dict() for env in self.envs],
            "obs": self.obs,
            "hidden": list(self.hidden),
            "returns": list(self.returns),
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        for env, saved in zip(self.envs, state["envs"], strict=True):
            env.load_state_dict(saved)
        self.obs, self.returns = state["obs"], state["returns"]
        self.hidden = tuple(h.to(device) for h in state["hidden"])
