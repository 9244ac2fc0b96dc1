"""The denoiser: what its network is shown in training and in sampling, what its loss counts, and its U-Net."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import helpers
import pytest
import torch
from helpers import generator, wake
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from adamas.config import SIGMA_MIN, Network, Sampler
from adamas.config import Denoiser as Config
from adamas.data.batch import Segment
from adamas.data.frames import to_float, to_uint8
from adamas.data.motion import near_small_movers
from adamas.networks.blocks import AdaGroupNorm, ConditionedResBlock, FourierFeatures, ResBlock, SelfAttention, patches
from adamas.networks.unet import UNet
from adamas.world_model import edm
from adamas.world_model.denoiser import TARGET_CHANGE_SCALE, Denoiser, mean_square, robust_scale, run_sampler

N, ACTIONS, SIZE = 3, 4, 12  # context frames, actions, pixels a side (a convolution does not care)
SMALL = {"context": N, "channels": [16, 16], "depths": [1, 1]}
TARGETS = pytest.mark.parametrize("target", ["frame", "change"])


def make(awake: bool = True, architecture: str = "adamas", patch: int = 4, **changes: object) -> Denoiser:
    """A small denoiser; `awake`, its branches that start at zero do not."""
    torch.manual_seed(0)
    network = Network(architecture, patch, condition_channels=24)
    denoiser = Denoiser(Config(**{**SMALL, **changes}), network, ACTIONS)
    return wake(denoiser) if awake else denoiser


def at_one_level(sigma: float) -> dict[str, float]:
    """Settings with which every noise level of training is sigma, to the bit: all are clipped to it."""
    return {"P_mean": 50.0, "P_std": 1e-9, "sigma_max": sigma}


def frames(*shape: int, size: int = SIZE, seed: int = 0) -> Tensor:
    return helpers.frames(*shape, size=size, seed=seed)


def segment(batch: int, length: int, mask: list[list[int]] | None = None, seed: int = 0) -> Segment:
    """Random frames and actions; all valid, but where `mask` says otherwise."""
    action = torch.randint(0, ACTIONS, (batch, length), generator=generator(seed))
    exists = torch.ones(batch, length) if mask is None else torch.tensor(mask)
    no = torch.zeros(batch, length, dtype=torch.bool)
    return Segment(frames(batch, length, seed=seed), action, torch.zeros(batch, length), no, no, exists.bool())


def mean_loss(denoiser: Denoiser, batch: Segment, random: torch.Generator) -> Tensor:
    return denoiser.loss(batch, random)[0]


class Seen(NamedTuple):
    """The arguments of one call of the network."""

    x: Tensor
    c_noise: Tensor
    context: Tensor
    action: Tensor


class Recorder(nn.Module):
    """A network that remembers what it is shown and answers with fixed random planes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Seen] = []

    def forward(self, *args: Tensor) -> Tensor:
        self.seen.append(Seen(*args))
        return torch.randn(args[0].shape, generator=generator(len(self.seen)))


