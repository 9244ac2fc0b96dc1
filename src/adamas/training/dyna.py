"""Where the policy of a world model learns: from imagined rollouts and, with a real_share, from collected steps (Sutton 1991)."""

from __future__ import annotations

import torch

from adamas.config.schema import REAL_ROLLOUTS
from adamas.data.replay import Replay
from adamas.training.collected_rollouts import Collected, collect_rollouts
from adamas.training.collector import Collector
from adamas.training.progress import Progress
from adamas.training.schedule import imagined_updates, real_share
from adamas.training.updates import Updates
from adamas.training.workers import Workers


class Dyna:
    """With `share` above 0 all collected steps are learned from, once, on-policy. Imagined updates give way by the share of this
    epoch's imagined rollouts that diverge, and at least by `share`: a dream that goes wrong teaches the policy little."""

    def __init__(self, updates: Updates, progress: Progress, workers: Workers) -> None:
        self.config, self.share = updates.config, real_share(updates.config)
        self.updates, self.progress, self.workers = updates, progress, workers

    def learn_from_steps(self, collector: Collector, most: int, generator: torch.Generator) -> Collected:
        """Collects the rollouts of an update, of `most` steps at most, and makes it."""
        models, horizon = self.updates.models, self.config.actor_critic.horizon
        with models.autocast():
            collected = collect_rollouts(collector, models.actor_critic, REAL_ROLLOUTS, horizon, most, generator)
        self.updates.policy(self.workers.learn(collected.rollout))
        return collected

    def share_now(self) -> float:
        """Of this epoch's imagined updates that give way, by what is known so far."""
        return max(self.share, self.progress.diverged_share()) if self.share else 0.0

    def imagined_updates(self) -> int:
        """Of this epoch, by what is known so far."""
        optimization = self.config.actor_critic.optimization
        updates = optimization.first_updates if self.progress.epoch == 0 else optimization.updates
        return imagined_updates(updates, self.share_now())

    def imagine(self, replay: Replay) -> None:
        """An update from imagined rollouts."""
        self.workers.update("actor_critic", replay)
        diverged = self.updates.actor_critic()
        if self.share:
            self.progress.count_rollouts(len(diverged), int(diverged.sum()))
