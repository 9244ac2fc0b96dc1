"""The faults that `mutate.py` builds into the code, room by room: what is wrong, and the edits that make it so."""

from __future__ import annotations

from typing import NamedTuple

FAST = (
    "test_edm.py",
    "test_sampler.py",
    "test_frames.py",
    "test_denoiser.py",
    "test_initial_noise.py",
    "test_world_model.py",
    "test_data_path.py",
    "test_fit.py",
    "test_evaluation.py",
    "test_training.py",
    "test_optimization.py",
    "test_reward_end.py",
    "test_actor_critic.py",
    "test_replay.py",
)


class Edit(NamedTuple):
    """In a file of the package, `old`, which is there exactly once, becomes `new`."""

    file: str
    old: str
    new: str


class Mutation(NamedTuple):
    """One fault, and the test files that are to notice it."""

    fault: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...] = FAST


def fault(name: str, file: str, old: str, new: str, *tests: str) -> Mutation:
    """With no tests named, those of FAST, and first of them those of the file's own room, to save time."""
    first = FIRST.get(file, FAST[0])
    return Mutation(name, (Edit(file, old, new),), tests or (first, *(test for test in FAST if test != first)))


EDM, SAMPLER, FRAMES = "world_model/edm.py", "world_model/sampler.py", "frames.py"
DENOISER, WORLD, REWARD_END = "world_model/denoiser.py", "world_model/world_model.py", "world_model/reward_end.py"
UNET, BLOCKS, ENCODERS = "networks/unet.py", "networks/blocks.py", "networks/encoders.py"
REPLAY, CHUNKS, ATARI = "replay.py", "chunks.py", "envs/atari.py"
FIT, MODELS, ROLLOUTS, OPTIMIZATION = (f"training/{name}.py" for name in ("fit", "models", "rollouts", "optimization"))
COLLECTOR, TRAINER, RANDOM = "training/collector.py", "training/trainer.py", "randomness.py"
RETURNS, ACTOR_CRITIC = "agent/returns.py", "agent/actor_critic.py"

FIRST = {
    SAMPLER: "test_sampler.py",
    FRAMES: "test_frames.py",
    **dict.fromkeys((DENOISER, UNET, BLOCKS), "test_denoiser.py"),
    **dict.fromkeys((WORLD, ROLLOUTS), "test_world_model.py"),
    COLLECTOR: "test_data_path.py",
    RANDOM: "test_evaluation.py",
    REWARD_END: "test_reward_end.py",
    **dict.fromkeys((REPLAY, CHUNKS), "test_replay.py"),
    **dict.fromkeys((FIT, MODELS, TRAINER), "test_fit.py"),
    OPTIMIZATION: "test_optimization.py",
    **dict.fromkeys((RETURNS, ACTOR_CRITIC), "test_actor_critic.py"),
}

# fmt: off

DIFFUSION = (
    fault("noise scaled twice in training", EDM, "sigma[:, None, None, None] * pixel", "sigma[:, None, None, None] ** 2 * pixel"),
    fault("noise scaled twice in the loss", EDM, "x = y + noise", "x = y + sigma[:, None, None, None] * noise"),
    fault("noise not scaled by sigma in training", EDM, "sigma[:, None, None, None] * pixel", "pixel"),
    fault("c_skip dropped in sampling", EDM, "return c_skip * x + c_out * net", "return c_out * net"),
    fault("c_skip dropped from the target of training", EDM, "(y - c_skip * x) / c_out", "y / c_out"),
    fault("c_skip dropped from the frame that is fed back", EDM, "return loss, c_skip * x + c_out", "return loss, c_out"),
    fault("c_skip dropped in both paths", EDM, "c_skip = sigma_data**2 / total", "c_skip = 0 * sigma_data**2 / total"),
    fault("c_noise without the log", EDM, "variance.log() / 8", "variance.sqrt() / 4"),
    fault("c_noise of the variance instead of the deviation", EDM, "variance.log() / 8", "variance.log() / 4"),
    fault("the offset noise left out of the scalings", EDM, "variance = sigma**2 + offset_noise**2", "variance = sigma**2 + 0 * offset_noise**2"),
    fault("the offset noise left out of c_noise", EDM, "c_noise = variance.log() / 8", "c_noise = sigma.log() / 4"),
    fault("the shared offset noise never added", EDM, " + offset_noise * shared", ""),
    fault("offset noise for each pixel of its own", EDM, "torch.randn(*shape[:2], 1, 1,", "torch.randn(*shape,"),
    fault("offset noise shared by the batch", EDM, "torch.randn(*shape[:2], 1, 1,", "torch.randn(1, 1, 1, 1,"),
    fault("offset noise scaled by sigma", EDM, "+ offset_noise * shared", "+ sigma[:, None, None, None] * offset_noise * shared"),
    fault("noise drawn from torch's global generator", EDM, "pixel = torch.randn(shape, generator=generator,", "pixel = torch.randn(shape,"),
    fault("uniform noise instead of normal", EDM, "pixel = torch.randn(", "pixel = torch.rand("),
    fault("c_out without its sigma_data", EDM, "variance.sqrt() * sigma_data / total.sqrt()", "variance.sqrt() / total.sqrt()"),
    fault("c_out negative", EDM, "variance.sqrt() * sigma_data / total.sqrt()", "-variance.sqrt() * sigma_data / total.sqrt()"),
    fault("c_in without its root", EDM, "c_in = 1 / total.sqrt()", "c_in = 1 / total"),
    fault("c_in dropped in training", EDM, "output = net(c_in * x, c_noise)", "output = net(x, c_noise)"),
    fault("c_in dropped in sampling", EDM, "c_out * net(c_in * x, c_noise)", "c_out * net(x, c_noise)"),
    fault("the loss counts sigma_data as the deviation's square", EDM, "total = variance + sigma_data**2", "total = variance + sigma_data"),
    fault("the loss without the weight 1 / c_out^2", EDM, "(output - target).square()", "(c_out * (output - target)).square()"),
    fault("the network predicts the noise's sign reversed", EDM, "target = (y - c_skip * x) / c_out", "target = (c_skip * x - y) / c_out"),
    fault("absolute errors instead of squares", EDM, "(output - target).square()", "(output - target).abs()"),
    fault("sigma drawn from a normal, not a log-normal", EDM, "(normal * log_std + log_mean).exp()", "(normal * log_std + log_mean).abs()"),
    fault("the noise distribution's mean and deviation swapped", EDM, "normal * log_std + log_mean", "normal * log_mean + log_std"),
    fault("sigma never clipped from below", EDM, ".clamp(least, most)", ".clamp(max=most)"),
    fault("one sigma for the whole batch", EDM, "normal = torch.randn(batch, generator=generator, device=generator.device)", "normal = torch.randn(1, generator=generator, device=generator.device).expand(batch)"),
    fault("the output of the network stays in half precision in training", EDM, "output = net(c_in * x, c_noise).float()", "output = net(c_in * x, c_noise).bfloat16()"),
    fault("the output of the network stays in half precision in sampling", EDM, "c_out * net(c_in * x, c_noise).float()", "c_out.bfloat16() * net(c_in * x, c_noise).bfloat16()"),
    fault("preconditioning in bfloat16", EDM, "return Scalings(*(c[:, None, None, None] for c in (c_skip, c_out, c_in)), c_noise)", "return Scalings(*(c[:, None, None, None].bfloat16().to(c.dtype) for c in (c_skip, c_out, c_in)), c_noise)"),
    fault("the noise level shown to the network in bfloat16", EDM, "c_noise = variance.log() / 8", "c_noise = (variance.log() / 8).bfloat16().to(variance.dtype)"),
)

