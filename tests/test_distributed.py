"""Several processes: two of them on the CPU make the update of one, stay equal, and survive what one survives.

Most of these tests start their processes from one that has torch already. What a user starts, `torchrun`, is slow to begin.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import (
    ALWAYS,
    CPU,
    MEANINGS,
    PARTS,
    PROCESSES,
    ROOT,
    SELDOM,
    TINY,
    adamas,
    final_parts,
    free_port,
    generator,
    only_run,
    same,
    short_episodes,
    small_config,
    small_learners,
    spy,
    start,
    wait_for_saves,
)

from adamas.agent.imagination import imagine
from adamas.config import Config, Optimization
from adamas.config.rules import check
from adamas.training import checkpoint, distributed, run_loop, workers
from adamas.training.generators import Generators
from adamas.training.learners import Learners
from adamas.training.models import Models
from adamas.training.updates import Updates
from adamas.training.workers import Workers
from adamas.utils.device import pick_device
from adamas.utils.errors import UserError
from adamas.utils.logger import Logger
from adamas.utils.threads import SERIAL
from adamas.world_model import edm

EVEN = "actor_critic.optimization.batch_size=4"  # two minibatches in each of two processes


def _join(rank: int, port: int, work: Callable[..., Any], arguments: tuple, out: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.save(work(*arguments), out / f"{rank}.pt")


def in_two_processes(work: Callable[..., Any], *arguments: Any, out: Path) -> list:
    """What `work` returned in each of two processes, by rank."""
    port = free_port()
    processes = [PROCESSES.Process(target=_join, args=(rank, port, work, arguments, out)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    return [torch.load(out / f"{rank}.pt") for rank in range(2)]


# One update


def batch_of(part: str, learners: Learners) -> Any:
    """8 rows, of which the first 4 have less padding than the others."""
    models, replay = learners.models, short_episodes()
    if part == "actor_critic":
        return imagine(models.world, models.actor_critic, replay.sample_contexts(8, 3, generator()), 6, generator())
    batch = replay.sample(8, 6, generator(), first_target=3)
    return batch.rows(batch.mask.sum(1).argsort(descending=True))


def step_of(part: str, rows: slice, micro_batch: int = 0) -> dict[str, Any]:
    """A step on some rows of a batch, without noise, which each process would draw for itself."""
    edm.draw_sigma = lambda count, *_: torch.full((count,), 0.5)
    edm.draw_noise = lambda sigma, shape, *_: torch.zeros(shape)
    learners = small_learners(autoregressive_steps=2)
    torch.nn.init.normal_(learners.models.reward_end.head[-1].weight)  # a model that predicts ends
    torch.nn.init.normal_(learners.models.actor_critic.critic.weight)
    learner = learners.by_part[part]
    learner.micro_batch = micro_batch
    batch = batch_of(part, learners).rows(rows)
    if part == "actor_critic":
        batch = learners.models.actor_critic.with_targets(batch)
    metrics = learner.step(batch, generator())
    return {
        "gradients": [p.grad for p in learner.module.parameters()],
        "weights": [p.detach() for p in learner.module.parameters()],
        "loss": metrics["loss"],
        "grad_norm": metrics["grad_norm"],
        "steps": int(learner.module.valid_steps(batch).sum()),
    }


def half_a_step(micro_batch: int) -> dict[str, Any]:
    with distributed.joined(CPU, "somewhere"):
        rank = distributed.rank()
        found = {part: step_of(part, slice(4 * rank, 4 * rank + 4), micro_batch) for part in PARTS}
        if rank:
            assert distributed.receive() is None  # rank 0 is done
    return found


@pytest.mark.parametrize("micro_batch", [0, 3])
def test_two_processes_make_the_gradients_of_their_batches_put_together(micro_batch: int, tmp_path: Path) -> None:
    """However uneven they are in steps that are not padding."""
    found = in_two_processes(half_a_step, micro_batch, out=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_sigma", "draw_noise"):  # to be put back
            patch.setattr(edm, name, getattr(edm, name))
        for part in PARTS:
            whole, (first, second) = step_of(part, slice(0, 8)), (ours[part] for ours in found)
            assert first["steps"] + second["steps"] == whole["steps"]
            assert first["steps"] != second["steps"]
            for ours in (first, second):
                torch.testing.assert_close(ours["gradients"], whole["gradients"], rtol=1e-4, atol=1e-6)
                torch.testing.assert_close(ours["loss"], whole["loss"])
                torch.testing.assert_close(ours["grad_norm"], whole["grad_norm"])
            assert same(first["weights"], second["weights"]), "all processes make the same step"


# The updates of a run


def lead_or_follow(folder: Path) -> dict[str, Any]:
    """Three updates of each part, as rank 0 makes them, or as a worker is told to. What was learned from, and the weights."""
    config = small_config(reward_end={"imagined_share": 0.5}, target="change", ema_decay=0.9)
    made: list[Learners] = []
    workers.Learners = lambda models, _: made.append(Learners(models)) or made[0]
    calls: dict[str, list] = {}

    def watch(learners: Learners) -> None:
        for part, learner in learners.by_part.items():
            calls[part] = spy(learner, "step")

    with distributed.joined(CPU, "somewhere"):
        if distributed.rank() == 0:
            torch.manual_seed(5)
            learners, replay = Learners(Models(config, MEANINGS, CPU)), short_episodes()
            made.append(learners)
            watch(learners)
            updates = Updates(learners, replay, Generators.seeded(0, CPU), Logger(folder))
            told = Workers()
            told.begin(learners)
            told.measure_changes(replay)
            updates.measure_changes()
            for part in config.parts:
                for _ in range(3):
                    told.update(part, replay)
                    updates.make(part)
                    replay.add(*[replay.rows(0)["obs"][0].numpy(), 1, 0.0, False, False, None])
        else:
            torch.manual_seed(6)  # a worker takes the weights of rank 0
            load = Learners.load_state_dict
            Learners.load_state_dict = lambda self, state: (load(self, state), watch(self))[0]
            workers._make_updates(config, CPU, SERIAL)
    models = made[0].models
    return {
        "rows": {part: [args[0].obs.flatten(1).sum(1).tolist() for args, _ in calls[part]] for part in config.parts},
        "losses": {part: [result["loss"] for _, result in calls[part]] for part in config.parts},
        "weights": {part: [p.detach() for p in getattr(models, part).parameters()] for part in config.parts},
        "sigma_data": [denoiser.sigma_data for denoiser in (models.denoiser, models.world.denoiser)],
        "averages": [p.detach() for p in models.averages["denoiser"].parameters()],
        "updates": [made[0].steps(part) for part in config.parts],
    }


def test_a_worker_learns_from_rows_of_its_own_and_stays_equal_to_rank_0(tmp_path: Path) -> None:
    first, second = in_two_processes(lead_or_follow, tmp_path, out=tmp_path)
    assert first["updates"] == second["updates"] == [3, 3, 3]
    assert same(first["weights"], second["weights"])
    assert same(first["averages"], second["averages"])
    assert same(first["sigma_data"], second["sigma_data"])
    assert first["sigma_data"][0] != 0.5
    assert same(first["losses"], second["losses"]), "each sees the loss of both"
    for part in first["rows"]:
        for ours, theirs in zip(first["rows"][part], second["rows"][part], strict=True):
            assert len(ours) == len(theirs) == 4
            assert ours != theirs
        of_worker = [tuple(rows) for rows in second["rows"][part]]
        assert len(set(of_worker)) == len(of_worker), "each update has new rows"


# Errors


def an_error_of_the_first() -> str:
    with contextlib.suppress(UserError), distributed.joined(CPU, "somewhere"):
        if distributed.rank() == 0:
            raise UserError("wrong")
        assert distributed.receive() is None
    return "ended"


def test_an_error_ends_all_processes(tmp_path: Path) -> None:
    assert in_two_processes(an_error_of_the_first, out=tmp_path) == ["ended"] * 2


def test_what_several_processes_cannot_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    distributed.check_processes(Config())
    for name, value in {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"denoiser\.optimization\.batch_size=32 does not divide among 3 processes"):
        distributed.check_processes(Config())
    fitting = Config(policy="model_free")
    for part in (fitting.denoiser, fitting.reward_end, fitting.actor_critic, fitting.q_network):
        part.optimization = Optimization(batch_size=33)
    with pytest.raises(UserError, match="policy=model_free learns in one process"):
        distributed.check_processes(check(fitting))
    fitting.policy = "imagined"
    for fitting.cuda_graphs in (True, 1):
        with pytest.raises(UserError, match="cuda_graphs=true records the updates of one process"):
            distributed.check_processes(check(fitting))
    fitting.cuda_graphs, fitting.actor_critic.minibatches = "auto", 12
    with pytest.raises(UserError, match=r"actor_critic\.minibatches=12 is more than each process has rollouts, 11"):
        distributed.check_processes(check(fitting))
    with pytest.raises(UserError, match="device=cuda:1 is one chip for several processes"):
        pick_device("cuda:1")
    done = adamas("train", "-m", "env=Breakout,Pong", "preset=smoke", cwd=tmp_path)
    assert done[::2] == (2, "error: -m cannot be used with torchrun, which starts one run: drop one of the two\n")


# A run


def run_of_two(folder: Path, words: list[str], saves: int | None) -> tuple[int, str, str]:
    """`adamas train` in two processes, of which rank 0 dies with its save of that number."""
    save = run_loop.RunLoop.save

    def save_and_die(self: run_loop.RunLoop) -> None:
        save(self)
        if saves is not None and self.progress.saves >= saves:
            os._exit(9)

    run_loop.RunLoop.save = save_and_die
    return tuple(adamas("train", *words, cwd=folder))


def both(folder: Path, words: list[str], saves: int | None = None) -> list[int | None]:
    """The exit codes of both processes."""
    port = free_port()
    arguments = [(rank, port, run_of_two, (folder, words, saves), folder) for rank in range(2)]
    processes = [PROCESSES.Process(target=_join, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
    return [process.exitcode for process in processes]


@pytest.mark.slow  # two runs of each, of two processes
def test_a_run_of_two_processes_that_lost_one_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir(), parted.mkdir()
    steps = [f"collection.{name}=30" for name in ("steps", "first_steps", "first_steps_most")]
    words = ["env=Breakout", *TINY, EVEN, *steps, "final_epochs=0"]
    assert both(whole, words) == [0, 0]
    assert torch.load(whole / "0.pt")[0] == torch.load(whole / "1.pt")[0] == 0

    assert both(parted, [*words, ALWAYS], saves=34) == [9, 0]  # among the updates of the denoiser
    code, _, err = torch.load(parted / "1.pt")
    assert code != 0
    assert "error: process 1 of 2 has lost another one; the last save of the run is good: go on with" in err
    folder = only_run(parted)
    parts, _ = checkpoint.load_newest(folder / "checkpoints", warn=pytest.fail)
    assert 0 < parts["progress"]["total"]["denoiser"] < 4
    assert both(parted, [f"resume={folder}", SELDOM]) == [0, 0]
    assert same(final_parts(folder), final_parts(only_run(whole)))


def process_of_rank(rank: int, parent: int) -> int:
    """Its pid, from Linux's list of processes."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.slow  # a minute, nine times in which torch is imported; the test above sees the same but for torchrun
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_run_of_torchrun_stops_resumes_and_outlives_a_dead_process(tmp_path: Path) -> None:
    def torchrun(*words: str) -> Any:
        program = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port", str(free_port())]
        return start(*words, cwd=tmp_path, program=[*program, str(ROOT / "src" / "main.py")])

    process = torchrun("env=Breakout", *TINY, EVEN, ALWAYS)
    wait_for_saves(lambda: process.poll() is None, tmp_path, 3)
    process.send_signal(signal.SIGTERM)  # as SLURM does
    out, err = process.communicate()
    folder = only_run(tmp_path)
    again = f"torchrun --nproc-per-node=2 src/main.py resume=runs/Breakout/{folder.name}"
    assert out.rstrip().endswith(f"stopped and saved: go on with {again}"), err
    assert out.count("adamas learns Breakout") == 1

    process = torchrun(f"resume={folder}")
    wait_for_saves(lambda: process.poll() is None, tmp_path, 62)  # into the first updates
    os.kill(process_of_rank(1, process.pid), signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode != 0
    assert "error: process 0 of 2 has lost another one; the last save of the run is good: go on with" in err

    process = torchrun(f"resume={folder}", SELDOM)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert out.splitlines()[-1].startswith("done")
    parts = final_parts(folder)
    assert parts["progress"]["total"] | {"collect": 90, "denoiser": 8, "actor_critic": 8} == parts["progress"]["total"]
    assert len(parts["replay"]["action"]) > 90
