"""What several test files share: random numbers, small networks, replays, and the program in a process of its own."""

from __future__ import annotations

import io
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from adamas import config
from adamas.cli import main as cli
from adamas.config import Config
from adamas.config.files import load_config, save_config
from adamas.config.rules import check
from adamas.data import storage
from adamas.data.batch import Trajectory
from adamas.data.replay import Replay, read_files
from adamas.training import checkpoint, phases
from adamas.training.learners import Learners
from adamas.training.models import Models
from adamas.utils import device
from adamas.world_model.denoiser import Denoiser
from adamas.world_model.reward_end import RewardEnd
from adamas.world_model.world_model import WorldModel

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
MEANINGS = ("NOOP", "FIRE", "RIGHT", "LEFT")  # of Breakout's actions

# Random numbers and networks


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frames(*shape: int, size: int = 84, seed: int = 0) -> Tensor:
    """Random frames, uint8 (*shape, size, size)."""
    return torch.randint(0, 256, (*shape, size, size), dtype=torch.uint8, generator=generator(seed))


def wake(module: nn.Module) -> Any:
    """Gives the branches that start at zero something to say."""
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return module


@torch.no_grad()
def fill(module: nn.Module) -> None:
    """Weights in closed form, which no version of torch draws otherwise."""
    for i, p in enumerate(module.parameters()):
        p.copy_((0.1 * torch.sin(torch.arange(p.numel(), dtype=torch.float64) * 1.3 + i)).reshape(p.shape))
    for name, buffer in module.named_buffers():
        if "frequencies" in name:
            buffer.copy_(torch.linspace(-1, 1, buffer.numel()))
        if "sigma_data" in name:
            buffer.fill_(0.2)


def small_network(architecture: str = "adamas") -> config.Network:
    return config.Network(architecture, patch=4, condition_channels=24, lstm_dim=8)


def small_config(
    architecture: str = "adamas",
    precision: str = "float32",
    reward_end: dict | None = None,
    actor_critic: dict | None = None,
    sampling: dict | None = None,
    policy: str = "imagined",
    **denoiser: object,
) -> Config:
    """Of networks that take milliseconds, and batches of 8. `sampling` is the section `replay`."""

    def optimization() -> config.Optimization:
        return config.Optimization(batch_size=8, learning_rate=1e-2)

    levels = {"channels": [16], "depths": [1]}
    c = Config(
        precision=precision,
        network=small_network(architecture),
        replay=config.Replay(**(sampling or {})),
        denoiser=config.Denoiser(**{**levels, "context": 3, "optimization": optimization(), **denoiser}),
        sampler=config.Sampler(steps=1),
        reward_end=config.RewardEnd(**{**levels, "optimization": optimization(), **(reward_end or {})}),
        actor_critic=config.ActorCritic(
            **{"channels": [8], "horizon": 4, "optimization": optimization(), **(actor_critic or {})}
        ),
    )
    c.q_network = config.QNetwork(
        learning_starts=20, horizon=4, steps_per_update=2, n_step=3, optimization=optimization()
    )
    c.policy = policy
    return check(c)


def small_learners(**settings: object) -> Learners:
    """Without a warm-up, whose first updates hardly move anything."""
    torch.manual_seed(0)
    learners = Learners(Models(small_config(**settings), MEANINGS, CPU))
    for learner in learners.by_part.values():
        learner.optimizer.warmup_updates = 0
    return learners


def make_world(
    context: int = 3, target: str = "frame", predict_divergence: bool = False, actions: int = 3
) -> WorldModel:
    torch.manual_seed(0)
    levels = {"channels": [16, 16], "depths": [1, 1]}
    network = config.Network("adamas", patch=4, condition_channels=24, lstm_dim=16)
    denoiser = Denoiser(config.Denoiser(**levels, context=context, target=target), network, actions)
    reward_end = RewardEnd(config.RewardEnd(**levels, predict_divergence=predict_divergence), network, actions)
    return WorldModel(wake(denoiser), wake(reward_end), config.Sampler(steps=2))


def make_context(length: int = 3, batch: int = 4) -> Trajectory:
    action = torch.randint(0, 3, (batch, length - 1), generator=generator())
    return Trajectory(frames(batch, length), action)


def expect(world: WorldModel, reward: int | None = None, end: int | None = None) -> None:
    """Makes the reward/end model sure of a class, or leave it to a fair coin."""
    first, last = world.reward_end.head[0], world.reward_end.head[-1]
    with torch.no_grad():
        first.weight.zero_()
        first.bias.fill_(1.0)
        last.weight.zero_()
        if reward is not None:
            last.weight[reward + 1] = 100.0
        if end is not None:
            last.weight[3 + end] = 100.0


def read_dataset(path: Path, age_weights: Sequence[float]) -> Replay:
    """A folder of `.npz` files, in the order of their names, or one such file."""
    return read_files(storage.dataset_files(path), age_weights)


def make_replay(ends: set[int], steps: int, on: torch.device = CPU) -> Replay:
    """Random frames, actions and rewards; an episode ends with each step of `ends`."""
    replay, obs = Replay(steps, device=on), frames(steps + 1)
    actions, rewards = (torch.randint(low, high, (steps,), generator=generator(1)) for low, high in ((0, 4), (-1, 2)))
    for t in range(steps):
        replay.add(obs[t], int(actions[t]), float(rewards[t]), t in ends, False, obs[t + 1])
    return replay


def short_episodes(on: torch.device = CPU) -> Replay:
    """Of 2 to 11 steps, so that batches hold much padding and many ends."""
    return make_replay({3, 5, 14, 19, 22, 31, 33, 41, 50, 59}, 60, on)


