"""The queue of the benchmark: what is finished is left alone, what was killed goes on, whoever was killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import OFTEN, ROOT, TINY

from adamas.benchmark import launch, status, systems, worker
from adamas.benchmark.queue import Queue, RunStatus, Task
from adamas.benchmark.worker import Attempt, work_off
from adamas.cli.main import main
from adamas.training.signals import StopRequest
from adamas.utils.errors import UserError
from adamas.utils.locks import is_locked, take_lock

SAVING = [*TINY, OFTEN]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


def start(runs: Path, games: str, *arguments: str) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "adamas.cli",
        "benchmark",
        f"games={games}",
        "seeds=1",
        "preset=smoke",
        f"runs={runs}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        [*command, *arguments], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no such pipes")
def test_a_table_that_is_not_read_to_its_end_is_no_error(tmp_path: Path) -> None:
    process = start(tmp_path, "all", "--status")
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 0)


def descendants(pid: int) -> list[int]:
    """All processes below it, from Linux's list, nearest first."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [*children, *(each for child in children for each in descendants(child))]


def wait_until(true: Callable[[], bool], seconds: float = 200) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def states(runs: Path) -> list[str]:
    return [Queue(runs, "smoke").status_of(Task(game, 0), {}).state for game in ("Breakout", "Pong")]


