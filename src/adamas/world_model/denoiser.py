"""The denoiser: a diffusion model of the next frame given past frames and actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamas import config
from adamas.data.batch import Segment
from adamas.data.frames import to_float, to_uint8, with_changes
from adamas.data.motion import near_small_movers
from adamas.networks.blocks import FourierFeatures, patches
from adamas.networks.unet import UNet
from adamas.training.distributed import masked_mean
from adamas.utils.random import Random, normal
from adamas.world_model import edm, samplers

Trace = list[tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor, Tensor, Random], tuple[Tensor, Tensor]]  # as `Denoiser.loss`
FRAME_STD = 0.5  # of frames in [-1, 1]: context frames are divided by it


class ConditionedUNet(nn.Module):
    """F_theta: the U-Net with its conditions, the noise level, the past frames and the past actions."""

    def __init__(self, c: config.Denoiser, num_actions: int) -> None:
        super().__init__()
        self.patch, self.input = c.patch, c.input
        width = c.condition_channels
        self.noise_embedding = FourierFeatures(width)
        self.action_embedding = nn.Embedding(num_actions, width // c.context)
        self.condition = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.unet = UNet((c.context + 1) * c.patch**2, c.patch**2, width, c.channels, c.depths, c.attention)

    def forward(self, x: Tensor, c_noise: Tensor, context: Tensor, action: Tensor) -> Tensor:
        """x float (B, 1, H, W), c_noise float (B,), context float (B, n, H, W), action int64 (B, n) -> (B, 1, H, W)."""
        actions = self.action_embedding(action).flatten(1)  # (B, n * width/n)
        condition = self.condition(self.noise_embedding(c_noise) + actions)
        planes = patches(torch.cat([self.read(context), x], dim=1), self.patch)  # (B, (n+1)*patch^2, H', W')
        return F.pixel_shuffle(self.unet(planes, condition), self.patch)

    def read(self, context: Tensor) -> Tensor:
        """Frames float (B, n, H, W) in [-1, 1] as the first convolution is shown them: of unit size."""
        return with_changes(context, context.shape[1])[:, 0] if self.input == "changes" else context / FRAME_STD


class Denoiser(nn.Module):
    """What is diffused is `target`: the next frame itself, or the scaled change that leads to it.

    Everywhere below, `obs` are uint8 frames, `context` is obs[t-n+1..t], oldest first, with `action` at the same
    times, and `y` is float (B, 1, H, W) in the units of the target.
    """

    def __init__(self, c: config.Denoiser, num_actions: int) -> None:
        super().__init__()
        self.config = c
        self.net = ConditionedUNet(c, num_actions)
        self.register_buffer("sigma_data", torch.tensor(c.sigma_data))

    def measure(self, obs: Tensor, next_obs: Tensor) -> None:
        """Sets sigma_data to the root mean square of the changes obs -> next_obs, uint8 (N, H, W), if they are diffused."""
        if self.config.target == "change":
            rms = self.encode(to_float(next_obs), to_float(obs)).square().mean().sqrt()
            self.sigma_data.copy_(rms.clamp_min(1e-3))

    def encode(self, frame: Tensor, previous: Tensor) -> Tensor:
        """The frame in [-1, 1] as the target that is diffused; `decode` is its inverse."""
        return (frame - previous) * self.config.change_scale if self.config.target == "change" else frame

    def decode(self, y: Tensor, previous: Tensor) -> Tensor:
        return previous + y / self.config.change_scale if self.config.target == "change" else y

    def way_back(self, y: Tensor, previous: Tensor, sigma: Tensor) -> Tensor:
        """What joins the noise n so that x leads from y at sigma 0 to the previous frame at `sigma_previous`.

        x = y + s (p - y) + n with s = min(1, sigma / sigma_previous), where p is the target of a frame that stands
        still. Up to there the ODE is EDM's, dx/dsigma = (x - D) / sigma, and so the samplers are the same.
        `y`, `previous` float (B, 1, H, W), sigma float (B,).
        """
        share = (sigma / self.config.sigma_previous).clamp(max=1)[:, None, None, None]
        return share * (self.encode(previous, previous) - y)

    def steps(self, segment: Segment) -> Tensor:
        """bool (B, T-n): which steps the mean loss is over."""
        return segment.known[:, self.config.context - 1 :]

    def losses(self, segment: Segment, generator: Random, loss: Loss | None = None) -> Iterator[Tensor]:
        """Of the frames behind the first `context` ones of a segment, one after the other: the share of their mean loss,
        padding left out. Who goes backward through one before asking for the next keeps one frame's activations at a time.

        The model's own frame replaces a frame before the next one is predicted from it, so that the model learns
        to go on from what it draws. A frame that is padding, or that nothing came before, is never replaced, and no
        gradient flows from frame to frame.

        Args:
            loss: in place of `self.loss`, the same for several processes.
        """
        n, obs, known, steps = self.config.context, segment.obs, segment.known, self.steps(segment)
        for t in range(n, obs.shape[1]):
            found, generated = (loss or self.loss)(
                obs[:, t - n : t], segment.action[:, t - n : t], obs[:, t], generator
            )
            this = torch.arange(n, obs.shape[1], device=obs.device) == t
            yield masked_mean(torch.where(this, found[:, None], 0.0), steps)
            obs = _shown(obs, t, generated, known)

    @torch.no_grad()
    def dream(self, segment: Segment, s: config.Sampler, generator: Random) -> Segment:
        """The segment as the model dreams it: behind the first `context` frames, each is drawn from those before it and the
        actions that were taken. All else stays, and so do padding and frames that nothing came before."""
        n, obs, known = self.config.context, segment.obs, segment.known
        for t in range(n, obs.shape[1]):
            obs = _shown(obs, t, self.sample(obs[:, t - n : t], segment.action[:, t - n : t], s, generator), known)
        return segment._replace(obs=obs)

    def loss(self, context: Tensor, action: Tensor, obs: Tensor, generator: Random) -> tuple[Tensor, Tensor]:
        """context uint8 (B, n, H, W), action (B, n), obs uint8 (B, H, W) -> loss (B,), the model's frame uint8 (B, H, W)."""
        c, frames = self.config, to_float(context)
        previous = frames[:, -1:]
        y = self.encode(to_float(obs)[:, None], previous)
        sigma = edm.draw_sigma(len(y), c.sigma_log_mean, c.sigma_log_std, c.sigma_least, c.sigma_most, generator)
        noise = edm.draw_noise(sigma, y.shape, c.offset_noise, generator)
        if c.objective == "previous_frame":
            noise = noise + self.way_back(y, previous, sigma)
        net, weight = self._bind(frames, action), self.pixel_weight(context)
        loss, denoised = edm.denoising_loss(net, y, sigma, noise, self.sigma_data, c.offset_noise, weight)
        return loss, to_uint8(self.decode(denoised.detach(), previous))[:, 0]

    def pixel_weight(self, context: Tensor) -> Tensor | float:
        """uint8 (B, n, H, W) -> how much each pixel of the next frame counts in the loss, float (B, 1, H, W)."""
        if self.config.small_weight == 1:
            return 1.0
        return 1 + (self.config.small_weight - 1) * near_small_movers(context)[:, None]

    @torch.no_grad()
    def sample(
        self, context: Tensor, action: Tensor, s: config.Sampler, generator: Random, trace: Trace | None = None
    ) -> Tensor:
        """context uint8 (B, n, H, W), action int64 (B, n) -> the next frame, uint8 (B, H, W).

        To `trace` go the two frames uint8 (B, H, W) of each call of the network: what it was shown, as noisy as it
        was, and what it made of that.
        """
        frames = to_float(context)
        net, previous = self._bind(frames, action), frames[:, -1:]

        def show(y: Tensor) -> Tensor:
            return to_uint8(self.decode(y, previous))[:, 0]

        def denoise(x: Tensor, sigma: float) -> Tensor:
            y = edm.denoise(net, x, x.new_full((len(x),), sigma), self.sigma_data, self.config.offset_noise)
            if trace is not None:
                trace.append((show(x), show(y)))
            return y

        noise = normal(previous.shape, generator)
        return show(draw(denoise, noise, s, generator, self.encode(previous, previous)))

    def _bind(self, frames: Tensor, action: Tensor) -> edm.Network:
        return lambda x, c_noise: self.net(x, c_noise, frames, action)


