"""A dream, moment by moment: pure functions of the moment before, the action and the settings."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adamas.agent.actor_critic import Hidden
from adamas.play.load import Agent
from adamas.play.real_env import RealMoment
from adamas.play.settings import Settings
from adamas.utils.random import categorical as draw
from adamas.world_model.denoiser import Trace
from adamas.world_model.world_model import WorldModel, WorldState

DREAM, CHOICE = 0, 1  # what random numbers are for


class Thought(NamedTuple):
    """What the policy makes of a moment."""

    logits: Tensor  # float (A,), on the CPU
    value: float
    hidden: Hidden  # after it has seen the frame


class Moment(NamedTuple):
    """All that the future depends on, but for the settings; and what a person sees of it."""

    world: WorldState  # of one dream
    thought: Thought
    real: RealMoment | None  # the real game after the same actions
    step: int  # actions since the start
    action: int | None  # the one that led here, as are reward, terminated and trace
    reward: float
    terminated: bool
    trace: Trace
    total: float  # sum of rewards

    @property
    def frame(self) -> np.ndarray:
        """uint8 (84, 84)"""
        return self.world.obs[0, -1].cpu().numpy()


class Start(NamedTuple):
    """Frames and actions that a dream goes on from, and the real game at the same point where there is one."""

    obs: Tensor  # uint8 (1, n, H, W)
    action: Tensor  # int64 (1, n-1)
    real: RealMoment | None


@torch.inference_mode()
def begin(agent: Agent, start: Start) -> Moment:
    """The moment before the first action. Both recurrent states are burnt in on the frames, as in training."""
    device = agent.policy.device
    obs = start.obs.to(device)
    with agent.autocast():
        state = agent.world.start(obs, start.action.to(device))
        _, _, hidden = agent.policy(obs[:, :-1], agent.policy.initial_hidden(1))
        thought = think(agent, state, hidden)
    return Moment(state, thought, start.real, 0, None, 0.0, False, [], 0.0)


@torch.inference_mode()
def advance(agent: Agent, settings: Settings, moment: Moment, action: int, real: RealMoment | None) -> Moment:
    """One step of the dream, with random numbers that are those of this step and seed whatever was done before."""
    device = agent.policy.device
    trace: Trace | None = [] if settings.strip else None
    random = generator(settings.seed, moment.step, DREAM, device)
    with agent.autocast():
        model = with_sampler(agent.world, settings)
        state, prediction = model.step(moment.world, torch.tensor([action], device=device), random, trace)
        thought = think(agent, state, moment.thought.hidden)
    reward, terminated = float(prediction.reward), bool(prediction.terminated)
    return Moment(state, thought, real, moment.step + 1, action, reward, terminated, trace or [], moment.total + reward)


def think(agent: Agent, state: WorldState, hidden: Hidden) -> Thought:
    logits, value, hidden = agent.policy(state.obs[:, -1:], hidden)
    return Thought(logits[0, 0].float().cpu(), float(value), hidden)


def choose(settings: Settings, moment: Moment) -> int:
    """The policy's action: the likeliest one at temperature 0."""
    random = generator(settings.seed, moment.step, CHOICE)
    return int(draw(tempered(settings, moment)[None], random))


def tempered(settings: Settings, moment: Moment) -> Tensor:
    """Logits float (A,) of the policy at the temperature of the settings."""
    return moment.thought.logits / max(settings.temperature, 1e-6)


def generator(seed: int, step: int, use: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Random numbers for one use in one step."""
    mixed = int(np.random.SeedSequence([seed, step, use]).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(mixed % 2**63)


def with_sampler(world: WorldModel, settings: Settings) -> WorldModel:
    """The same networks, drawing frames as the settings say."""
    sampler = replace(world.sampler, steps=settings.steps, s_churn=settings.churn, initial_noise=settings.noise)
    return WorldModel(world.denoiser, world.reward_end, sampler)