SAMPLING = (
    fault("the ODE step with the wrong sign (Euler)", SAMPLER, "        x = x + (sigma_next - sigma) * slope\n    return x\n\n\ndef heun", "        x = x - (sigma_next - sigma) * slope\n    return x\n\n\ndef heun"),
    fault("the ODE step with the wrong sign (Heun)", SAMPLER, "x_next = x + (sigma_next - sigma) * slope\n", "x_next = x - (sigma_next - sigma) * slope\n"),
    fault("the correction with the wrong sign (Heun)", SAMPLER, "x_next = x + (sigma_next - sigma) * (slope + slope_next) / 2", "x_next = x - (sigma_next - sigma) * (slope + slope_next) / 2"),
    fault("the ODE step with the wrong sign (churn)", SAMPLER, "x = x + (sigma_next - sigma_hat) * slope", "x = x - (sigma_next - sigma_hat) * slope"),
    fault("the schedule reversed", SAMPLER, "** rho for i in range(steps)]", "** rho for i in reversed(range(steps))]"),
    fault("the schedule without its final zero", SAMPLER, " + [0.0]", ""),
    fault("a schedule one step short", SAMPLER, "for i in range(steps)]", "for i in range(1, steps)]"),
    fault("the schedule falls evenly instead of in its rho-th root", SAMPLER, "low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)", "rho, low, high = 1.0, sigma_min, sigma_max"),
    fault("the schedule never reaches sigma_min", SAMPLER, "max(steps - 1, 1)", "max(steps, 1)"),
    fault("sigma of the next step passed to the network (Euler)", SAMPLER, "        slope = (x - denoise(x, sigma)) / sigma\n        x = x", "        slope = (x - denoise(x, sigma_next)) / sigma\n        x = x"),
    fault("sigma of the next step passed to the network (Heun)", SAMPLER, "        slope = (x - denoise(x, sigma)) / sigma\n        x_next", "        slope = (x - denoise(x, sigma_next)) / sigma\n        x_next"),
    fault("sigma of the next step passed to the network (churn)", SAMPLER, "denoise(x, sigma_hat)", "denoise(x, sigma_next)"),
    fault("sigma of the step before in Heun's correction", SAMPLER, "denoise(x_next, sigma_next)", "denoise(x_next, sigma)"),
    fault("Heun corrects from the point before the step", SAMPLER, "slope_next = (x_next - denoise(x_next,", "slope_next = (x - denoise(x,"),
    fault("Heun's slopes added, not averaged", SAMPLER, "(slope + slope_next) / 2", "(slope + slope_next)"),
    fault("Heun's correction forgotten", SAMPLER, "if sigma_next > 0:", "if sigma_next < 0:"),
    fault("the slope not divided by sigma (Euler)", SAMPLER, "        slope = (x - denoise(x, sigma)) / sigma\n        x = x", "        slope = x - denoise(x, sigma)\n        x = x"),
    fault("sigma for sigma_hat under churn: shown to the network", SAMPLER, "denoise(x, sigma_hat)", "denoise(x, sigma)"),
    fault("sigma for sigma_hat under churn: in the slope", SAMPLER, "denoise(x, sigma_hat)) / sigma_hat", "denoise(x, sigma_hat)) / sigma"),
    fault("sigma for sigma_hat under churn: in the step", SAMPLER, "(sigma_next - sigma_hat)", "(sigma_next - sigma)"),
    fault("sigma for sigma_hat under churn: everywhere", SAMPLER, "        slope = (x - denoise(x, sigma_hat)) / sigma_hat\n        x = x + (sigma_next - sigma_hat)", "        slope = (x - denoise(x, sigma)) / sigma\n        x = x + (sigma_next - sigma)"),
    fault("churn without its noise", SAMPLER, "math.sqrt(sigma_hat**2 - sigma**2) * s_noise", "0 * s_noise"),
    fault("churn adds sigma_hat - sigma instead of the root of the squares", SAMPLER, "math.sqrt(sigma_hat**2 - sigma**2)", "(sigma_hat - sigma)"),
    fault("churn unbounded", SAMPLER, "min(s_churn / (len(sigmas) - 1), most)", "s_churn / (len(sigmas) - 1)"),
    fault("churn counted over the levels instead of the steps", SAMPLER, "s_churn / (len(sigmas) - 1)", "s_churn / len(sigmas)"),
    fault("churn's bounds ignored", SAMPLER, "if s_tmin <= sigma <= s_tmax else 0.0", ""),
    fault("S_noise ignored", SAMPLER, " * s_noise * normal(", " * normal("),
)

