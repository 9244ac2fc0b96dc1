"""Where episodes of play begin: in the real game, or in the experience that the run has stored."""

from __future__ import annotations

import numpy as np
import torch

from adamas.data.batch import Trajectory
from adamas.data.dataset_table import open_table
from adamas.play.real_env import RealEnv
from adamas.play.step import InitialState, run_policy
from adamas.training.load_run import OpenedRun
from adamas.utils.random import categorical

LEAST_STEPS, MOST_STEPS = 20, 80  # of the real game before an initial state


class InitialStates:
    """Initial state number 0, 1, 2, ... of each source: "game", and "replay" where the run has one."""

    def __init__(self, agent: OpenedRun, real_env: RealEnv) -> None:
        self.agent, self.real_env = agent, real_env

    @property
    def sources(self) -> list[str]:
        return ["game", "replay"] if self.agent.replay_files else ["game"]

    def get(self, source: str, number: int) -> InitialState:
        """UserError when the replay cannot be read."""
        context = self.agent.config.denoiser.context
        if source == "game":
            return played_state(self.agent, self.real_env, context, number)
        return stored_state(self.agent, context, number)


def stored_state(agent: OpenedRun, context: int, number: int) -> InitialState:
    """A step of the replay, each as likely as any other. Before the first frame of its episode, that frame is repeated."""
    table = open_table(agent.replay_files)
    steps = np.flatnonzero(~table.final)
    row = int(np.random.default_rng(number).choice(steps))
    first, _ = table.bounds(table.episode_of(row))
    wanted = np.arange(row - context + 1, row + 1)
    frames = np.stack([table.frame(max(int(r), first)) for r in wanted])
    actions = np.where(wanted >= first, table.action[np.maximum(wanted, first)], 0)[:-1]
    actions = torch.from_numpy(actions.astype(np.int64))
    return InitialState(Trajectory(torch.from_numpy(frames)[None], actions[None]), None)


def played_state(agent: OpenedRun, real_env: RealEnv, context: int, number: int) -> InitialState:
    """The policy plays a few steps of the real game with the seed `number`. The first frame is repeated if it ends too soon."""
    random = torch.Generator().manual_seed(number)
    steps = int(torch.randint(LEAST_STEPS, MOST_STEPS + 1, (), generator=random))
    steps = max(min(steps, agent.config.atari.max_episode_steps // 2), context - 1)
    models, states, actions = agent.models, [real_env.reset(number)], []
    hidden = models.policy.initial_hidden(1)
    for _ in range(steps):
        frame = torch.from_numpy(states[-1].obs).to(models.policy.device)[None, None]
        logits, _, hidden = run_policy(models, frame, hidden)
        action = int(categorical(logits[None], random))
        state = real_env.step(states[-1], action)
        if state is None or state.ended:
            break
        states, actions = [*states, state][-context:], [*actions, action][-(context - 1) :]
    missing = context - len(states)
    frames = torch.from_numpy(np.stack([states[0].obs] * missing + [state.obs for state in states]))
    actions = torch.tensor([0] * missing + actions, dtype=torch.int64)
    real = states[-1]._replace(reward=0.0, episode_return=0.0)  # what came before does not count
    return InitialState(Trajectory(frames[None], actions[None]), real)
