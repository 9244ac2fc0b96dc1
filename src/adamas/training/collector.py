"""Real experience: the policy plays the game and the replay remembers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from adamas.agent.policy import Policy
from adamas.agent.rollout import Hidden
from adamas.data.replay import Replay
from adamas.envs.env import PixelEnv


class Ended(NamedTuple):
    """Sums of real rewards, of what ended with a step; None where nothing did."""

    episode: float | None  # a life
    game: float | None


class Collector:
    """One game that goes on from call to call."""

    def __init__(self, env: PixelEnv, replay: Replay, seed: int) -> None:
        self.env, self.replay = env, replay
        self.obs, _ = env.reset(seed=seed)
        self.hidden: Hidden | None = None  # None where an episode begins
        self.episode_return = self.game_return = 0.0

    @torch.no_grad()
    def step(self, policy: Policy, generator: torch.Generator) -> Ended:
        """One agent step into the replay."""
        hidden = policy.initial_hidden(1) if self.hidden is None else self.hidden
        choice, _, _, self.hidden = policy.act(torch.from_numpy(self.obs)[None], hidden, generator)
        action = self._explored(int(choice), policy, generator)
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.replay.add(self.obs, action, reward, terminated, truncated, obs)
        self.obs = obs
        self.episode_return += reward
        self.game_return += reward
        over = terminated or truncated
        return self._end(game_over=info["game_over"] or truncated) if over else Ended(None, None)

    def _explored(self, action: int, policy: Policy, generator: torch.Generator) -> int:
        """The policy's action, or in its place a random one or, while nothing has brought a reward, the last one."""
        steps, rows = self.replay.num_steps, self.replay.num_rows
        if torch.rand((), generator=generator) < policy.exploration(steps):
            return int(torch.randint(len(self.env.action_meanings), (), generator=generator))
        repetition = policy.repetition(steps) if steps == self.replay.reward_counts[0] else 0.0
        if repetition and torch.rand((), generator=generator) < repetition:
            last = self.replay.span(rows - 1, rows, ["action", "final"])
            return action if last["final"] else int(last["action"])
        return action

    def _end(self, game_over: bool) -> Ended:
        ended = Ended(self.episode_return, self.game_return if game_over else None)
        self.episode_return = 0.0
        self.game_return = 0.0 if game_over else self.game_return
        self.hidden = None
        self.obs, _ = self.env.reset()
        return ended

    def state_dict(self) -> dict[str, Any]:
        return {
            "env": self.env.state_dict(),
            "obs": torch.from_numpy(self.obs),
            "hidden": None if self.hidden is None else list(self.hidden),
            "returns": [self.episode_return, self.game_return],
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """All but the env."""
        self.obs = state["obs"].numpy()
        self.hidden = None if state["hidden"] is None else Hidden(*(h.to(device) for h in state["hidden"]))
        self.episode_return, self.game_return = state["returns"]

    def go_on(self, env: dict[str, Any]) -> bool:
        """After the replay was loaded too: the env goes on from what `state_dict` has of it. Where it cannot, the episode in the
        replay ends with the frame that was on the screen, and a new one begins. Returns whether it went on."""
        if self.env.load_state_dict(env):
            return True
        if self.replay.num_rows and not self.replay.rows(self.replay.num_rows - 1)["final"]:
            self.replay.extend(_final_row(self.replay, self.obs))
        self._end(game_over=True)
        return False


def _final_row(replay: Replay, obs: np.ndarray) -> dict[str, torch.Tensor]:
    """The frame that an episode ended with, which nobody acted on, as `Replay.extend` takes it."""
    row = {name: torch.zeros_like(column) for name, column in replay.rows(replay.num_rows - 1).items()}
    return {**row, "obs": torch.from_numpy(obs)[None], "final": torch.ones(1, dtype=torch.bool)}