PICTURES = (
    fault("truncation instead of rounding", FRAMES, " * 127.5 + 127.5).round().to", " * 127.5 + 127.5).to"),
    fault("bytes wrap around instead of being clipped", FRAMES, "x.float().clamp(-1, 1)", "x.float()"),
    fault("frames in [0, 1] in both paths", FRAMES, "frame.float() / 127.5 - 1", "frame.float() / 255"),
    fault("frames divided by 128", FRAMES, "frame.float() / 127.5 - 1", "frame.float() / 128 - 1"),
    fault("bytes from floats by 255 levels, off by half a level", FRAMES, "* 127.5 + 127.5).round()", "* 127 + 128).round()"),
    fault("floats made bytes in half precision", FRAMES, "(x.float().clamp(-1, 1)", "(x.bfloat16().clamp(-1, 1)"),
    fault("bytes made floats in half precision", FRAMES, "frame.float() / 127.5 - 1", "(frame.bfloat16() / 127.5 - 1).float()"),
    fault("a GIF of fewer grey levels", FRAMES, "Image.fromarray(np.ascontiguousarray(frame))", "Image.fromarray(np.ascontiguousarray(frame // 2 * 2))"),
    fault("tiles transposed", FRAMES, ".permute(0, 2, 1, 3)", ".permute(0, 3, 1, 2)"),
)

NETWORKS = (
    fault("group norm over the wrong axis: each pixel by itself", BLOCKS, "self.norm(x) * (1 + scale)", "F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1) * (1 + scale)"),
    fault("group norm over the wrong axis: across the batch", BLOCKS, "self.norm(x) * (1 + scale)", "F.batch_norm(x, None, None, training=True) * (1 + scale)"),
    fault("group norm over the wrong axis: rows for channels", BLOCKS, "self.norm(x) * (1 + scale)", "F.layer_norm(x, x.shape[-1:]) * (1 + scale)"),
    fault("each channel normalised by itself", BLOCKS, "return nn.GroupNorm(groups, channels,", "return nn.GroupNorm(channels, channels,"),
    fault("all channels in one group", BLOCKS, "return nn.GroupNorm(groups, channels,", "return nn.GroupNorm(1, channels,"),
    fault("the plain norm without weights of its own", BLOCKS, "affine=affine)", "affine=False)"),
    fault("the adaptive scale without its 1", BLOCKS, "(1 + scale) + shift", "scale + shift"),
    fault("the adaptive shift lost", BLOCKS, "(1 + scale) + shift", "(1 + scale)"),
    fault("scale and shift swapped", BLOCKS, "scale, shift = self.modulation", "shift, scale = self.modulation"),
    fault("the norm forgotten", BLOCKS, "return self.norm(x) * (1 + scale)", "return x * (1 + scale)"),
    fault("the skip connection of a residual block lost", BLOCKS, "return self.attention(self.skip(x) + y)", "return self.attention(y)"),
    fault("the second norm of a block ignores the condition", BLOCKS, "self.norm2(y, condition)", "self.norm2(y, 0 * condition)"),
    fault("the second convolution of a block forgotten", BLOCKS, "        y = self.conv2(F.silu(self.norm2(y, condition)))\n", ""),
    fault("a block's nonlinearity forgotten", BLOCKS, "self.conv1(F.silu(self.norm1(x, condition)))", "self.conv1(self.norm1(x, condition))"),
    fault("branches that do not start at zero", BLOCKS, "self.conv2 = zero(conv3x3(out_channels, out_channels))", "self.conv2 = conv3x3(out_channels, out_channels)"),
    fault("attention without its input added", BLOCKS, "return x + self.out", "return self.out"),
    fault("attention's keys and values swapped", BLOCKS, "q, k, v = qkv.transpose(3, 4)", "q, v, k = qkv.transpose(3, 4)"),
    fault("attention over channels instead of pixels", BLOCKS, "q, k, v = qkv.transpose(3, 4).unbind(1)", "q, k, v = qkv.transpose(3, 4).contiguous().reshape(qkv.shape).unbind(1)"),
    fault("attention's result put back in the wrong order", BLOCKS, "self.out(y.transpose(2, 3).reshape(b, c, h, w))", "self.out(y.reshape(b, c, h, w))"),
    fault("the noise level's features without their sines", BLOCKS, "[angles.cos(), angles.sin()]", "[angles.cos(), angles.cos()]"),
    fault("the noise level's features at integer frequencies", BLOCKS, "torch.randn(channels // 2)", "torch.arange(channels // 2).float()"),
    fault("the noise level's frequencies drawn anew at each call", BLOCKS, "x[:, None] * self.frequencies", "x[:, None] * torch.randn_like(self.frequencies)"),
    fault("the noise level's frequencies not saved", BLOCKS, "self.register_buffer(\"frequencies\", torch.randn(channels // 2))", "self.register_buffer(\"frequencies\", torch.randn(channels // 2), persistent=False)"),
    fault("smooth upsampling", BLOCKS, "mode=\"nearest\"", "mode=\"bilinear\""),
    fault("upsampling without its convolution", BLOCKS, "return self.conv(F.interpolate(x", "return (F.interpolate(x"),
    fault("kernels without padding", BLOCKS, "stride=stride, padding=1", "stride=stride, padding=1, padding_mode=\"circular\""),
    fault("the skip connection of one level lost (zeros)", UNET, "x = block(torch.cat([x, skips.pop()], dim=1), condition)", "x = block(torch.cat([x, skips.pop() * (x.shape[-1] > skips[0].shape[-1] // 2 if skips else 1)], dim=1), condition)"),
    fault("the skip connection of the finest level lost", UNET, "            skips.append(x)\n            for block", "            skips.append(torch.zeros_like(x))\n            for block"),
    fault("every skip connection lost", UNET, "skips.pop()", "torch.zeros_like(skips.pop())"),
    fault("skip connections in the wrong order", UNET, "torch.cat([x, skips.pop()], dim=1)", "torch.cat([skips.pop(), x], dim=1)"),
    fault("skip connections shifted by one block", UNET, "                skips.append(x)\n        for block in self.middle", "                skips.append(skips[-1] if skips[-1].shape == x.shape else x)\n        for block in self.middle"),
    fault("the middle of the U-Net left out", UNET, "        for block in self.middle:\n            x = block(x, condition)\n", ""),
    fault("one of the two middle blocks left out", UNET, "for block in self.middle:", "for block in self.middle[:1]:"),
    fault("the last norm of the U-Net ignores the condition", UNET, "self.norm_out(x, condition)", "self.norm_out(x, 0 * condition)"),
    fault("the U-Net crops the wrong corner", UNET, "[..., :height, :width]", "[..., -height:, -width:]"),
    fault("the U-Net pads at the top and the left", UNET, "(0, -width % self.multiple, 0, -height % self.multiple)", "(-width % self.multiple, 0, -height % self.multiple, 0)"),
    fault("the U-Net's last layer not zero at first", UNET, "self.conv_out = zero(conv3x3(channels[0], out_channels))", "self.conv_out = conv3x3(channels[0], out_channels)"),
    fault("height and width swapped in the U-Net", UNET, "height, width = x.shape[-2:]", "width, height = x.shape[-2:]"),
)

