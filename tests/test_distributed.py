"""Several processes: two of them on the CPU make what one makes, and survive what one survives."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_fit import CPU, MEANINGS, small_config
from test_main import ROOT, TINY, final_parts, main, only_run

from adamas.config import Config, Optimization
from adamas.config.rules import check
from adamas.data.replay import Replay
from adamas.training import checkpoint, distributed
from adamas.training.distributed import masked_mean
from adamas.training.models import Models
from adamas.training.updates import UPDATES, Generators
from adamas.utils.device import pick_device
from adamas.utils.errors import UserError
from adamas.utils.logger import Logger
from adamas.utils.random import Rows, exponential, normal

UPDATES_EACH = 2
EVEN = "actor_critic.optimization.batch_size=4"  # two minibatches in each of two processes


def short_episodes() -> Replay:
    """Of 2 to 9 steps, so that batches hold much padding and many ends."""
    random, replay = torch.Generator().manual_seed(0), Replay(60)
    frames = torch.randint(0, 256, (61, 84, 84), dtype=torch.uint8, generator=random)
    ends = {3, 5, 14, 19, 22, 31, 33, 41, 50, 59}
    for t in range(60):
        replay.add(frames[t], t % 4, float(t % 3 - 1), t in ends, False, frames[t + 1])
    return replay


def updates_of_all() -> dict[str, list[torch.Tensor]]:
    """The gradients and the losses of a few updates of each part. One in which the rollouts end early."""
    torch.manual_seed(0)
    c = small_config(
        actor_critic={"normalize_advantages": True, "epochs": 2}, target="change", fed_back_frames=1, ema_decay=0.9
    )
    c.reward_end.optimization = replace(c.reward_end.optimization, micro_batch=3)
    models, random = Models(c, MEANINGS, CPU), Generators.seeded(0, CPU)
    torch.nn.init.normal_(models.reward_end.head[-1].weight)  # a model that predicts ends
    torch.nn.init.normal_(models.actor_critic.critic.weight)
    replay, logger, seen = short_episodes(), Logger(Path()), {}
    for part in UPDATES:
        seen[part] = []
        for _ in range(UPDATES_EACH):
            UPDATES[part](models, replay, random, logger)
            seen[part] += [p.grad.clone() for p in getattr(models, part).parameters()]
        total, weight = logger._sums[f"{part}/loss"]
        seen[part].append(total / weight)
    seen["random"] = list(random.state_dict().values())
    return seen


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _join(rank: int, port: int, work: Callable[[], object], out: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with contextlib.suppress(UserError), distributed.joined(CPU, "somewhere"):
        torch.save(work(), out / f"{rank}.pt")
        distributed.hear() if rank else None  # the first one tells None at the end


def in_two_processes(work: Callable[[], object], out: Path) -> list:
    spawn, port = multiprocessing.get_context("spawn"), free_port()
    processes = [spawn.Process(target=_join, args=(rank, port, work, out)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(path) for path in sorted(out.glob("*.pt"))]


def test_two_processes_make_the_gradients_and_the_losses_of_one(tmp_path: Path) -> None:
    expected, found = updates_of_all(), in_two_processes(updates_of_all, tmp_path)
    for ours in found:
        assert ours.keys() == expected.keys()
        for part, values in expected.items():
            assert any(value.abs().sum() > 0 for value in values)
            tolerance = {"rtol": 0, "atol": 0} if part == "random" else {"rtol": 2e-3, "atol": 2e-5}
            torch.testing.assert_close(ours[part], values, **tolerance)
    for one, other in zip(found[0]["denoiser"], found[1]["denoiser"], strict=True):
        assert torch.equal(one, other), "all processes make the same step"


def uneven_mean() -> list[torch.Tensor]:
    """This process's gradient of the mean of squares of [1, 2, 3, 4, 5], then without any row that counts."""
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]][distributed.place()[0]], requires_grad=True)
    mask = torch.tensor([[True, False, False], [True, True, True]][distributed.place()[0]])
    mean = masked_mean(x.square(), mask)
    mean.backward()
    return [mean.detach(), x.grad, masked_mean(x.detach(), torch.zeros(3, dtype=torch.bool))]


