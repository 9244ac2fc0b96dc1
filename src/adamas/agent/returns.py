"""Lambda-returns."""

from __future__ import annotations

import torch
from torch import Tensor

LAMBDA = 0.95  # of the returns that a policy learns from (DIAMOND, appendix D)


def lambda_returns(
    reward: Tensor, value: Tensor, terminated: Tensor, truncated: Tensor, discount: float, lambda_: float
) -> Tensor:
    """TD(lambda) targets of rollouts (Sutton and Barto 2018, equation 12.18, backwards).

    G_t = r_t + discount * (1 - terminated_t) * ((1 - lambda) * V_{t+1} + lambda * G_{t+1}), and where the rollout
    ends or was truncated, V_{t+1} stands in for G_{t+1}: the game would have gone on.

    Args:
        reward: float (B, T), what step t brought.
        value: float (B, T+1), of the frames before each step and after the last.
        terminated: bool (B, T), step t ended the episode.
        truncated: bool (B, T), step t was cut off.

    Returns:
        float (B, T).
    """
    following = value[:, -1]
    returns = []
    for t in reversed(range(reward.shape[1])):
        bootstrap = value[:, t + 1]
        ahead = torch.where(truncated[:, t], bootstrap, torch.lerp(bootstrap, following, lambda_))
        following = reward[:, t] + torch.where(terminated[:, t], 0.0, discount * ahead)
        returns.append(following)
    return torch.stack(returns[::-1], dim=1)