class Oracle(nn.Module):
    """The network whose denoised frame is `target(context)`: what Table 1 of Karras et al. makes of it."""

    def __init__(self, denoiser: Denoiser, target: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.sigma_data, self.target = float(denoiser.sigma_data), target

    def forward(self, x: Tensor, c_noise: Tensor, context: Tensor, action: Tensor) -> Tensor:
        variance = (8 * c_noise.double()).exp()[:, None, None, None]
        total = variance + self.sigma_data**2
        y = self.target(context).double()
        return (y - self.sigma_data**2 / total * x * total.sqrt()) / (variance.sqrt() * self.sigma_data / total.sqrt())


# What the network is shown


def record_both_paths(sigma: float, **changes: object) -> tuple[Segment, Denoiser, Seen, Seen]:
    """What the same context at the same noise level makes the network see in training, and in one step of sampling."""
    denoiser = make(**at_one_level(sigma), **changes)
    denoiser.net = Recorder()
    denoiser.sigma_data.fill_(0.13)  # as it was measured
    batch = segment(2, N + 1)
    mean_loss(denoiser, batch, generator(5))
    denoiser.sample(batch.obs[:, :N], batch.action[:, :N], Sampler(steps=1, sigma_max=sigma), generator(5))
    return batch, denoiser, *denoiser.net.seen


@TARGETS
@pytest.mark.parametrize("sigma", [0.01, 0.6, 20.0])
def test_training_and_sampling_show_the_network_the_same_conditions(target: str, sigma: float) -> None:
    batch, _, training, sampling = record_both_paths(sigma, target=target)
    torch.testing.assert_close(training.context, batch.obs[:, :N].float() / 127.5 - 1)  # oldest first, in [-1, 1]
    assert torch.equal(training.action, batch.action[:, :N])  # that of the newest frame leads to the next one
    torch.testing.assert_close(training.c_noise, torch.full((2,), sigma**2 + 0.3**2).log() / 8)
    for ours, theirs in zip(training[1:], sampling[1:], strict=True):
        assert torch.equal(ours, theirs)
    assert training.x.shape == sampling.x.shape == (2, 1, SIZE, SIZE)


def test_each_frame_of_a_batch_has_a_noise_level_and_a_noise_of_its_own() -> None:
    """And each frame of a segment: whatever is drawn once for several of them makes two rows alike."""
    denoiser, batch = make(), segment(8, N + 3)
    denoiser.net = Recorder()
    mean_loss(denoiser, batch, generator(5))
    c_noise, noise, random = [], [], generator(5)
    for t, seen in enumerate(denoiser.net.seen):
        level = edm.draw_sigma(8, -0.4, 1.2, SIGMA_MIN, 20.0, random)
        expected = edm.draw_noise(level, seen.x.shape, 0.3, random)
        torch.testing.assert_close(seen.c_noise, (level**2 + 0.3**2).log() / 8)
        x = seen.x * (level**2 + 0.3**2 + 0.5**2).sqrt()[:, None, None, None]
        torch.testing.assert_close(x - to_float(batch.obs[:, N + t])[:, None], expected, rtol=1e-4, atol=1e-4)
        c_noise.append(seen.c_noise)
        noise.append(((expected - expected.mean((2, 3), keepdim=True)) / level[:, None, None, None]).flatten(1))
    assert torch.cat(c_noise).unique().numel() == 8 * 3
    correlation = torch.corrcoef(torch.cat(noise)) - torch.eye(8 * 3)
    assert correlation.abs().max() < 0.5  # of 144 pixels; 1 where a noise is another one, scaled


@TARGETS
@pytest.mark.parametrize("method", ["euler", "heun"])
def test_each_sample_of_a_batch_starts_from_a_noise_of_its_own(target: str, method: str) -> None:
    denoiser, batch = make(target=target), segment(1, N)
    context, action = batch.obs.expand(6, *batch.obs.shape[1:]), batch.action.expand(6, N)
    denoiser.net = Recorder()
    denoiser.sample(context, action, Sampler(method=method, steps=5), generator())
    starts = denoiser.net.seen[0].x.flatten(1)
    assert (torch.corrcoef(starts) - torch.eye(6)).abs().max() < 0.5


@TARGETS
@pytest.mark.parametrize("sigma", [0.01, 0.6, 20.0])
def test_training_and_sampling_scale_the_noisy_frame_alike(target: str, sigma: float) -> None:
    batch, _, training, sampling = record_both_paths(sigma, target=target)
    c_in = (sigma**2 + 0.3**2 + 0.13**2) ** -0.5
    clean = batch.obs[:, N].float() / 127.5 - 1
    if target == "change":
        clean = (clean - (batch.obs[:, N - 1].float() / 127.5 - 1)) * TARGET_CHANGE_SCALE
    replay = generator(5)
    level = edm.draw_sigma(2, 50.0, 1e-9, SIGMA_MIN, sigma, replay)
    noise = edm.draw_noise(level, (2, 1, SIZE, SIZE), 0.3, replay)
    torch.testing.assert_close(training.x, c_in * (clean[:, None] + noise))
    torch.testing.assert_close(sampling.x, c_in * torch.randn((2, 1, SIZE, SIZE), generator=generator(5)))


def test_the_network_looks_at_every_frame_every_action_and_the_noise_level() -> None:
    net = make().net
    x, c_noise = torch.randn(1, 1, SIZE, SIZE, generator=generator()), torch.zeros(1)
    context, action = to_float(frames(1, N)), torch.zeros(1, N, dtype=torch.int64)
    outputs = [
        net(x, c_noise, context, action),
        net(x, c_noise + 0.5, context, action),
        net(-x, c_noise, context, action),
    ]
    for t in range(N):
        at_t = nn.functional.one_hot(torch.tensor([t]), N)
        outputs += [net(x, c_noise, context, at_t), net(x, c_noise, context * (1 - at_t[..., None, None]), action)]
    outputs = torch.stack(outputs).flatten(1)
    assert (torch.cdist(outputs, outputs) + torch.eye(len(outputs)) > 1e-2).all()


@TARGETS
@pytest.mark.parametrize("patch", [1, 4])
def test_the_unet_is_shown_the_context_with_unit_deviation_and_the_noisy_frame_last(patch: int, target: str) -> None:
    net, shown = make(patch=patch, target=target).net, []
    net.unet.register_forward_hook(lambda module, args, output: shown.append((*args, output)))
    x, context = torch.randn(2, 1, SIZE, SIZE, generator=generator()), to_float(frames(2, N))
    action, c_noise = torch.tensor([[0, 1, 2], [3, 3, 0]]), torch.tensor([-0.5, 0.7])
    answer = net(x, c_noise, context, action)
    ((planes, condition, output),) = shown
    assert torch.equal(answer, nn.functional.pixel_shuffle(output, patch))
    planes = nn.functional.pixel_shuffle(planes, patch)
    first, second, third = context.split(1, dim=1)
    seen = {"frame": 2 * context, "change": torch.cat([third, 32 * (second - first), 32 * (third - second)], dim=1)}
    torch.testing.assert_close(planes, torch.cat([seen[target], x], dim=1))
    actions = net.action_embedding.weight[action].reshape(2, -1)
    torch.testing.assert_close(condition, net.condition(net.noise_embedding(c_noise) + actions))


# Sampling


@TARGETS
@pytest.mark.parametrize("s", [Sampler(), Sampler(method="heun", steps=5), Sampler(steps=1), Sampler(s_churn=9.0)])
def test_with_an_oracle_for_a_network_a_sample_is_the_true_frame_in_every_grey_level(target: str, s: Sampler) -> None:
    denoiser = make(target=target)
    context = frames(2, N, size=16)
    truth = torch.stack([torch.arange(256), 255 - torch.arange(256)]).to(torch.uint8).reshape(2, 16, 16)
    y = denoiser.encode(to_float(truth)[:, None], to_float(context[:, -1:]))
    denoiser.net = Oracle(denoiser, lambda context: y)
    sample = denoiser.sample(context, torch.zeros(2, N, dtype=torch.int64), s, generator())
    assert torch.equal(sample, truth)


@TARGETS
def test_a_still_picture_stays_still_for_100_generated_frames(target: str) -> None:
    denoiser = make(target=target)
    denoiser.net = Oracle(denoiser, lambda context: denoiser.encode(context[:, -1:], context[:, -1:]))
    picture = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    context, random = picture.expand(1, N, 16, 16), generator()
    for _ in range(100):
        frame = denoiser.sample(context, torch.zeros(1, N, dtype=torch.int64), Sampler(), random)
        context = torch.cat([context[:, 1:], frame[:, None]], dim=1)
    assert torch.equal(context, picture.expand(1, N, 16, 16))


@TARGETS
def test_a_new_denoiser_draws_what_a_network_that_answers_0_would(target: str) -> None:
    denoiser, s = make(awake=False, target=target), Sampler()
    nn.init.zeros_(denoiser.net.unet.conv_out.bias)
    context = frames(2, N)
    previous = to_float(context[:, -1:])

    def c_skip_alone(x: Tensor, sigma: float) -> Tensor:
        y = 0.25 / (0.25 + sigma**2 + 0.09) * x
        return y.clamp(-1, 1) if target == "frame" else y  # there are no other grey levels

    y = run_sampler(c_skip_alone, torch.randn(previous.shape, generator=generator(3)), s, generator())
    expected = to_uint8(y if target == "frame" else previous + y / TARGET_CHANGE_SCALE)[:, 0]
    assert torch.equal(denoiser.sample(context, torch.zeros(2, N, dtype=torch.int64), s, generator(3)), expected)


@TARGETS
def test_the_first_thing_that_the_network_sees_is_the_start_that_the_config_names(target: str) -> None:
    batch, denoiser = segment(2, N), make(target=target, offset_noise=0.0)
    noise = torch.randn((2, 1, SIZE, SIZE), generator=generator(3))
    for name, first in {"unit": noise, "sigma_max": 7 * noise}.items():
        denoiser.net = Recorder()
        denoiser.sample(batch.obs, batch.action, Sampler(sigma_max=7.0, initial_noise=name), generator(3))
        torch.testing.assert_close(denoiser.net.seen[0].x, (7.0**2 + 0.5**2) ** -0.5 * first)


def test_the_trace_is_what_the_network_was_shown_and_what_it_made_of_it() -> None:
    denoiser, trace = make(), []
    context, action = frames(2, N), torch.zeros(2, N, dtype=torch.int64)
    sample = denoiser.sample(context, action, Sampler(steps=4), generator(), trace)
    assert len(trace) == 4
    assert all(frame.shape == sample.shape and frame.dtype == torch.uint8 for pair in trace for frame in pair)
    assert torch.equal(trace[-1][1], sample)  # the last step goes all the way to what the network made
    assert torch.equal(denoiser.sample(context, action, Sampler(steps=4), generator()), sample)
    noise = torch.randn((2, 1, SIZE, SIZE), generator=generator())
    assert torch.equal(trace[0][0], (noise.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)[:, 0])


def test_a_sample_is_a_whole_frame_of_bytes() -> None:
    context = torch.zeros(2, N, 84, 84, dtype=torch.uint8)
    sample = make().sample(context, torch.zeros(2, N, dtype=torch.int64), Sampler(steps=1), generator())
    assert sample.dtype == torch.uint8
    assert sample.shape == (2, 84, 84)


@TARGETS
def test_the_same_generator_gives_the_same_loss_and_the_same_sample(target: str) -> None:
    denoiser, batch = make(target=target), segment(2, N + 2)
    losses = [mean_loss(denoiser, batch, generator(seed)) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    one, again, other = (
        denoiser.sample(batch.obs[:, :N], batch.action[:, :N], Sampler(), generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


# The target


@TARGETS
def test_decode_is_the_inverse_of_encode(target: str) -> None:
    denoiser = make(target=target)
    frame, previous = to_float(frames(2, 1)), to_float(frames(2, 1, seed=1))
    y = denoiser.encode(frame, previous)
    torch.testing.assert_close(y, frame if target == "frame" else 4 * (frame - previous))
    assert torch.equal(to_uint8(denoiser.decode(y, previous)), to_uint8(frame))


def test_measure_sets_sigma_data_to_the_root_mean_square_of_ordinary_changes() -> None:
    denoiser = make(target="change")
    obs, next_obs = frames(5), frames(5, seed=1)
    denoiser.measure([(obs[:2], next_obs[:2]), (obs[2:], next_obs[2:])])
    changes = 4 * (next_obs.double() - obs.double()) / 127.5
    assert denoiser.sigma_data.item() == pytest.approx(changes.square().mean().sqrt().item())
    denoiser.measure([(obs, obs)])
    assert denoiser.sigma_data > 0  # a still game
    denoiser.measure([])
    assert denoiser.sigma_data > 0  # no step whose next frame is known


def test_flashes_count_as_frames_of_four_times_the_scale() -> None:
    """s^2 = (19 * 1 + 1 * 4 s^2) / 20 where one frame of twenty is a flash, whatever its size; a game without is left alone."""
    for flash in (100.0, 10_000.0):
        assert robust_scale(torch.tensor([1.0] * 19 + [flash])).item() == pytest.approx((19 / 16) ** 0.5)
    assert robust_scale(torch.tensor([1.0, 2.0, 3.0])).item() == pytest.approx(2**0.5)
    assert robust_scale(torch.tensor([0.0] * 9 + [1.0])).item() == pytest.approx(1), "still most of the time"
    assert robust_scale(torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0])).item() == pytest.approx(0.6**0.5), "still at times"
    assert robust_scale(torch.zeros(5)) == 0


def test_a_flash_weighs_what_a_frame_of_four_times_the_scale_does() -> None:
    """The loss of a network that knows nothing is about 1 for an ordinary frame, and at most 4 for a flash."""
    denoiser = make(target="change", P_mean=3.0, P_std=0.1, offset_noise=0.0)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.zero_()
    still, moved = torch.full((2, 84, 84), 100, dtype=torch.uint8), torch.full((2, 84, 84), 100, dtype=torch.uint8)
    moved[0, :8], moved[1] = 200, 250  # a thing that moves, a flash
    size = mean_square(denoiser.encode(to_float(moved), to_float(still)))
    denoiser.sigma_data.copy_(size[0].sqrt())
    context = still[:, None].expand(-1, denoiser.config.context, -1, -1)
    action = torch.zeros(2, denoiser.config.context, dtype=torch.int64)
    loss, _ = denoiser.frame_loss(context, action, moved, generator())
    assert size[1] > 20 * size[0]
    assert loss.tolist() == pytest.approx([1.0, 4.0], rel=0.1)


def test_measure_leaves_the_sigma_data_of_frames_alone() -> None:
    denoiser = make(target="frame")
    denoiser.measure([(frames(5), frames(5, seed=1))])
    assert denoiser.sigma_data == torch.tensor(0.5)


def test_sigma_data_is_saved_with_the_weights() -> None:
    denoiser, other = make(target="change"), make(target="change")
    denoiser.measure([(frames(5), frames(5, seed=1))])
    other.load_state_dict(denoiser.state_dict())
    assert other.sigma_data == denoiser.sigma_data != torch.tensor(0.5)


# A segment as the model imagines it


def test_an_imagined_segment_is_drawn_frame_by_frame_from_its_own_frames_and_the_actions_that_were_taken() -> None:
    denoiser, batch, s = make(target="change"), segment(len(MASK), N + 2, MASK), Sampler(steps=2)
    imagined, random, obs = denoiser.imagine(batch, s, generator(4)), generator(4), batch.obs.clone()
    for t in range(2):
        drawn = denoiser.sample(obs[:, t : N + t], batch.action[:, t : N + t], s, random)
        obs[VALID[:, t], N + t] = drawn[VALID[:, t]]
    assert torch.equal(imagined.obs, obs)
    assert not torch.equal(obs, batch.obs)
    for name, column in batch._asdict().items():
        assert name == "obs" or getattr(imagined, name) is column


# The loss

MASK = [  # of N + 2 frames
    [1, 1, 1, 1, 1],
    [0, 0, 1, 1, 1],  # an episode that starts here
    [0, 0, 0, 1, 1],  # its first frame follows from nothing that was seen
    [1, 1, 1, 1, 0],  # an episode that ends here
    [1, 1, 1, 0, 0],
    [0, 0, 0, 0, 0],
]
VALID = torch.tensor([[1, 1], [1, 1], [0, 1], [1, 0], [0, 0], [0, 0]]).bool()  # targets, of the last two frames


def loss_by_hand(denoiser: Denoiser, batch: Segment) -> Tensor:
    """The mean over valid frames, the second of which are predicted from what was generated of the first."""
    random, obs = generator(), batch.obs
    first, generated = denoiser.frame_loss(obs[:, :N], batch.action[:, :N], obs[:, N], random)
    shown = obs[:, 1 : N + 1].clone()
    shown[VALID[:, 0], -1] = generated[VALID[:, 0]]
    second, _ = denoiser.frame_loss(shown, batch.action[:, 1 : N + 1], obs[:, N + 1], random)
    return torch.stack([first, second], dim=1)[VALID].mean()


@TARGETS
def test_the_loss_and_its_gradient_are_those_of_the_frames_one_by_one(target: str) -> None:
    """So no gradient flows through the frame that is fed back: by hand it is plain data."""
    batch, denoiser = segment(len(MASK), N + 2, MASK), make(target=target)
    twin = copy.deepcopy(denoiser)
    ours, theirs = mean_loss(denoiser, batch, generator()), loss_by_hand(twin, batch)
    torch.testing.assert_close(ours, theirs)
    ours.backward()
    theirs.backward()
    for (name, p), q in zip(denoiser.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_the_models_own_frame_is_shown_next_where_its_target_is_valid_and_nowhere_else() -> None:
    batch, denoiser = segment(len(MASK), N + 2, MASK), make()
    denoiser.net = Recorder()
    mean_loss(denoiser, batch, generator())
    first, second = denoiser.net.seen
    denoiser.net = Recorder()
    _, generated = denoiser.frame_loss(batch.obs[:, :N], batch.action[:, :N], batch.obs[:, N], generator())
    assert not torch.equal(generated, batch.obs[:, N])
    shown = torch.where(VALID[:, 0, None, None], generated, batch.obs[:, N])
    assert torch.equal(second.context[:, -1], to_float(shown))
    assert torch.equal(second.context[:, :-1], to_float(batch.obs[:, 1:N]))
    assert torch.equal(second.action, batch.action[:, 1 : N + 1])
    assert torch.equal(first.context, to_float(batch.obs[:, :N]))


@TARGETS
def test_the_models_own_frame_is_what_it_denoised(target: str) -> None:
    denoiser = make(target=target)
    batch = segment(2, N + 1)
    truth = denoiser.encode(to_float(batch.obs[:, N:]), to_float(batch.obs[:, N - 1 : N]))
    denoiser.net = Oracle(denoiser, lambda context: truth)
    loss, generated = denoiser.frame_loss(batch.obs[:, :N], batch.action[:, :N], batch.obs[:, N], generator())
    assert loss.max() < 1e-6
    assert torch.equal(generated, batch.obs[:, N])


def test_an_error_counts_motion_weight_times_near_what_is_small_and_has_moved() -> None:
    """The ball flies over the first two of three frames: near its trail counts, where it will be does not matter."""
    context = torch.zeros(1, N, 32, 32, dtype=torch.uint8)
    for t in range(2):
        context[0, t, 8 + 2 * t : 10 + 2 * t, 8:10] = 110
    near = near_small_movers(context)[:, None]
    assert 0 < near.float().mean() < 0.3
    action, obs = torch.zeros(1, N, dtype=torch.int64), torch.zeros(1, 32, 32, dtype=torch.uint8)
    made, errors = {}, {}
    for weight in (1.0, 5.0):
        denoiser = made[weight] = make(awake=False, motion_weight=weight, target="change")
        nn.init.zeros_(denoiser.net.unet.conv_out.bias)
        errors[weight], _ = denoiser.frame_loss(context, action, obs, generator())
    torch.testing.assert_close(made[5.0].pixel_weight(context), 1 + 4.0 * near)
    assert made[1.0].pixel_weight(context) == 1.0
    random, c = generator(), made[1.0].config
    sigma = edm.draw_sigma(1, c.P_mean, c.P_std, SIGMA_MIN, c.sigma_max, random)
    y = made[1.0].encode(to_float(obs)[:, None], to_float(context[:, -1:]))
    x = y + edm.draw_noise(sigma, y.shape, c.offset_noise, random)
    c_skip, c_out, _, _ = edm.scalings(sigma, made[1.0].sigma_data, c.offset_noise)
    squares = ((y - c_skip * x) / c_out).square()  # the network answers 0
    torch.testing.assert_close(errors[1.0], squares.mean()[None])
    torch.testing.assert_close(errors[5.0], (squares * (1 + 4.0 * near)).mean()[None])


def test_what_padding_holds_does_not_change_the_loss() -> None:
    rows = [0, 3, 4, 5]  # where padding is on the right, or everywhere: on the left it is context
    mask = [MASK[i] for i in rows]
    batch, denoiser = segment(4, N + 2, mask), make()
    noise = torch.where(batch.mask[..., None, None], batch.obs, frames(4, N + 2, seed=9))
    action = torch.where(batch.mask, batch.action, ACTIONS - 1)
    ours, theirs = (mean_loss(denoiser, b, generator()) for b in (batch, batch._replace(obs=noise, action=action)))
    assert ours == theirs
    assert ours > 0


def test_a_batch_of_padding_has_loss_0_and_gradient_0() -> None:
    denoiser = make()
    loss = mean_loss(denoiser, segment(2, N + 2, [[0] * 5] * 2), generator())
    loss.backward()
    assert loss == 0
    assert all((p.grad == 0).all() for p in denoiser.parameters())


def test_every_input_of_every_layer_gets_a_gradient() -> None:
    denoiser = make(architecture="diamond", depths=[2, 1])
    batch = segment(4, N + 2)
    assert batch.action[:, :-1].unique().numel() == ACTIONS
    mean_loss(denoiser, batch, generator()).backward()
    for name, p in denoiser.named_parameters():
        others = [d for d in range(p.ndim) if d != min(1, p.ndim - 1)]
        assert p.grad.abs().sum(others).min() > 0, name


def test_the_first_update_of_a_new_denoiser_moves_its_last_layer() -> None:
    denoiser = make(awake=False)
    mean_loss(denoiser, segment(2, N + 1), generator()).backward()
    assert denoiser.net.unet.conv_out.weight.grad.any()


# The network


def test_the_published_denoiser_has_4_4_million_parameters() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in Denoiser(Config(), Network(), ACTIONS).parameters())
    assert count == pytest.approx(4.4e6, rel=0.02)


def test_the_published_denoiser_takes_11_4_gflop_a_frame() -> None:
    with torch.device("meta"):
        net = Denoiser(Config(), Network(), ACTIONS).net
        x, context = torch.zeros(1, 1, 84, 84), torch.zeros(1, 4, 84, 84)
        with FlopCounterMode(display=False) as counter:
            net(x, torch.zeros(1), context, torch.zeros(1, 4, dtype=torch.int64))
    assert counter.get_total_flops() == pytest.approx(11.4e9, rel=0.02)


@pytest.mark.parametrize("size", [(84, 84), (8, 8), (7, 9), (1, 3)])
@pytest.mark.parametrize("published", [False, True])
def test_the_unet_keeps_any_frame_size(size: tuple[int, int], published: bool) -> None:
    unet = UNet(2, 3, 8, channels=[16, 32, 16], depths=[1, 2, 1], published=published)
    x, condition = torch.randn(2, 2, *size), torch.randn(2, 8)
    assert torch.equal(
        unet(x, condition), unet.conv_out.bias[:, None, None].expand(2, 3, *size)
    )  # nothing else at first
    assert wake(unet)(x, condition).shape == (2, 3, *size)


@pytest.mark.parametrize("channels", [4, 12, 28, 96, 100])
def test_the_unet_takes_any_number_of_channels(channels: int) -> None:
    unet = UNet(1, 1, 8, channels=[channels], depths=[1], published=True)
    assert unet(torch.randn(1, 1, 4, 4), torch.randn(1, 8)).shape == (1, 1, 4, 4)


def test_every_block_on_the_way_up_sees_its_mirror_image_from_the_way_down() -> None:
    torch.manual_seed(0)
    unet = wake(UNet(1, 1, 8, channels=[16, 32, 16], depths=[1, 2, 1], published=False))
    left, seen = [], []
    for level in unet.down:
        for module in (level.resize, *level.blocks):
            module.register_forward_hook(lambda module, args, output: left.append(output))
    for level in unet.up:
        for block in level.blocks:
            block.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    unet(torch.randn(1, 1, 8, 8), torch.randn(1, 8))
    assert len(seen) == len(left) == 7
    for x, mirror in zip(seen, reversed(left), strict=True):
        assert torch.equal(x[:, -mirror.shape[1] :], mirror)


@pytest.mark.parametrize("published", [False, True])
def test_the_unet_is_its_blocks_in_order_on_a_frame_padded_at_the_bottom_and_the_right(published: bool) -> None:
    """The published one pads after its first convolution and crops before its last norm."""
    torch.manual_seed(0)
    unet = wake(UNet(2, 3, 8, channels=[16, 32], depths=[1, 2], published=published))
    x, condition = torch.randn(2, 2, 5, 7), torch.randn(2, 8)
    (fine_in,), (coarse_1, coarse_2) = (level.blocks for level in unet.down)
    (coarse_3, coarse_4, coarse_5), (fine_1, fine_2) = (level.blocks for level in unet.up)

    def join(block: nn.Module, y: Tensor, skip: Tensor) -> Tensor:
        return block(torch.cat([y, skip], dim=1), condition)

    margin = (0, 1, 0, 1)
    a = nn.functional.pad(unet.conv_in(x), margin) if published else unet.conv_in(nn.functional.pad(x, margin))
    b = fine_in(a, condition)
    c = nn.functional.conv2d(b, unet.down[1].resize.weight, unet.down[1].resize.bias, stride=2, padding=1)
    d = coarse_1(c, condition)
    e = coarse_2(d, condition)
    y = unet.middle[1](unet.middle[0](e, condition), condition)
    y = join(coarse_5, join(coarse_4, join(coarse_3, y, e), d), c)
    y = unet.up[0].resize.conv(y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    y = join(fine_2, join(fine_1, y, b), a)
    normed = unet.norm_out(y[..., :5, :7]) if published else unet.norm_out(y, condition)
    y = unet.conv_out(nn.functional.silu(normed))[..., :5, :7]
    torch.testing.assert_close(unet(x, condition), y)


@pytest.mark.parametrize(("channels", "groups"), [(16, 1), (64, 2)])
def test_adaptive_group_norm_is_over_the_channels_of_a_group_and_all_pixels_of_one_frame(
    channels: int, groups: int
) -> None:
    torch.manual_seed(0)
    norm = AdaGroupNorm(channels, 8)
    x, condition = torch.randn(3, channels, 5, 7) * torch.rand(3, channels, 1, 1) + 2, torch.randn(3, 8)
    grouped = x.reshape(3, groups, -1)
    plain = (grouped - grouped.mean(-1, keepdim=True)) / (grouped.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    scale, shift = norm.modulation(condition)[..., None, None].chunk(2, dim=1)
    torch.testing.assert_close(norm(x, condition), plain.reshape(x.shape) * (1 + scale) + shift)


@pytest.mark.parametrize("attention", [False, True])
def test_a_new_residual_block_is_its_skip_connection(attention: bool) -> None:
    """And a bias; new attention is a norm."""
    block = ConditionedResBlock(16, 16, 8, attention)
    x = torch.randn(2, 16, 4, 4)
    expected = x + block.conv2.bias[:, None, None]
    assert torch.equal(block(x, torch.randn(2, 8)), block.attention.norm(expected) if attention else expected)


def test_attention_is_the_softmax_of_products_over_all_pixels_head_by_head() -> None:
    torch.manual_seed(0)
    attention, x = wake(SelfAttention(16)), torch.randn(2, 16, 3, 5)
    normed = attention.norm(x)
    q, k, v = attention.qkv(normed).flatten(2).chunk(3, dim=1)  # (B, C, H*W)
    heads = []
    for channels in (slice(0, 8), slice(8, 16)):
        weights = torch.einsum("bci,bcj->bij", q[:, channels], k[:, channels]).div(8**0.5).softmax(-1)
        heads.append(torch.einsum("bij,bcj->bci", weights, v[:, channels]))
    expected = normed + attention.out(torch.cat(heads, dim=1).unflatten(2, (3, 5)))
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("channels", [16, 24])
def test_a_residual_block_is_two_convolutions_under_adaptive_norm_beside_its_skip_connection(channels: int) -> None:
    torch.manual_seed(0)
    block, x, condition = wake(ConditionedResBlock(channels, 16, 8)), torch.randn(2, channels, 5, 4), torch.randn(2, 8)
    y = nn.functional.silu(block.norm1(x, condition))
    y = nn.functional.conv2d(y, block.conv1.weight, block.conv1.bias, padding=1)
    y = nn.functional.silu(block.norm2(y, condition))
    y = nn.functional.conv2d(y, block.conv2.weight, block.conv2.bias, padding=1)
    skip = x if channels == 16 else torch.einsum("oi,bihw->bohw", block.skip.weight[..., 0, 0], x)
    bias = 0 if channels == 16 else block.skip.bias[:, None, None]
    torch.testing.assert_close(block(x, condition), skip + bias + y)


def test_a_plain_residual_block_is_one_convolution_under_group_norm_beside_its_skip_connection() -> None:
    torch.manual_seed(0)
    block, x = wake(ResBlock(16, 16)), torch.randn(2, 16, 5, 4)
    weight, bias = torch.randn(16), torch.randn(16)
    block.norm.load_state_dict({"weight": weight, "bias": bias})
    y = nn.functional.silu(nn.functional.group_norm(x, 1, weight, bias))
    torch.testing.assert_close(block(x), x + nn.functional.conv2d(y, block.conv.weight, block.conv.bias, padding=1))


def test_the_noise_level_becomes_cosines_and_sines_at_fixed_normal_frequencies() -> None:
    torch.manual_seed(0)
    features = FourierFeatures(20_000)
    other = FourierFeatures(20_000)
    other.load_state_dict(features.state_dict())
    x = torch.tensor([-1.0, 0.3])
    angles = 2 * torch.pi * x[:, None] * features.frequencies
    torch.testing.assert_close(features(x), torch.cat([angles.cos(), angles.sin()], dim=1))
    assert torch.equal(other(x), features(x)), "they are saved with the weights"
    assert features.frequencies.mean().abs() < 0.03
    assert features.frequencies.std().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_patches_are_those_of_pixel_unshuffle_in_channels_last(size: int) -> None:
    x = torch.randn(2, 3, 8, 12, generator=generator())
    cut = patches(x, size)
    assert torch.equal(cut, torch.nn.functional.pixel_unshuffle(x, size))
    assert cut.is_contiguous(memory_format=torch.channels_last)


def test_a_segment_of_another_length_compiles_nothing_anew() -> None:
    """The frames fed back rise in number once a run, and compiling a large network takes minutes."""
    compiled = []

    def count(graph: Any, inputs: list[Tensor]) -> Any:
        compiled.append(graph)
        return graph.forward

    torch._dynamo.reset()
    denoiser = make()
    denoiser.net.compile(backend=count, dynamic=False)
    for length in (N + 1, N + 3):
        mean_loss(denoiser, segment(2, length), generator())
    torch._dynamo.reset()
    assert len(compiled) == 1
