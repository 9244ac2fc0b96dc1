"""Q-learning with n-step returns (Mnih et al. 2015; Hessel et al. 2018), from the replay and from imagined rollouts alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adamas.data.batch import Segment, frames_at

SHIFT = 4  # pixels, at most, by which frames are shifted in training (Kostrikov et al. 2021)


class Transitions(NamedTuple):
    """B steps, and what came of them within n."""

    obs: Tensor  # uint8 (B, k, H, W): the newest frames before the step, oldest first
    action: Tensor  # int64 (B,)
    reward: Tensor  # float32 (B,): the sum of the discounted rewards
    next_obs: Tensor  # uint8 (B, k, H, W): the newest frames after the last of the n steps
    discount: Tensor  # float32 (B,): of the value of next_obs; 0 where the episode ended
    mask: Tensor  # bool (B,): it is known what came of the step

    def rows(self, index: Tensor | slice) -> Transitions:
        """Some of the B steps."""
        return Transitions(*(column[index] for column in self))


class QBatch(NamedTuple):
    """What a Q-network learns from."""

    obs: Tensor  # uint8 (B, k, H, W)
    action: Tensor  # int64 (B,)
    target: Tensor  # float32 (B,): what the value of the action is to become
    mask: Tensor  # bool (B,): rows that count
    dropout: Tensor  # float32 (B,): the share of the features that is dropped

    def rows(self, index: Tensor | slice) -> QBatch:
        """Some of the B steps."""
        return QBatch(*(column[index] for column in self))


def transitions(segment: Segment, frame_stack: int, discount: float) -> Transitions:
    """The step at index frame_stack - 1 of each segment. The return ends where the episode does, and where the segment is
    cut; a step that ends an episode need not have a frame after it.

    Args:
        segment: T = frame_stack + n frames.
    """
    at, n = frame_stack - 1, segment.obs.shape[1] - frame_stack
    exists = segment.mask[:, at:].long().cumprod(1).bool()  # (B, n + 1)
    terminated, followed = segment.terminated[:, at:-1] & exists[:, :-1], exists[:, 1:]
    counts = followed | terminated  # (B, n): it is known what the step brought
    steps = followed.sum(1)  # (B,): to the last frame
    powers = discount ** torch.arange(n + 1, device=steps.device, dtype=torch.float32)
    reward = (segment.reward[:, at:-1].sign() * powers[:n] * counts).sum(1)
    ended = terminated.any(1)
    first = torch.arange(len(steps), device=steps.device) * segment.obs.shape[1] + steps
    newest = first[:, None] + torch.arange(frame_stack, device=steps.device)
    next_obs = frames_at(segment.obs.flatten(0, 1), newest)
    left = torch.where(ended, 0.0, powers[steps])
    return Transitions(segment.obs[:, :frame_stack], segment.action[:, at], reward, next_obs, left, counts[:, 0])


def shifted(frames: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 (B, k, H, W), each stack shifted by up to SHIFT pixels either way; its edges are repeated.

    Args:
        generator: on the CPU.
    """
    by = torch.randint(-SHIFT, SHIFT + 1, (len(frames), 2), generator=generator).tolist()
    return torch.stack([_cut(x, r, c) for x, (r, c) in zip(_padded(_padded(frames, 2), 3), by, strict=True)])


def shifted_by(frames: Tensor, by: Sequence[tuple[int, int]]) -> Tensor:
    """(B, k, H, W) -> (B, N, k, H, W): each stack shifted by each of N numbers of rows and columns, up to SHIFT either way; its
    edges are repeated."""
    padded = _padded(_padded(frames, 2), 3)
    return torch.stack([_cut(padded, r, c) for r, c in by], dim=1)


def _cut(padded: Tensor, row: int, column: int) -> Tensor:
    """(..., SHIFT + H + SHIFT, SHIFT + W + SHIFT) -> (..., H, W)."""
    height, width = (size - 2 * SHIFT for size in padded.shape[-2:])
    return padded[..., SHIFT + row :, SHIFT + column :][..., :height, :width]


def _padded(x: Tensor, dim: int) -> Tensor:
    """With SHIFT more of the first and of the last slice. (torch's own padding by edges knows no bytes.)"""
    sizes = [SHIFT if d == dim else size for d, size in enumerate(x.shape)]
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
    return torch.cat([first.expand(sizes), x, last.expand(sizes)], dim)
