"""What only a CUDA GPU can show: `pytest -m gpu`. Skipped where there is none; `test_pretended_gpu` runs everywhere."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import (
    CPU,
    MEANINGS,
    PARTS,
    TINY,
    final_parts,
    frames,
    generator,
    main,
    only_run,
    run_script,
    short_episodes,
    small_config,
    start,
    train,
    wait_for_saves,
    wake,
)
from torch import Tensor

from adamas.cli import train as train_command
from adamas.config import Atari, Config
from adamas.data.batch import Trajectory
from adamas.evaluation.dreams import dream
from adamas.evaluation.games import play_games
from adamas.training.compiling import compiles
from adamas.training.cuda_graphs import WARM_UP, CudaCapture
from adamas.training.generators import Generators
from adamas.training.learners import Learners
from adamas.training.models import Models
from adamas.training.optimizer import LOOK_EVERY
from adamas.training.updates import Updates
from adamas.utils import random
from adamas.utils.device import peak_usage
from adamas.utils.errors import UserError
from adamas.utils.logger import NullLogger

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here"),
]
GPU = torch.device("cuda", 0)
ON_GPU = [*(word for word in TINY if word != "device=cpu"), "device=cuda", "compile=false"]
SHAPES = 20  # for which networks may be compiled in a whole run


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """Kernels that add in the same order each time."""
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = False


def make_models(device: torch.device, precision: str = "float32") -> Models:
    torch.manual_seed(0)
    c = small_config(
        precision=precision,
        reward_end={"imagined_share": 0.5, "predict_divergence": True},
        actor_critic={"frame_stack": 3, "epochs": 2, "minibatches": 2, "ema_decay": 0.9},
        target="change",
        motion_weight=5.0,
        autoregressive_after=WARM_UP + 2,
        ema_decay=0.9,
    )
    on_cpu = Models(replace(c, cuda_graphs=False), MEANINGS, CPU)
    for part in PARTS:
        wake(getattr(on_cpu, part))
    models = Models(on_cpu.config, MEANINGS, device)
    models.load_state_dict(on_cpu.state_dict())
    return models


def make_updates(models: Models, record: bool = False) -> Updates:
    learners = Learners(models)
    if record:
        learners.record(CudaCapture())
    random = Generators.seeded(0, models.device)
    return Updates(learners, short_episodes(models.device), random, NullLogger())


def trained(models: Models, rounds: int, record: bool = False) -> dict[str, list[Tensor]]:
    """Gradients of each update, then weights, averages and random states."""
    updates, seen = make_updates(models, record), {}
    for part in PARTS:
        module, seen[part] = getattr(models, part), []
        for _ in range(rounds):
            updates.make(part)
            seen[part] += [p.grad.clone() for p in module.parameters()]
        seen[f"{part}'s weights"] = [p.detach().clone() for p in module.parameters()]
    seen["averages"] = [p.detach().clone() for a in models.averages.values() for p in a.parameters()]
    seen["random"] = list(updates.random.state_dict().values())
    return seen


class SameNumbers:
    """What is drawn on any device is drawn on the CPU, the same after each `restart`."""

    def __init__(self, draw: Callable) -> None:
        self.draw = draw
        self.restart()

    def restart(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, one: Callable, shape: Any, wanted: torch.Generator) -> Tensor:
        return self.draw(one, shape, self.generator).to(wanted.device)


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> SameNumbers:
    numbers = SameNumbers(random._draw)
    monkeypatch.setattr(random, "_draw", numbers)
    return numbers


def moved(batch: Any, device: torch.device) -> Any:
    """A tuple of tensors, or of tuples of them."""
    return type(batch)(*(x.to(device) if isinstance(x, Tensor) else moved(x, device) for x in batch))


def apart(mine: Tensor, theirs: Tensor) -> float:
    """|mine - theirs| / |theirs|."""
    mine, theirs = mine.detach().cpu().double(), theirs.detach().cpu().double()
    return float((mine - theirs).norm() / theirs.norm().clamp_min(1e-12))


# Values


@pytest.mark.parametrize(("precision", "most"), [("float32", 1e-3), ("bfloat16", 0.1)])
def test_losses_and_gradients_are_those_of_the_cpu(precision: str, most: float, numbers: SameNumbers) -> None:
    replay, on_cpu = short_episodes(), Learners(make_models(CPU, precision))
    segment = replay.sample(8, 6, generator(), first_target=3)
    imagined = on_cpu.imagine_rollout(replay.sample_contexts(8, 3, generator()), generator())
    batches = {"denoiser": segment, "reward_end": segment, "actor_critic": imagined}
    found: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    for learners in (on_cpu, Learners(make_models(GPU, precision))):
        device = learners.models.device
        for part, batch in batches.items():
            numbers.restart()
            loss, _ = learners.by_part[part].backward(moved(batch, device), torch.Generator(device))
            parameters = learners.by_part[part].optimizer.parameters
            found[part] += [loss, torch.cat([p.grad.flatten() for p in parameters])]
    for part, (loss, gradients, gpu_loss, gpu_gradients) in found.items():
        assert apart(gpu_loss, loss) < most, part
        assert apart(gpu_gradients, gradients) < most, part


@pytest.mark.parametrize(("precision", "levels"), [("float32", 0.01), ("bfloat16", 4.0)])
def test_imagination_is_that_of_the_cpu(precision: str, levels: float, numbers: SameNumbers) -> None:
    """The first frame, in grey levels on average; later ones differ with the first action that is drawn otherwise."""
    seen, context = [], Trajectory(frames(4, 3), torch.zeros(4, 2, dtype=torch.int64))
    for device in (GPU, CPU):
        numbers.restart()
        learners = Learners(make_models(device, precision))
        rollout = learners.imagine_rollout(moved(context, device), torch.Generator(device))
        seen.append(rollout.obs[:, 1].cpu().float())
    assert (seen[0] - seen[1]).abs().mean() < levels


def test_recorded_updates_are_the_eager_ones_to_the_last_bit() -> None:
    rounds = 2 * WARM_UP + 3
    eager, again, recorded = (trained(make_models(GPU), rounds, record) for record in (False, False, True))
    for name, values in eager.items():
        torch.testing.assert_close(again[name], values, rtol=0, atol=0, msg=f"{name} differs from run to run")
        torch.testing.assert_close(recorded[name], values, rtol=0, atol=0, msg=f"{name} differs when it is recorded")


def test_compiled_networks_train_and_dream_as_others_do_and_are_compiled_for_few_shapes() -> None:
    config = Config(compile="auto")
    if not compiles(config, GPU):
        pytest.skip("there is no compiler here")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    expected = trained(make_models(GPU), 1)
    models = make_models(GPU)
    models.compile()
    found = trained(models, 1)
    for part in PARTS:
        pairs = zip(found[part], expected[part], strict=True)
        assert all(apart(a, b) < 1e-2 for a, b in pairs if b.norm() > 1e-6), part
    clip = Trajectory(frames(9, 5), torch.zeros(9, 4, dtype=torch.int64))
    with models.autocast():
        dream(models.world, clip, 3, 0)
        play_games(models.policy, Config(atari=Atari(max_episode_steps=5)), 2, 0)
    assert 0 < torch._dynamo.utils.counters["stats"]["unique_graphs"] <= SHAPES


# Waits


@pytest.mark.parametrize("record", [False, True], ids=["eager", "recorded"])
def test_an_update_never_waits_for_the_gpu(record: bool) -> None:
    updates = make_updates(make_models(GPU, "bfloat16"), record)
    updates.make("denoiser")
    for part in PARTS:
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(min(WARM_UP + 3, LOOK_EVERY - 2)):
                updates.make(part)
        finally:
            torch.cuda.set_sync_debug_mode("default")


# The program


def test_a_run_that_is_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    process = start("env=Breakout", *ON_GPU, "checkpoint.every_minutes=0.00001", cwd=tmp_path)
    wait_for_saves(lambda: process.poll() is None, tmp_path, 4)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "stopped and saved" in out
    code, out, err = main(f"resume={only_run(tmp_path)}", cwd=tmp_path)
    assert (code, out.splitlines()[-1][:4]) == (0, "done"), err


def test_a_checkpoint_of_the_gpu_goes_on_on_the_cpu_and_back(tmp_path: Path) -> None:
    folder = train("env=Breakout", *ON_GPU, cwd=tmp_path)
    for device, epochs in (("cpu", 2), ("cuda", 3)):
        code, _, err = main(f"resume={folder}", f"device={device}", f"final_epochs={epochs}", cwd=tmp_path)
        assert code == 0, err
    assert final_parts(folder)["progress"]["final_epochs"] == 3


def test_a_full_gpu_costs_one_line(tmp_path: Path) -> None:
    c = small_config(precision="bfloat16")
    c.denoiser.optimization.batch_size = 16_000_000  # 564 GB of frames: one tensor that fits on no card
    with pytest.raises(UserError, match=r"^the memory of cuda:0 is full: set micro_batch"):
        train_command.run(replace(c, device="cuda", runs=str(tmp_path)))


def test_the_memory_of_the_gpu_is_reported() -> None:
    torch.zeros(2**20, device=GPU)
    usage = peak_usage()
    assert usage["gpu"] == torch.cuda.get_device_name(GPU)
    assert usage["gpu_bytes"] >= 2**22


def test_the_speed_script_times_compiled_code(tmp_path: Path) -> None:
    words = [*(word for word in ON_GPU if word != "compile=false"), "compile=true", "--pairs", "1"]
    done = run_script("speed/speed.py", *words, "--rows", "frame", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert re.search(r"compiled +[1-9]", done.stdout)
