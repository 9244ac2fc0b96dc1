"""The rows of `speed.py` by the published code of DIAMOND, which is imported from a clone and not part of this repository."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

sys.path.append(str(Path(__file__).resolve().parents[1] / "studies"))
from published_clone import build, import_clone

from adamas.agent.returns import LAMBDA
from adamas.config import SIGMA_MIN, SIZE, Config
from adamas.config.schema import SEGMENT_FRAMES
from adamas.envs.atari import action_meanings
from adamas.training.learners import MAX_GRAD_NORM, WARMUP_UPDATES, WEIGHT_DECAY
from adamas.utils.errors import UserError
from adamas.world_model.denoiser import RHO

EPISODES, EPISODE_STEPS = 8, 250  # of random frames, to draw batches from


def check_sizes(config: Config) -> None:
    """Raises UserError for networks that the published code cannot build."""
    needed = {
        "denoiser.target": (config.denoiser.target, "frame"),
        "network.architecture": (config.network.architecture, "diamond"),
        "network.patch": (config.network.patch, 1),
        "actor_critic.frame_stack": (config.actor_critic.frame_stack, 1),
        "actor_critic.epochs": (config.actor_critic.epochs, 1),
        "actor_critic.minibatches": (config.actor_critic.minibatches, 1),
    }
    for name, (value, only) in needed.items():
        if value != only:
            raise UserError(f"--published: that code has no {name}={value}, only {only}; use preset=diamond")


def works(config: Config, device: torch.device, path: Path) -> dict:
    """The rows that it has, with the sizes of `config`; its preset is ours called diamond, at 84x84 grey."""
    import_clone(path)
    from data import BatchSampler, Dataset, collate_segments_to_batch
    from envs import WorldModelEnv, WorldModelEnvConfig
    from models.actor_critic import ActorCriticLossConfig
    from models.diffusion import DiffusionSamplerConfig
    from utils import configure_opt, get_lr_sched

    torch.backends.cuda.matmul.allow_tf32 = True
    c, a, s = config.denoiser, config.actor_critic, config.sampler
    agent = build(config, len(action_meanings(config.env))).to(device)
    dataset = Dataset(Path(tempfile.gettempdir()) / "unused", "speed", cache_in_ram=True, save_on_disk=False)
    for episode in _episodes(len(action_meanings(config.env))):
        dataset.add_episode(episode)

    def batches(size: int, length: int, beyond_end: bool = False) -> DataLoader:
        sampler = BatchSampler(dataset, 0, 1, size, length, list(config.replay.age_weights), beyond_end)
        return DataLoader(dataset, batch_sampler=sampler, collate_fn=collate_segments_to_batch)

    steps = DiffusionSamplerConfig(s.steps, SIGMA_MIN, s.sigma_max, int(RHO))
    env = WorldModelEnv(
        agent.denoiser,
        agent.rew_end_model,
        batches(a.optimization.batch_size, c.context),
        WorldModelEnvConfig(a.horizon, 1, steps),  # one batch burnt in for each that is used, as ours
    )
    if device.type == "cuda":  # as its trainer does
        env.predict_next_obs = torch.compile(env.predict_next_obs, mode="reduce-overhead")
        env.predict_rew_end = torch.compile(env.predict_rew_end, mode="reduce-overhead")
    _never_end(env)
    loss = ActorCriticLossConfig(a.horizon, a.discount, LAMBDA, 1.0, a.entropy_weight)
    agent.actor_critic.setup_training(env, loss)

    def update(name: str, theirs: str, loader: DataLoader | None, most: float) -> object:
        model, stream = getattr(agent, theirs), iter(loader) if loader is not None else None
        decay = WEIGHT_DECAY if loader is not None else 0.0
        optimizer = configure_opt(model, getattr(config, name).optimization.learning_rate, decay, 1e-8)
        schedule = get_lr_sched(optimizer, WARMUP_UPDATES)

        def work() -> None:
            loss, _ = model(next(stream).to(device)) if stream is not None else model()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), most)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()

        return work

    length = c.context + 1 + c.autoregressive_steps
    segments = batches(c.optimization.batch_size, length)
    replay = iter(segments)
    transitions = batches(config.reward_end.optimization.batch_size, SEGMENT_FRAMES, beyond_end=True)
    obs = torch.rand(1, c.context, 1, SIZE, SIZE, device=device) * 2 - 1
    action = torch.zeros(1, c.context, dtype=torch.int64, device=device)

    @torch.no_grad()
    def rollout() -> None:
        seen, _ = env.reset()
        hidden = tuple(torch.zeros(env.num_envs, config.network.lstm_dim, device=device) for _ in range(2))
        for _ in range(a.horizon):
            output = agent.actor_critic.predict_act_value(seen, hidden)
            hidden = output.hx_cx
            seen, *_ = env.step(torch.distributions.Categorical(logits=output.logits_act).sample())

    return {
        "denoiser": (update("denoiser", "denoiser", segments, c.max_grad_norm), 1),
        "reward_end": (update("reward_end", "rew_end_model", transitions, MAX_GRAD_NORM), 1),
        "actor_critic": (update("actor_critic", "actor_critic", None, MAX_GRAD_NORM), 1),
        "frame": (lambda: env.sampler.sample(obs, action), 1),
        "imagine": (rollout, a.optimization.batch_size * a.horizon),
        "replay": (lambda: next(replay).to(device), 1),
    }


def _episodes(actions: int) -> Iterator[object]:
    """Episodes of random frames, float in [-1, 1] as it holds them."""
    from data import Episode

    for seed in range(EPISODES):
        random = torch.Generator().manual_seed(seed)
        n = EPISODE_STEPS
        reward, end = torch.zeros(n), torch.zeros(n, dtype=torch.uint8)
        reward[::50] = 1
        yield Episode(
            torch.rand(n, 1, SIZE, SIZE, generator=random) * 2 - 1,
            torch.randint(actions, (n,), generator=random),
            reward,
            end.long(),
            torch.zeros(n, dtype=torch.int64),
            {},
        )


def _never_end(env: object) -> None:
    """An untrained model ends half of all dreams at each step, and its code then burns in others: here none ends early."""
    predict = env.predict_rew_end

    def without_ends(next_obs: Tensor) -> tuple[Tensor, Tensor]:
        reward, end = predict(next_obs)
        return reward, torch.zeros_like(end)

    env.predict_rew_end = without_ends
