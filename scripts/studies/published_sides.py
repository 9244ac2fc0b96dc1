"""Our preset diamond and the published code with the same weights, shown the same frames: how far their numbers differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import published_clone as clone
import torch
from published_rows import Row, compared, same_noise
from torch import Tensor, nn

from adamas.agent.returns import LAMBDA
from adamas.agent.rollout import Rollout
from adamas.config import SIGMA_MIN, SIZE, Config
from adamas.config.schema import SEGMENT_FRAMES
from adamas.data.batch import Segment
from adamas.data.frames import to_float
from adamas.training.models import Models
from adamas.world_model import denoiser

ACTIONS = ("NOOP", "FIRE", "RIGHT", "LEFT")  # of Breakout
BATCH = 3
LARGE = 1_000  # numbers from which on the spread of a tensor says something


class Both:
    """The two systems with the same weights, and what they are shown."""

    def __init__(self, config: Config) -> None:
        torch.manual_seed(config.seed)
        self.config, self.models = config, Models(config, ACTIONS, torch.device("cpu"))
        self.agent = clone.build(config, len(ACTIONS))
        self.initial = list(self._initial_spreads())
        random = torch.Generator().manual_seed(config.seed)
        _redraw_constants(self.agent, random)
        for part in Config().parts:
            clone.copy_weights(part, *self.part(part))
        shape = (BATCH, SEGMENT_FRAMES)
        self.obs = torch.randint(0, 256, (*shape, SIZE, SIZE), dtype=torch.uint8, generator=random)
        self.action = torch.randint(len(ACTIONS), shape, generator=random)
        self.reward = torch.randint(-1, 2, shape, generator=random).float()
        self.noise = torch.randn(BATCH, 1, SIZE, SIZE, generator=random)

    def part(self, name: str) -> tuple[Any, Any]:
        return getattr(self.models, name), getattr(self.agent, clone.PARTS[name])

    def theirs(self, obs: Tensor) -> Tensor:
        """Frames uint8 (B, T, H, W) as that code holds them, float (B, T, 1, H, W) in [-1, 1]."""
        return obs.div(255).mul(2).sub(1)[:, :, None]

    def parameters(self) -> Iterator[Row]:
        for name in Config().parts:
            mine, other = (sum(p.numel() for p in module.parameters()) for module in self.part(name))
            yield Row(f"{name}: number of parameters", f"{mine:,}", f"{mine - other:,}")

    def _initial_spreads(self) -> Iterator[Row]:
        for name in Config().parts:
            pairs = [p for p in clone.pairs(name, *self.part(name)) if p[0].numel() >= LARGE]
            spreads = (
                torch.tensor([[tensor.detach().std() for tensor in pair] for pair in pairs]) + 1e-9
            )  # some are zero
            apart = (spreads[:, 0] / spreads[:, 1] - 1).abs().max()
            yield Row(f"{name}: initial spread of a tensor", float(spreads.max()), f"{100 * apart:.1f}%")

    @torch.no_grad()
    def network(self) -> Row:
        ours, theirs = self.part("denoiser")
        n, c_noise = self.config.denoiser.context, torch.linspace(-1.5, 0.7, BATCH)
        context, action = self.obs[:, :n], self.action[:, :n]
        mine = ours.net(self.noise, c_noise, to_float(context), action)
        other = theirs.inner_model(self.noise, c_noise, self.theirs(context).flatten(1, 2) / 0.5, action)
        return compared("denoiser: network output", mine, other, frames=True)

    @torch.no_grad()
    def denoised(self, sigma: float) -> Row:
        x = self.noise * sigma + to_float(self.obs[:, self.config.denoiser.context])[:, None]
        mine = self._denoise(x, sigma)
        with clone.without_faults():
            other = self._their_denoise(x, sigma)
        fault = self._their_denoise(x, sigma)
        return compared(f"denoised frame, sigma {sigma:g}", mine, other, fault, frames=True)

    @torch.no_grad()
    def sampled(self) -> Row:
        from models.diffusion import DiffusionSampler, DiffusionSamplerConfig

        s, n = self.config.sampler, self.config.denoiser.context
        mine = denoiser.run_sampler(self._denoise, self.noise, s, torch.Generator())
        c = DiffusionSamplerConfig(s.steps, SIGMA_MIN, s.sigma_max, int(denoiser.RHO))
        work = DiffusionSampler(self.agent.denoiser, c).sample
        shown = self.theirs(self.obs[:, :n]), self.action[:, :n]
        with patch.object(torch, "randn", lambda *_, **__: self.noise):
            with clone.without_faults():
                other, _ = work(*shown)
            fault, _ = work(*shown)
        return compared(f"frame after {s.steps} Euler steps", mine, other, fault, frames=True)

    def _denoise(self, x: Tensor, sigma: float) -> Tensor:
        n = self.config.denoiser.context
        return self.models.denoiser.denoise(x, float(sigma), to_float(self.obs[:, :n]), self.action[:, :n])

    def _their_denoise(self, x: Tensor, sigma: float) -> Tensor:
        n = self.config.denoiser.context
        context = self.theirs(self.obs[:, :n]).flatten(1, 2)
        return self.agent.denoiser.denoise(x, torch.tensor([sigma]), context, self.action[:, :n])

    @torch.no_grad()
    def reward_end(self) -> Iterator[Row]:
        ours, theirs = self.part("reward_end")
        obs, action = self.obs, self.action[:, :-1]
        mine = ours(obs[:, :-1], action, obs[:, 1:])
        others = theirs.predict_rew_end(self.theirs(obs[:, :-1]), action, self.theirs(obs[:, 1:]))
        for name, a, b in zip(("reward", "end"), mine, others, strict=False):
            yield compared(f"{name} logits over {obs.shape[1]} frames", a, b)

    @torch.no_grad()
    def policy(self) -> Iterator[Row]:
        ours, theirs = self.part("actor_critic")
        logits, values, _ = ours(self.obs, ours.initial_hidden(BATCH))
        hidden, outputs = _zeros(theirs), []
        for frame in self.theirs(self.obs).unbind(1):
            other, value, hidden = theirs.predict_act_value(frame, hidden)
            outputs.append((other, value))
        others = [torch.stack(column, dim=1) for column in zip(*outputs, strict=True)]
        yield compared(f"policy logits over {self.obs.shape[1]} frames", logits, others[0])
        yield compared(f"values over {self.obs.shape[1]} frames", values, others[1])

    def denoiser_loss(self) -> Iterator[Row]:
        length = self.config.denoiser.context + 1 + self.config.denoiser.autoregressive_steps
        segment = self._segment(length)
        with same_noise():
            mine, _ = self.models.denoiser.loss(segment, torch.Generator())
        batch = self._batch(segment, ends={})

        def theirs() -> Tensor:
            with same_noise():
                return self.agent.denoiser(batch)[0]

        with clone.without_faults(round_too=True):
            other = theirs()
        yield from self._loss_and_gradients("denoiser", mine, other, theirs())

    @torch.no_grad()
    def first_frames(self) -> Row:
        """The denoiser's loss of the frames behind the first one of an episode: what came before it is padding."""
        n = self.config.denoiser.context
        segment = self._segment(n + 1)
        segment.mask[:, : n - 1] = False
        segment.obs[:, : n - 1] = segment.obs[:, n - 1 : n]
        grey = self._batch(segment, ends={})
        repeated = replace(grey, obs=self.theirs(segment.obs))
        losses = []
        for loss in (
            lambda: self.models.denoiser.loss(segment, torch.Generator()),
            lambda: self.agent.denoiser(repeated),
            lambda: self.agent.denoiser(grey),
        ):
            with same_noise():
                losses.append(loss()[0])
        return compared("denoiser: loss at the start of an episode", *losses)

    def reward_end_loss(self) -> Iterator[Row]:
        """One of the episodes ends within the segment."""
        segment, last = self._segment(SEGMENT_FRAMES), SEGMENT_FRAMES // 2
        segment.terminated[0, last] = True
        segment.mask[0, last + 2 :] = False  # the final frame is a row of ours
        segment.obs[0, last + 2 :] = segment.obs[0, last + 1]
        mine, _ = self.models.reward_end.loss(segment, torch.Generator())
        other, _ = self.agent.rew_end_model(self._batch(segment, ends={0: last}))
        yield from self._loss_and_gradients("reward_end", mine, other)

    def policy_loss(self) -> Iterator[Row]:
        """A third of the rollouts ends with its last step."""
        from models.actor_critic import ActorCriticLossConfig

        ours, theirs = self.part("actor_critic")
        c, obs = self.config.actor_critic, self.obs[:, : self.config.actor_critic.horizon + 1]
        reward = self.reward[:, : c.horizon]
        env = clone.Playback(self.theirs(obs), reward, ended=torch.arange(BATCH) % 3 == 0)
        theirs.setup_training(env, ActorCriticLossConfig(c.horizon, c.discount, LAMBDA, 1.0, c.entropy_weight))
        other, logs = theirs()
        action, hidden = torch.stack(env.actions, dim=1), ours.initial_hidden(BATCH)
        with torch.no_grad():
            logits, values, _ = ours(obs, hidden)
        log_p = logits[:, :-1].log_softmax(-1).gather(-1, action[..., None])[..., 0]
        end, none = torch.stack(env.ends, dim=1).bool(), torch.zeros(action.shape, dtype=torch.bool)
        rollout = Rollout(hidden, obs, action, log_p, values, reward, end, none, ~none)
        mine, metrics = ours.loss(ours.with_targets(rollout), torch.Generator())
        yield compared("actor_critic: value loss", metrics["value"], logs["loss_values"])
        yield compared("actor_critic: entropy", metrics["entropy"], -logs["loss_entropy"] / c.entropy_weight)
        yield self._gradients("actor_critic", mine, other)  # the policy's losses have nothing else in common

    def _loss_and_gradients(self, part: str, mine: Tensor, other: Tensor, fault: Tensor | None = None) -> Iterator[Row]:
        yield compared(f"{part}: loss", mine, other, fault)
        yield self._gradients(part, mine, other, fault)

    def _gradients(self, part: str, mine: Tensor, other: Tensor, fault: Tensor | None = None) -> Row:
        pairs = [p for p in clone.pairs(part, *self.part(part)) if isinstance(p[0], nn.Parameter)]
        ours, theirs = zip(*pairs, strict=True)
        flawed = None if fault is None else _gradient(fault, theirs)
        return compared(f"{part}: gradients", _gradient(mine, ours), _gradient(other, theirs), flawed)

    def _segment(self, length: int) -> Segment:
        none = torch.zeros(BATCH, length, dtype=torch.bool)
        columns = (column[:, :length].clone() for column in (self.obs, self.action, self.reward))
        return Segment(*columns, none, none.clone(), ~none)

    def _batch(self, segment: Segment, ends: dict[int, int]) -> Any:
        """The same as that code has it, where what an episode ends with is no frame of a segment."""
        from data import Batch

        obs, mask, info = self.theirs(segment.obs), segment.mask.clone(), [{} for _ in segment.obs]
        for row, step in ends.items():
            info[row] = {"final_observation": obs[row, step + 1].clone()}
            mask[row, step + 1 :] = False
        obs = obs * mask[..., None, None, None]
        end = segment.terminated.long()
        return Batch(obs, segment.action, segment.reward, end, torch.zeros_like(end), mask, info, [])


def _gradient(loss: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, tuple(parameters))])


def _zeros(theirs: Any) -> tuple[Tensor, Tensor]:
    return torch.zeros(BATCH, theirs.lstm_dim), torch.zeros(BATCH, theirs.lstm_dim)


@torch.no_grad()
def _redraw_constants(module: nn.Module, random: torch.Generator) -> None:
    """What starts at zero or one would hide what comes before it."""
    for p in module.parameters():
        if p.min() == p.max():
            p.add_(torch.randn(p.shape, generator=random) * (p[0].numel() ** -0.5 if p.ndim > 1 else 0.1))
