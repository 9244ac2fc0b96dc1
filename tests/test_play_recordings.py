"""Recordings: what is in them, and the GIFs and videos made of them."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from helpers import read_dataset
from PIL import Image
from playing import do, play

from adamas.play import recording_files
from adamas.play.session import Session
from adamas.utils.errors import UserError


def test_a_recording_is_a_dataset_of_what_was_played(session: Session) -> None:
    play(session, 2)
    do(session, "record", on=True)
    frames = [session.state.obs]
    do(session, "keys", held=["RIGHT"], number=1)
    for _ in range(5):
        play(session, 1)
        frames.append(session.state.obs)
    do(session, "record", on=False)

    columns = dict(np.load(session.saved))
    states = session.history.states[-6:]
    replay = read_dataset(session.saved.parent, [1.0])  # what training reads with dataset=
    ends = [state.terminated for state in states[1:]]
    assert replay.num_steps == 5
    assert columns["action"][~columns["final"]].tolist() == [2] * 5
    assert columns["reward"][~columns["final"]].tolist() == [state.reward for state in states[1:]]
    assert columns["terminated"][~columns["final"]].tolist() == ends
    assert np.array_equal(columns["obs"][~columns["final"]], np.stack(frames[:-1]))
    assert np.array_equal(columns["obs"][-1], frames[-1])
    assert columns["final"].sum() == sum(ends[:-1]) + 1
    assert np.array_equal(columns["real_obs"][-1], states[-1].real.obs)


def test_a_recorded_frame_holds_no_other_frames(session: Session) -> None:
    do(session, "record", on=True)
    play(session, 3)
    assert {frame.obs.base is None or frame.obs.base.nbytes for frame in session.recorder.episodes[-1]} <= {
        True,
        84 * 84,
    }


def test_what_is_rewound_is_not_in_the_recording(session: Session) -> None:
    do(session, "record", on=True)
    do(session, "keys", held=["LEFT"], number=1)
    play(session, 6)
    do(session, "rewind", steps=4)
    do(session, "keys", held=["RIGHT"], number=2)
    play(session, 3)
    do(session, "rewind", steps=1)
    do(session, "record", on=False)
    columns = np.load(session.saved)
    assert columns["action"][~columns["final"]].tolist() == [3, 3, 2, 2]


def test_a_recording_goes_on_over_a_new_episode(session: Session) -> None:
    do(session, "record", on=True)
    play(session, 3)
    do(session, "new_episode")
    play(session, 2)
    session.close()  # as when the server is stopped
    columns = np.load(session.saved)
    assert len(columns["obs"]) == 5 + columns["final"].sum()
    assert columns["truncated"].sum() + columns["terminated"].sum() == columns["final"].sum()
    assert read_dataset(session.saved, [1.0]).num_episodes == columns["final"].sum()


def test_nothing_played_is_nothing_saved(session: Session) -> None:
    do(session, "record", on=True)
    do(session, "record", on=False)
    assert session.saved is None
    assert not session.datasets.recordings.exists()


def test_a_recording_that_cannot_be_written_is_kept(session: Session, tmp_path: Path) -> None:
    do(session, "record", on=True)
    play(session, 2)
    session.datasets.recordings = tmp_path / "file" / "recordings"
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="it is kept"):
        do(session, "record", on=False)
    session.datasets.recordings = tmp_path / "recordings"
    do(session, "record", on=False)
    assert read_dataset(session.saved, [1.0]).num_steps == 2


def test_a_stop_that_fails_does_not_cut_the_recording(session: Session, tmp_path: Path) -> None:
    do(session, "record", on=True)
    play(session, 3)
    do(session, "rewind", steps=2)
    session.datasets.recordings = tmp_path / "no" / "folder"
    with pytest.raises(UserError, match="it is kept"):
        do(session, "record", on=False)
    session.datasets.recordings = tmp_path / "recordings"
    do(session, "rewind", steps=-2)
    do(session, "record", on=False)
    assert read_dataset(session.saved, [1.0]).num_steps == 3


def record_and_rewind_before_it(session: Session) -> None:
    play(session, 2)
    do(session, "record", on=True)
    play(session, 3)
    do(session, "rewind", steps=4)


def test_a_stop_before_the_start_of_the_recording_says_so_and_loses_nothing(session: Session) -> None:
    record_and_rewind_before_it(session)
    with pytest.raises(UserError, match="nothing is left to save") as caught:
        do(session, "record", on=False)
    assert "\n" not in str(caught.value)
    do(session, "rewind", steps=-4)
    do(session, "record", on=False)
    assert read_dataset(session.saved, [1.0]).num_steps == 3


def test_the_end_of_the_program_saves_what_is_rewound_entirely(session: Session) -> None:
    record_and_rewind_before_it(session)
    session.close()
    assert read_dataset(session.saved, [1.0]).num_steps == 3


@pytest.fixture
def full_disk(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder. The one of the recordings cannot be written."""
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "temporary").mkdir()
    session.datasets.recordings = tmp_path / "file" / "recordings"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def test_the_end_of_the_program_saves_elsewhere_if_it_must(
    session: Session, full_disk: Path, capsys: pytest.CaptureFixture
) -> None:
    do(session, "record", on=True)
    play(session, 2)
    session.close()
    (path,) = full_disk.glob("*/*.npz")
    assert session.saved == path
    assert read_dataset(path, [1.0]).num_steps == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"file/recordings: Not a directory; the recording is saved as {path} instead")


