"""A machine with other work to do: how threads wait, how many work, and the time that is announced."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import frames, generator, make_world, run_script, short_episodes, small_learners, spy
from torch import Tensor

from adamas.agent.imagination import imagine
from adamas.agent.rollout import PolicyBatch, Rollout
from adamas.data.batch import Segment, Trajectory
from adamas.evaluation.dreams import dream
from adamas.training.learners import Learners
from adamas.training.pace import Pace
from adamas.training.shares import in_shares
from adamas.utils.errors import UserError
from adamas.utils.logger import Ratio
from adamas.utils.random import normal, seeded, split
from adamas.utils.threads import SERIAL, Threads, saved_cores, threads_of
from adamas.utils.waiting import GOMP_SPINS, WAITING, wait_briefly

ROOT = Path(__file__).parents[1]


def plain() -> dict[str, str]:
    """An environment in which nobody has chosen."""
    kept = {k: v for k, v in os.environ.items() if k not in (*WAITING, "OMP_NUM_THREADS")}
    return kept | {"PYTHONPATH": str(ROOT / "src")}


@pytest.mark.parametrize("script", ["main", "play"])
def test_programs_choose_how_threads_wait_before_torch_is_imported(script: str) -> None:
    program = f"import sys, os, {script}; print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    output = subprocess.check_output([sys.executable, "-c", program], env=plain(), text=True)
    assert output == f"False {GOMP_SPINS}\n"


@pytest.mark.parametrize("name", WAITING)
def test_a_user_who_chose_how_threads_wait_is_heeded(name: str) -> None:
    environment = {name: "passive"}
    assert not wait_briefly(environment)
    assert environment == {name: "passive"}


@pytest.mark.parametrize(
    ("cores", "count", "each"),
    [(1, 1, 1), (2, 2, 1), (4, 4, 1), (5, 4, 1), (6, 3, 2), (8, 4, 2), (10, 2, 5), (64, 4, 16)],
    ids=str,
)
def test_cores_are_shared_out_among_few_threads(cores: int, count: int, each: int) -> None:
    threads = Threads(cores)
    assert (threads.count, threads.each) == (count, each)
    on_gpu = threads_of(torch.device("cuda", 0), cores)
    compiled = threads_of(torch.device("cpu"), cores, compiled=True)
    for one in (on_gpu, compiled):
        assert (one.count, one.each) == (1, cores), "torch divides the work"


def test_in_each_thread_torch_has_its_share_of_the_cores_and_afterwards_what_it_had() -> None:
    had = torch.get_num_threads()
    with Threads(8) as threads:
        meet = threading.Barrier(4, timeout=60)  # so that no thread does the work of two
        seen = threads.map(lambda _: (meet.wait(), torch.get_num_threads(), threading.get_ident())[1:], range(4))
        assert torch.get_num_threads() == 2
        assert {each for each, _ in seen} == {2}
        assert len({thread for _, thread in seen} - {threading.get_ident()}) == 4
    assert torch.get_num_threads() == had


def test_work_is_done_in_the_mode_in_which_it_was_asked_for() -> None:
    def mode(_: int) -> tuple[bool, torch.dtype]:
        return torch.is_grad_enabled(), (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

    with Threads(2) as threads:
        assert threads.map(mode, range(3)) == [(True, torch.float32)] * 3
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert threads.map(mode, range(3)) == [(False, torch.bfloat16)] * 3


def test_an_error_of_a_thread_is_that_of_the_work() -> None:
    def work(share: int) -> None:
        if share == 1:
            raise UserError("no")

    with Threads(2) as threads, pytest.raises(UserError, match="no"):
        threads.map(work, range(2))


@pytest.mark.parametrize("rows", [1, 4, 7, 8, 15, 16, 17, 31, 32, 50])
@pytest.mark.parametrize("cores", [1, 2, 3, 4])
def test_every_row_is_in_one_share_and_no_share_is_small(rows: int, cores: int) -> None:
    batch = Trajectory(torch.arange(rows)[:, None], torch.zeros(rows, 0))
    with Threads(cores) as threads:
        shares = in_shares(threads, lambda share, _: share.obs, batch, generator())
    assert torch.equal(torch.cat(shares), batch.obs)
    assert len(shares) == max(1, min(cores, rows // 8))
    assert len(shares) == 1 or min(map(len, shares)) >= 8


def test_a_share_draws_what_it_would_draw_alone_and_nothing_that_another_draws() -> None:
    batch = Trajectory(torch.zeros(32, 1), torch.zeros(32, 0))
    random = generator()
    with Threads(2) as threads:
        shares, later = (in_shares(threads, lambda s, g: normal((len(s.obs), 5), g), batch, random) for _ in range(2))
        again = in_shares(threads, lambda s, g: normal((len(s.obs), 5), g), batch, generator())
        each = in_shares(threads, lambda s, g: normal((len(s.obs), 5), g), batch, seeded(range(32)))
    assert all(torch.equal(one, other) for one, other in zip(shares, again, strict=True))
    assert len(torch.cat([*shares, *later]).unique()) == 4 * 16 * 5
    assert torch.equal(
        torch.cat(each), normal((32, 5), seeded(range(32)))
    )  # one generator a row: shares change nothing


@pytest.mark.parametrize(
    ("part", "precision"),
    [
        ("reward_end", "float32"),
        ("actor_critic", "float32"),
        *(pytest.param("denoiser", precision, marks=pytest.mark.slow) for precision in ("float32", "bfloat16")),
    ],
)
def test_threads_make_the_update_that_shares_make_one_after_the_other(part: str, precision: str) -> None:
    """To the last bit."""
    found = []
    with Threads(2) as threads:
        one_after_the_other = SimpleNamespace(count=2, least_rows=8, map=lambda *arguments: [*map(*arguments)])
        for workers in (threads, one_after_the_other):
            learners, batch = make(part, precision)
            learner = learners.by_part[part]
            learner.threads = workers
            metrics = learner.step(batch, generator())
            found.append((list(learner.module.parameters()), metrics["loss"], metrics["grad_norm"]))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


@pytest.mark.parametrize("part", ["reward_end", "actor_critic"])  # whose losses draw nothing
def test_shares_make_the_gradient_and_the_metrics_of_the_whole_batch(part: str) -> None:
    found = []
    for cores in (1, 2):
        learners, batch = make(part)
        with Threads(cores) as threads:
            learner = learners.by_part[part]
            learner.threads = threads
            loss, metrics = learner.backward(batch, generator())
        gradients = [parameter.grad for parameter in learner.module.parameters()]
        found.append((gradients, loss, {name: tuple(x) if isinstance(x, Ratio) else x for name, x in metrics.items()}))
    assert any(gradient.abs().sum() > 0 for gradient in found[0][0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)


def make(part: str, precision: str = "float32") -> tuple[Learners, Segment | PolicyBatch]:
    """Learners, and a batch of 17 whose rows differ in how many steps are valid."""
    learners, replay = small_learners(precision=precision, autoregressive_steps=1), short_episodes()
    torch.nn.init.normal_(learners.models.reward_end.head[-1].weight, generator=generator())
    if part == "actor_critic":
        batch = learners.imagine_rollout(replay.sample_contexts(17, 3, generator()), generator())
        return learners, batch.normalized()
    return learners, replay.sample(17, 6, generator(), first_target=3)


def test_a_rollout_is_imagined_in_shares() -> None:
    learners = small_learners()
    context = short_episodes().sample_contexts(17, 3, generator())
    with Threads(2) as threads:
        learners.threads = threads
        rollout = learners.imagine_rollout(context, generator()).rollout
    models = learners.models
    shares = [context.rows(slice(0, 8)), context.rows(slice(8, 17))]
    alone = [
        imagine(models.world, models.actor_critic, share, models.config.actor_critic.horizon, random)
        for share, random in zip(shares, split(generator(), [8, 9]), strict=True)
    ]
    for i, name in enumerate(Rollout._fields[1:], 1):
        assert torch.equal(rollout[i], torch.cat([alone[0][i], alone[1][i]])), name
    for ours, one, other in zip(rollout.hidden, *(each.hidden for each in alone), strict=True):
        assert torch.equal(ours, torch.cat([one, other], dim=1))


def test_a_segment_is_imagined_in_shares() -> None:
    learners, segment = make("denoiser")
    with Threads(2) as threads:
        learners.threads = threads
        obs = learners.imagine_segment(segment, generator())
    learners.threads = SERIAL
    shares = zip((slice(0, 8), slice(8, 17)), split(generator(), [8, 9]), strict=True)
    alone = [learners.imagine_segment(segment.rows(rows), random) for rows, random in shares]
    assert torch.equal(obs, torch.cat(alone))
    assert not torch.equal(obs, segment.obs)


def test_a_share_that_ends_early_leaves_the_weights_of_the_others_cast() -> None:
    """In bfloat16 the gradients of a weight that is used twice are added up before or after they are float32."""
    weight = torch.full((1, 1), 1 / 3, requires_grad=True)
    gone = threading.Event()

    def gradient(share: int) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.full((1, 1), 1.1) @ weight
            if share == 0:
                assert gone.wait(60)
            loss = loss + torch.full((1, 1), 0.0041) @ weight
        gone.set()
        return torch.autograd.grad(loss, weight)[0]

    with Threads(2) as threads:
        held, _ = threads.map(gradient, range(2))
    assert torch.equal(held, gradient(1))


def test_threads_together_hold_no_more_rows_than_a_micro_batch() -> None:
    learners, batch = make("denoiser")
    calls = spy(learners.models.denoiser, "loss")
    with Threads(2) as threads:
        learner = learners.by_part["denoiser"]
        learner.threads, learner.micro_batch = threads, 8
        learner.backward(batch, generator())
    assert sorted(len(args[0].obs) for args, _ in calls) == [1, 4, 4, 4, 4]


def test_dreams_have_the_same_pixels_whatever_the_number_of_threads() -> None:
    world, play = make_world(), Trajectory(frames(20, 5), torch.zeros(20, 4, dtype=torch.int64))
    ticks: list[list[None]] = []
    found = []
    for cores in (1, 2, 3):
        ticks.append([])
        with Threads(cores) as threads:
            found.append(dream(world, play, 3, 5, lambda: ticks[-1].append(None), threads).imagined)
    assert all(torch.equal(other, found[0]) for other in found[1:])
    assert len({*map(len, ticks)}) == 1


def test_a_resumed_run_has_the_cores_that_it_had(tmp_path: Path) -> None:
    path = tmp_path / "threads.json"
    assert saved_cores(path) is None  # a run from before there were such files
    Threads(8).save(path)
    assert saved_cores(path) == 8
    assert [Threads(cores).describe() for cores in (1, 2, 8)] == ["1 thread", "2 threads", "4 threads of 2 cores each"]
    path.write_text("[]")
    with pytest.raises(UserError, match="damaged"):
        saved_cores(path)


COSTS = {"collect": 0.002, "denoiser": 0.2, "actor_critic": 5.0, "evaluation": 60.0}


def work(pace: Pace, phase: str, cost: float, seconds: float) -> None:
    """So many seconds of a phase whose unit takes `cost`."""
    for _ in range(max(1, round(seconds / cost))):
        pace.see(phase, 1, cost)


def test_before_anything_is_seen_phases_cost_what_was_measured() -> None:
    assert Pace(COSTS).total({"denoiser": 10, "actor_critic": 2}) == pytest.approx(12.0)


@pytest.mark.parametrize("slower", [0.3, 1.0, 3.0, 30.0])
def test_a_minute_after_load_came_all_phases_are_said_to_be_slower(slower: float) -> None:
    pace = Pace(COSTS)
    work(pace, "collect", 0.002, 30)
    work(pace, "denoiser", 0.2, 60)
    work(pace, "denoiser", 0.2 * slower, 60)
    for phase in COSTS:
        assert pace.seconds(phase) == pytest.approx(slower * COSTS[phase], rel=1 / 3), phase
    work(pace, "denoiser", 0.2, 60)  # and is gone again
    for phase in COSTS:
        assert pace.seconds(phase) == pytest.approx(COSTS[phase], rel=1 / 3), phase


def test_what_was_measured_wrongly_is_corrected_and_spoils_no_other_phase() -> None:
    pace = Pace(COSTS)
    work(pace, "collect", 0.002, 60)
    work(pace, "denoiser", 0.6, 60)
    assert pace.seconds("denoiser") == pytest.approx(0.6, rel=0.1)
    assert pace.seconds("collect") == pytest.approx(0.002, rel=1 / 3)


@pytest.mark.parametrize("first", [0.0, 20.0])
def test_an_epoch_after_a_phase_has_changed_its_work_the_time_left_is_right_again(first: float) -> None:
    """As a denoiser does that begins to learn autoregressively, between two epochs or within one."""
    pace, costs = Pace(COSTS), {phase: COSTS[phase] for phase in ("collect", "denoiser", "actor_critic")}
    for epoch in range(8):
        for phase in costs:
            seconds = 40.0
            if epoch == 3 and phase == "denoiser":
                work(pace, phase, costs[phase], first)
                costs[phase], seconds = 0.5, seconds - first
            for _ in range(4):
                work(pace, phase, costs[phase], seconds / 4)
                if epoch > 4:
                    assert [*map(pace.seconds, costs)] == pytest.approx([*costs.values()], rel=0.1), epoch


def test_one_long_unit_tells_nothing_of_the_load() -> None:
    pace = Pace(COSTS)
    work(pace, "denoiser", 0.2, 60)
    pace.see("evaluation", 1, 600.0)
    assert pace.seconds("denoiser") == pytest.approx(0.2)
    assert pace.seconds("evaluation") == 600.0


@pytest.mark.slow
def test_the_script_times_each_kind_of_work(tmp_path: Path) -> None:
    kinds = ("acting", "dreams", "denoiser", "reward_end", "actor_critic")
    words = ["--presets", "smoke", "--kinds", ",".join(kinds), "--loads", "quiet", "--sides", "as it was,chosen"]
    done = run_script("speed/busy.py", *words, "--seconds", "0", "--least", "1", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "smoke.md").read_text()
    assert all(f"| {kind}, chosen |" in table for kind in kinds), table
