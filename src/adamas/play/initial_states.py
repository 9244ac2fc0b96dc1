"""Where dreams start: in the real game, or in what a run has stored."""

from __future__ import annotations

import functools

import numpy as np
import torch

from adamas.agent.actor_critic import Hidden
from adamas.data.replay import Replay, read_dataset
from adamas.play.load import Agent
from adamas.play.real_env import Reality
from adamas.play.step import Start
from adamas.utils.random import categorical as draw

LEAST_STEPS, MOST_STEPS = 20, 80  # of real play before a dream


class Starts:
    """Start number 0, 1, 2, ... of each source: "game", "replay" where the run has one."""

    def __init__(self, agent: Agent, reality: Reality) -> None:
        self.agent, self.reality = agent, reality

    @property
    def sources(self) -> list[str]:
        return ["game", "replay"] if any(self.agent.folder.replay.glob("*.npz")) else ["game"]

    def start(self, source: str, number: int) -> Start:
        context = self.agent.config.denoiser.context
        if source == "game":
            return real_start(self.agent, self.reality, context, number)
        random = torch.Generator().manual_seed(number)
        segment = self._replay.sample_contexts(1, context, random)
        return Start(segment.obs, segment.action[:, :-1], None)

    @functools.cached_property
    def _replay(self) -> Replay:
        return read_dataset(self.agent.folder.replay, self.agent.config.age_weights)


@torch.inference_mode()
def real_start(agent: Agent, reality: Reality, context: int, number: int) -> Start:
    """The policy plays a few steps of the real game that has this number as its seed."""
    random = torch.Generator().manual_seed(number)
    steps = int(torch.randint(LEAST_STEPS, MOST_STEPS + 1, (), generator=random))
    steps = max(min(steps, agent.config.atari.max_episode_steps // 2), context - 1)
    hidden, moments, actions = agent.policy.initial_hidden(1), [reality.reset(number)], []
    for _ in range(steps):
        action, hidden = _act(agent, moments[-1].obs, hidden, random)
        moment = reality.step(moments[-1], action)
        if moment.over:
            break
        moments, actions = [*moments, moment][-context:], [*actions, action][-(context - 1) :]
    frames = torch.from_numpy(np.stack([moment.obs for moment in moments]))
    now = moments[-1]._replace(reward=0.0, total=0.0)  # what came before the dream does not count
    return Start(frames[None], torch.tensor(actions)[None], now)


def _act(agent: Agent, obs: np.ndarray, hidden: Hidden, random: torch.Generator) -> tuple[int, Hidden]:
    frame = torch.from_numpy(obs).to(agent.policy.device)[None, None]
    with agent.autocast():
        logits, _, hidden = agent.policy(frame, hidden)
    return int(draw(logits[:, 0].cpu(), random)), hidden
