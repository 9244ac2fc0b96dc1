"""The denoiser: a diffusion model of the next frame given past frames and actions."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamas import config
from adamas.config import SIGMA_MIN
from adamas.data.batch import Segment, masked_mean
from adamas.data.frames import to_float, to_uint8, with_changes
from adamas.data.motion import near_small_movers
from adamas.networks.blocks import FourierFeatures, patches
from adamas.networks.unet import UNet
from adamas.utils.logger import Metrics
from adamas.utils.random import Random, normal
from adamas.world_model import edm, samplers

Trace = list[tuple[Tensor, Tensor]]
FRAME_STD = 0.5  # of frames in [-1, 1]: context frames are divided by it
TARGET_CHANGE_SCALE = 4.0  # a change is multiplied by this before diffusion
RHO = 7.0  # curvature of the sampler's noise schedule
MOST_CHANGE = (
    4.0  # times sigma_data^2: a frame whose mean squared change is larger, a flash or a cut, counts as this much
)


class ConditionedUNet(nn.Module):
    """F_theta: the U-Net with its conditions, the noise level, the past frames and the past actions."""

    def __init__(self, c: config.Denoiser, network: config.Network, num_actions: int) -> None:
        super().__init__()
        self.patch, self.changes = network.patch, c.target == "change"
        width = network.condition_channels
        self.noise_embedding = FourierFeatures(width)
        self.action_embedding = nn.Embedding(num_actions, width // c.context)
        self.condition = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        planes, published = network.patch**2, network.architecture == "diamond"
        self.unet = UNet((c.context + 1) * planes, planes, width, c.channels, c.depths, published)

    def forward(self, x: Tensor, c_noise: Tensor, context: Tensor, action: Tensor) -> Tensor:
        """x float (B, 1, H, W), c_noise float (B,), context float (B, n, H, W), action int64 (B, n) -> (B, 1, H, W)."""
        actions = self.action_embedding(action).flatten(1)  # (B, n * width/n)
        condition = self.condition(self.noise_embedding(c_noise) + actions)
        planes = patches(torch.cat([self.read(context), x], dim=1), self.patch)  # (B, (n+1)*patch^2, H', W')
        return F.pixel_shuffle(self.unet(planes, condition), self.patch)

    def read(self, context: Tensor) -> Tensor:
        """Frames float (B, n, H, W) in [-1, 1] as the first convolution is shown them: of unit size."""
        return with_changes(context, context.shape[1])[:, 0] if self.changes else context / FRAME_STD


class Denoiser(nn.Module):
    """What is diffused is `target`: the next frame itself, or the scaled change that leads to it.

    Everywhere below, `obs` are uint8 frames, `context` is obs[t-n+1..t], oldest first, with `action` at the same
    times, and `y` is float (B, 1, H, W) in the units of the target.
    """

    sigma_data: Tensor  # float ()

    def __init__(self, c: config.Denoiser, network: config.Network, num_actions: int) -> None:
        super().__init__()
        self.config = c
        self.net = ConditionedUNet(c, network, num_actions)
        self.register_buffer("sigma_data", torch.tensor(FRAME_STD))

    def measure(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Sets sigma_data to the size of the changes obs -> next_obs, uint8 (N, H, W) each, if they are diffused."""
        if self.config.target == "change":
            sizes = [mean_square(self.encode(to_float(after), to_float(before))) for before, after in pairs]
            scale = robust_scale(torch.cat(sizes)) if sizes else torch.tensor(0.0)
            self.sigma_data.copy_(scale.clamp_min(1e-3))

    def encode(self, frame: Tensor, previous: Tensor) -> Tensor:
        """The frame in [-1, 1] as the target that is diffused; `decode` is its inverse."""
        return (frame - previous) * TARGET_CHANGE_SCALE if self.config.target == "change" else frame

    def decode(self, y: Tensor, previous: Tensor) -> Tensor:
        return previous + y / TARGET_CHANGE_SCALE if self.config.target == "change" else y

    def valid_steps(self, segment: Segment) -> Tensor:
        """bool (B, T-n): which predicted frames the loss is a mean over."""
        return segment.valid[:, self.config.context - 1 :]

    def loss(self, segment: Segment, generator: Random) -> tuple[Tensor, Metrics]:
        """The mean loss of the frames behind the first `context` ones, padding left out.

        The model's own frame replaces a frame before the next one is predicted from it, so that the model learns
        to go on from what it draws. A frame that is padding, or that nothing came before, is never replaced, and no
        gradient flows from frame to frame.
        """
        n, obs, losses = self.config.context, segment.obs, []
        for t in range(n, obs.shape[1]):
            loss, generated = self.frame_loss(obs[:, t - n : t], segment.action[:, t - n : t], obs[:, t], generator)
            losses.append(loss)
            obs = _replace(obs, t, generated, segment.valid)
        return masked_mean(torch.stack(losses, dim=1), self.valid_steps(segment)), {}

    def frame_loss(self, context: Tensor, action: Tensor, obs: Tensor, generator: Random) -> tuple[Tensor, Tensor]:
        """context uint8 (B, n, H, W), action (B, n), obs uint8 (B, H, W) -> loss (B,), the model's frame uint8 (B, H, W)."""
        c, frames = self.config, to_float(context)
        previous = frames[:, -1:]
        y = self.encode(to_float(obs)[:, None], previous)
        sigma = edm.draw_sigma(len(y), c.P_mean, c.P_std, SIGMA_MIN, c.sigma_max, generator)
        noise = edm.draw_noise(sigma, y.shape, c.offset_noise, generator)
        net, weight = self._bind(frames, action), self.pixel_weight(context)
        loss, denoised = edm.denoising_loss(net, y, sigma, noise, self.sigma_data, c.offset_noise, weight)
        if c.target == "change":  # so that a frame of any kind is one frame
            loss = loss * (MOST_CHANGE * self.sigma_data**2 / mean_square(y)).clamp_max(1)
        return loss, to_uint8(self.decode(denoised.detach(), previous))[:, 0]

    def pixel_weight(self, context: Tensor) -> Tensor | float:
        """uint8 (B, n, H, W) -> how much each pixel of the next frame counts in the loss, float (B, 1, H, W)."""
        if self.config.motion_weight == 1:
            return 1.0
        return 1 + (self.config.motion_weight - 1) * near_small_movers(context)[:, None]

    @torch.no_grad()
    def imagine(self, segment: Segment, s: config.Sampler, generator: Random) -> Segment:
        """The segment as the model imagines it: behind the first `context` frames, each is drawn from those before it and
        the actions that were taken. All else stays, and so do padding and frames that nothing came before."""
        n, obs = self.config.context, segment.obs
        for t in range(n, obs.shape[1]):
            generated = self.sample(obs[:, t - n : t], segment.action[:, t - n : t], s, generator)
            obs = _replace(obs, t, generated, segment.valid)
        return segment._replace(obs=obs)

    @torch.no_grad()
    def sample(
        self, context: Tensor, action: Tensor, s: config.Sampler, generator: Random, trace: Trace | None = None
    ) -> Tensor:
        """context uint8 (B, n, H, W), action int64 (B, n) -> the next frame, uint8 (B, H, W).

        To `trace` go the two frames uint8 (B, H, W) of each call of the network: what it was shown, as noisy as it
        was, and what it made of that.
        """
        frames = to_float(context)
        previous = frames[:, -1:]

        def show(y: Tensor) -> Tensor:
            return to_uint8(self.decode(y, previous))[:, 0]

        def denoise(x: Tensor, sigma: float) -> Tensor:
            y = self.denoise(x, sigma, frames, action)
            if trace is not None:
                trace.append((show(x), show(y)))
            return y

        return show(run_sampler(denoise, normal(previous.shape, generator), s, generator))

    def denoise(self, x: Tensor, sigma: float, frames: Tensor, action: Tensor) -> Tensor:
        """D_theta(x; sigma), float (B, 1, H, W), after frames float (B, n, H, W). DIAMOND clips it to grey levels, if it is one."""
        net, c = self._bind(frames, action), self.config
        y = edm.denoise(net, x, x.new_full((len(x),), sigma), self.sigma_data, c.offset_noise)
        return y.clamp(-1, 1) if c.target == "frame" else y

    def _bind(self, frames: Tensor, action: Tensor) -> edm.Network:
        action = action.contiguous()  # strides that follow the length of a segment would be compiled anew for each
        return lambda x, c_noise: self.net(x, c_noise, frames, action)


