"""What a GPU would be asked for, where there is none: how often the CPU waits for it, and that nothing of the CPU is in what a
CUDA graph records. See `pretended_gpu` for what this shows and what it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import MEANINGS, frames, make_replay, mostly_slow, small_config
from pretended_gpu import GPU, Generator, PretendedGpu, pretended_gpu
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from adamas.agent.actor_critic import ActorCritic
from adamas.config import Atari, Config
from adamas.data.batch import Trajectory
from adamas.envs.atari import AtariEnv
from adamas.evaluation.dreams import GROUP, dream, trajectory
from adamas.evaluation.games import play_games
from adamas.networks.blocks import AdaGroupNorm, SelfAttention
from adamas.training import distributed
from adamas.training.collector import Collector
from adamas.training.cuda_graphs import WARM_UP
from adamas.training.generators import Generators
from adamas.training.learners import Learners
from adamas.training.models import Models
from adamas.training.optimizer import LOOK_EVERY
from adamas.training.updates import Updates
from adamas.training.workers import Workers
from adamas.utils.logger import Logger
from adamas.world_model.gym_vector_env import WorldModelVectorEnv
from adamas.world_model.parallel_rollouts import ParallelRollouts


class Watched:
    """A capture that records nothing: its work is watched as if it did."""

    def __init__(self, gpu: PretendedGpu) -> None:
        self.gpu = gpu

    def __call__(self, work: Callable[[], Any], generator: object) -> tuple[Any, Callable[[], None]]:
        with self.gpu.recorded():
            return work(), lambda: None

    def warm_up(self) -> AbstractContextManager:
        return self.gpu.recorded()


def make_models(architecture: str = "adamas", policy: str = "imagined") -> Models:
    """With all that a preset may ask for."""
    adamas = architecture == "adamas"
    c = small_config(
        architecture,
        "bfloat16",
        reward_end={"imagined_share": 0.5, "predict_divergence": True} if adamas else {},
        actor_critic={"frame_stack": 3, "horizon": 2, "epochs": 2, "minibatches": 2, "ema_decay": 0.9}
        if adamas
        else {},
        sampling={"event_share": 0.25, "direction_change_share": 0.25} if adamas else {},
        policy=policy,
        **({"target": "change", "motion_weight": 5.0, "ema_decay": 0.9} if adamas else {}),
    )
    return Models(replace(c, cuda_graphs=False, micro_batch=0 if adamas else 4), MEANINGS, GPU)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGpu]:
    with pretended_gpu(monkeypatch) as mode:
        yield mode


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adamas.training.updates.SEGMENT_FRAMES", 5)


def make_updates(gpu: PretendedGpu, tmp_path: Any, architecture: str = "adamas", policy: str = "imagined") -> Updates:
    learners, random = (
        Learners(make_models(architecture, policy)),
        Generators(torch.Generator(), torch.Generator(), Generator()),
    )
    learners.record(Watched(gpu))
    updates = Updates(learners, make_replay({3, 9, 20}, 30, GPU), random, Logger(tmp_path))
    updates.measure_changes()
    return updates


@pytest.mark.parametrize(
    "kind", mostly_slow(["adamas imagined", "diamond imagined", "adamas dyna"], ["adamas imagined", "adamas dyna"])
)
def test_an_update_never_waits(kind: str, gpu: PretendedGpu, tmp_path: Any) -> None:
    """But every LOOK_EVERY updates; and nothing of the CPU is in what a CUDA graph would record."""
    updates = make_updates(gpu, tmp_path, *kind.split())
    for part in updates.config.parts:
        updates.make(part)  # sets things up
        gpu.reset()
        updates.make(part)
        assert (gpu.copies, gpu.waits) == ({}, {})
    updates.learners.by_part["reward_end"].optimizer.steps = LOOK_EVERY - 1
    updates.make("reward_end")
    assert list(gpu.waits.values()) == [1]
    gpu.reset()
    updates.logger.flush(0)
    assert gpu.waits.total() == 2  # for the numbers of each type
    assert gpu.inside == []


def test_a_recorded_update_never_waits_either(gpu: PretendedGpu, tmp_path: Any) -> None:
    updates = make_updates(gpu, tmp_path)
    for _ in range(WARM_UP + 1):
        updates.denoiser()
    gpu.reset()
    updates.denoiser()
    assert (gpu.copies, gpu.waits, gpu.inside) == ({}, {}, [])
    assert gpu.launches.total() < 200  # and leaves the work to the recording


def test_what_other_processes_get_is_sent_from_the_cpu(gpu: PretendedGpu, tmp_path: Any, monkeypatch: Any) -> None:
    updates, sent = make_updates(gpu, tmp_path), []
    for part in updates.config.parts:
        updates.make(part)  # now the optimizers have a state
    monkeypatch.setattr(distributed, "broadcast", sent.append)
    Workers().begin(updates.learners)
    mine = pytree.tree_leaves((updates.learners.models.state_dict(), updates.learners.state_dict()))
    devices = [x.device.type for x in pytree.tree_leaves(sent) if isinstance(x, Tensor)]
    assert devices == ["cpu"] * sum(isinstance(x, Tensor) for x in mine)
    assert "cuda" in {x.device.type for x in mine if isinstance(x, Tensor)}


def read_a_value(x: Tensor) -> None:
    float(x.sum())


def use_a_mask_of_the_cpu(x: Tensor) -> None:
    torch.where(torch.ones(x.shape, dtype=torch.bool), x, 0.0)


def draw_with_the_cpu(x: Tensor) -> None:
    torch.randn(x.shape, generator=torch.Generator(), device=x.device)


def add_noise_of_the_cpu(x: Tensor) -> None:
    x + torch.randn(x.shape, generator=torch.Generator())


def index_with_a_mask(x: Tensor) -> None:
    x[x > 0]


def index_with_the_cpu(x: Tensor) -> None:
    x[torch.zeros(1, dtype=torch.int64)]


def send_a_tensor(x: Tensor) -> None:
    torch.zeros(x.shape).pin_memory().to(x.device, non_blocking=True)


def bake_in_a_number(x: Tensor) -> None:
    x * torch.tensor(0.5)


NOTED = [read_a_value, index_with_the_cpu, send_a_tensor, bake_in_a_number]
RAISED = {
    use_a_mask_of_the_cpu: "found at least two devices",
    draw_with_the_cpu: "a generator on cpu cannot draw on cuda:0",
    add_noise_of_the_cpu: "found at least two devices",
    index_with_a_mask: "nonzero",
}


def with_fault(updates: Updates, plant: Callable[[Tensor], None]) -> Updates:
    """Its denoiser's update makes a mistake."""
    denoiser = updates.models.denoiser
    valid_steps = denoiser.valid_steps

    def faulty(segment: Any) -> Tensor:
        plant(torch.zeros(4, device=GPU))
        return valid_steps(segment)

    denoiser.valid_steps = faulty
    return updates


