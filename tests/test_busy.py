"""A machine with other work to do: how threads wait, how many work, and the time that is announced."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import wait_until
from omegaconf import OmegaConf

from adamas.config import Config
from adamas.training.pace import Pace
from adamas.training.work_sizes import threads_for
from adamas.utils import waiting
from adamas.utils.errors import UserError
from adamas.utils.threads import Threads, saved_most
from adamas.utils.waiting import GOMP_SPINS, WAITING, Waiting, run_delay, wait_briefly

ROOT = Path(__file__).parents[1]


def preset_config(preset: str) -> Config:
    path = ROOT / "config" / "preset" / f"{preset}.yaml"
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(path)))


LIBGOMP = "import torch; from adamas.utils import waiting; waiting._loaded_gomp() or exit(3)"


def plain() -> dict[str, str]:
    """An environment in which nobody has chosen."""
    kept = {k: v for k, v in os.environ.items() if k not in (*WAITING, waiting.MARK, "OMP_NUM_THREADS")}
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


class Busy:
    """A clock, and how long threads were without a core by then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.delayed = 0.0
        self.teams: list[bool] = []
        monkeypatch.setattr(waiting, "_loaded_gomp", lambda: object())
        monkeypatch.setattr(waiting, "_user_chose", lambda: False)
        monkeypatch.setattr(waiting, "_idle_team", lambda *_: waiting.threading.Event())
        self.waiting = Waiting(lambda: self.delayed, lambda: self.now)

    def passes(self, seconds: float, share: float) -> bool:
        self.now, self.delayed = self.now + seconds, self.delayed + share * seconds
        self.waiting.look()
        return self.waiting.sleeping


def test_threads_sleep_while_others_want_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Busy(monkeypatch)
    assert not busy.passes(1.0, 0.05)
    assert not busy.passes(0.1, 1.0)  # too short to tell
    assert busy.passes(1.0, 0.5)
    assert busy.passes(1.0, 0.05)  # neither
    assert not busy.passes(1.0, 0.0)


def test_the_machine_is_watched_in_the_middle_of_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_EVERY", 0.01)
    busy = Busy(monkeypatch)
    busy.now, busy.delayed = 1.0, 0.5
    busy.waiting.watch()
    busy.waiting.watch()  # which changes nothing
    wait_until(lambda: busy.waiting.sleeping)
    busy.waiting.close()
    assert not busy.waiting.sleeping
    busy.now, busy.delayed = 2.0, 1.5
    time.sleep(0.1)
    assert not busy.waiting.sleeping, "nobody looks any more"


def test_a_watcher_ends_with_what_it_watches_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_EVERY", 0.01)
    busy = Busy(monkeypatch)
    busy.waiting.watch()
    watcher = busy.waiting._watcher
    assert watcher is not None
    del busy
    wait_until(lambda: gc.collect() >= 0 and not watcher.is_alive())


def test_threads_are_watched_from_their_first_use_until_they_are_closed() -> None:
    threads, called = Threads(), []
    threads.waiting = SimpleNamespace(watch=lambda: called.append("watch"), close=lambda: called.append("close"))
    threads.use("collect")
    assert called == ["watch"]
    threads.close()
    assert called == ["watch", "close"]


def test_where_the_kernel_does_not_tell_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_delay([tmp_path]) is None
    monkeypatch.setattr(waiting, "_loaded_gomp", lambda: object())
    unknown = Waiting(lambda: None, lambda: 0.0)
    unknown.look()
    assert not unknown.sleeping


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libgomp is found by /proc")
def test_an_idle_team_comes_and_goes() -> None:
    program = f"{LIBGOMP}; import time, os; count = lambda: len(os.listdir('/proc/self/task'))\n"
    program += "a = count(); release = waiting._idle_team(waiting._loaded_gomp(), 3); b = count(); release.set()\n"
    program += "time.sleep(.5); print(b - a, count() - a)"
    done = subprocess.run([sys.executable, "-c", program], env=plain(), capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("this torch has another OpenMP runtime")
    assert done.stdout == "3 0\n"


@pytest.mark.parametrize(
    ("preset", "one_thread"),
    [
        ("smoke", {"collect", "play", "games", "first dream", "denoiser", "reward_end", "actor_critic"}),
        ("cpu", {"collect", "play", "games"}),
        ("diamond", {"collect"}),
    ],
)
def test_small_work_has_one_thread_whatever_the_machine_does(preset: str, one_thread: set[str]) -> None:
    counts = threads_for(preset_config(preset), 8).counts
    assert {kind for kind, count in counts.items() if count == 1} == one_thread
    assert {*counts.values()} <= {1, 8}


def test_a_resumed_run_has_the_threads_that_it_had(tmp_path: Path) -> None:
    path, had = tmp_path / "threads.json", torch.get_num_threads()
    assert saved_most(path) is None  # a run from before there were such files
    kept = Threads({"denoiser": 2, "collect": 1}, most=2)
    kept.save(path)
    assert saved_most(path) == 2
    assert kept.describe() == "2 threads; 1 for collect"
    try:
        for kind, count in (("denoiser", 2), ("collect", 1), ("evaluation", 2)):
            kept.use(kind)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(had)
    path.write_text("[]")
    with pytest.raises(UserError, match="damaged"):
        saved_most(path)


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


def test_one_long_unit_tells_nothing_of_the_load() -> None:
    pace = Pace(COSTS)
    work(pace, "denoiser", 0.2, 60)
    pace.see("evaluation", 1, 600.0)
    assert pace.seconds("denoiser") == pytest.approx(0.2)
    assert pace.seconds("evaluation") == 600.0