def mostly_slow(values: Iterable[Any], fast: Collection[str]) -> list[Any]:
    """Parameters of which all but those called so in `fast` are for `scripts/check --slow`."""
    return [
        pytest.param(value, id=str(value), marks=[] if str(value) in fast else [pytest.mark.slow]) for value in values
    ]


def spy(owner: object, method: str) -> list[tuple[tuple, Any]]:
    """From now on, the arguments and the result of each call of that method."""
    calls, original = [], getattr(owner, method)

    def remember(*args: object) -> object:
        calls.append((args, original(*args)))
        return calls[-1][1]

    setattr(owner, method, remember)
    return calls


def same(a: object, b: object) -> bool:
    """Whether two trees of plain data and tensors are equal to the bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


# The program

PARTS = Config().parts  # of a run with an actor-critic
TINY = [  # some seconds of the whole loop
    "preset=smoke",
    "device=cpu",
    "final_epochs=1",
    "collection.steps=90",
    "collection.first_steps=60",
    "collection.first_steps_most=60",
    "collection.steps_per_epoch=30",
    *(
        f"{part}.optimization.{name}"
        for part in ("denoiser", "reward_end", "actor_critic")
        for name in ("first_updates=4", "updates=2", "batch_size=2")
    ),
    "network.lstm_dim=16",
    "denoiser.channels=[16]",
    "denoiser.depths=[1]",
    "reward_end.channels=[8,8,8]",
    "actor_critic.channels=[8,16]",
    "actor_critic.horizon=4",
    "atari.max_episode_steps=60",
    "evaluation.every_epochs=9",
    "evaluation.games=1",
    "evaluation.final_games=1",
    "evaluation.dreams=1",
    "evaluation.dream_steps=4",
]
ALWAYS = "checkpoint.every_minutes=1e-9"  # after every step and update, which a save takes longer than
OFTEN = "checkpoint.every_minutes=0.004"  # a few a second
SELDOM = "checkpoint.every_minutes=10"  # none till the end
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")])),
}


class Done(NamedTuple):
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


def adamas(*words: str, cwd: Path | None = None) -> Done:
    """A command, in this process: adamas("export", "run=..."). Nothing is measured before a run begins."""
    said = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said[0]), redirect_stderr(said[1]):
        patch.chdir(cwd or Path.cwd())
        patch.setattr(phases, "measure_costs", lambda rehearsal: {phase.name: 1e-3 for phase in phases.PHASES})
        patch.setattr(device, "keep_freed_memory", lambda: None)
        patch.setattr(sys, "argv", ["adamas", *words])
        code = cli.main(list(words))
    for stream in said:
        stream.seek(0)
    return Done(code, *(stream.read() for stream in said))


def train(*words: str, cwd: Path) -> Path:
    """Runs to the end, in this process, and returns the run folder."""
    done = adamas("train", *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("done")
    return only_run(cwd)


PROCESSES = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
PROCESSES.set_forkserver_preload(["torch._dynamo", "torch.utils.tensorboard", "hydra", "cv2"])  # once for all processes


def _adamas(words: tuple[str, ...], cwd: Path) -> None:
    torch.set_num_threads(1)
    done = adamas(*words, cwd=cwd)
    (cwd / "stdout").write_text(done.stdout)
    (cwd / "stderr").write_text(done.stderr)
    sys.exit(done.returncode)


def launch(*words: str, cwd: Path) -> BaseProcess:
    """A command in a process of its own, which starts quickly. What it says is in `stdout` and `stderr` of `cwd` at its end."""
    process = PROCESSES.Process(target=_adamas, args=(words, cwd))
    process.start()
    return process


def exit_code_of(target: Callable[..., None], *arguments: object) -> int | None:
    """Calls it in a process of its own, which starts quickly, and waits for its end."""
    process = PROCESSES.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def start(*words: str, cwd: Path, program: Sequence[str] = (str(ROOT / "src" / "main.py"),)) -> subprocess.Popen:
    """The program as a user runs it."""
    return subprocess.Popen(
        [sys.executable, *program, *words],
        cwd=cwd,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def main(*words: str, cwd: Path) -> Done:
    process = start(*words, cwd=cwd)
    out, err = process.communicate()
    return Done(process.returncode, out, err)


def run_script(name: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / name), *arguments]
    return subprocess.run(command, env=ENVIRONMENT, text=True, capture_output=True, check=False)


def only_run(cwd: Path) -> Path:
    (folder,) = cwd.glob("runs/*/*")
    return folder


def final_parts(folder: Path) -> dict:
    """What a run ended with, less what may differ from machine hour to machine hour."""
    parts, _ = checkpoint.load_newest(folder / "checkpoints", warn=pytest.fail)
    rows = [dict(np.load(chunk)) for chunk in sorted((folder / "replay").glob("*.npz"))]
    parts["replay"] = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]} if rows else None
    parts["progress"] = {k: v for k, v in parts["progress"].items() if k not in ("seconds", "saves")}
    return parts


def open_picture(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def change_config(run: Path, **changes: object) -> None:
    """As a person would edit config.yaml, digest and all."""
    save_config(replace(load_config(run / "config.yaml"), **changes), run / "config.yaml")


def wait_for_saves(is_alive: Callable[[], bool], cwd: Path, count: int) -> None:
    """Until so many more checkpoints were seen in the run folder under `cwd`, or the process has ended."""
    seen = {path.name for path in cwd.glob("runs/*/*/checkpoints/*.pt")}
    first = len(seen)
    while is_alive() and len(seen) < first + count:
        seen |= {path.name for path in cwd.glob("runs/*/*/checkpoints/*.pt")}
        time.sleep(0.002)


def wait_until(true: Callable[[], bool], seconds: float = 200) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
