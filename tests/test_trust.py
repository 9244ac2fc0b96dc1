"""What a run folder, a terminal and a user may do to the program, kind by kind."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CPU, ENVIRONMENT, make_world, mostly_slow, small_config

from adamas.benchmark.queue import Queue
from adamas.cli import train as train_command
from adamas.config import Config, command_line
from adamas.config.files import load_config, save_config
from adamas.data import storage
from adamas.play.load import open_agent
from adamas.play.settings import Options
from adamas.training import checkpoint
from adamas.training.datasets import read_experience
from adamas.training.load_run import files_of_run, read_to_resume
from adamas.training.phases import COLLECT, FINAL_EVALUATION
from adamas.training.progress import Progress
from adamas.training.run_folder import RunFolder
from adamas.training.run_loop import RunLoop
from adamas.training.saved_env import open_world
from adamas.training.signals import ending_by_itself
from adamas.training.trainer import Trainer
from adamas.utils.errors import UserError
from adamas.utils.logger import Logger
from adamas.utils.records import append_record, read_records
from adamas.utils.threads import Threads, saved_cores
from adamas.world_model.gym_vector_env import WorldModelVectorEnv
from adamas.world_model.parallel_rollouts import ParallelRollouts

COPIES = ["rows-00000000-00000062 (1).npz", "copy.npz", "rows-00000062-00000070.npz", "._rows-00000000-00000062.npz"]

# The world model as an env


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_envs_in_forked_processes_dream_after_torch_had_several_threads(made_run: Path) -> None:
    script = f"""
