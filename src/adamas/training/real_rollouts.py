"""Rollouts in the real game, for policy=model_free."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from adamas.agent.actor_critic import ActorCritic
from adamas.agent.rollout import Hidden, Rollout
from adamas.envs.env import PixelEnv


class RealRollouts:
    """Plays B games side by side. A rollout ends where its episode does; its game waits for the next rollout."""

    def __init__(self, envs: list[PixelEnv], policy: ActorCritic, seed: int) -> None:
        self.envs = envs
        obs = [env.reset(seed=seed * len(envs) + i)[0] for i, env in enumerate(envs)]
        self.obs = torch.from_numpy(np.stack(obs))  # uint8 (B, H, W)
        self.hidden: Hidden = policy.initial_hidden(len(envs))
        self.returns = [0.0] * len(envs)
        self._goes_on = torch.ones(len(envs), dtype=torch.bool)  # whether an env is where its episode is

    @torch.no_grad()
    def play(self, policy: ActorCritic, horizon: int, generator: torch.Generator) -> tuple[Rollout, list[float]]:
        """The next rollout, and the returns of the games that ended in it. Rewards become their sign."""
        start = hidden = self.hidden
        alive = torch.ones(len(self.envs), dtype=torch.bool)
        frames, steps = [self.obs], []
        ended: list[float] = []
        for _ in range(horizon):
            action, log_p, value, hidden = policy.act(frames[-1], hidden, generator)
            obs, reward, terminated, truncated = self._step(frames[-1], action, alive, ended)
            frames.append(obs)
            steps.append((action, log_p, value, reward, terminated, truncated, alive))
            alive = alive & ~(terminated | truncated)
        columns = (torch.stack(column, dim=1).to(policy.device) for column in zip(*steps, strict=True))
        action, log_p, value, *rest = columns
        obs = torch.stack(frames, dim=1).to(policy.device)
        _, last_value, _ = policy(obs[:, -1:], hidden)
        self.obs, self.hidden = self._next_start(frames[-1], hidden, alive, policy)
        return Rollout(start, obs, action, log_p, torch.cat([value, last_value], dim=1), *rest), ended

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

    def _next_start(self, last: Tensor, hidden: Hidden, alive: Tensor, policy: ActorCritic) -> tuple[Tensor, Hidden]:
        obs = last.clone()
        for i in (~alive).nonzero()[:, 0].tolist():
            obs[i] = torch.from_numpy(self.envs[i].reset()[0])
        return obs, hidden.where(alive, policy.initial_hidden(len(alive)))

    def state_dict(self) -> dict[str, Any]:
        return {
            "envs": [env.state_dict() for env in self.envs],
            "obs": self.obs,
            "hidden": list(self.hidden),
            "returns": list(self.returns),
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        pairs = zip(self.envs, state["envs"], strict=True)
        self._goes_on = torch.tensor([env.load_state_dict(saved) for env, saved in pairs])
        self.obs, self.returns = state["obs"], state["returns"]
        self.hidden = Hidden(*(h.to(device) for h in state["hidden"]))

    def start_over(self, policy: ActorCritic) -> bool:
        """New episodes where envs could not go on. Returns whether there are some."""
        begun, self._goes_on = bool((~self._goes_on).any()), self._goes_on
        if begun:
            self.obs, self.hidden = self._next_start(self.obs, self.hidden, self._goes_on, policy)
            self.returns = [r if on else 0.0 for r, on in zip(self.returns, self._goes_on.tolist(), strict=True)]
        self._goes_on = torch.ones_like(self._goes_on)
        return begun
