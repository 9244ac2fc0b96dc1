"""One step of play in the world model: pure functions of the state before, the action and the settings."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adamas.agent.rollout import Hidden
from adamas.data.batch import Trajectory
from adamas.play.real_env import RealState
from adamas.play.settings import Settings
from adamas.training.models import Models
from adamas.utils.random import categorical
from adamas.world_model.denoiser import Trace
from adamas.world_model.world_model import WorldModel, WorldState

WORLD_MODEL, POLICY = 0, 1  # what random numbers are for


class PolicyOutput(NamedTuple):
    """What the policy returns for the newest frame."""

    logits: Tensor  # float (A,), on the CPU
    value: float
    hidden: Hidden  # after that frame


class PlayState(NamedTuple):
    """Everything that the next step depends on, except for the settings; and what the page shows of it."""

    world: WorldState  # batch size 1
    policy: PolicyOutput
    real: RealState | None  # the real game after the same actions
    step: int  # actions since the initial state
    action: int | None  # the one that led here, as are reward, terminated and trace
    reward: float
    terminated: bool
    trace: Trace
    episode_return: float
    diverged_at: int | None  # the last step for which the model predicted that the dream has lost track

    @property
    def obs(self) -> np.ndarray:
        """uint8 (84, 84): the newest frame."""
        return self.world.obs[0].cpu().numpy()


class InitialState(NamedTuple):
    """The frames and actions that an episode of play continues, and the real game at the same point if there is one."""

    context: Trajectory  # batch size 1
    real: RealState | None


@torch.inference_mode()
def first_state(models: Models, initial: InitialState) -> PlayState:
    """The state before the first action. Both recurrent states are burnt in on the frames, as in training."""
    device = models.policy.device
    context = Trajectory(*(column.to(device) for column in initial.context))
    with models.autocast():
        world = models.world.start(context)
    hidden = run_policy(models, context.obs[:, :-1], models.policy.initial_hidden(1)).hidden
    policy = run_policy(models, context.obs[:, -1:], hidden)
    return PlayState(world, policy, initial.real, 0, None, 0.0, False, [], 0.0, None)


@torch.inference_mode()
def next_state(models: Models, settings: Settings, state: PlayState, action: int, real: RealState | None) -> PlayState:
    """One step. Its random numbers depend on the seed and the number of the step alone, not on earlier commands."""
    device = models.policy.device
    trace: Trace | None = [] if settings.show_denoising else None
    random = generator(settings.seed, state.step, WORLD_MODEL, device)
    with models.autocast():
        model = with_sampler(models.world, settings)
        world, prediction = model.step(state.world, torch.tensor([action], device=device), random, trace)
    policy = run_policy(models, world.obs[:, None], state.policy.hidden)
    reward, terminated = float(prediction.reward), bool(prediction.terminated)
    episode_return, step = state.episode_return + reward, state.step + 1
    diverged_at = step if bool(prediction.diverged) else state.diverged_at
    return PlayState(world, policy, real, step, action, reward, terminated, trace or [], episode_return, diverged_at)


@torch.inference_mode()
def run_policy(models: Models, obs: Tensor, hidden: Hidden) -> PolicyOutput:
    """The output for the last of the frames uint8 (1, T, H, W)."""
    with models.autocast():
        logits, value, hidden = models.policy(obs, hidden)
    return PolicyOutput(logits[0, -1].float().cpu(), float(value[0, -1]), hidden)


def sample_action(settings: Settings, state: PlayState) -> int:
    """The policy's action: the most likely one at temperature 0."""
    random = generator(settings.seed, state.step, POLICY)
    return int(categorical(action_logits(settings, state)[None], random))


def action_logits(settings: Settings, state: PlayState) -> Tensor:
    """float (A,): the policy's logits at the temperature of the settings."""
    return state.policy.logits / max(settings.temperature, 1e-6)


def generator(seed: int, step: int, use: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Random numbers for one use in one step."""
    mixed = int(np.random.SeedSequence([seed, step, use]).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(mixed % 2**63)


def with_sampler(world: WorldModel, settings: Settings) -> WorldModel:
    """The same networks with the sampler of the settings."""
    changed = {"steps": settings.denoising_steps, "s_churn": settings.s_churn, "initial_noise": settings.initial_noise}
    return WorldModel(world.denoiser, world.reward_end, replace(world.sampler, **changed))
