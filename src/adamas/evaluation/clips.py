"""Stretches of real play, recorded for evaluation: no frame of them is ever trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from adamas.agent.policy import Policy
from adamas.data.batch import Trajectory
from adamas.envs.env import PixelEnv
from adamas.utils.errors import UserError

PATIENCE = 100  # games too short for a clip, in a row


class Player:
    """Plays one game after another: as the policy does, or uniformly at random where there is none."""

    def __init__(self, policy: Policy | None, num_actions: int, seed: int) -> None:
        self.policy, self.num_actions = policy, num_actions
        self.generator = torch.Generator().manual_seed(seed)
        self.new_game()

    def new_game(self) -> None:
        self.hidden = self.policy.initial_hidden(1) if self.policy else None

    def act(self, obs: Tensor) -> int:
        """uint8 (H, W) -> action."""
        if self.policy is None:
            return int(torch.randint(self.num_actions, (), generator=self.generator))
        action, _, _, self.hidden = self.policy.act(obs[None], self.hidden, self.generator)
        return int(action)


@torch.no_grad()
def record(policy: Policy | None, env: PixelEnv, count: int, steps: int, seed: int) -> Trajectory:
    """Plays in `env` and cuts the play into `count` clips of `steps` steps, on the CPU, none with a game over inside. Steps before
    a game over that fill no clip are left.

    Args:
        policy: who plays; None plays uniformly at random.

    Raises:
        UserError: PATIENCE games in a row were too short for a clip.
    """
    player = Player(policy, int(env.action_space.n), seed)
    clips, too_short = [], 0
    obs, actions = [torch.from_numpy(env.reset(seed=seed)[0])], []
    while len(clips) < count:
        actions.append(player.act(obs[-1]))
        frame, _, terminated, truncated, _ = env.step(actions[-1])
        obs.append(torch.from_numpy(frame))
        if len(actions) == steps:
            clips.append((torch.stack(obs), torch.tensor(actions)))
            obs, actions, too_short = obs[-1:], [], 0
        if terminated or truncated:
            obs, actions, too_short = [torch.from_numpy(env.reset()[0])], [], too_short + 1
            player.new_game()
            if too_short == PATIENCE:
                raise UserError(f"{PATIENCE} games in a row ended before {steps} steps")
    return Trajectory(*(torch.stack(column) for column in zip(*clips, strict=True)))
