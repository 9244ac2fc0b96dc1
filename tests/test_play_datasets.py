"""Datasets on the page: what is shown of them, and what is read for it."""

from __future__ import annotations

import copy
import dataclasses
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import read_dataset
from playing import BREAKOUT, do, play

from adamas.data import storage
from adamas.data.batch import Trajectory
from adamas.data.dataset_table import BLOCK, open_table
from adamas.play.dataset_viewer import DatasetViewer
from adamas.play.initial_states import InitialStates
from adamas.play.load import open_agent
from adamas.play.session import Session
from adamas.play.settings import Options
from adamas.training.load_run import OpenedRun
from adamas.utils.errors import UserError


def test_a_dataset_is_looked_at_step_by_step(session: Session, made_run: Path) -> None:
    columns = dict(np.load(next((made_run / "replay").glob("*.npz"))))
    row = session.datasets.row("replay", 0, 3)
    assert np.array_equal(row.obs, columns["obs"][3])
    assert (row.facts["step"], row.facts["action"]) == (3, BREAKOUT[columns["action"][3]])
    assert (row.facts["previous_reward"], row.facts["next_reward"]) == (None, 10)
    row = session.datasets.row("replay", 0, 10)
    assert (row.facts["reward"], row.facts["return"], row.facts["next_reward"]) == (1.0, 1.0, 14)
    beyond = session.datasets.row("replay", 99, 10**9).facts
    assert (beyond["episode"], beyond["step"]) == (beyond["episodes"] - 1, beyond["steps"] - 1)


def test_a_recording_can_be_viewed_at_once(session: Session) -> None:
    do(session, "record", on=True)
    play(session, 2)
    do(session, "new_episode")
    play(session, 2)
    do(session, "record", on=False)
    assert session.datasets.sources() == ["replay", session.saved.name]
    row = session.datasets.row(session.saved.name, 99, 99)
    assert row.facts["action"] is None  # a final frame
    assert np.array_equal(row.obs, session.state.obs)
    with pytest.raises(UserError):
        session.datasets.row("../config.yaml", 0, 0)