@pytest.mark.parametrize("plant", NOTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_noted(plant: Callable, gpu: PretendedGpu, tmp_path: Any) -> None:
    with_fault(make_updates(gpu, tmp_path), plant).denoiser()
    assert gpu.inside


@pytest.mark.parametrize("plant", RAISED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_raises(plant: Callable, gpu: PretendedGpu, tmp_path: Any) -> None:
    updates = with_fault(make_updates(gpu, tmp_path), plant)
    with pytest.raises(RuntimeError, match=RAISED[plant]):
        updates.denoiser()


def test_a_step_of_the_collector_waits_once(gpu: PretendedGpu) -> None:
    """For what the policy makes of the frame."""
    models, env = make_models(), AtariEnv("Breakout", Atari(), episodic_life=True)
    collector = Collector(env, make_replay({3}, 10, GPU), seed=0)
    for _ in range(2):
        gpu.reset()
        with models.autocast():
            collector.step(models.policy, torch.Generator())
    assert (gpu.copies, list(gpu.waits.values())) == ({}, [1])


def test_a_step_of_all_games_waits_once(gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    models, batches = make_models(), []
    act = ActorCritic.act

    def counted(self: ActorCritic, obs: Tensor, *rest: Any) -> Any:
        batches.append(len(obs))
        return act(self, obs, *rest)

    monkeypatch.setattr(ActorCritic, "act", counted)
    gpu.reset()
    play_games(models.policy, Config(atari=Atari(max_episode_steps=3)), 2, 0)
    assert (gpu.copies, gpu.waits.total()) == ({}, 3)
    assert batches == [2, 2, 2]


def test_dreams_of_an_evaluation_wait_once_a_group(gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    models, batches = make_models(), []
    clip = Trajectory(frames(GROUP + 1, 6), torch.zeros(GROUP + 1, 5, dtype=torch.int64))
    models.world.denoiser.net.register_forward_pre_hook(lambda net, inputs: batches.append(len(inputs[0])))
    gpu.reset()
    with models.autocast():
        dream(models.world, clip, 3, 0)
        assert (gpu.copies, gpu.waits.total(), set(batches)) == ({}, 2, {GROUP})
        trajectory(models.world, clip, 3, 0)


def test_a_step_of_the_vector_env_waits_once(gpu: PretendedGpu) -> None:
    models = make_models()
    starts = Trajectory(frames(4, 3).to(GPU), torch.zeros(4, 2, dtype=torch.int64).to(GPU))
    env = WorldModelVectorEnv(2, ParallelRollouts(models.world, starts, 2, 5, models.autocast), MEANINGS)
    env.reset(seed=0)
    gpu.reset()
    env.step(np.zeros(2, np.int64))
    assert (gpu.copies, gpu.waits.total()) == ({}, 1)


def test_norms_write_what_they_read(gpu: PretendedGpu) -> None:
    """Autocast would let a GPU write float32, which is twice the traffic of what follows."""
    norm, attention = AdaGroupNorm(8, 4).to(GPU), SelfAttention(8).to(GPU)
    x = torch.zeros(2, 8, 6, 6, device=GPU, dtype=torch.bfloat16)
    with torch.autocast("cuda", torch.bfloat16):
        assert norm(x, torch.zeros(2, 4, device=GPU)).dtype == torch.bfloat16
        assert attention.norm(x).dtype == torch.bfloat16
        assert attention(x).dtype == torch.bfloat16


def test_attention_is_fused(gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which it is only where the channels of a position are side by side."""
    strides, fused = [], nn.functional.scaled_dot_product_attention

    def seen(*qkv: Tensor) -> Tensor:
        strides.extend(x.stride(-1) for x in qkv)
        return fused(*qkv)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", seen)
    SelfAttention(8).to(GPU)(torch.zeros(2, 8, 6, 6, device=GPU))
    assert strides == [1, 1, 1]


def test_a_bfloat16_copy_of_the_weights_is_made_once_a_rollout(gpu: PretendedGpu, tmp_path: Any) -> None:
    """Also of averaged weights, which nothing learns."""
    updates = make_updates(gpu, tmp_path)
    c = updates.config
    context = updates.replay.sample_contexts(2, c.denoiser.context, updates.random.data)
    casts = []
    for horizon in (2, 4):
        c.actor_critic.horizon = horizon
        gpu.reset()
        updates.learners._imagine_batch(context, updates.random.noise)
        casts.append(gpu.launches["_to_copy"])
    per_step = (casts[1] - casts[0]) / 2
    layers = sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in updates.models.world.modules())
    assert per_step < 2 * layers  # of weights and biases there would be so many; activations are cast too
