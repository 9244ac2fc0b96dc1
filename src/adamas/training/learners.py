"""What learns: a learner for each part, and the work that a CUDA graph may record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adamas.agent.imagination import imagine
from adamas.agent.policy import Policy
from adamas.agent.q_learning import Transitions
from adamas.agent.rollout import PolicyBatch, Rollout, joined
from adamas.data.batch import Segment, Trajectory
from adamas.training.compiling import records
from adamas.training.cuda_graphs import Capture, CudaCapture, Graphed
from adamas.training.learner import Learner
from adamas.training.models import Models
from adamas.training.optimizer import Optimizer
from adamas.training.shares import in_shares
from adamas.utils.random import Random
from adamas.utils.threads import SERIAL, Threads

WEIGHT_DECAY = 1e-2  # of the world model; the policy has none
WARMUP_UPDATES = 100  # of every part; of a Q-network optimizer steps
MAX_GRAD_NORM = 100.0  # of reward/end and actor-critic
Q_MAX_GRAD_NORM, Q_EPS = 10.0, 1.5e-4  # of the Q-network, and of its AdamW (Hessel et al. 2018)


class Learners:
    """The learners of `models`, by part, and the work without gradients: imagined rollouts, imagined segments and Q-targets."""

    def __init__(self, models: Models, threads: Threads = SERIAL) -> None:
        c, self.models, self.threads = models.config, models, threads
        self.by_part: dict[str, Learner] = {}
        if c.has_world_model:
            self.by_part["denoiser"] = self._learner("denoiser", c.micro_batch, WEIGHT_DECAY, c.denoiser.max_grad_norm)
            self.by_part["reward_end"] = self._learner("reward_end", c.micro_batch, WEIGHT_DECAY, MAX_GRAD_NORM)
        if c.policy_part == "actor_critic":
            steps = c.actor_critic.epochs * c.actor_critic.minibatches
            self.by_part["actor_critic"] = self._learner("actor_critic", 0, 0.0, MAX_GRAD_NORM, steps)
        else:
            self.by_part["q_network"] = self._learner("q_network", 0, 0.0, Q_MAX_GRAD_NORM, eps=Q_EPS)
        self.imagine_rollout: Callable[[Trajectory, Random], Any] = (
            self._imagine_batch if c.policy_part == "actor_critic" else self._imagine_rollout
        )
        self.imagine_segment: Callable[[Segment, Random], Tensor] = self._imagine_segment
        self.q_targets: Callable[[Transitions, Random], Tensor] = self._q_targets
        if records(c, models.device):
            self.record(CudaCapture())

    def record(self, capture: Capture) -> None:
        """From now on the work is recorded at its first calls, and then repeated."""
        for learner in self.by_part.values():
            learner.compute_gradients = Graphed(learner.backward, capture, learner.optimizer.parameters)
        self.imagine_rollout = Graphed(self.imagine_rollout, capture)
        self.imagine_segment = Graphed(self._imagine_segment, capture)
        self.q_targets = Graphed(self._q_targets, capture)

    def steps(self, part: str) -> int:
        """Optimizer steps of the part so far."""
        return self.by_part[part].optimizer.steps

    def _learner(
        self,
        name: str,
        micro_batch: int,
        weight_decay: float,
        max_grad_norm: float,
        steps_per_update: int = 1,
        eps: float = 1e-8,
    ) -> Learner:
        module, c = getattr(self.models, name), getattr(self.models.config, name).optimization
        optimizer = Optimizer(name, module, c, weight_decay, WARMUP_UPDATES, max_grad_norm, steps_per_update, eps)
        return Learner(module, optimizer, self.models.autocast, self.threads, micro_batch)

    def _imagine_batch(self, context: Trajectory, generator: Random) -> PolicyBatch:
        policy = self.models.actor_critic
        return policy.with_targets(self._imagine(policy, self.models.config.actor_critic.horizon, context, generator))

    def _imagine_rollout(self, context: Trajectory, generator: Random) -> Rollout:
        return self._imagine(self.models.policy, self.models.config.q_network.horizon, context, generator)

    def _imagine(self, policy: Policy, horizon: int, context: Trajectory, generator: Random) -> Rollout:
        def imagine_rows(rows: Trajectory, generator: Random) -> Rollout:
            with self.models.autocast():
                return imagine(self.models.world, policy, rows, horizon, generator)

        return joined(in_shares(self.threads, imagine_rows, context, generator))

    def _q_targets(self, batch: Transitions, generator: Random) -> Tensor:
        """float (B,): what the values of the actions are to become, by the target network."""
        target_network: Any = self.models.policy

        def of_rows(rows: Transitions, generator: Random) -> Tensor:
            with torch.no_grad(), self.models.autocast():
                return rows.reward + rows.discount * target_network.values(rows.next_obs).amax(-1)

        return torch.cat(in_shares(self.threads, of_rows, batch, generator))

    def _imagine_segment(self, segment: Segment, generator: Random) -> Tensor:
        """The frames of a segment as the world model imagines them, uint8 (B, T, H, W)."""

        def imagine_rows(rows: Segment, generator: Random) -> Tensor:
            with self.models.autocast():
                return self.models.world.denoiser.imagine(rows, self.models.config.sampler, generator).obs

        return torch.cat(in_shares(self.threads, imagine_rows, segment, generator))

    def state_dict(self) -> dict[str, Any]:
        return {name: learner.optimizer.state_dict() for name, learner in self.by_part.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, learner in self.by_part.items():
            learner.optimizer.load_state_dict(state[name])