def _shown(obs: Tensor, t: int, generated: Tensor, known: Tensor) -> Tensor:
    """Frames (B, T, H, W) whose frame t is the generated one (B, H, W), where the step to it is known."""
    frame = torch.where(known[:, t - 1, None, None], generated, obs[:, t])
    return torch.cat([obs[:, :t], frame[:, None], obs[:, t + 1 :]], dim=1)


def draw(
    denoise: samplers.Denoise, noise: Tensor, s: config.Sampler, generator: Random, previous: Tensor | float = 0.0
) -> Tensor:
    """Runs the sampler that `s` names from unit normal `noise`; the shape stays.

    By default the noise is *not* scaled by sigma_max although the schedule starts there: the narrower start makes
    a rollout drift less (DIAMOND, section 4 and its issue 40). `previous` is what the target would be if the frame
    before the one to come stood still, for the start that adds it to the noise.
    """
    sigmas = samplers.karras_schedule(s.steps, s.sigma_min, s.sigma_max, s.rho)
    starts = {"unit": noise, "sigma_max": s.sigma_max * noise, "previous_frame": previous + s.sigma_max * noise}
    x = starts[s.initial_noise]
    if s.s_churn > 0:
        return samplers.churned_euler(denoise, x, sigmas, generator, s.s_churn, s.s_tmin, s.s_tmax, s.s_noise)
    return (samplers.heun if s.method == "heun" else samplers.euler)(denoise, x, sigmas)
