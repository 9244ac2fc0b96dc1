"""Checkpoints survive kills and tell damage."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import pickle
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch

from adamas.training import checkpoint
from adamas.utils.errors import MissingFile, UserError


def save_until_killed(folder: Path, said: Connection) -> None:
    for step in range(1, 10_000):
        checkpoint.save(folder, step, {"step": step, "weights": torch.full((200_000,), float(step))}, keep=2)
        said.send(step)


def parts(value: float = 1.0) -> dict:
    return {
        "model": {"w": torch.full((1_000,), value)},
        "rng": torch.get_rng_state(),
        "step": 7,
        "names": ["a", ("b", 2)],
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def newest(folder: Path) -> tuple[dict, Path, list[str]]:
    warnings: list[str] = []
    found, path = checkpoint.load_newest(folder, warnings.append)
    assert all("\n" not in line for line in warnings)
    return found, path, warnings


def test_round_trip(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "new" / "folder", 1_500, parts(), keep=2)
    assert path.name.startswith("00001500-")
    found = checkpoint.load(path)
    assert torch.equal(found["model"]["w"], parts()["model"]["w"])
    assert torch.equal(found["rng"], parts()["rng"])
    assert (found["step"], found["names"]) == (7, ["a", ("b", 2)])
    assert torch.load(path, weights_only=True)["step"] == 7  # a plain torch file


def test_the_newest_are_kept(tmp_path: Path) -> None:
    (tmp_path / "00000002.tmp").write_bytes(b"killed while writing")
    (tmp_path / "notes.txt").write_text("a person's own")
    for step in (5, 30, 100, 99_999_999, 100_000_000):
        checkpoint.save(tmp_path, step, {"step": step}, keep=2)
    assert [name[:9] for name in names(tmp_path)] == ["100000000", "99999999-", "notes.txt"]
    assert newest(tmp_path)[0] == {"step": 100_000_000}


def test_one_that_is_removed_while_the_folder_is_read_is_left_out(tmp_path: Path) -> None:
    """By a run at work: its name is still listed, and the file is gone, as behind this link."""
    path = checkpoint.save(tmp_path, 1, {"step": 1}, keep=1)
    path.with_name(f"00000002-{'0' * 16}.pt").symlink_to(tmp_path / "gone")
    assert checkpoint.newest_first(tmp_path) == [path]


@pytest.mark.parametrize("keep", [1, 2])
def test_the_same_step_again(tmp_path: Path, keep: int) -> None:
    first = checkpoint.save(tmp_path, 5, {"try": 1}, keep)
    os.utime(first, (1, 1))  # a clock tick may span both saves
    checkpoint.save(tmp_path, 5, {"try": 2}, keep)
    assert newest(tmp_path)[0] == {"try": 2}
    assert len(names(tmp_path)) == 1
    again = checkpoint.save(tmp_path, 5, {"try": 2}, keep)
    assert (checkpoint.load(again), len(names(tmp_path))) == ({"try": 2}, 1)


def test_the_good_one_outlives_a_damaged_one_of_the_step_that_is_saved_again(tmp_path: Path) -> None:
    good = checkpoint.save(tmp_path, 1, {"try": 1}, keep=2)
    damaged = checkpoint.save(tmp_path, 2, {"try": 1}, keep=2)
    damaged.write_bytes(b"")
    again = checkpoint.save(tmp_path, 2, {"try": 2}, keep=2)
    assert names(tmp_path) == sorted([good.name, again.name])


def test_a_checkpoint_that_refers_to_something_damaged_is_passed_over(tmp_path: Path) -> None:
    def verify(parts: dict) -> None:
        if parts["chunks"] > 1:
            raise UserError("chunk 2 is damaged")

    for chunks in (1, 2):
        checkpoint.save(tmp_path, chunks, {"chunks": chunks}, keep=2)
    lines: list[str] = []
    parts, _ = checkpoint.load_newest(tmp_path, warn=lines.append, verify=verify)
    assert (parts, lines) == ({"chunks": 1}, ["chunk 2 is damaged; trying the one before it"])


def test_a_checkpoint_that_refers_to_something_missing_is_not_passed_over(tmp_path: Path) -> None:
    """It may come back, and the next save would remove the checkpoint."""

    def verify(parts: dict) -> None:
        if parts["chunks"] > 1:
            raise MissingFile("chunk 2 is missing")

    paths = [checkpoint.save(tmp_path, chunks, {"chunks": chunks}, keep=2) for chunks in (1, 2)]
    with pytest.raises(UserError) as caught:
        checkpoint.load_newest(tmp_path, warn=pytest.fail, verify=verify)
    assert (
        str(caught.value) == f"chunk 2 is missing; put it back, or delete {paths[1]} to go on from an older checkpoint"
    )


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        PermissionError(errno.EACCES, "Permission denied"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_good_one_that_cannot_be_read_now_is_not_passed_over(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"step": step}, keep=2)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(type(error), match=str(error.args[-1])):
        checkpoint.load_newest(tmp_path, warn=pytest.fail)


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_is_caught(tmp_path: Path, seed: int) -> None:
    path = checkpoint.save(tmp_path, 1, parts(), keep=1)
    content, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path.name} is damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize("length", [0, 1, 1_000, -1])
def test_truncation_is_caught(tmp_path: Path, length: int) -> None:
    path = checkpoint.save(tmp_path, 1, parts(), keep=1)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_one_is_passed_over_and_does_not_outlive_the_next_save(tmp_path: Path, keep: int) -> None:
    for step in (1, 2, 3):
        path = checkpoint.save(tmp_path, step, {"step": step}, keep=2)
    path.write_bytes(b"")
    found, good, warnings = newest(tmp_path)
    assert (found, good.name[:8]) == ({"step": 2}, "00000002")
    assert len(warnings) == 1
    assert path.name in warnings[0]
    checkpoint.save(tmp_path, 3, {"step": 3, "again": True}, keep)
    assert newest(tmp_path)[::2] == ({"step": 3, "again": True}, [])
    assert len(names(tmp_path)) == keep


def test_a_save_that_fails_costs_no_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    checkpoint.save(tmp_path, 1, {"step": 1}, keep=1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space left"):
            checkpoint.save(tmp_path, 2, {"step": 2}, keep=1)
    assert newest(tmp_path)[::2] == ({"step": 1}, [])
    checkpoint.save(tmp_path, 3, {"step": 3}, keep=1)
    assert [name[:8] for name in names(tmp_path)] == ["00000003"]


def test_content_reaches_the_disk_before_its_name_and_its_name_before_anything_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, 1, {"step": 1}, keep=1)
    calls: list[str] = []
    for module, name in ((os, "fsync"), (os, "replace"), (Path, "unlink")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, name=name, real=real: (calls.append(name), real(*args)))
    checkpoint.save(tmp_path, 2, {"step": 2}, keep=1)
    folder_sync = ["fsync"] if os.name == "posix" else []
    assert calls == ["fsync", "replace", *folder_sync, "unlink"]


def test_a_checkpoint_of_another_format_is_told_apart_from_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT - 1)
    path = checkpoint.save(tmp_path, 1, parts(), keep=2)
    monkeypatch.undo()
    with pytest.raises(UserError, match="was written by another version of adamas"):
        checkpoint.load(path)


def test_no_usable_checkpoint(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="no usable checkpoint"):
            newest(folder)
    checkpoint.save(tmp_path, 1, {}, keep=1).write_bytes(b"")
    with pytest.raises(UserError, match="no usable checkpoint"):
        newest(tmp_path)
    with pytest.raises(UserError, match="cannot be read: FileNotFoundError"):
        checkpoint.load(tmp_path / "00000001-0123456789abcdef.pt")


class Code:
    ran = False

    def __reduce__(self) -> tuple:
        return setattr, (Code, "ran", True)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    draft = tmp_path / "draft"
    torch.save({"weights": Code()}, draft)
    path = draft.rename(tmp_path / f"00000001-{checkpoint.sha256(draft)[:16]}.pt")
    with pytest.raises(UserError, match="cannot be read: UnpicklingError") as error:
        checkpoint.load(path)
    assert "\n" not in str(error.value)
    assert not Code.ran


def test_what_could_not_be_loaded_again_is_not_saved(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {"step": 1}, keep=1)
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.save(tmp_path, 2, {"step": np.float64(2)}, keep=1)
    assert newest(tmp_path)[0] == {"step": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.parametrize("moment", range(10))
def test_a_kill_at_any_moment_leaves_a_good_checkpoint(moment: int, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")  # which need not import torch again
    said, to_say = fork.Pipe(duplex=False)
    process = fork.Process(target=save_until_killed, args=(tmp_path, to_say))
    process.start()
    to_say.close()
    steps = [said.recv()]  # one save is through
    time.sleep(0.003 * moment)
    process.kill()
    process.join()
    with contextlib.suppress(EOFError):
        while True:
            steps.append(said.recv())
    found, _, warnings = newest(tmp_path)
    assert warnings == []
    assert found["step"] >= max(steps)  # what was reported as saved is there
    assert torch.equal(found["weights"], torch.full((200_000,), float(found["step"])))