def make_rows(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """One episode of noise, which does not compress."""
    last = np.arange(rows) == rows - 1
    return {
        "obs": np.random.default_rng(seed).integers(0, 256, (rows, 84, 84), np.uint8),
        "action": np.zeros(rows, np.uint8),
        "reward": np.zeros(rows, np.float32),
        "terminated": last,
        "truncated": np.zeros(rows, bool),
        "final": np.zeros(rows, bool),
    }


def test_opening_a_dataset_reads_no_frames_and_showing_one_reads_no_later_ones(tmp_path: Path) -> None:
    path, columns = tmp_path / "rows.npz", make_rows(3 * BLOCK)
    np.savez_compressed(path, **columns)
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("obs.npy")
    data = bytearray(path.read_bytes())
    middle = member.header_offset + member.compress_size // 2
    data[middle : middle + 1000] = bytes(1000)  # what is read behind here is damaged
    path.write_bytes(data)

    table = open_table([path])
    assert (table.rows, table.starts) == (3 * BLOCK, [0])
    assert np.array_equal(table.frame(BLOCK // 2), columns["obs"][BLOCK // 2])
    with pytest.raises(UserError, match="cannot be read"):
        table.frame(3 * BLOCK - 1)


def test_every_frame_is_the_one_of_its_row(tmp_path: Path) -> None:
    parts = [make_rows(BLOCK + 3, seed=1), make_rows(5, seed=2)]
    for name, part in zip("ab", parts, strict=True):
        np.savez_compressed(tmp_path / f"{name}.npz", **part)
    table = open_table(storage.dataset_files(tmp_path))
    assert table.starts == [0, BLOCK + 3]
    assert all(map(np.array_equal, map(table.frame, range(table.rows)), np.concatenate([p["obs"] for p in parts])))


@pytest.mark.parametrize(
    "obs", [np.zeros((4, 80, 80), np.uint8), np.zeros((4, 84, 84)), np.asfortranarray(np.zeros((4, 84, 84), np.uint8))]
)
def test_frames_of_another_kind_are_refused(tmp_path: Path, obs: np.ndarray) -> None:
    np.savez(tmp_path / "rows.npz", **{**make_rows(4), "obs": obs})
    with pytest.raises(UserError) as caught:
        open_table([tmp_path / "rows.npz"]).frame(0)
    assert "obs" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_dataset_that_grows_or_changes_is_read_again(agent: OpenedRun, tmp_path: Path) -> None:
    config = copy.deepcopy(agent.config)
    config.dataset = str(tmp_path / "data")
    viewer = DatasetViewer(dataclasses.replace(agent, config=config))
    assert "dataset" not in viewer.sources()
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "a.npz", **make_rows(4))
    assert viewer.row("dataset", 0, 0).facts["episodes"] == 1
    np.savez(tmp_path / "data" / "b.npz", **make_rows(5))
    assert viewer.row("dataset", 1, 0).facts["steps"] == 5
    changed = make_rows(7, seed=3)
    np.savez(tmp_path / "data" / "b.npz", **changed)
    row = viewer.row("dataset", 1, 6)
    assert row.facts["steps"] == 7
    assert np.array_equal(row.obs, changed["obs"][6])


@pytest.fixture
def crowded(made_run: Path, tmp_path: Path) -> Path:
    """A run whose replay folder holds files that its checkpoint does not name, all of them damaged."""
    run = shutil.copytree(made_run, tmp_path / "crowded")
    (chunk,) = (run / "replay").iterdir()
    for name in (f"._{chunk.name}", "notes.npz", "rows-00000999-00001999.npz"):
        (run / "replay" / name).write_bytes(b"\x00\x05\x16\x07")
    (run / "recordings").mkdir()
    (run / "recordings" / "._2026-01-01_00-00-00.npz").write_bytes(b"\x00")
    return run


def test_only_what_the_checkpoint_names_is_experience_of_the_run(crowded: Path, agent: OpenedRun) -> None:
    other = open_agent(Options(run=str(crowded), device="cpu"))
    assert [path.name for path in other.replay_files] == [path.name for path in agent.replay_files]
    viewer = DatasetViewer(other)
    assert viewer.sources() == ["replay"]
    assert np.array_equal(viewer.row("replay", 0, 7).obs, DatasetViewer(agent).row("replay", 0, 7).obs)
    states, expected = (InitialStates(one, None).get("replay", 1).context for one in (other, agent))
    assert np.array_equal(states.obs, expected.obs)


def test_hidden_files_are_no_dataset_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    np.savez(tmp_path / "a.npz", **make_rows(4))
    (tmp_path / "._a.npz").write_bytes(b"\x00\x05\x16\x07")
    assert read_dataset(tmp_path, [1.0]).num_steps == 4
    assert "._a.npz" in capsys.readouterr().err
    (tmp_path / "a.npz").unlink()
    with pytest.raises(UserError, match=r"holds no \.npz file"):
        read_dataset(tmp_path, [1.0])


def test_a_replay_that_is_partly_gone_is_one_line(crowded: Path) -> None:
    other = open_agent(Options(run=str(crowded), device="cpu"))
    other.replay_files[0].unlink()
    with pytest.raises(UserError, match="cannot be read: No such file"):
        DatasetViewer(other).row("replay", 0, 0)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        InitialStates(other, None).get("replay", 0)


def test_an_initial_state_of_the_replay_is_a_stored_stretch(agent: OpenedRun) -> None:
    rows = dict(np.load(agent.replay_files[0]))
    starts = [0, *(np.flatnonzero(rows["final"]) + 1)]
    for number in range(30):
        state = InitialStates(agent, None).get("replay", number).context
        assert any(stretch_equals(rows, starts, last, state) for last in np.flatnonzero(~rows["final"]))


def stretch_equals(rows: dict[str, np.ndarray], starts: list[int], last: int, state: Trajectory) -> bool:
    """Whether the frames and actions are those up to the row `last`, with the first frame of its episode before it."""
    first, context = max(start for start in starts if start <= last), state.obs.shape[1]
    index = np.arange(last - context + 1, last + 1)
    actions = np.where(index >= first, rows["action"][np.maximum(index, 0)], 0)[:-1]
    frames = rows["obs"][np.maximum(index, first)]
    return np.array_equal(state.obs[0], frames) and np.array_equal(state.action[0], actions)


def test_an_action_of_another_game_is_shown_by_its_number(agent: OpenedRun, tmp_path: Path) -> None:
    config = copy.deepcopy(agent.config)
    config.dataset = str(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", **{**make_rows(4), "action": np.full(4, 17, np.uint8)})
    row = DatasetViewer(dataclasses.replace(agent, config=config)).row("dataset", 0, 0)
    assert row.facts["action"] == "17"
