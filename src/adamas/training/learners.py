"""What learns: a learner for each part, and the work that a CUDA graph may record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adamas.agent.imagination import imagine
from adamas.agent.rollout import Rollout
from adamas.config import Config
from adamas.data.batch import Segment, Trajectory
from adamas.training.cuda_graphs import Capture, CudaCapture, Graphed
from adamas.training.learner import Learner
from adamas.training.models import Models
from adamas.training.optimizer import Optimizer
from adamas.utils.random import Random

WEIGHT_DECAY, WARMUP_UPDATES = 1e-2, 100  # of the world model; the policy has neither
MAX_GRAD_NORM = 100.0  # of reward/end and policy


class Learners:
    """The learners of `models`, by part, and the two works without gradients: imagined rollouts and imagined segments."""

    def __init__(self, models: Models) -> None:
        c, self.models = models.config, models
        world = {"weight_decay": WEIGHT_DECAY, "warmup_updates": WARMUP_UPDATES}
        steps = c.actor_critic.epochs * c.actor_critic.minibatches
        self.by_part = {
            "denoiser": self._learner("denoiser", c, c.micro_batch, max_grad_norm=c.denoiser.max_grad_norm, **world),
            "reward_end": self._learner("reward_end", c, c.micro_batch, max_grad_norm=MAX_GRAD_NORM, **world),
            "actor_critic": self._learner("actor_critic", c, 0, max_grad_norm=MAX_GRAD_NORM, steps_per_update=steps),
        }
        self.imagine_rollout: Callable[[Trajectory, Random], Rollout] = self._imagine_rollout
        self.imagine_segment: Callable[[Segment, Random], Tensor] = self._imagine_segment
        if c.cuda_graphs:
            self.record(CudaCapture())

    def record(self, capture: Capture) -> None:
        """From now on the work is recorded at its first calls, and then repeated."""
        for learner in self.by_part.values():
            learner.gradients = Graphed(learner.backward, capture, learner.optimizer.parameters)
        self.imagine_rollout = Graphed(self._imagine_rollout, capture)
        self.imagine_segment = Graphed(self._imagine_segment, capture)

    def updates(self, part: str) -> int:
        """Optimizer steps of the part so far."""
        return self.by_part[part].optimizer.updates

    def _learner(self, name: str, c: Config, micro_batch: int, **schedule: Any) -> Learner:
        module = getattr(self.models, name)
        optimizer = Optimizer(name, module, getattr(c, name).optimization, **schedule)
        return Learner(module, optimizer, self.models.autocast, micro_batch)

    @torch.no_grad()
    def _imagine_rollout(self, context: Trajectory, generator: Random) -> Rollout:
        models = self.models
        with models.autocast():
            return imagine(models.world, models.actor_critic, context, models.config.actor_critic.horizon, generator)

    @torch.no_grad()
    def _imagine_segment(self, segment: Segment, generator: Random) -> Tensor:
        """The frames of a segment as the world model imagines them, uint8 (B, T, H, W)."""
        with self.models.autocast():
            return self.models.world.denoiser.imagine(segment, self.models.config.sampler, generator).obs

    def state_dict(self) -> dict[str, Any]:
        return {name: learner.optimizer.state_dict() for name, learner in self.by_part.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, learner in self.by_part.items():
            learner.optimizer.load_state_dict(state[name])
