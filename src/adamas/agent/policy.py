"""What plays: networks that turn frames into actions and remember an episode."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamas.agent.rollout import NO_FRAME, Hidden
from adamas.config import SIZE
from adamas.utils.random import Random, categorical
from adamas.utils.transfer import to_device

EXPLORATION = 0.01  # chance of a uniformly random action while an actor-critic collects experience


class Policy(nn.Module, ABC):
    """A policy and a value.

    Args:
        frame_stack: newest frames that it sees.
        lstm_dim: width of its memory.
    """

    def __init__(self, frame_stack: int, lstm_dim: int) -> None:
        super().__init__()
        self.frame_stack, self.lstm_dim = frame_stack, lstm_dim

    @abstractmethod
    def forward(self, obs: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor, Hidden]:
        """obs uint8 (B, T, H, W) -> action logits (B, T, A), values (B, T), the state after the last frame."""

    def exploration(self, steps: int) -> float:
        """The chance of a uniformly random action while experience is collected, after so many steps."""
        return EXPLORATION

    def repetition(self, steps: int) -> float:
        """The chance that an action is repeated, after so many steps of which none brought a reward."""
        return 0.0

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def initial_hidden(self, batch: int) -> Hidden:
        """The state where an episode begins."""
        zeros = torch.zeros(1, batch, self.lstm_dim, device=self.device)
        shape = (1, batch, self.frame_stack - 1, SIZE, SIZE)
        return Hidden(zeros, zeros.clone(), torch.full(shape, NO_FRAME, dtype=torch.int16, device=self.device))

    @staticmethod
    def with_past(obs: Tensor, hidden: Hidden) -> Tensor:
        """obs uint8 (B, T, H, W) -> int16 (B, n-1+T, H, W): with the frames before it, as if the first frame stood still."""
        past = torch.where(hidden.past[0] == NO_FRAME, obs[:, :1], hidden.past[0])
        return torch.cat([past, obs], dim=1)

    @torch.no_grad()
    def act(self, obs: Tensor, hidden: Hidden, generator: Random) -> tuple[Tensor, Tensor, Tensor, Hidden]:
        """obs uint8 (B, H, W) -> an action int64 (B,) on the generator's device, its log-probability and the value of obs,
        float (B,), and the next state."""
        logits, value, hidden = self(to_device(obs[:, None], self.device), hidden)
        at = generator.device if isinstance(generator, torch.Generator) else generator[0].device
        action = categorical(logits[:, 0].to(at), generator)
        log_p = F.log_softmax(logits[:, 0], dim=-1).gather(-1, to_device(action, self.device)[:, None])
        return action, log_p[:, 0], value[:, 0], hidden