def mean_square(y: Tensor) -> Tensor:
    """Float (B, ...) -> (B,)."""
    return y.square().flatten(1).mean(1)


def robust_scale(sizes: Tensor) -> Tensor:
    """The scale s, float (), of frames whose mean squares are `sizes` (N,): s^2 is the mean, where each counts as at most
    MOST_CHANGE * s^2 (an M-estimate of Huber's kind). Still frames are left out where they are most, as the only solution
    could be 0; it is 0 where nothing ever moves."""
    moving = (sizes > 0).sum()
    count = torch.where(2 * moving > len(sizes), len(sizes), moving).clamp_min(1)
    square = sizes.sum() / count
    for _ in range(100):  # falls to the one solution that is not 0
        square = sizes.minimum(MOST_CHANGE * square).sum() / count
    return square.sqrt()


def _replace(obs: Tensor, t: int, generated: Tensor, valid: Tensor) -> Tensor:
    """Frames (B, T, H, W) whose frame t is the generated one (B, H, W), where the step to it is real."""
    frame = torch.where(valid[:, t - 1, None, None], generated, obs[:, t])
    return torch.cat([obs[:, :t], frame[:, None], obs[:, t + 1 :]], dim=1)


def run_sampler(denoise: samplers.Denoise, noise: Tensor, s: config.Sampler, generator: Random) -> Tensor:
    """Runs the sampler that `s` names from unit normal `noise`; the shape stays.

    By default the noise is *not* scaled by sigma_max although the schedule starts there: the narrower start makes
    a rollout drift less (DIAMOND, section 4 and its issue 40).
    """
    sigmas = samplers.karras_schedule(s.steps, SIGMA_MIN, s.sigma_max, RHO)
    x = noise if s.initial_noise == "unit" else s.sigma_max * noise
    if s.s_churn > 0:
        return samplers.churned_euler(denoise, x, sigmas, generator, s.s_churn)
    return (samplers.heun if s.method == "heun" else samplers.euler)(denoise, x, sigmas)