STEPPING = (
    fault("context frames in reversed order in imagination", WORLD, "torch.cat([state.obs[:, 1:], obs[:, None]], dim=1)", "torch.cat([obs[:, None], state.obs[:, 1:]], dim=1)"),
    fault("context frames in reversed order in sampling", WORLD, "self.denoiser.sample(state.obs, actions", "self.denoiser.sample(state.obs.flip(1), actions"),
    fault("the context never rolls on", WORLD, "torch.cat([state.obs[:, 1:], obs[:, None]], dim=1)", "state.obs"),
    fault("the context drops its newest frame instead of its oldest", WORLD, "[state.obs[:, 1:], obs[:, None]]", "[state.obs[:, :-1], obs[:, None]]"),
    fault("actions shifted by one in the state", WORLD, "WorldState(frames, actions[:, 1:], hidden)", "WorldState(frames, actions[:, :-1], hidden)"),
    fault("actions shifted by one in the step: the new one first", WORLD, "torch.cat([state.action, action[:, None]], dim=1)", "torch.cat([action[:, None], state.action], dim=1)"),
    fault("the reward model sees the oldest frame as now", WORLD, "now, actions = state.obs[:, -1:],", "now, actions = state.obs[:, :1],"),
    fault("the reward model sees the frame before as the next one", WORLD, "self.reward_end(now, action[:, None], obs[:, None], state.hidden)", "self.reward_end(now, action[:, None], now, state.hidden)"),
    fault("the reward model forgets", WORLD, "obs[:, None], state.hidden)", "obs[:, None], None)"),
    fault("the reward off by one class", WORLD, "draw(reward[:, 0], generator).float() - 1", "draw(reward[:, 0], generator).float()"),
    fault("the likeliest reward instead of a draw", WORLD, "draw(reward[:, 0], generator).float() - 1", "reward[:, 0].argmax(-1).float() - 1"),
    fault("the end inverted", WORLD, "draw(end[:, 0], generator).bool()", "~draw(end[:, 0], generator).bool()"),
    fault("the burn-in shifted by one frame", WORLD, "self.reward_end(obs[:, :-1], action, obs[:, 1:])", "self.reward_end(obs[:, 1:], action, obs[:, :-1])"),
    fault("the burn-in forgotten", WORLD, "return WorldState(obs, action, hidden)", "return WorldState(obs, action, tuple(0 * h for h in hidden))"),
    fault("a step with gradients", WORLD, "    @torch.no_grad()\n    def step", "    def step"),
    fault("actions shifted by one at the start of imagination", ROLLOUTS, "world.start(context.obs, context.action[:, :-1])", "world.start(context.obs, context.action[:, 1:])"),
    fault("the policy is burnt in on the newest frame too", ROLLOUTS, "policy(context.obs[:, :-1], policy.initial_hidden(len(context.obs)))", "policy(context.obs, policy.initial_hidden(len(context.obs)))"),
    fault("the policy acts on the oldest frame", ROLLOUTS, "policy(state.obs[:, -1:], hidden)", "policy(state.obs[:, :1], hidden)"),
    fault("dreams go on after their end", ROLLOUTS, "        alive = alive & ~prediction.terminated\n", ""),
    fault("rewards of a dream count after its end", ROLLOUTS, "prediction.reward * alive", "prediction.reward"),
    fault("the mask one step late", ROLLOUTS, "        steps.append((action, prediction.reward * alive, prediction.terminated & alive, alive))\n        alive = alive & ~prediction.terminated", "        steps.append((action, prediction.reward * alive, prediction.terminated & alive, alive & ~prediction.terminated))\n        alive = alive & ~prediction.terminated"),
    fault("the likeliest action instead of a draw in imagination", ROLLOUTS, "        action = draw(logits[:, 0], generator)\n        state", "        action = logits[:, 0].argmax(-1)\n        state"),
    fault("the state after the burn-in not kept for learning", ROLLOUTS, "start, frames, steps = hidden,", "start, frames, steps = policy.initial_hidden(len(context.obs)),"),
    fault("real games: rewards not clipped for the policy", ROLLOUTS, "float(np.sign(r))", "float(r)"),
    fault("real games: returns of clipped rewards", ROLLOUTS, "self.returns[i] += r", "self.returns[i] += float(np.sign(r))"),
    fault("real games: the policy remembers the game before", ROLLOUTS, "torch.where(goes_on, h, 0.0)", "torch.where(goes_on, h, h)"),
    fault("rewards unclipped in the reward model's label", REWARD_END, "segment.reward[:, :-1].sign().long() + 1", "(segment.reward[:, :-1].long() + 1).clamp(0, 2)"),
    fault("the reward's label shifted by one", REWARD_END, "segment.reward[:, :-1].sign()", "segment.reward[:, 1:].sign()"),
    fault("the end's label shifted by one", REWARD_END, "segment.terminated[:, :-1].long()", "segment.terminated[:, 1:].long()"),
    fault("a truncation learned as an end", REWARD_END, "end = segment.terminated[:, :-1].long()", "end = (segment.terminated | segment.truncated)[:, :-1].long()"),
    fault("actions shifted by one in the reward model's training", REWARD_END, "segment.action[:, :-1], segment.obs[:, 1:]", "segment.action[:, 1:], segment.obs[:, 1:]"),
    fault("padding counted in the reward model's loss", REWARD_END, "torch.where(known.flatten(), entropies, 0.0).sum()", "entropies.sum()"),
    fault("the two frames of a transition swapped in the reward model", REWARD_END, "[to_float(obs), to_float(next_obs)]", "[to_float(next_obs), to_float(obs)]"),
    fault("the reward model's head in half precision", REWARD_END, "torch.autocast(features.device.type, enabled=False)", "torch.autocast(features.device.type, torch.bfloat16)"),
)

