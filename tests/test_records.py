"""Records and configs that tell their damage, and which runs are found, finished and of one system."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from made_runs import make_run

from adamas.benchmark import systems
from adamas.benchmark.launch import compose
from adamas.benchmark.queue import Queue, Task
from adamas.cli.main import main
from adamas.config import Collection, Config
from adamas.config.files import OLDER_DIGEST, load_config, save_config, to_yaml
from adamas.training import run_records
from adamas.training.run_folder import RunFolder
from adamas.training.scalars import read_scalars
from adamas.utils.errors import UserError
from adamas.utils.locks import is_locked, take_lock
from adamas.utils.records import append_record, read_record, read_records, write_record

RECORD = {"kind": "evaluation", "epoch": 3, "steps": 100, "return": 0.1 + 0.2, "returns": [0.1 + 0.2], "text": "é"}


def test_a_record_reads_back_exactly_and_old_lines_have_no_digest(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(RECORD) + "\n")
    append_record(path, RECORD)
    append_record(path, {})
    assert read_records(path, pytest.fail) == [RECORD, RECORD, {}]


def test_a_flipped_bit_costs_one_warning_and_never_another_figure(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    append_record(path, RECORD)
    append_record(path, {"second": 2})
    whole, first = path.read_bytes(), path.read_bytes().index(b"\n")
    for position in range(8 * first):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        said: list[str] = []
        records = read_records(path, said.append)
        assert {"second": 2} in records
        kept = [record for record in records if record != {"second": 2}]
        assert kept in ([], [RECORD])  # also where the digest, or its own name, is damaged
        assert len(said) == (not kept) or b"\n" in bytes(damaged[:first])


def test_a_flipped_bit_in_a_file_of_one_record_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    write_record(path, RECORD)
    whole = path.read_bytes()
    for position in range(8 * whole.index(b"\n")):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError):  # noqa: PT011  of three kinds: no UTF-8, no JSON, another digest
            read_record(path)


def test_damage_that_old_lines_cannot_tell_by_a_digest(tmp_path: Path) -> None:
    run = make_run(tmp_path, Config(), 3.0)
    old = [json.dumps(record) for record in read_records(run / "evaluations.jsonl", pytest.fail)]
    for text, changed in (('"return": 2.0', '"return": 6.0'), ('"kind"', '"kine"'), ('"steps": 100,', '"steps": "x",')):
        damaged = [line.replace(text, changed) if i == 2 else line for i, line in enumerate(old)]
        assert damaged != old
        (run / "evaluations.jsonl").write_text("\n".join(damaged) + "\n")
        said: list[str] = []
        found = run_records.read_outcome(run, said.append)
        assert [record["return"] for record in found.curve] == [1.0, 555.0, 3.0]
        assert len(said) == 1


def test_a_damaged_origin_leaves_the_run_in_the_report(tmp_path: Path) -> None:
    run = make_run(tmp_path, Config(), 3.0)
    for text in ('{"command": 3}\n', "[]\n", "{\n", '{"started": "x"}\n'):
        (run / "origin.jsonl").write_text(text)
        assert run_records.read_outcome(run, lambda line: None).score == 3.0


@pytest.mark.parametrize("damage", ["0.0001", "seed: 0", "denoiser", "\n"])
def test_a_changed_config_is_noticed_and_may_be_meant(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "config.yaml"
    save_config(Config(), path)
    text = path.read_text()
    changed = text.replace(
        damage, {"0.0001": "0.0101", "seed: 0": "seed: 8", "denoiser": "denoisor", "\n": "\n\n"}[damage], 1
    )
    path.write_text(changed)
    with pytest.raises(UserError, match=r"config\.yaml is damaged: .*delete that line"):
        load_config(path)
    path.write_text(text.partition("\n")[2].replace("seed: 0", "seed: 8"))
    assert load_config(path) == Config(seed=8)
    path.write_text(to_yaml(Config()))
    assert load_config(path) == Config()


def test_a_config_that_is_cut_off_is_noticed_wherever_that_is(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    save_config(Config(), path)
    data = path.read_bytes()
    for length in [*range(0, 200), *range(200, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"config\.yaml(: | is empty| is damaged)"):
            load_config(path)


def test_a_config_with_its_digest_at_the_end_is_read_and_checked(tmp_path: Path) -> None:
    """As versions of November 2026 wrote it."""
    path, text = tmp_path / "config.yaml", to_yaml(Config())
    whole = f"{text}{OLDER_DIGEST}{hashlib.sha256(text.encode()).hexdigest()}\n"
    path.write_text(whole)
    assert load_config(path) == Config()
    path.write_text(whole.replace("seed: 0", "seed: 8"))
    with pytest.raises(UserError, match="digest in its last line"):
        load_config(path)


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_damaged_curves_cost_a_line(tiny_run: Path, tmp_path: Path, damage: str) -> None:
    folder, said = shutil.copytree(tiny_run / "tensorboard", tmp_path / "tensorboard"), []
    whole = read_scalars(folder, pytest.fail)
    (path,) = folder.glob("*tfevents*")
    data, draw = path.read_bytes(), random.Random(0)
    for place in [0, len(data) - 1, *(draw.randrange(len(data)) for _ in range(20))]:
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        path.write_bytes(flipped if damage == "flip" else data[:place])
        said.clear()
        if read_scalars(folder, said.append) != whole:
            assert len(said) == 1
            assert "is damaged at byte" in said[0]


def test_a_setting_that_is_a_constant_now_must_have_been_that(tmp_path: Path) -> None:
    path, text = tmp_path / "config.yaml", to_yaml(Config())
    path.write_text(text.replace("actor_critic:\n", "actor_critic:\n  lambda_: 0.95\n"))
    assert load_config(path) == Config()
    path.write_text(text.replace("actor_critic:\n", "actor_critic:\n  lambda_: 0.9\n"))
    with pytest.raises(UserError, match=r"actor_critic\.lambda_ was not 0\.95, as it is in this version"):
        load_config(path)


def test_an_input_error_of_a_config_is_not_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_config(Config(), tmp_path / "config.yaml")

    def fails(*_: object, **__: object) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_text", fails)
    with pytest.raises(OSError, match="Input/output error"):
        load_config(tmp_path / "config.yaml")


# Which runs there are


def test_runs_behind_links_are_found_once_and_a_cycle_ends(tmp_path: Path) -> None:
    run = make_run(tmp_path / "disk", Config(), 1.0)
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "moved").symlink_to(tmp_path / "disk")
    (runs / "again").symlink_to(run)
    (runs / "cycle").symlink_to(runs)
    (runs / "nowhere").symlink_to(tmp_path / "absent")
    (found,) = run_records.find_outcomes([runs, tmp_path / "disk"], pytest.fail)
    assert found.path.resolve() == run


# Which are finished


def final(config: Config, **changes: object) -> dict:
    record = {"kind": "final_evaluation", "epoch": 1001, "steps": 100_000, "return": 1.0, "returns": [1.0] * 100}
    return {**record, "final_epochs": config.final_epochs, **changes}


@pytest.mark.parametrize(
    ("config", "done"),
    [
        (Config(), True),
        (Config(collection=Collection(steps=100_001)), False),
        (Config(collection=Collection(steps=50_000)), True),
        (Config(final_epochs=51), False),
        (Config(dataset="x", collection=Collection(steps=200_000)), True),
        (Config(policy="model_free", final_epochs=99), True),
    ],
)
def test_a_run_with_more_ahead_of_it_is_not_finished(config: Config, done: bool) -> None:
    first = {"kind": "evaluation", "epoch": 0, "steps": 5_000, "return": 0.0, "returns": [0.0]}
    end = final(Config())
    assert (run_records.final_of([first, end], config) is not None) == done
    more_games = replace(config, evaluation=replace(config.evaluation, final_games=200))
    assert run_records.final_of([first, end], more_games) is None
    del end["final_epochs"]  # as older versions wrote it: 1 + 950 epochs collect, and 50 do not
    assert (run_records.final_of([first, end], config) is not None) == done


def test_a_queue_goes_on_with_a_finished_run_that_was_extended(tmp_path: Path) -> None:
    queue, task = Queue(tmp_path, "diamond"), Task("Pong", 0)
    run = RunFolder(make_run(queue.place(task), Config(env="Pong"), 3.0))
    assert queue.status_of(task, {}).state == "finished"
    (run.checkpoints).mkdir()
    (run.checkpoints / f"00000001-{'0' * 16}.pt").touch()
    save_config(Config(env="Pong", final_epochs=60), run.config)
    assert queue.status_of(task, {}).state == "to resume"
    assert queue.command(task)[-1] == f"resume={run.path}"


# Which are of one system


@pytest.mark.parametrize(
    ("changes", "one"),
    [
        ({"precision": "bfloat16"}, False),
        ({"seed": 1, "env": "Pong", "device": "cpu", "compile": True, "runs": "x"}, True),
        ({"evaluation": replace(Config().evaluation, every_epochs=3, dreams=5, games=9)}, True),
        ({"evaluation": replace(Config().evaluation, final_games=20)}, False),
        ({"checkpoint": replace(Config().checkpoint, every_minutes=9)}, True),
        ({"final_epochs": 9}, False),
    ],
)
def test_runs_of_one_system_differ_in_what_changes_no_weight(changes: dict, one: bool) -> None:
    settings = [systems.settings_of(config) for config in (Config(), replace(Config(), **changes))]
    assert (settings[0] == settings[1]) == one


# A queue that is looked at


def test_jobs_of_two_clones_have_names_of_their_own(tmp_path: Path) -> None:
    names = {Queue(tmp_path / clone / "runs", "cpu").job_name(Task("Pong", 0)) for clone in "ab"}
    assert len(names) == 2
    assert all(name.endswith("Pong-0") for name in names)


def test_the_status_needs_no_right_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = Queue(tmp_path, "smoke")
    held, free = (take_lock(queue.lock(Task(game, 0))) for game in ("Pong", "Alien"))
    os.close(free)
    really = os.open

    def read_only(path, flags, *rest, **named):
        if flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system", path)
        return really(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", read_only)
    assert main(["benchmark", "games=[Pong,Alien]", "seeds=1", "preset=smoke", f"runs={tmp_path}", "--status"]) == 0
    monkeypatch.undo()
    os.close(held)
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:3]] == ["running", "waiting"]
    assert not is_locked(queue.lock(Task("Pong", 0)))


def test_a_damaged_run_does_not_keep_others_from_starting(tmp_path: Path) -> None:
    queue = Queue(tmp_path, "smoke")
    run = make_run(queue.place(Task("Pong", 0)), Config(env="Pong"), None)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "00000001-0123456789abcdef.pt").touch()
    (run / "config.yaml").write_text("seed: [")
    assert any(word.startswith("resume=") for word in queue.command(Task("Pong", 0)))
    assert compose(queue, Task("Pong", 0)).env == "Pong"


def test_many_may_begin_one_queue_at_once(tmp_path: Path) -> None:
    for trial in range(10):
        queue, together = Queue(tmp_path / str(trial), "smoke"), threading.Barrier(8)

        def claim(queue: Queue = queue, together: threading.Barrier = together) -> None:
            together.wait()
            queue.claim()

        with ThreadPoolExecutor(8) as pool:
            for claimed in [pool.submit(claim) for _ in range(8)]:
                claimed.result()
        assert sorted(path.name for path in queue.runs.iterdir()) == ["queue.json", "queue.lock"]


def test_the_oldest_run_is_the_one_that_was_started_first_wherever_that_was(tmp_path: Path) -> None:
    for name, started in (("a", "2026-03-01T10:00:00+02:00"), ("b", "2026-03-01T09:00:00+00:00")):
        run = make_run(tmp_path, Config(), 1.0, name)
        append_record(run / "origin.jsonl", {"command": ["train"], "started": started})
    assert [run.path.name[0] for run in run_records.find_outcomes([tmp_path], pytest.fail)] == ["a", "b"]


def test_a_folder_with_a_nasty_name_has_a_queue(tmp_path: Path) -> None:
    runs = tmp_path / "it's, {a}=[b] ${c}"
    queue = Queue(runs, "smoke", ("device=cpu",))
    config = compose(queue, Task("Pong", 3))
    assert (config.env, config.seed, config.runs) == ("Pong", 3, str(runs / "seed-3"))