@pytest.mark.slow
@LINUX
def test_a_queue_that_was_killed_with_its_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs" / "queue"
    killed = start(runs, "Breakout", *SAVING)
    wait_until(lambda: len(list(runs.glob("*/*/*/checkpoints/*.pt"))) == 2)
    (worker,) = descendants(killed.pid)
    killed.kill()
    killed.communicate()
    assert states(runs) == ["running", "waiting"], "the run outlives its queue, and holds its lock"
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: states(runs) == ["to resume", "waiting"])

    words = ["benchmark", "games=Breakout", "seeds=1", "preset=smoke", f"runs={runs}"]
    assert main([*words, *SAVING]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.endswith("; not Atari 100k: 90 steps, 1 games, games of 60 steps")
    assert last == "1 finished"
    (run,) = runs.glob("*/Breakout/20*")
    assert len((run / "origin.jsonl").read_text().splitlines()) == 2
    assert main([*words, *SAVING]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["nothing left to do"]
    assert main([*words, "--status"]) == 0
    first, *table = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{runs}, begun with preset=smoke device=cpu")
    header, breakout, total = (line.split("  ") for line in table)
    assert [word for word in header if word] == ["game", "seed", "step", "return", "time left", "state"]
    assert [*filter(None, breakout)][-1].strip() == "finished"
    assert "90" in [cell.strip() for cell in breakout]
    assert total == ["1 finished"]
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"error: {runs} was begun with preset=smoke device=cpu")
    (runs / "queue.json").write_text("")
    assert main(words) == 2
    assert "queue.json is damaged: delete it" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_queue_that_is_asked_to_stop_saves_its_run_and_ends_well(number: int, tmp_path: Path) -> None:
    runs = tmp_path / "queue"
    queue = start(runs, "Breakout,Pong", *SAVING)
    wait_until(lambda: bool(list(runs.glob("*/*/*/checkpoints/*.pt"))))
    queue.send_signal(number)
    out, err = queue.communicate()
    assert (queue.returncode, err) == (0, "")
    assert out.splitlines()[-1].startswith("1 to resume, 1 waiting; about ")
    assert "stopped and saved" in next(runs.glob("logs/*")).read_text()
    assert states(runs) == ["to resume", "waiting"]


@pytest.mark.slow
@LINUX
def test_a_run_that_is_killed_is_tried_again_by_its_queue(tmp_path: Path) -> None:
    runs = tmp_path / "queue"
    queue = start(runs, "Breakout,Pong", *SAVING)
    wait_until(lambda: len(list(runs.glob("*/*/*/checkpoints/*.pt"))) == 2)
    os.kill(descendants(queue.pid)[0], signal.SIGKILL)
    out, err = queue.communicate()
    assert queue.returncode == 0, err
    assert out.splitlines()[-1] == "2 finished"
    assert len(list(runs.glob("*/*/20*"))) == 2
    assert len((next(runs.glob("*/Breakout/*")) / "origin.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
@LINUX
def test_a_job_that_is_to_lose_its_machine_saves_and_goes_on(tmp_path: Path) -> None:
    """submitit's local executor, with the signal that SLURM sends."""
    pytest.importorskip("submitit")
    runs = tmp_path / "queue"
    script = start(runs, "Breakout", *SAVING, "--slurm", "cluster=local", "gpus_per_node=0")
    wait_until(lambda: bool(list(runs.glob("slurm/*_submitted.pkl"))))
    (submitted,) = runs.glob("slurm/*_submitted.pkl")
    controller = int(submitted.name.partition("_")[0])
    wait_until(lambda: bool(list(runs.glob("*/*/*/checkpoints/*.pt"))))
    os.kill(descendants(controller)[0], signal.SIGUSR2)
    out, err = script.communicate()  # ends with the job, which has its pipes
    assert out.splitlines()[1:] == [f"Breakout-0: job {controller}"], err
    assert states(runs)[0] == "finished"
    (run,) = runs.glob("*/Breakout/*")
    assert len((run / "origin.jsonl").read_text().splitlines()) == 2
    (log,) = runs.glob("logs/*")
    assert "stopped and saved" in log.read_text()
    assert "this job is preempted" in next(runs.glob("slurm/*.err")).read_text()


# The parts


def test_a_lock_has_one_holder_and_dies_with_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "lock"
    assert not is_locked(path)
    lock = take_lock(path)
    assert is_locked(path)
    with pytest.raises(BlockingIOError):
        take_lock(path)
    heir = subprocess.Popen(["sleep", "60"], pass_fds=[lock])
    os.close(lock)
    assert is_locked(path)
    heir.kill()
    heir.wait()
    assert not is_locked(path)


def ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> tuple[str, int]:
    """How a run that always exits with `code` ends, and how often it was started."""
    monkeypatch.setattr(Queue, "command", lambda self, task: [sys.executable, "-S", "-c", f"raise SystemExit({code})"])
    mine, task = Queue(tmp_path, "smoke"), Task("Pong", 0)
    attempt = Attempt(mine, task)
    while (state := attempt.poll()) is None:
        time.sleep(0.01)
    assert not is_locked(mine.lock(task))
    assert (mine.status_of(task, {}).state == "failed") == (state == "failed")
    return state, attempt.tries


def test_a_crash_is_tried_again_and_a_mistake_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ending(tmp_path, monkeypatch, code=1) == ("failed", worker.TRIES)
    assert ending(tmp_path, monkeypatch, code=2) == ("failed", 1)
    assert ending(tmp_path, monkeypatch, code=0) == ("stopped", 1)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize(("code", "state"), [(0, "stopped"), (2, "failed"), (1, "failed"), (None, "stopped")])
def test_a_run_that_is_asked_to_stop_and_cannot_save_has_failed(
    code: int | None, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None: the signal kills it, as nobody listens yet."""
    listen = f"signal.signal(signal.SIGTERM, lambda *_: os._exit({code}))" if code is not None else "pass"
    program = f"import os, signal, time; {listen}; open('ready', 'w'); time.sleep(60)"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Queue, "command", lambda self, task: [sys.executable, "-S", "-c", program])
    attempt = Attempt(Queue(tmp_path / "queue", "smoke"), Task("Pong", 0))
    wait_until(Path("ready").exists)
    attempt.stop()
    attempt.wait()
    assert (attempt.poll(), attempt.tries) == (state, 1)


def test_after_an_error_of_the_queue_no_run_works_on_unwatched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(Queue, "command", lambda self, task: program)
    mine, tasks = Queue(tmp_path, "smoke"), [Task("Alien", 0), Task("Pong", 0)]
    find = Queue.find

    def failing(self: Queue, task: Task) -> object:
        if task == tasks[1]:
            raise OSError(errno.ESTALE, "Stale file handle")
        return find(self, task)

    monkeypatch.setattr(Queue, "find", failing)
    started: list[str] = []
    with pytest.raises(OSError, match="Stale"):
        work_off(mine, tasks, ["0", "1"], StopRequest(), started.append)
    assert [line.split(":")[0] for line in started] == ["Alien-0"]
    wait_until(lambda: not any(is_locked(mine.lock(task)) for task in tasks), seconds=20)


def test_settings_that_nothing_was_begun_with_can_be_corrected(tmp_path: Path) -> None:
    wrong, right = Queue(tmp_path, "smoke", ("device=cuda",)), Queue(tmp_path, "smoke")
    wrong.claim()
    lock = take_lock(wrong.lock(Task("Pong", 0)))
    with pytest.raises(UserError, match="was begun with preset=smoke device=cuda"):
        right.claim()
    os.close(lock)
    right.claim()
    (tmp_path / "seed-0" / "Pong" / "2026-12-01_00-00-00").mkdir(parents=True)
    with pytest.raises(UserError, match="was begun with preset=smoke: use the same"):
        wrong.claim()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_where_a_file_system_has_no_locks_a_queue_says_so(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(lock: int, kind: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(UserError, match=rf"runs=.* cannot be used \({os.strerror(number)}\)"):
        Queue(tmp_path, "smoke").claim()


def test_each_gpu_has_a_run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show = "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(.5)"
    monkeypatch.setattr(Queue, "command", lambda self, task: [sys.executable, "-S", "-c", show])
    monkeypatch.setattr(worker, "LOOK_EVERY", 0.01)
    said, mine, tasks = [], Queue(tmp_path, "smoke"), [Task("Pong", seed) for seed in range(3)]
    other = take_lock(mine.lock(tasks[2]))
    ended = work_off(mine, tasks, ["4", "7"], StopRequest(), said.append)
    os.close(other)
    assert [mine.log(task).read_text() for task in tasks[:2]] == ["4\n", "7\n"]
    assert ended == {tasks[0]: "stopped", tasks[1]: "stopped", tasks[2]: "running"}
    assert [line.split(":")[0] for line in said[:2]] == ["Pong-0", "Pong-1"], "side by side"


def test_a_run_that_was_let_go_of_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other worker dies while this one is at its last run."""
    monkeypatch.setattr(
        Queue, "command", lambda self, task: [sys.executable, "-S", "-c", "import time; time.sleep(.5)"]
    )
    monkeypatch.setattr(worker, "LOOK_EVERY", 0.01)
    mine, tasks = Queue(tmp_path, "smoke"), [Task("Alien", 0), Task("Pong", 0)]
    other = take_lock(mine.lock(tasks[0]))

    def said(line: str) -> None:
        if line.startswith("Pong-0: at work"):
            os.close(other)

    assert work_off(mine, tasks, [None], StopRequest(), said) == dict.fromkeys(tasks, "stopped")


def test_the_table() -> None:
    rows = [
        RunStatus(Task("Alien", 0), "finished", 100_000, 812.34, 7000.0),
        RunStatus(Task("Alien", 1), "running", 50_000, 400.0, 3500.0, 3700.0),
        RunStatus(Task("Boxing", 0), "waiting"),
    ]
    assert status.table(rows).splitlines() == [
        "game    seed  step     return  time left  state",
        "Alien   0     100,000  812.3   -          finished",
        "Alien   1     50,000   400.0   1 h 2 min  running",
        "Boxing  0     -        -       -          waiting",
        "1 finished, 1 running, 1 waiting; about 3 h of work left",
    ]


def test_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(launch.games_of(["all"])) == 26
    with pytest.raises(UserError, match=r"games=\[\] names none"):
        launch.games_of([])
    assert launch.games_of(["Pong", "ALE/Alien-v5", "PongNoFrameskip-v4"]) == ["Pong", "Alien"]
    assert (launch.seeds_of("3"), launch.seeds_of("[3]"), launch.seeds_of("3,5,3")) == ([0, 1, 2], [3], [3, 5])
    for arguments, line in (
        (["seeds=many"], "seeds=many: give how many, 5, or which, [0,3]"),
        (["games=Brekout"], "unknown game 'Brekout': did you mean Breakout?"),
        (["games=Pong", "preset=smok"], "unknown preset 'smok': did you mean smoke?"),
        (["games=Pong", "preset=smoke", "final_epochs=x"], "final_epochs=x: a whole number is needed"),
        (["gams=Pong"], "unknown key 'gams': did you mean games?"),
        (["sede=3"], "unknown key 'sede': did you mean seeds?"),
        (["seeds=0"], "seeds=0: give how many"),
        (["--status", "games=Brekout"], "unknown game 'Brekout'"),
        (["--status", "runs=/nowhere"], "/nowhere is not there"),
        (["games=Pong", "preset=smoke", "runs=/dev/null/runs"], "runs=/dev/null/runs cannot be used (Not a directory)"),
        (["games=Pong", "preset=smoke", "device=cuda:99"], "device=cuda:99: this machine shows"),
        (["status"], "'status' cannot be read: write games=status"),
        (["--slurm", "gpu"], "--slurm gpu cannot be read: write name=value"),
        (["seed=3"], "seed=3: the runs of a queue have seeds=5, or seeds=[0,3]"),
        (["env=Pong"], "env=Pong: the runs of a queue have games=[Pong,Breakout]"),
        (["resume=there"], "resume=there: the same command again goes on"),
    ):
        assert main(["benchmark", *arguments]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"error: {line}")
        assert err.count("\n") == 1


def test_a_queue_keeps_to_the_benchmark(tmp_path: Path) -> None:
    queue = launch.make_queue(tmp_path, "cpu", [])
    assert queue.overrides == launch.PROTOCOL
    config = launch.compose(queue, Task("Pong", 0))
    assert (config.evaluation.final_games, config.atari.max_episode_steps) == (100, 27_000)
    assert systems.departures(config) == []
    config.collection.steps = 50_000
    assert systems.departures(config) == ["50,000 steps"]
    assert launch.make_queue(tmp_path, "cpu", ["evaluation.final_games=3"]).overrides[-1] == "evaluation.final_games=3"
    assert launch.make_queue(tmp_path, "smoke", []).overrides == ()