MEMORY = (
    fault("actions shifted by one in the replay", REPLAY, "column(\"action\").long() * mask", "column(\"action\").roll(1, 1).long() * mask"),
    fault("rewards shifted by one in the replay", REPLAY, "column(\"reward\") * mask", "column(\"reward\").roll(1, 1) * mask"),
    fault("frames of a segment in reversed order", REPLAY, "            column(\"obs\"),\n", "            column(\"obs\").flip(1),\n"),
    fault("segments run into the next episode", REPLAY, "index = wanted.clamp(first, last)", "index = wanted.clamp(0, self.num_rows - 1)"),
    fault("padding counted as known", REPLAY, "mask=index == wanted)", "mask=torch.ones_like(index, dtype=torch.bool))"),
    fault("actions of padding kept", REPLAY, "column(\"action\").long() * mask", "column(\"action\").long()"),
    fault("the last row of an episode never seen", REPLAY, "bounds[episode] - 1]", "bounds[episode] - 2]"),
    fault("the first row of an episode never drawn from the left", REPLAY, "bounds[episode - 1], bounds[episode]", "bounds[episode - 1] + 1, bounds[episode]"),
    fault("targets drawn among the context too", REPLAY, "torch.randint(first_target, length,", "torch.randint(0, length,"),
    fault("targets never at the last place", REPLAY, "torch.randint(first_target, length,", "torch.randint(first_target, max(first_target + 1, length - 1),"),
    fault("rows drawn from the first half alone", REPLAY, "(uniform * size[group]).long()", "(uniform * size[group] / 2).long()"),
    fault("contexts that end at a final frame", REPLAY, "        row = row - self._columns[\"final\"][row].long()\n", ""),
    fault("final frames not stored", REPLAY, "        if terminated or truncated:\n", "        if False:\n"),
    fault("age weights reversed", REPLAY, "weights = self._age_weights * (size > 0)", "weights = self._age_weights.flip(0) * (size > 0)"),
    fault("frames darker in each chunk that is saved", CHUNKS, "    with open(temporary, \"wb\") as file:", "    columns = {**columns, \"obs\": columns[\"obs\"] // 2 * 2}\n    with open(temporary, \"wb\") as file:"),
    fault("frames stored by way of floats, truncated", REPLAY, "    return {\"obs\": obs[None], **small}", "    return {\"obs\": ((obs[None].float() / 127.5 - 1 + 1) * 127.5).to(torch.uint8), **small}"),
)

LEARNING = (
    fault("imagining with raw weights although there is an average", MODELS, "imagining = self.average.module if self.average else self.denoiser", "imagining = self.denoiser"),
    fault("the average never updated", FIT, "        models.average.update_parameters(models.denoiser)\n", "        pass\n"),
    fault("the average updated before the step", FIT, "    _step(models, \"denoiser\", loss, logger)\n    if models.average:\n        models.average.update_parameters(models.denoiser)\n", "    if models.average:\n        models.average.update_parameters(models.denoiser)\n    _step(models, \"denoiser\", loss, logger)\n"),
    fault("the average's decay and its complement swapped", MODELS, "get_ema_multi_avg_fn(min(decay,", "get_ema_multi_avg_fn(1 - min(decay,"),
    fault("a plain mean of all weights instead of the moving one", MODELS, "AveragedModel(module, multi_avg_fn=update, use_buffers=True)", "AveragedModel(module)"),
    fault("training the average instead of the raw weights", FIT, "loss = models.denoiser.loss(segment, random.noise)", "loss = models.world.denoiser.requires_grad_().loss(segment, random.noise)"),
    fault("the average not saved", MODELS, "self.average.state_dict() if self.average else None", "self.average.state_dict() if False else None"),
    fault("the average not loaded", MODELS, "            self.average.load_state_dict(state[\"average\"])\n", "            pass\n"),
    fault("raw weights taken over from another run although it has an average", MODELS, "if name == \"denoiser\" and state[\"average\"]:", "if False:"),
    fault("the average starts elsewhere than the weights that were taken over", MODELS, "            self.average.module.load_state_dict(self.denoiser.state_dict())\n", "            pass\n"),
    fault("actions of another game taken over by number", MODELS, "mine[row] = theirs[their_meanings.index(meaning)]", "mine[row] = theirs[row]"),
    fault("the denoiser's segments one frame short", FIT, "length = c.context + 1 + c.fed_back_frames", "length = c.context + c.fed_back_frames"),
    fault("the denoiser's targets drawn anywhere", FIT, "random.data, first_target=c.context)", "random.data)"),
    fault("the denoiser's noise from the generator of the data", FIT, "models.denoiser.loss(segment, random.noise)", "models.denoiser.loss(segment, random.data)"),
    fault("the denoiser trained outside of autocast", FIT, "    with models.autocast():\n        loss = models.denoiser.loss", "    with torch.enable_grad():\n        loss = models.denoiser.loss"),
    fault("the policy dreams one step short", FIT, "context, c.actor_critic.horizon, random.noise", "context, c.actor_critic.horizon - 1, random.noise"),
    fault("one generator for all", FIT, "manual_seed(3 * seed + i)", "manual_seed(seed)"),
    fault("gradients pile up", OPTIMIZATION, "        self.adamw.zero_grad(set_to_none=True)\n", ""),
    fault("gradients never clipped", OPTIMIZATION, "clip_grad_norm_(self.parameters, self.config.max_grad_norm)", "clip_grad_norm_(self.parameters, float('inf'))"),
    fault("the learning rate never set", OPTIMIZATION, "group[\"lr\"] = self.learning_rate", "pass"),
    fault("no warm-up", OPTIMIZATION, "min(1.0, (self.updates + 1) / max(1, self.config.warmup_updates))", "1"),
    fault("a warm-up that never ends", OPTIMIZATION, "return self.config.learning_rate * min(1.0, (self.updates + 1) /", "return self.config.learning_rate * ((self.updates + 1) /"),
    fault("biases decay, weights do not", OPTIMIZATION, "{\"params\": decayed, \"weight_decay\": weight_decay}, {\"params\": free, \"weight_decay\": 0.0}", "{\"params\": decayed, \"weight_decay\": 0.0}, {\"params\": free, \"weight_decay\": weight_decay}"),
    fault("a bad gradient is taken", OPTIMIZATION, "self.adamw.found_inf = bad.float()", "self.adamw.found_inf = 0 * bad.float()"),
    fault("sigma_data measured between frames and themselves", TRAINER, "measure(pair.obs[:, 0], pair.obs[:, 1])", "measure(pair.obs[:, 0], pair.obs[:, 0])"),
    fault("sigma_data never measured", TRAINER, "            self._measure_changes()\n", "            pass\n"),
    fault("returns: the discount forgotten", RETURNS, "discount * ahead", "ahead"),
    fault("returns: lambda and its complement swapped", RETURNS, "torch.lerp(bootstrap, following, lambda_)", "torch.lerp(following, bootstrap, lambda_)"),
    fault("returns: value of the frame before the step", RETURNS, "bootstrap = value[:, t + 1]", "bootstrap = value[:, t]"),
    fault("returns: an end does not end", RETURNS, "torch.where(terminated[:, t], 0.0, discount * ahead)", "discount * ahead"),
    fault("returns: a truncation ends", RETURNS, "torch.where(truncated[:, t], bootstrap,", "torch.where(truncated[:, t], 0 * bootstrap,"),
    fault("returns in reversed order", RETURNS, "torch.stack(returns[::-1], dim=1)", "torch.stack(returns, dim=1)"),
    fault("the value learns through the advantage", ACTOR_CRITIC, "baseline = values.detach()", "baseline = values"),
    fault("the policy's gradient reversed", ACTOR_CRITIC, "_masked_mean(-log_p_taken *", "_masked_mean(log_p_taken *"),
    fault("the entropy's sign reversed", ACTOR_CRITIC, "- c.entropy_weight * entropy", "+ c.entropy_weight * entropy"),
    fault("the policy's logits shifted by one frame", ACTOR_CRITIC, "F.log_softmax(logits[:, :-1], dim=-1)", "F.log_softmax(logits[:, 1:], dim=-1)"),
    fault("steps after the end count", ACTOR_CRITIC, "torch.where(mask, x, 0.0).sum() / mask.sum().clamp_min(1)", "x.mean()"),
)

