"""One update of each part: draw a batch, learn from it, log."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from adamas.agent.imagined_replay import ImaginedReplay
from adamas.agent.q_learning import QBatch, shifted, transitions
from adamas.agent.q_network import FRAME_STACK, dropout_rate
from adamas.agent.rollout import PolicyBatch, Rollout
from adamas.config.schema import SEGMENT_FRAMES
from adamas.data.batch import Segment, Trajectory
from adamas.data.motion import lost_track
from adamas.data.replay import Replay
from adamas.training import distributed
from adamas.training.generators import Generators
from adamas.training.learners import Learners
from adamas.training.models import Models
from adamas.utils.logger import Logger, NullLogger
from adamas.utils.transfer import to_device

MEASURED_STEPS = 20_000  # so many that luck plays no part


class Updates:
    """Makes updates of `learners` from `replay`. Of several processes each draws its share of a batch."""

    def __init__(self, learners: Learners, replay: Replay, random: Generators, logger: Logger) -> None:
        self.learners, self.replay, self.random, self.logger = learners, replay, random, logger
        self.models, self.config = learners.models, learners.models.config
        self.imagined = ImaginedReplay()

    @classmethod
    def without_run(cls, models: Models, replay: Replay) -> Updates:
        """In one thread, by random numbers of the config's seed; nothing is logged."""
        return cls(Learners(models), replay, Generators.seeded(models.config.seed, models.device), NullLogger())

    def make(self, part: str) -> None:
        """One update of a part of the run."""
        {
            "denoiser": self.denoiser,
            "reward_end": self.reward_end,
            "actor_critic": self.actor_critic,
            "q_network": self.q_network,
        }[part]()

    def measure_changes(self) -> None:
        """How large the change from frame to frame is, which a denoiser of changes has to know before its first update."""
        generator = torch.Generator().manual_seed(self.config.seed)
        self.models.denoiser.measure(self.replay.frame_pairs(MEASURED_STEPS, generator))

    def denoiser(self) -> None:
        c, r = self.config.denoiser, self.config.replay
        autoregressive = self.learners.steps("denoiser") >= c.autoregressive_after
        segment = self.replay.sample(
            c.optimization.batch_size // distributed.world_size(),
            c.context + 1 + autoregressive * c.autoregressive_steps,
            self.random.data,
            first_target=c.context,
            event_share=r.event_share,
            direction_change_share=r.direction_change_share,
        )
        self._learn("denoiser", segment)
        self.models.update_average("denoiser")

    def reward_end(self) -> None:
        c, updates = self.config.reward_end, self.learners.steps("reward_end")
        segment = self.replay.sample(
            c.optimization.batch_size // distributed.world_size(),
            SEGMENT_FRAMES,
            self.random.data,
            event_share=self.config.replay.event_share,
        )
        imagined = int((updates + 1) * c.imagined_share) > int(updates * c.imagined_share)
        if imagined:
            segment = self._imagined(segment)
        self._learn("reward_end", segment, "imagined_" if imagined else "")

    def _imagined(self, segment: Segment) -> Segment:
        """What happened, with the frames that imagination shows; up to where they lose track, if that is to be learned."""
        obs = self.learners.imagine_segment(segment, self.random.noise)
        return until_diverged(segment, obs) if self.config.reward_end.predict_divergence else segment._replace(obs=obs)

    def actor_critic(self) -> None:
        """Learns from imagined rollouts."""
        c = self.config.actor_critic
        batch = self.learners.imagine_rollout(self._contexts(), self.random.noise)
        self._log_imagination(batch.rollout)
        for _ in range(c.epochs):
            for minibatch in _minibatches(batch, c.minibatches, self.random.data):
                self._learn("actor_critic", minibatch.normalized() if c.epochs > 1 else minibatch)
        self.models.update_average("actor_critic")

    def q_network(self) -> None:
        """Imagines rollouts, from which the Q-network learns from now on, and makes some optimizer steps."""
        self.imagine_steps()
        for _ in range(self.config.q_network.steps_per_update):
            self._learn_values()

    def imagine_steps(self) -> None:
        """A batch of rollouts for the Q-network."""
        rollout = self.learners.imagine_rollout(self._contexts(), self.random.noise)
        self._log_imagination(rollout)
        self.imagined.add(rollout)

    def after_step(self) -> None:
        """One optimizer step of the Q-network, as one follows each step in the real game."""
        self._learn_values("collect_")

    def _learn_values(self, prefix: str = "") -> None:
        """From the replay and, where some were imagined, from rollouts beside it (Dyna-Q: Sutton 1991)."""
        c = self.config.q_network
        size = c.optimization.batch_size
        segments = [self.replay.sample_steps(size, FRAME_STACK - 1, c.n_step, self.random.data)]
        if self.imagined:
            count = max(1, round(size * c.imagined_share))
            segments.append(self.imagined.sample_steps(count, c.n_step, self.random.noise))
        batch = transitions(Segment(*map(torch.cat, zip(*segments, strict=True))), FRAME_STACK, c.discount)
        batch = batch._replace(next_obs=shifted(batch.next_obs, self.random.data))
        target = self.learners.q_targets(batch, self.random.noise)
        obs = shifted(batch.obs, self.random.data)
        rate = dropout_rate(self.learners.steps("q_network"))
        self._learn("q_network", QBatch(obs, batch.action, target, batch.mask, torch.full_like(target, rate)), prefix)
        self.models.update_average("q_network")

    def _contexts(self) -> Trajectory:
        """Where imagined rollouts start."""
        c = self.config
        batch = getattr(c, c.policy_part).optimization.batch_size // distributed.world_size()
        return self.replay.sample_contexts(batch, c.denoiser.context, self.random.data)

    def _log_imagination(self, rollout: Rollout) -> None:
        self.logger.add("imagination/reward", rollout.reward.sum(1).mean())
        self.logger.add("imagination/end", rollout.terminated.any(1).float().mean())
        diverged = rollout.truncated.any(1) | ~rollout.mask[:, 0]  # after some steps, or in the first one
        self.logger.add("imagination/diverged", diverged.float().mean())

    def _learn(self, part: str, batch: Segment | PolicyBatch | QBatch, prefix: str = "") -> None:
        metrics = self.learners.by_part[part].step(batch, self.random.noise)
        self.logger.add_all(f"{part}/{prefix}", metrics)


def until_diverged(segment: Segment, obs: Tensor) -> Segment:
    """The segment as it was imagined, frames `obs`. Its last step is the one that first loses track."""
    lost = F.pad(lost_track(segment.obs, obs) & segment.valid, (0, 1))  # (B, T)
    count = lost.cumsum(1)
    kept = F.pad(count[:, :-2] == 0, (2, 0), value=True)  # up to the frame that the step led to
    return segment._replace(obs=obs, diverged=lost & (count == 1), mask=segment.mask & kept)


def _minibatches(batch: PolicyBatch, count: int, generator: torch.Generator) -> list[PolicyBatch]:
    if count == 1:
        return [batch]
    order = to_device(torch.randperm(len(batch.obs), generator=generator), batch.obs.device)
    return [batch.rows(index) for index in order.tensor_split(count)]
