"""The policy loss: the clipped surrogate of PPO, which is REINFORCE with a baseline where a rollout is used once."""

from __future__ import annotations

import torch
from torch import Tensor

from adamas.data.batch import masked_mean

CLIP = 0.2  # no gain beyond this change of an action's probability, as a ratio
LEAST_STD = 0.1  # advantages are divided by at least this: measured, .04 to .08 without rewards, .11 or more with one


def clipped_surrogate(log_p: Tensor, old_log_p: Tensor, advantage: Tensor) -> Tensor:
    """The loss of each step, the negative of equation 7 of Schulman et al. 2017; all float (B, T).

    Where log_p = old_log_p its gradient is that of -log_p * advantage (REINFORCE).
    """
    ratio = (log_p - old_log_p).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)


def normalized(advantage: Tensor, mask: Tensor) -> Tensor:
    """float (B, T) with mean 0 and deviation 1 over the steps of mask; less where next to nothing tells them apart, so that
    the errors of the value alone do not drive the policy."""
    centred = advantage - masked_mean(advantage, mask)
    return centred / masked_mean(centred.square(), mask).sqrt().clamp_min(LEAST_STD)