DENOISING = (
    fault("noise scaled twice in sampling", DENOISER, "\"sigma_max\": s.sigma_max * noise,", "\"sigma_max\": s.sigma_max**2 * noise,"),
    fault("noise scaled by sigma_max although the start is of deviation 1", DENOISER, "\"unit\": noise,", "\"unit\": s.sigma_max * noise,"),
    fault("noise not scaled by sigma_max", DENOISER, "\"sigma_max\": s.sigma_max * noise,", "\"sigma_max\": noise,"),
    fault("the start without noise", DENOISER, "x = starts[s.initial_noise]", "x = 0 * starts[s.initial_noise]"),
    fault("the start from the previous frame without that frame", DENOISER, "\"previous_frame\": previous + s.sigma_max * noise", "\"previous_frame\": s.sigma_max * noise"),
    fault("the start from the previous frame with noise of deviation 1", DENOISER, "\"previous_frame\": previous + s.sigma_max * noise", "\"previous_frame\": previous + noise"),
    fault("the previous frame added as a frame, not as a target", DENOISER, "generator, self.encode(previous, previous)))", "generator, previous))"),
    fault("the way back to the previous frame never trained", DENOISER, "            noise = noise + self.way_back(y, previous, sigma)\n", "            pass\n"),
    fault("the way back leads away from the previous frame", DENOISER, "share * (self.encode(previous, previous) - y)", "share * (y - self.encode(previous, previous))"),
    fault("the way back is past the previous frame", DENOISER, ".clamp(max=1)[:, None, None, None]", "[:, None, None, None]"),
    fault("the way back leads to the frame, not the target", DENOISER, "share * (self.encode(previous, previous) - y)", "share * (previous - y)"),
    fault("Heun and Euler swapped", DENOISER, "(sampler.heun if s.method == \"heun\" else sampler.euler)", "(sampler.euler if s.method == \"heun\" else sampler.heun)"),
    fault("churn never used", DENOISER, "if s.s_churn > 0:", "if s.s_churn < 0:"),
    fault("the schedule's ends swapped", DENOISER, "s.sigma_min, s.sigma_max, s.rho", "s.sigma_max, s.sigma_min, s.rho"),
    fault("frames in [0, 1] in training alone", DENOISER, "c, frames = self.config, to_float(context)", "c, frames = self.config, context / 255"),
    fault("frames in [0, 1] in sampling alone", DENOISER, "        frames = to_float(context)\n        net, previous", "        frames = context / 255\n        net, previous"),
    fault("the target in [0, 1] in training", DENOISER, "y = self.encode(to_float(obs)[:, None], previous)", "y = self.encode(obs[:, None] / 255, previous)"),
    fault("context frames in reversed order in training alone", DENOISER, "        net = self._bind(frames, action)\n        loss", "        net = self._bind(frames.flip(1), action)\n        loss"),
    fault("context frames in reversed order in sampling alone", DENOISER, "net, previous = self._bind(frames, action), frames[:, -1:]", "net, previous = self._bind(frames.flip(1), action), frames[:, -1:]"),
    fault("context frames in reversed order in both paths", DENOISER, "self.net(x, c_noise, frames, action)", "self.net(x, c_noise, frames.flip(1), action)"),
    fault("context frames in reversed order inside the network", DENOISER, "torch.cat([context / FRAME_STD, x], dim=1)", "torch.cat([context.flip(1) / FRAME_STD, x], dim=1)"),
    fault("the noisy frame before the context inside the network", DENOISER, "torch.cat([context / FRAME_STD, x], dim=1)", "torch.cat([x, context / FRAME_STD], dim=1)"),
    fault("context frames not divided by their deviation", DENOISER, "context / FRAME_STD, x", "context, x"),
    fault("actions in reversed order in both paths", DENOISER, "self.net(x, c_noise, frames, action)", "self.net(x, c_noise, frames, action.flip(1))"),
    fault("actions shifted by one in training: those that come after", DENOISER, "segment.action[:, t - n : t], obs[:, t]", "segment.action[:, t - n + 1 : t + 1], obs[:, t]"),
    fault("actions shifted by one in training: those before", DENOISER, "segment.action[:, t - n : t], obs[:, t]", "segment.action.roll(1, 1)[:, t - n : t], obs[:, t]"),
    fault("the previous frame is the oldest of the context in training", DENOISER, "        previous = frames[:, -1:]\n        y", "        previous = frames[:, :1]\n        y"),
    fault("the previous frame is the oldest of the context in sampling", DENOISER, "self._bind(frames, action), frames[:, -1:]", "self._bind(frames, action), frames[:, :1]"),
    fault("the actions ignored", DENOISER, "self.noise_embedding(c_noise) + actions", "self.noise_embedding(c_noise) + 0 * actions"),
    fault("the noise level ignored", DENOISER, "self.noise_embedding(c_noise) + actions", "0 * self.noise_embedding(c_noise) + actions"),
    fault("the order of the actions lost", DENOISER, "self.action_embedding(action).flatten(1)", "self.action_embedding(action.sort(1).values).flatten(1)"),
    fault("patches put back in another order", DENOISER, "return F.pixel_shuffle(self.unet(planes, condition), self.patch)", "return F.pixel_shuffle(self.unet(planes, condition), self.patch).transpose(2, 3)"),
    fault("the target encoded without its scale", DENOISER, "return (frame - previous) * self.config.change_scale if", "return (frame - previous) if"),
    fault("the change decoded without its scale", DENOISER, "previous + y / self.config.change_scale", "previous + y"),
    fault("the scale of a change lost in both directions", DENOISER, "return (frame - previous) * self.config.change_scale if", "self.config.change_scale = 1.0\n        return (frame - previous) if"),
    fault("the change subtracted", DENOISER, "return previous + y / self", "return previous - y / self"),
    fault("measure: the mean square without its root", DENOISER, ".square().mean().sqrt()", ".square().mean()"),
    fault("measure: frames for changes", DENOISER, "self.encode(to_float(next_obs), to_float(obs)).square()", "to_float(next_obs).square()"),
    fault("measure: changes without their scale", DENOISER, "self.encode(to_float(next_obs), to_float(obs)).square()", "(to_float(next_obs) - to_float(obs)).square()"),
    fault("measure: the mean of the changes' sizes", DENOISER, ".square().mean().sqrt()", ".abs().mean()"),
    fault("measure: changes of bytes that wrap around", DENOISER, "self.encode(to_float(next_obs), to_float(obs)).square()", "self.encode(to_float(next_obs - obs), to_float(0 * obs)).square()"),
    fault("measure: a still game divides by 0", DENOISER, "rms.clamp_min(1e-3)", "rms"),
    fault("measure: also where frames are diffused", DENOISER, "if self.config.target == \"change\":\n            rms", "if True:\n            rms"),
    fault("the measured sigma_data used in training alone", DENOISER, "x.new_full((len(x),), sigma), self.sigma_data,", "x.new_full((len(x),), sigma), self.config.sigma_data,"),
    fault("the measured sigma_data used in sampling alone", DENOISER, "sigma, noise, self.sigma_data,", "sigma, noise, self.config.sigma_data,"),
    fault("sigma_data not saved", DENOISER, "self.register_buffer(\"sigma_data\", torch.tensor(c.sigma_data))", "self.register_buffer(\"sigma_data\", torch.tensor(c.sigma_data), persistent=False)"),
    fault("the offset noise used in training alone", DENOISER, "self.sigma_data, self.config.offset_noise)\n            if", "self.sigma_data, 0.0)\n            if"),
    fault("the offset noise used in sampling alone", DENOISER, "edm.draw_noise(sigma, y.shape, c.offset_noise, generator)", "edm.draw_noise(sigma, y.shape, 0.0, generator)"),
    fault("sigma shown halved in sampling", DENOISER, "x.new_full((len(x),), sigma)", "x.new_full((len(x),), sigma / 2)"),
    fault("the generated frame fed back to a masked position", DENOISER, "torch.where(known[:, t - 1, None, None], generated, obs[:, t])", "generated"),
    fault("the real frame fed back: the model never sees its own", DENOISER, "torch.where(known[:, t - 1, None, None], generated, obs[:, t])", "obs[:, t]"),
    fault("the generated frame fed back where it is not known, and nowhere else", DENOISER, "torch.where(known[:, t - 1, None, None], generated, obs[:, t])", "torch.where(known[:, t - 1, None, None], obs[:, t], generated)"),
    fault("the generated frame fed back one place early", DENOISER, "torch.cat([obs[:, :t], shown[:, None], obs[:, t + 1 :]], dim=1)", "torch.cat([obs[:, : t - 1], shown[:, None], obs[:, t:]], dim=1)"),
    fault("feedback leaks its gradient", DENOISER, "return loss, to_uint8(self.decode(denoised.detach(), previous))[:, 0]", "return loss, (self.decode(denoised, previous) * 127.5 + 127.5)[:, 0]"),
    fault("the frame fed back is the noisy one", DENOISER, "to_uint8(self.decode(denoised.detach(), previous))[:, 0]", "to_uint8(self.decode(y + noise, previous))[:, 0]"),
    fault("the frame fed back is the target, not decoded", DENOISER, "to_uint8(self.decode(denoised.detach(), previous))[:, 0]", "to_uint8(denoised.detach())[:, 0]"),
    fault("the frame fed back is the truth", DENOISER, "to_uint8(self.decode(denoised.detach(), previous))[:, 0]", "obs"),
    fault("the mask one frame late", DENOISER, "losses.append(torch.where(known[:, t - 1], loss, 0.0))", "losses.append(torch.where(known[:, t - 2], loss, 0.0))"),
    fault("a target known although nothing came before it", DENOISER, "segment.mask[:, 1:] & segment.mask[:, :-1]", "segment.mask[:, 1:]"),
    fault("padding counted in the loss", DENOISER, "losses.append(torch.where(known[:, t - 1], loss, 0.0))", "losses.append(loss)"),
    fault("the loss divided by all frames, known or not", DENOISER, "/ known[:, n - 1 :].sum().clamp_min(1)", "/ known[:, n - 1 :].numel()"),
    fault("the loss divided by the known frames of the context too", DENOISER, "/ known[:, n - 1 :].sum().clamp_min(1)", "/ known.sum().clamp_min(1)"),
    fault("the loss of the last frame forgotten", DENOISER, "for t in range(n, obs.shape[1]):", "for t in range(n, max(n + 1, obs.shape[1] - 1)):"),
    fault("the sample truncated, not rounded", DENOISER, "return to_uint8(self.decode(y, previous))[:, 0]", "return (self.decode(y, previous).clamp(-1, 1) * 127.5 + 127.5).to(torch.uint8)[:, 0]"),
    fault("the sample is the change alone", DENOISER, "return to_uint8(self.decode(y, previous))[:, 0]", "return to_uint8(y)[:, 0]"),
    fault("every sample of a batch the same noise", DENOISER, "noise = normal(previous.shape, generator)", "noise = normal(previous[:1].shape, generator if isinstance(generator, torch.Generator) else generator[:1]).expand_as(previous)"),
    fault("the loss in half precision", DENOISER, "        net = self._bind(frames, action)\n        loss", "        net, y, noise = self._bind(frames, action), y.bfloat16(), noise.bfloat16()\n        loss"),
)

