"""Dreams beside reality: what the world model makes of actions whose real outcome is known."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from adamas.agent.actor_critic import ActorCritic
from adamas.config import UserError
from adamas.envs.atari import AtariEnv
from adamas.frames import tile, to_float
from adamas.networks.categorical import draw
from adamas.world_model.world_model import WorldModel

PATIENCE = 100  # games too short for a clip, in a row


class Clip(NamedTuple):
    """N stretches of real play of T steps each, without a game over inside."""

    obs: Tensor  # uint8 (N, T+1, H, W)
    action: Tensor  # int64 (N, T)


@torch.no_grad()
def record(policy: ActorCritic, env: AtariEnv, count: int, steps: int, seed: int) -> Clip:
    """Has the policy play in `env` and cuts its play into clips. Steps before a game over that fill no clip are left.

    Raises:
        UserError: PATIENCE games in a row were too short for a clip.
    """
    generator = torch.Generator().manual_seed(seed)
    frame, _ = env.reset(seed=seed)
    hidden, clips = policy.initial_hidden(1), []
    obs, actions, too_short = [torch.from_numpy(frame)], [], 0
    while len(clips) < count:
        logits, _, hidden = policy(obs[-1].to(policy.device)[None, None], hidden)
        actions.append(int(draw(logits[0, 0].cpu(), generator)))
        frame, _, terminated, truncated, _ = env.step(actions[-1])
        obs.append(torch.from_numpy(frame))
        if len(actions) == steps:
            clips.append((torch.stack(obs), torch.tensor(actions)))
            obs, actions, too_short = obs[-1:], [], 0
        if terminated or truncated:
            obs, actions, too_short = [torch.from_numpy(env.reset()[0])], [], too_short + 1
            if too_short == PATIENCE:
                raise UserError(f"{PATIENCE} games in a row ended before {steps} steps: lower evaluation.dream_steps")
            hidden = policy.initial_hidden(1)
    return Clip(*(torch.stack(column).to(policy.device) for column in zip(*clips, strict=True)))


@torch.no_grad()
def dream(world: WorldModel, clip: Clip, context: int, generator: torch.Generator) -> Tensor:
    """The frames uint8 (N, T+1-context, H, W) that the world model imagines after the first `context` of a clip."""
    state = world.start(clip.obs[:, :context], clip.action[:, : context - 1])
    frames = []
    for t in range(context - 1, clip.action.shape[1]):
        state, prediction = world.step(state, clip.action[:, t], generator)
        frames.append(prediction.obs)
    return torch.stack(frames, dim=1)


def psnr(imagined: Tensor, real: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each time step over N films uint8 (N, T, H, W) -> float (T,); at most 99."""
    mse = (imagined.float() - real.float()).square().mean(dim=(0, 2, 3))
    return (10 * torch.log10(255**2 / mse)).clamp_max(99.0)


def film(real: Tensor, imagined: Tensor, scale: int = 2) -> Tensor:
    """Real above imagined above their difference (grey is none): uint8 (N, T, H, W) twice -> uint8 (T, height, width)."""
    difference = ((to_float(imagined) - to_float(real)) * 63.75 + 127.5).round().to(torch.uint8)
    return tile([x.transpose(0, 1).cpu() for x in (real, imagined, difference)], scale=scale)