def test_a_recording_that_can_be_saved_nowhere_is_lost_with_one_line(session: Session, full_disk: Path) -> None:
    do(session, "record", on=True)
    play(session, 2)
    full_disk.rmdir()
    with pytest.raises(UserError, match=r"^the recording is lost, .*: Not a directory$"):
        session.close()


def test_a_long_recording_is_saved_by_itself(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adamas.play.session.MOST_RECORDED", 4)
    do(session, "record", on=True)
    play(session, 4)
    assert session.recorder is None
    assert read_dataset(session.saved, [1.0]).num_steps == 4


def test_videos_show_the_real_game_the_world_model_and_their_difference(session: Session) -> None:
    do(session, "record", on=True)
    play(session, 3)
    do(session, "record", on=False)
    film = recording_files.video_frames(session.saved)
    size, gap = 84 * recording_files.SCALE, 2 * recording_files.SCALE
    frames = np.load(session.saved)
    assert film.shape == (len(frames["obs"]), size, 3 * size + 2 * gap)
    assert np.array_equal(film[:, :: recording_files.SCALE, : size : recording_files.SCALE], frames["real_obs"])
    assert np.array_equal(
        film[:, :: recording_files.SCALE, size + gap : -size - gap : recording_files.SCALE], frames["obs"]
    )
    assert set(film[0, :, -size:].unique().tolist()) == {128}  # both start from the same frame: grey is no difference
    path = recording_files.export(session.saved, "gif")
    with Image.open(path) as picture:
        assert picture.size == (film.shape[2], film.shape[1])
        assert 1 <= picture.n_frames <= len(film)  # PIL joins frames that are alike


def test_a_video_shows_the_first_frames_of_a_long_recording(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_files, "MOST_FRAMES", 3)
    do(session, "record", on=True)
    play(session, 5)
    do(session, "record", on=False)
    assert len(recording_files.video_frames(session.saved)) == 3


def test_a_video_can_be_played(session: Session) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="mp4 needs the extra [video]")
    import cv2

    do(session, "record", on=True)
    play(session, 5)
    do(session, "record", on=False)
    path = recording_files.export(session.saved, "mp4")
    video = cv2.VideoCapture(str(path))
    count = 0
    while video.read()[0]:
        count += 1
    assert count == len(np.load(session.saved)["obs"])
    assert not list(path.parent.glob("*.tmp"))


def test_a_video_that_does_not_fit_on_the_disk_leaves_nothing(session: Session) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="mp4 needs the extra [video]")
    resource = pytest.importorskip("resource", reason="no ulimit")
    path, before = record(session, 3), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(UserError, match="ffmpeg cannot write the mp4"):
            recording_files.export(path, "mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [*path.parent.iterdir()] == [path]
    assert recording_files.export(path, "mp4").stat().st_size > 1000


def record(session: Session, steps: int) -> Path:
    do(session, "record", on=True)
    play(session, steps)
    do(session, "record", on=False)
    return session.saved


def export_at_once(path: Path, count: int) -> list[bytes]:
    """What as many threads get that export one recording at the same time."""
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda _: recording_files.export(path, "gif").read_bytes(), range(count)))


def test_a_gif_that_is_asked_for_twice_at_once_is_made_once(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    path, made, write = record(session, 3), [], recording_files.WRITERS["gif"]
    monkeypatch.setitem(recording_files.WRITERS, "gif", lambda *arguments: made.append(1) or write(*arguments))
    first, *others = export_at_once(path, 4)
    assert first.startswith(b"GIF89a")
    assert others == [first] * 3
    assert len(made) == 1


def test_two_processes_may_export_one_recording(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write, both = record(session, 3), recording_files.WRITERS["gif"], threading.Barrier(2, timeout=30)
    names = []

    def write_half_and_wait(frames: object, temporary: Path) -> None:
        names.append(temporary)
        write(frames, temporary)
        both.wait()

    monkeypatch.setattr(recording_files, "EXPORTING", nullcontext())  # processes do not share it
    monkeypatch.setitem(recording_files.WRITERS, "gif", write_half_and_wait)
    first, second = export_at_once(path, 2)
    assert first == second
    assert len({*names}) == 2
    assert sorted(file.suffix for file in path.parent.iterdir()) == [".gif", ".npz"]


def test_a_gif_that_cannot_be_written_leaves_nothing(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(frames: object, temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = record(session, 3)
    monkeypatch.setitem(recording_files.WRITERS, "gif", no_room)
    with pytest.raises(UserError, match="No space left"):
        recording_files.export(path, "gif")
    assert [*path.parent.iterdir()] == [path]
