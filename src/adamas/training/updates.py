"""One update of each part. Each draws its batch, computes a loss, steps, and logs.

Of several processes each computes on its own rows; a minibatch of rollouts is made of equally many rows of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from adamas.agent.actor_critic import Rollout
from adamas.data.batch import Segment
from adamas.data.motion import lost
from adamas.data.replay import Replay
from adamas.training.distributed import Columns, masked_mean, own_draws, own_rows
from adamas.training.models import Models
from adamas.training.rollouts import imagine
from adamas.utils.logger import Logger
from adamas.utils.random import Random
from adamas.world_model.reward_end import Counts

MEASURED_SEGMENTS = 512


@dataclass
class Generators:
    """Every random number of a run comes from one of these."""

    act: torch.Generator  # CPU: actions in the real game
    data: torch.Generator  # CPU: which segments are drawn
    noise: torch.Generator  # on the models' device: diffusion and imagination

    @classmethod
    def seeded(cls, seed: int, device: torch.device) -> Generators:
        places = ("cpu", "cpu", device)
        return cls(*(torch.Generator(place).manual_seed(3 * seed + i) for i, place in enumerate(places)))

    def state_dict(self) -> dict[str, Tensor]:
        return {name: generator.get_state() for name, generator in vars(self).items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, generator in vars(self).items():
            if state[name].shape == generator.get_state().shape:
                generator.set_state(state[name])
            else:  # saved on another kind of chip, whose stream cannot go on here: a new one
                generator.manual_seed(int(state["data"].sum()))


def measure_changes(models: Models, replay: Replay) -> None:
    """How large the change from frame to frame is, which a denoiser of changes has to know before its first update."""
    pair = replay.sample(MEASURED_SEGMENTS, 2, torch.Generator().manual_seed(models.config.seed), first_target=1)
    models.denoiser.measure(pair.obs[:, 0], pair.obs[:, 1])


def update_denoiser(models: Models, replay: Replay, random: Generators, logger: Logger) -> None:
    c = models.config.denoiser
    fed_back = c.fed_back_frames if models.optimizers["denoiser"].updates >= c.fed_back_after else 0
    length = c.context + 1 + fed_back
    rare = {"event_share": c.event_share, "turn_share": c.turn_share}
    segment = replay.sample(c.optimization.batch_size, length, random.data, c.context, **rare)
    _descend(models, "denoiser", own_rows(segment), random, logger, own_draws(random.noise))
    models.update_average("denoiser")


def update_reward_end(models: Models, replay: Replay, random: Generators, logger: Logger) -> None:
    c = models.config.reward_end
    segment = replay.sample(c.optimization.batch_size, c.segment_frames, random.data, event_share=c.event_share)
    segment = segment._replace(truncated=torch.zeros_like(segment.truncated))  # real play never goes astray
    segment, updates, prefix = own_rows(segment), models.optimizers["reward_end"].updates, ""
    if int((updates + 1) * c.dreamed_share) > int(updates * c.dreamed_share):
        segment, prefix = dream_segment(models, segment, random), "dreamed_"
    _, rewards, ends, astray = _descend(models, "reward_end", segment, random, logger)
    _log_counts(logger, f"{prefix}reward", rewards)
    _log_counts(logger, f"{prefix}end", ends)
    _log_counts(logger, f"{prefix}astray", astray)


def dream_segment(models: Models, segment: Segment, random: Generators) -> Segment:
    """What happened, with the frames that imagination would show; up to where they go astray, if that is to be learned."""

    def work(segment: Segment) -> Tensor:
        with models.autocast():
            return models.world.denoiser.dream(segment, models.config.sampler, own_draws(random.noise)).obs

    obs = models.graphs.run("dream_segment", work, segment, random.noise)
    return _until_astray(segment, obs) if models.config.reward_end.astray else segment._replace(obs=obs)


def _until_astray(segment: Segment, obs: Tensor) -> Segment:
    """The segment as it was dreamed, frames `obs`. The step that first leads astray is truncated, and the last."""
    astray = F.pad(lost(segment.obs, obs) & segment.known, (0, 1))  # (B, T)
    count = astray.cumsum(1)
    kept = F.pad(count[:, :-2] == 0, (2, 0), value=True)  # up to the frame that the step led to
    return segment._replace(obs=obs, truncated=astray & (count == 1), mask=segment.mask & kept)


def update_actor_critic(models: Models, replay: Replay, random: Generators, logger: Logger) -> None:
    rollout = dream(models, replay, random)
    logger.add("imagination/reward", rollout.reward.sum(1).mean())
    logger.add("imagination/end", rollout.terminated.any(1).float().mean())
    astray = rollout.truncated.any(1) | ~rollout.mask[:, 0]  # after some steps, or in the first one
    logger.add("imagination/astray", astray.float().mean())
    update_policy(models, rollout, random, logger)


def dream(models: Models, replay: Replay, random: Generators) -> Rollout:
    """A batch of rollouts in imagination, from frames of the replay on."""
    c = models.config

    def work(context: Segment) -> Rollout:
        with models.autocast():
            return imagine(models.world, models.actor_critic, context, c.actor_critic.horizon, own_draws(random.noise))

    context = replay.sample_contexts(c.actor_critic.optimization.batch_size, c.denoiser.context, random.data)
    return models.graphs.run("dream", work, own_rows(context), random.noise)


def update_policy(models: Models, rollout: Rollout, random: Generators, logger: Logger) -> None:
    """The same update from imagined and from real rollouts."""
    c = models.config.actor_critic
    for _ in range(c.epochs):
        for part in _minibatches(rollout, c.minibatches, random.data):
            loss = _descend(models, "actor_critic", part, random, logger)
            for name in ("policy", "value", "entropy", "mean_value", "mean_return"):
                logger.add(f"actor_critic/{name}", getattr(loss, name))
    models.update_average("actor_critic")


def _minibatches(rollout: Rollout, count: int, generator: torch.Generator) -> list[Rollout]:
    if count == 1:
        return [rollout]
    order = torch.randperm(len(rollout.obs), generator=generator).to(rollout.obs.device)
    return [rollout.rows(index) for index in order.tensor_split(count)]


def _descend(models: Models, name: str, batch: Columns, random: Generators, logger: Logger, *draws: Random) -> Any:
    """A step down the gradient of a batch's loss. Returns what the function that computes it does: first the loss."""
    optimizer = models.optimizers[name]

    def work(batch: Columns) -> Any:
        optimizer.zero_grad()
        found = [
            _backward(found, share)
            for part, share in _micro_batches(models, name, batch)
            for found in _losses(models, name, part, *draws)
        ]
        return pytree.tree_map(lambda *x: torch.stack(x).sum(0), *found)

    found = models.graphs.run(name, work, batch, random.noise, optimizer.parameters)
    logger.add(f"{name}/learning_rate", optimizer.learning_rate)
    norm = optimizer.step(_first(found))
    logger.add(f"{name}/loss", _first(found))
    logger.add(f"{name}/grad_norm", norm)
    logger.add(f"{name}/skipped_updates", optimizer.skipped)
    return found