def test_a_mean_is_over_the_rows_of_all_however_uneven(tmp_path: Path) -> None:
    (mean, gradient, none), (mean_too, gradient_too, _) = in_two_processes(uneven_mean, tmp_path)
    assert mean == mean_too == (1 + 16 + 25 + 36) / 4
    assert none == 0
    scale = 2 / 4 * 2  # of the mean of 4, times two processes, of which DDP takes the mean
    assert gradient.tolist() == [scale * 1, 0, 0]
    assert gradient_too.tolist() == [scale * 4, scale * 5, scale * 6]


def a_mistake_of_the_first() -> str:
    """While it holds models."""
    models = Models(small_config(), MEANINGS, CPU)
    if distributed.place()[0] == 0:
        raise UserError("wrong")
    return ", ".join(models.losses)


def test_a_mistake_ends_all_processes(tmp_path: Path) -> None:
    assert in_two_processes(a_mistake_of_the_first, tmp_path) == ["denoiser, reward_end, actor_critic"]


def test_rows_of_what_is_drawn() -> None:
    for draw in (normal, exponential):
        whole = draw((6, 3), torch.Generator().manual_seed(1))
        parts = [draw((2, 3), Rows(torch.Generator().manual_seed(1), first, 3)) for first in range(3)]
        assert all(torch.equal(parts[first], whole[first::3]) for first in range(3))


def test_what_several_processes_cannot_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    distributed.check_processes(Config())
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match=r"denoiser\.optimization\.batch_size=32 does not divide among 3 processes"):
        distributed.check_processes(Config())
    fitting = Config(policy="model_free")
    for part in (fitting.denoiser, fitting.reward_end, fitting.actor_critic):
        part.optimization = Optimization(batch_size=33)
    with pytest.raises(UserError, match="policy=model_free learns in one process"):
        distributed.check_processes(check(fitting))
    with pytest.raises(UserError, match="device=cuda:1 is one chip for several processes"):
        pick_device("cuda:1")
    code, _, err = main("-m", "env=Breakout,Pong", "preset=smoke", cwd=tmp_path)
    assert (code, err) == (2, "error: -m cannot be used with torchrun, which starts one run: drop one of the two\n")


# The program


def torchrun(*overrides: str, cwd: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port", str(free_port())]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        [*command, str(ROOT / "src" / "main.py"), *overrides],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_saves(process: subprocess.Popen, cwd: Path, count: int) -> None:
    seen: set[str] = set()
    first = len(list(cwd.glob("runs/*/*/checkpoints/*.pt")))
    while process.poll() is None and len(seen) < first + count:
        seen |= {path.name for path in cwd.glob("runs/*/*/checkpoints/*.pt")}
        time.sleep(0.005)


def process_of_rank(rank: int, parent: int) -> int:
    """Its pid, from Linux's list of processes."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_run_of_two_processes_stops_resumes_and_outlives_a_dead_one(tmp_path: Path) -> None:
    process = torchrun("env=Breakout", *TINY, EVEN, "checkpoint.every_minutes=1e-9", cwd=tmp_path)
    wait_for_saves(process, tmp_path, 3)
    process.send_signal(signal.SIGTERM)  # as SLURM does
    out, err = process.communicate()
    folder = only_run(tmp_path)
    again = f"torchrun --nproc-per-node=2 src/main.py resume=runs/Breakout/{folder.name}"
    assert out.rstrip().endswith(f"stopped and saved: go on with {again}"), err
    assert out.count("adamas learns Breakout") == 1

    process = torchrun(f"resume={folder}", cwd=tmp_path)
    wait_for_saves(process, tmp_path, 62)  # into the first updates
    os.kill(process_of_rank(1, process.pid), signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode != 0
    assert "error: process 0 of 2 has lost another one; the last save of the run is good: go on with" in err
    parts, _ = checkpoint.load_newest(folder / "checkpoints", warn=pytest.fail)
    assert 0 < parts["progress"]["total"]["denoiser"] <= 8

    process = torchrun(f"resume={folder}", "checkpoint.every_minutes=10", cwd=tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert out.splitlines()[-1].startswith("done")
    assert only_run(tmp_path) == folder
    parts = final_parts(folder)
    assert parts["progress"]["total"] | {"collect": 90, "denoiser": 8, "actor_critic": 8} == parts["progress"]["total"]
    assert len(parts["replay"]["action"]) > 90
