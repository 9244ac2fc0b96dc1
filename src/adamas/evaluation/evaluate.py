"""What the world model is worth: dreams beside what really happened."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from adamas.agent.actor_critic import ActorCritic
from adamas.config import Config
from adamas.envs.atari import AtariEnv
from adamas.evaluation.dreams import dream, film, psnr, record
from adamas.world_model.world_model import WorldModel


class Dreams(NamedTuple):
    """What the world model imagined on held-out real actions."""

    film: Tensor  # uint8 (T, height, width): real above imagined above their difference
    psnr: Tensor  # float (T,): dB at each step of the open-loop rollout


def evaluate_world(world: WorldModel, policy: ActorCritic, config: Config, seed: int) -> Dreams:
    """Dreams on real actions of games played for the purpose: no frame of them is ever trained on."""
    e, context = config.evaluation, config.denoiser.context
    env = AtariEnv(config.env, config.atari, episodic_life=False)
    clip = record(policy, env, e.dreams, context - 1 + e.dream_steps, seed)
    imagined = dream(world, clip, context, torch.Generator(policy.device).manual_seed(seed))
    real = clip.obs[:, context:]
    return Dreams(film(real, imagined), psnr(imagined, real))