def _micro_batches(models: Models, name: str, batch: Columns) -> Iterator[tuple[Columns, Tensor]]:
    """Some rows of the batch at a time, and their share of the steps that the loss is a mean over, float ()."""
    steps = getattr(models, name).steps(batch)
    size = getattr(models.config, name).optimization.micro_batch or len(steps)
    part = torch.arange(len(steps), device=steps.device)[:, None] // size  # of each row
    for number, first in enumerate(range(0, len(steps), size)):
        yield batch.rows(slice(first, first + size)), masked_mean((part == number).float(), steps)


def _losses(models: Models, name: str, part: Columns, *draws: Random) -> Iterable[Any]:
    """What the function of the loss returns; the denoiser's frame by frame, of which one at a time is kept."""

    def loss(*arguments: Any) -> Any:
        with models.autocast():
            return models.losses[name](*arguments)

    return models.denoiser.losses(part, *draws, loss) if name == "denoiser" else [loss(part, *draws)]


def _backward(found: Any, share: Tensor) -> Any:
    """Adds the gradients of a share of a loss. Returns the share of all that came with it."""
    found = pytree.tree_map(lambda x: x * share, found)
    _first(found).backward()
    return pytree.tree_map(Tensor.detach, found)


def _first(found: Any) -> Tensor:
    return found if isinstance(found, Tensor) else found[0]


def _log_counts(logger: Logger, name: str, counts: Counts) -> None:
    """Rewards and ends are rare, so that accuracy is blind to them."""
    logger.add(f"reward_end/{name}_recall", counts.both, counts.actual)
    logger.add(f"reward_end/{name}_precision", counts.both, counts.predicted)


UPDATES = {"denoiser": update_denoiser, "reward_end": update_reward_end, "actor_critic": update_actor_critic}