COLLECTING = (
    fault("the collector stores the frame after the action in place of the one before", COLLECTOR, "self.replay.add(self.obs, action,", "self.replay.add(obs, action,"),
    fault("the collector never forgets", COLLECTOR, "        self.hidden = None\n        self.obs, _", "        self.obs, _"),
    fault("the collector forgets at every step", COLLECTOR, "policy.initial_hidden(1) if self.hidden is None else self.hidden", "policy.initial_hidden(1)"),
    fault("epsilon and its complement swapped", COLLECTOR, "generator=generator) < epsilon", "generator=generator) >= epsilon"),
    fault("the collector goes on from the last frame of the game before", COLLECTOR, "self.obs, _ = self.env.reset()", "self.env.reset()"),
)

RANDOMNESS = (
    fault("one generator's draws for every sample", RANDOM, "return torch.stack([one(shape[1:], each) for each in generator])", "return torch.stack([one(shape[1:], generator[0]) for _ in generator])"),
    fault("a generator a sample serves by chance", RANDOM, "return one(shape, generator)", "return one(shape, None)"),
    fault("uniform numbers for normal ones", RANDOM, "torch.randn(s, generator=g,", "torch.rand(s, generator=g,"),
    fault("the likeliest category alone", "networks/categorical.py", " / exponential(logits.shape, generator)", " / exponential(logits[..., :1].shape, generator)"),
    fault("categories drawn from the logits' own signs", "networks/categorical.py", "logits.float().softmax(-1)", "logits.float().abs()"),
    fault("the average's decay does not rise", MODELS, "min(decay, (1 + n) / (10 + n))", "decay"),
    fault("the average keeps its random start", MODELS, "min(decay, (1 + n) / (10 + n))", "max(decay, (1 + n) / (10 + n))"),
)

