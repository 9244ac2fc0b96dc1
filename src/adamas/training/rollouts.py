"""Rollouts for the policy: in imagination, and in the real game."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adamas.agent.actor_critic import ActorCritic, Hidden, Rollout
from adamas.data.batch import Segment
from adamas.envs.atari import AtariEnv
from adamas.utils.categorical import draw
from adamas.utils.random import Random
from adamas.world_model.world_model import WorldModel


@torch.no_grad()
def imagine(world: WorldModel, policy: ActorCritic, context: Segment, horizon: int, generator: Random) -> Rollout:
    """B rollouts of `horizon` steps that start at the end of `context`. Shapes are static: what follows an end is masked.

    A dream that goes astray was truncated one step before: its frame is not looked at, and the value of the one before
    stands for what would have come. Both recurrent states are burnt in on the context with the weights of now.
    """
    state = world.start(context.obs, context.action[:, :-1])
    _, _, hidden = policy(context.obs[:, :-1], policy.initial_hidden(len(context.obs)))
    start, frames, steps = hidden, [state.obs[:, -1]], []
    alive = torch.ones(len(context.obs), dtype=torch.bool, device=context.obs.device)
    for _ in range(horizon):
        action, log_p, value, hidden = act(policy, state.obs[:, -1], hidden, generator)
        state, prediction = world.step(state, action, generator)
        frames.append(prediction.obs)
        astray, taken = alive & prediction.truncated, alive & ~prediction.truncated
        steps.append((action, log_p, value, prediction.reward * taken, prediction.terminated & taken, astray, taken))
        alive = taken & ~prediction.terminated
    rollout = _rollout(start, frames, steps, policy, hidden)
    return rollout._replace(truncated=F.pad(rollout.truncated[:, 1:], (0, 1)))


def act(policy: ActorCritic, obs: Tensor, hidden: Hidden, generator: Random) -> tuple[Tensor, Tensor, Tensor, Hidden]:
    """obs uint8 (B, H, W) -> an action int64 (B,), its log-probability and the value of obs, float (B,), the next state.

    The action is on the generator's device.
    """
    logits, value, hidden = policy(obs[:, None].to(policy.device), hidden)
    action = draw(logits[:, 0].to(generator.device), generator)
    log_p = F.log_softmax(logits[:, 0], dim=-1).gather(-1, action.to(logits.device)[:, None])
    return action, log_p[:, 0], value[:, 0], hidden


def _rollout(
    start: Hidden, frames: list[Tensor], steps: list[tuple[Tensor, ...]], policy: ActorCritic, hidden: Hidden
) -> Rollout:
    """`steps` of (action, log_p, value, reward, terminated, truncated, mask) between `frames`, on the policy's device."""
    columns = (torch.stack(column, dim=1).to(policy.device) for column in zip(*steps, strict=True))
    action, log_p, value, *rest = columns
    obs = torch.stack(frames, dim=1).to(policy.device)
    _, last, _ = policy(obs[:, -1:], hidden)
    return Rollout(start, obs, action, log_p, torch.cat([value, last], dim=1), *rest)


class RealRollouts:
    """Plays B games side by side. A rollout ends where its episode does; its game waits for the next rollout."""

    def __init__(self, envs: list[AtariEnv], policy: ActorCritic, seed: int) -> None:
        self.envs = envs
        obs = [env.reset(seed=seed * len(envs) + i)[0] for i, env in enumerate(envs)]
        self.obs = torch.from_numpy(np.stack(obs))  # uint8 (B, H, W)
        self.hidden: Hidden = policy.initial_hidden(len(envs))
        self.returns = [0.0] * len(envs)

    @torch.no_grad()
    def play(self, policy: ActorCritic, horizon: int, generator: torch.Generator) -> tuple[Rollout, list[float]]:
        """The next rollout, and the returns of the games that ended in it. Rewards become their sign."""
        start = hidden = self.hidden
        alive = torch.ones(len(self.envs), dtype=torch.bool)
        frames, steps, ended = [self.obs], [], []
        for _ in range(horizon):
            action, log_p, value, hidden = act(policy, frames[-1], hidden, generator)
            obs, reward, terminated, truncated = self._step(frames[-1], action, alive, ended)
            frames.append(obs)
            steps.append((action, log_p, value, reward, terminated, truncated, alive))
            alive = alive & ~(terminated | truncated)
        rollout = _rollout(start, frames, steps, policy, hidden)
        self.obs, self.hidden = self._next_start(frames[-1], hidden, alive, policy)
        return rollout, ended

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
        goes_on = alive.to(policy.device)
        anew = policy.initial_hidden(len(alive))
        return obs, Hidden(*(torch.where(_like(goes_on, h), h, new) for h, new in zip(hidden, anew, strict=True)))

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
        self.hidden = Hidden(*(h.to(device) for h in state["hidden"]))


def _like(flags: Tensor, hidden: Tensor) -> Tensor:
    """bool (B,) -> (1, B, 1, ...), with as many dimensions as `hidden`."""
    return flags.reshape(1, -1, *[1] * (hidden.ndim - 2))