import torch, gymnasium, adamas
torch.set_num_threads(2)
torch.randn(512, 512) @ torch.randn(512, 512)
envs = gymnasium.make_vec("adamas:WorldModel-v0", num_envs=2, vectorization_mode="async", run={str(made_run)!r})
envs.reset(seed=0)
print(envs.step(envs.action_space.sample())[0].shape)
envs.close()
"""
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=240, check=False)
    assert done.stdout == "(2, 84, 84)\n", done.stderr


@pytest.mark.parametrize("seed", [7, np.int64(7), np.uint8(7), [7, 8], (7, 8), np.array([7, 8]), [np.int32(7), 8]])
def test_any_kind_of_seed_is_the_seed(seed: object) -> None:
    from adamas.data.batch import Trajectory

    world = make_world()
    starts = Trajectory(
        torch.arange(24, dtype=torch.uint8)[:, None, None, None].expand(24, 3, 84, 84),
        torch.zeros(24, 2, dtype=torch.int64),
    )
    envs = WorldModelVectorEnv(2, ParallelRollouts(world, starts, 2, 5), ["NOOP", "FIRE", "RIGHT"])
    assert np.array_equal(envs.reset(seed=seed)[0], envs.reset(seed=7)[0])


# What a run's own experience is


@pytest.fixture
def run_with_copies(made_run: Path, tmp_path: Path) -> Path:
    """A run in whose replay folder lies what is not of the run."""
    run = tmp_path / "run"
    shutil.copytree(made_run, run)
    (chunk,) = (run / "replay").glob("rows-*.npz")
    for name in COPIES:
        if name.startswith("."):
            (run / "replay" / name).write_bytes(b"Mac OS X")
        else:
            shutil.copy(chunk, run / "replay" / name)
    return run


def test_what_the_checkpoint_does_not_name_is_no_experience_of_the_run(
    run_with_copies: Path, made_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    replay, config = run_with_copies / "replay", load_config(made_run / "config.yaml")
    expected = [path.name for path in (made_run / "replay").iterdir()]
    assert [path.name for path in files_of_run(replay) or []] == expected
    assert f"skipped {len(COPIES)} files that the checkpoint does not name" in capfd.readouterr().err
    assert [path.name for path in open_agent(Options(run=str(run_with_copies), device="cpu")).replay_files] == expected
    assert torch.equal(open_world(run_with_copies, CPU).starts.obs, open_world(made_run, CPU).starts.obs)
    config.dataset = str(replay)
    trainer = Trainer(config, RunFolder(run_with_copies.parent / "new"), CPU)
    assert trainer.replay.num_rows == sum(map(storage.count_rows, (made_run / "replay").iterdir()))


def test_the_replay_of_a_run_without_a_good_checkpoint_is_read_as_it_is(
    run_with_copies: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in (run_with_copies / "checkpoints").iterdir():
        path.write_bytes(b"")
    assert files_of_run(run_with_copies / "replay") is None
    assert "is read as it is" in capfd.readouterr().err
    assert files_of_run(run_with_copies) is None


def ends_with_every_step(rows: dict[str, np.ndarray]) -> None:
    rows["terminated"][:] = True
    rows["final"][:] = False


def one_row(rows: dict[str, np.ndarray]) -> None:
    for name in rows:
        rows[name] = rows[name][:1]


@pytest.mark.parametrize("spoil", [ends_with_every_step, one_row])
def test_a_dataset_without_a_transition_is_refused(spoil: Callable, made_run: Path, tmp_path: Path) -> None:
    (chunk,) = (made_run / "replay").glob("*.npz")
    rows = dict(np.load(chunk))
    spoil(rows)
    np.savez(tmp_path / "data.npz", **rows)
    with pytest.raises(UserError, match=r"holds no step that leads to another frame"):
        read_experience(tmp_path / "data.npz", load_config(made_run / "config.yaml"), CPU)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_not_finite_is_refused(number: float, made_run: Path, tmp_path: Path) -> None:
    (chunk,) = (made_run / "replay").glob("*.npz")
    rows = dict(np.load(chunk))
    rows["reward"][5] = number
    np.savez(tmp_path / "data.npz", **rows)
    with pytest.raises(UserError, match=r"column 'reward' holds a number that is not finite"):
        read_experience(tmp_path / "data.npz", load_config(made_run / "config.yaml"), CPU)


# Going on


def checked(*words: str) -> Config:
    """What `adamas train WORD ...` would run, once everything is checked."""
    found: list[Config] = []
    assert command_line.launch(found.append, train_command.check_here, argv=[*words]) == 0
    return found[0]


def saved_run(path: Path, **settings: object) -> Path:
    path.mkdir()
    save_config(train_command.with_absolute_paths(Config(preset="cpu", **settings)), path / "config.yaml")
    return path


def test_a_resume_needs_nothing_that_only_the_start_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"from": str(tmp_path / "moved"), "parts": ["denoiser"]}
    run = saved_run(tmp_path / "run", initialize=source)
    monkeypatch.chdir("/")
    assert checked(f"resume={run}").initialize == source


def test_a_dataset_is_found_from_any_folder_and_can_be_named_anew(
    made_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made_run / "replay", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    run = saved_run(tmp_path / "run", dataset="data")
    monkeypatch.chdir("/")
    assert checked(f"resume={run}").dataset == str(tmp_path / "data")
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert checked(f"resume={run}", f"dataset={tmp_path / 'elsewhere'}").dataset == str(tmp_path / "elsewhere")
    capsys.readouterr()
    assert command_line.launch(lambda config: None, train_command.check_here, argv=[f"resume={run}"]) == 2
    gone = f"error: dataset {tmp_path / 'data'} of this run is gone: say where it is now with dataset=\n"
    assert capsys.readouterr().err == gone


def test_another_dataset_is_not_taken_for_the_one_of_the_run(made_run: Path, tmp_path: Path) -> None:
    (chunk,) = (made_run / "replay").glob("*.npz")
    rows = dict(np.load(chunk))
    config = small_config()
    for name in ("theirs", "other"):
        np.savez(tmp_path / f"{name}.npz", **rows)
        rows["reward"][3] += 1
    config.dataset = str(tmp_path / "theirs.npz")
    trainer = Trainer(config, RunFolder(tmp_path / "run"), CPU)
    save(trainer)
    Trainer(config, trainer.folder, CPU).resume()
    config.dataset = str(tmp_path / "other.npz")
    with pytest.raises(UserError, match=r"other.npz does not hold what that of the run held: give the same one"):
        Trainer(config, trainer.folder, CPU).resume()


def save(trainer: Trainer) -> None:
    parts = {**trainer.state_dict(), "progress": trainer.progress.state_dict()}
    trainer.progress.saves += 1
    checkpoint.save(trainer.folder.checkpoints, trainer.progress.saves, parts, keep=2)


def saved_twice(path: Path) -> Trainer:
    """After five steps each."""
    trainer = Trainer(small_config(), RunFolder(path), CPU)
    for _ in range(2):
        for _ in range(5):
            trainer._collect_step()
        save(trainer)
    return trainer


def test_a_chunk_that_every_checkpoint_needs_is_named_with_the_way_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trainer = saved_twice(tmp_path)
    chunk = min((tmp_path / "replay").glob("*.npz"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(UserError) as caught:
        Trainer(small_config(), trainer.folder, CPU).resume()
    assert f"{chunk} is damaged" in str(caught.value)
    assert str(caught.value).endswith(f"a new run can start from them with initialize.from={tmp_path}")
    assert capfd.readouterr().err.count("trying the one before it") == 1


def test_a_chunk_that_is_away_for_a_while_costs_nothing(tmp_path: Path) -> None:
    trainer = saved_twice(tmp_path)
    checkpoints, chunk = checkpoint.newest_first(trainer.folder.checkpoints), max((tmp_path / "replay").glob("*.npz"))
    chunk.rename(tmp_path / "away")
    with pytest.raises(UserError, match=f"{chunk} is missing.*; put it back, or delete {checkpoints[0]} to go on from"):
        Trainer(small_config(), trainer.folder, CPU).resume()
    assert checkpoint.newest_first(trainer.folder.checkpoints) == checkpoints
    (tmp_path / "away").rename(chunk)
    resumed = Trainer(small_config(), trainer.folder, CPU)
    resumed.resume()
    assert resumed.replay.num_steps == 10


def test_a_folder_without_a_checkpoint_is_said_to_be_that(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no checkpoint to go on from: start a new run$"):
        read_to_resume(RunFolder(tmp_path), lambda parts: None)


@pytest.mark.parametrize(
    ("lost", "games"), [("all", 1), ("last line", 1), ("a bit of it", 1), ("nothing", 1), ("nothing", 2)]
)
def test_a_final_evaluation_whose_record_is_lost_or_has_too_few_games_is_made_again(
    lost: str, games: int, tmp_path: Path
) -> None:
    c = small_config()
    c.evaluation.final_games = games
    trainer = Trainer(c, RunFolder(tmp_path), CPU)
    trainer.progress.epoch = 1
    trainer.progress.tick(FINAL_EVALUATION.name)
    save(trainer)
    for kind, epoch in (("evaluation", 0), ("final_evaluation", 1)):
        record = {"kind": kind, "epoch": epoch, "steps": 1, "return": 1.0, "returns": [1.0]}
        trainer.folder.append_evaluation(record)
    path = trainer.folder.evaluations
    first, last = path.read_bytes().splitlines(keepends=True)
    damaged = {"all": b"", "last line": first, "a bit of it": first + last.replace(b"1.0", b"1.1", 1)}
    path.write_bytes(damaged.get(lost, first + last))
    resumed = Trainer(c, trainer.folder, CPU)
    resumed.resume()
    assert resumed.progress.done[FINAL_EVALUATION.name] == (1 if lost == "nothing" and games == 1 else 0)


# Numbers that are not finite


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["denoiser", "reward_end", "actor_critic", "optimizers"])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(
    number: float, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(small_config(), RunFolder(tmp_path), CPU)
    save(trainer)
    (good,) = trainer.folder.checkpoints.glob("*.pt")
    trainer._collect_step()
    if where == "optimizers":
        trainer.learners.by_part["denoiser"].optimizer.skipped.fill_(number)
    else:
        next(getattr(trainer.models, where).parameters()).data.fill_(number)
    with pytest.raises(UserError, match=rf"nothing is saved: models\.{where}\..*not finite; the last checkpoint"):
        save(trainer)
    assert [*trainer.folder.checkpoints.iterdir()] == [good]
    monkeypatch.setattr(checkpoint, "not_finite", lambda parts: "")
    save(trainer)
    monkeypatch.undo()
    bad = checkpoint.newest_first(trainer.folder.checkpoints)[0]
    with pytest.raises(UserError, match=rf"cannot be used: models\.{where}\..* holds a number that is not finite"):
        checkpoint.load(bad)
    assert read_to_resume(trainer.folder, lambda parts: None)[1] == good


# Small files


def records(folder: Path) -> list[tuple[Path, Callable[[], object]]]:
    """Each small file of one record, and what reads it."""
    run, queue = RunFolder(folder), Queue(folder, "smoke", ("evaluation.games=10",))
    run.write_progress({"epoch": 3, "steps": 1234, "seconds": 56.5, "left": 100.0})
    Threads(2).save(run.threads)
    queue.claim()
    return [
        (run.progress, run.read_progress),
        (run.threads, lambda: saved_cores(run.threads)),
        (folder / "queue.json", queue.claim),
    ]


def test_a_flipped_bit_of_a_small_file_is_never_another_figure(tmp_path: Path) -> None:
    for path, read in records(tmp_path):
        whole, expected = path.read_bytes(), read()
        for bit in range(8 * len(whole)):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            try:
                found = read()
            except UserError as error:
                assert "is damaged" in str(error)  # noqa: PT017
                continue
            found = {k: v for k, v in found.items() if k in expected} if isinstance(found, dict) else found
            assert found in (expected, {}), (path, bit)


@pytest.mark.parametrize("length", [0, 1, 20, -1])
def test_a_truncated_small_file_is_never_another_figure(length: int, tmp_path: Path) -> None:
    for path, read in records(tmp_path):
        whole, expected = path.read_bytes(), read()
        path.write_bytes(whole[:length])
        try:
            assert read() in (expected, {})
        except UserError as error:
            assert "is damaged" in str(error)  # noqa: PT017


# Folders that are begun and ended


def fail(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("new", [False, True])
def test_only_a_new_folder_in_which_nothing_was_saved_goes(
    error: BaseException, saved: bool, new: bool, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    (folder.path / "recordings").mkdir(parents=True)
    (folder.path / "recordings" / "mine.npz").touch()
    if saved:
        checkpoint.save(folder.checkpoints, 1, {}, keep=2)
    with pytest.raises(UserError if isinstance(error, OSError) else type(error)) as caught, folder.held(new=new):
        fail(error)()
    assert folder.path.exists() == (saved or not new)
    if isinstance(error, OSError):
        end = "what was saved last is good" if saved else "nothing was saved yet"
        assert str(caught.value) == f"No space left on device; make room: {end}"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has none")
@pytest.mark.usefixtures("default_hangup")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_before_the_first_save_leaves_no_folder(name: str, tmp_path: Path) -> None:
    folder, number = RunFolder(tmp_path / "run"), getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught, ending_by_itself(), folder.held(new=True):
        os.kill(os.getpid(), number)
    assert caught.value.code == 128 + number
    assert not folder.path.exists()
    assert signal.getsignal(number) == before


# A terminal that goes away


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no such terminals")
def test_what_is_printed_to_a_terminal_that_is_gone_ends_nothing() -> None:
    ours, theirs = os.openpty()
    script = "import sys, time; from adamas.utils.console import say, warn; sys.stdin.read()\nfor _ in range(3): say('x'); warn('y')\nopen(sys.argv[1], 'w').write('done')"
    name = Path(os.ttyname(theirs)).name
    target = Path(os.environ.get("TMPDIR", "/tmp")) / f"terminal-{os.getpid()}-{name}"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(target)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.close(ours)
    process.communicate()
    assert process.returncode == 0
    assert target.read_text() == "done"
    target.unlink()


# Checkpoints of other parts


def without(node: dict, *way: str) -> dict:
    key, *rest = way
    if rest:
        return {**node, key: without(node[key], *rest)}
    return {k: v for k, v in node.items() if k != key}


def instead(node: dict, value: object, *way: str) -> dict:
    key, *rest = way
    return {**node, key: instead(node[key], value, *rest) if rest else value}


WAYS = [("models",), ("models", "denoiser"), ("random",), ("random", "data"), ("player",), ("player", "env")]
WAYS += [
    ("player", "env", "emulator"),
    ("progress",),
    ("progress", "epoch"),
    ("progress", "done"),
    ("replay", "chunks"),
]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trainer = Trainer(small_config(), RunFolder(tmp_path_factory.mktemp("whole")), CPU)
    trainer._collect_step()
    save(trainer)
    return trainer.folder.path


@pytest.mark.parametrize("way", WAYS, ids=".".join)
@pytest.mark.parametrize("value", mostly_slow(["gone", None, 3, -1, "x", torch.zeros(3)], ["gone"]))
def test_a_checkpoint_with_other_parts_is_one_line_where_it_is_resumed(
    way: tuple[str, ...], value: object, whole_run: Path, tmp_path: Path
) -> None:
    if way == ("progress", "epoch") and isinstance(value, int) and value >= 0:
        return  # as good as any
    shutil.copytree(whole_run, tmp_path / "run")
    (path,) = (tmp_path / "run" / "checkpoints").iterdir()
    parts = checkpoint.load(path)
    spoilt = without(parts, *way) if isinstance(value, str) and value == "gone" else instead(parts, value, *way)
    checkpoint.save(path.parent, 2, spoilt, keep=1)
    with pytest.raises(UserError) as caught:
        Trainer(small_config(), RunFolder(tmp_path / "run"), CPU).resume()
    assert len(str(caught.value).splitlines()) == 1


# A folder that is gone


def move_away(folder: Path) -> None:
    """And does what the next save would meet."""
    folder.rename(folder.parent / "elsewhere")
    raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(folder / "checkpoints/1.tmp"))


def test_nothing_is_saved_where_the_run_folder_is_gone(tmp_path: Path) -> None:
    folder = saved_run(tmp_path / "run")
    gone = r"run is gone, or its config.yaml: somebody moved or removed it"
    with pytest.raises(UserError, match=gone), RunFolder(folder).held():
        move_away(folder)
    loop = RunLoop(RunFolder(tmp_path / "elsewhere"), Config().checkpoint, Progress(), Logger(tmp_path), dict, {}, dict)
    loop.save()
    shutil.rmtree(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is gone"):
        loop.save()
    assert not (tmp_path / "elsewhere").exists()


# Records that end too early


@pytest.mark.parametrize("length", [0, 1, 30, -1])
def test_records_that_are_cut_are_told_of(length: int, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for number in range(3):
        append_record(path, {"number": number})
    path.write_bytes(path.read_bytes()[:length])
    said: list[str] = []
    records = read_records(path, said.append)
    assert records == [{"number": number} for number in range(len(records))]
    assert len(said) == (len(records) < 3)  # without its newline alone the last line is whole


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows has none")
def test_the_time_in_which_a_run_stands_still_says_nothing_about_its_pace(tmp_path: Path) -> None:
    """As after Ctrl-Z and fg."""
    folder, costs, left = RunFolder(tmp_path), {"collect": 0.01}, {"collect": 100}
    loop = RunLoop(folder, Config().checkpoint, Progress(), Logger(tmp_path), dict, costs, lambda: left)
    me = os.getpid()

    def stand_still() -> None:
        with subprocess.Popen(["sh", "-c", f"sleep 1.1; kill -CONT {me}"]):
            os.kill(me, signal.SIGSTOP)

    with loop:
        loop.run(COLLECT, lambda: 2, stand_still)
        assert loop.bars.left() == pytest.approx(1)