REAL_GAMES = (
    fault("frames resized by dropping pixels", ATARI, "interpolation=cv2.INTER_AREA", "interpolation=cv2.INTER_NEAREST", "test_atari.py"),
    fault("frames resized smoothly", ATARI, "interpolation=cv2.INTER_AREA", "interpolation=cv2.INTER_LINEAR", "test_atari.py"),
    fault("frames transposed", ATARI, "return cv2.resize(self._screen, (SIZE, SIZE)", "return cv2.resize(self._screen.T, (SIZE, SIZE)", "test_atari.py"),
    fault("flickering sprites lost: the last frame alone", ATARI, "screen = fresh if screen is None else np.maximum(screen, fresh)", "screen = fresh", "test_atari.py"),
    fault("flickering sprites darkened: the least of two frames", ATARI, "np.maximum(screen, fresh)", "np.minimum(screen, fresh)", "test_atari.py"),
    fault("the maximum over three frames", ATARI, "if frames_left < 2:", "if frames_left < 3:", "test_atari.py"),
    fault("one frame too few a step", ATARI, "reversed(range(self.frame_skip))", "reversed(range(self.frame_skip - 1))", "test_atari.py"),
    fault("rewards of the last frame alone", ATARI, "reward += self._ale.act", "reward = self._ale.act", "test_atari.py"),
    fault("a lost life does not end an episode", ATARI, "life_lost = self.episodic_life and 0 < lives < lives_before", "life_lost = False", "test_atari.py"),
    fault("actions in reversed order", ATARI, "self._action_set = self._ale.getMinimalActionSet()", "self._action_set = self._ale.getMinimalActionSet()[::-1]", "test_atari.py"),
    fault("the game's seed ignored", ATARI, "self._ale.setInt(\"random_seed\", seed)", "self._ale.setInt(\"random_seed\", 1)", "test_atari.py"),
)

FADING = (
    fault("training: the average forgets nothing", MODELS, "min(decay, (1 + n) / (10 + n))", "0.99999", "test_fading.py"),
    fault("training: the average never updated", FIT, "        models.average.update_parameters(models.denoiser)\n", "        pass\n", "test_fading.py"),
    fault("training: the scale of a change lost in decoding", DENOISER, "previous + y / self.config.change_scale", "previous + y", "test_fading.py"),
    fault("training: the learning rate never rises", OPTIMIZATION, "(self.updates + 1) / max(1, self.config.warmup_updates)", "0", "test_fading.py"),
    fault("training: weights decay a thousand times too fast", OPTIMIZATION, '"weight_decay": weight_decay}', '"weight_decay": 1e3 * weight_decay}', "test_fading.py"),
    fault("training: no small object in any frame", ATARI, "return cv2.resize(self._screen, (SIZE, SIZE)", "return cv2.resize(cv2.morphologyEx(self._screen, cv2.MORPH_OPEN, np.ones((9, 9), np.uint8)), (SIZE, SIZE)", "test_fading.py"),
    fault("training: objects fade a little in every stored frame", REPLAY, '    return {"obs": obs[None], **small}', '    return {"obs": (obs[None] * 0.2).byte(), **small}', "test_fading.py"),
)

# fmt: on

MUTATIONS = (
    *DIFFUSION,
    *SAMPLING,
    *PICTURES,
    *NETWORKS,
    *STEPPING,
    *MEMORY,
    *LEARNING,
    *DENOISING,
    *COLLECTING,
    *RANDOMNESS,
    *REAL_GAMES,
    *FADING,
)
