"""`adamas data import` and `export` on files that other tools wrote, on what is ambiguous, and on what is broken."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from helpers import frames, read_dataset

from adamas.cli import main as cli
from adamas.config import SIZE
from adamas.data.replay import Replay
from adamas.utils.errors import UserError
from adamas.utils.images import write_mp4

T = 12  # frames of a small source
ACTIONS = np.arange(T) % 3
SCREENS = cv2.resize(np.random.default_rng(0).integers(0, 256, (9, 8, T * 3), dtype=np.uint8), (160, 210)).reshape(
    210, 160, T, 3
)
RGB = np.ascontiguousarray(np.moveaxis(SCREENS, 2, 0))  # (T, 210, 160, 3), smooth
GREY = np.stack([cv2.resize(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), (84, 84), interpolation=cv2.INTER_AREA) for x in RGB])


def run(*argv: object) -> int:
    return cli.main(["data", *map(str, argv)])


def rows_of(path: Path) -> dict[str, np.ndarray]:
    """All columns of a dataset, as training reads it."""
    return {name: column.numpy() for name, column in read_dataset(path, [1.0]).rows(0).items()}


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **{"obs": RGB, "action": ACTIONS, **arrays})
    return path


@pytest.mark.parametrize(
    ("obs", "said"),
    [
        (RGB, "160x210 RGB (HWC), uint8 0..255"),
        (np.moveaxis(RGB, -1, 1), "160x210 RGB (CHW), uint8 0..255"),
        (RGB / np.float32(255), "RGB (HWC), float32 0..1"),
        (RGB / 127.5 - 1, "RGB (HWC), float64 -1..1"),
        (RGB.astype(np.int64), "RGB (HWC), int64 0..255"),
        (GREY, "84x84 grey (HW), uint8 0..255"),
        (GREY[..., None], "84x84 grey (HWC), uint8 0..255"),
    ],
)
def test_frames_of_any_layout_become_the_same_frames(obs: np.ndarray, said: str, tmp_path: Path, capsys: Any) -> None:
    assert run("import", save(tmp_path / "a.npz", obs=obs), tmp_path / "out") == 0
    assert said in capsys.readouterr().out
    assert (rows_of(tmp_path / "out")["obs"] == GREY).all()


def test_small_frames_are_enlarged(tmp_path: Path) -> None:
    assert run("import", save(tmp_path / "a.npz", obs=frames(T, size=64).numpy()), tmp_path / "out") == 0
    assert rows_of(tmp_path / "out")["obs"].shape == (T, SIZE, SIZE)


DONE = np.isin(np.arange(T), (5, 11))
REWARD = np.arange(T) * 1.0


@pytest.mark.parametrize(
    ("arrays", "options", "expected"),
    [  # (rows that end an episode, final rows, rewards of rows 4..6)
        ({"dones": DONE}, ["done=transition"], ([5, 11], [], [4, 5, 6])),
        ({"dones": DONE}, ["done=last_frame", "rewards=after"], ([4, 10], [5, 11], [4, 0, 6])),
        ({"dones": DONE}, ["done=last_frame", "rewards=before"], ([4, 10], [5, 11], [5, 0, 7])),
        ({"dones": DONE}, ["actions=before", "done=last_frame"], ([4, 10], [5, 11], [5, 0, 7])),
        ({"is_last": DONE, "rewards": DONE * 9.0}, [], ([4, 10], [5, 11], [9, 0, 0])),
        ({"terminals": DONE, "timeouts": ~np.ones(T, bool)}, [], ([5, 11], [], [4, 5, 6])),
        ({"terminated": DONE[1:], "action": ACTIONS}, ["done=transition"], None),
    ],
)
def test_done_flags_of_both_conventions(arrays: Any, options: Any, expected: Any, tmp_path: Path) -> None:
    arrays = {"rewards": REWARD, **arrays}
    code = run("import", save(tmp_path / "a.npz", **arrays), tmp_path / "out", *options)
    if expected is None:
        assert code == 2
        return
    assert code == 0
    rows, (ends, final, rewards) = rows_of(tmp_path / "out"), expected
    assert np.flatnonzero(rows["terminated"] | rows["truncated"]).tolist() == ends
    assert np.flatnonzero(rows["final"]).tolist() == final
    assert rows["reward"][4:7].tolist() == rewards
    if "actions=before" in options:
        assert rows["action"][:5].tolist() == ACTIONS[1:6].tolist()


def test_final_frames_are_taken_from_next_obs(tmp_path: Path) -> None:
    arrays = {"terminated": DONE, "truncated": ~np.ones(T, bool), "next_obs": RGB[::-1].copy()}
    assert run("import", save(tmp_path / "a.npz", **arrays), tmp_path / "out") == 0
    rows = rows_of(tmp_path / "out")
    assert np.flatnonzero(rows["final"]).tolist() == [6, 13]
    assert (rows["obs"][6] == GREY[::-1][5]).all()


@pytest.mark.parametrize(
    ("arrays", "option"),
    [
        ({"dones": DONE}, "done=transition or done=last_frame"),
        ({"is_last": DONE, "rewards": np.eye(T)[2]}, "rewards=after or rewards=before"),
        ({"obs": np.zeros((T, 4, 84, 84), np.uint8)}, "layout=CHW or layout=SHW"),
        ({"obs": np.eye(84, dtype=np.uint8)[None].repeat(T, 0)}, "values=0..1, or values=0..255"),
        ({"images": RGB}, "columns=[obs:obs]"),
    ],
)
def test_what_could_mean_two_things_is_refused_with_what_settles_it(
    arrays: Any, option: str, tmp_path: Path, capsys: Any
) -> None:
    save(tmp_path / "a.npz", **arrays)
    assert run("import", tmp_path / "a.npz", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert option in line
    assert not (tmp_path / "out").exists()


def test_values_that_were_asked_for_and_do_not_fit_are_named(tmp_path: Path, capsys: Any) -> None:
    assert run("import", save(tmp_path / "a.npz"), tmp_path / "out", "values=0..1") == 2
    assert ", but values=0..1 is expected" in capsys.readouterr().err


BROKEN = {
    "actions.npz": ({"action": np.arange(5)}, "action has 5 entries, but there are 12 frames"),
    "large.npz": ({"action": ACTIONS + 300}, "action holds 302"),
    "continuous.npz": ({"action": ACTIONS / 2}, "action holds 0.5, but actions are discrete"),
    "reward.npz": ({"reward": np.full(T, np.nan)}, "reward[0] is not finite"),
    "nan.npz": ({"obs": np.where(RGB == 7, np.nan, RGB / 255)}, "a pixel that is not finite"),
    "bright.npz": ({"obs": RGB * 3.0}, "obs goes from"),
    "flat.npz": ({"obs": np.zeros(T)}, "frames (N, H, W, ...) are expected"),
    "flags.npz": ({"terminated": np.arange(T)}, "one true or false a frame is expected"),
    "objects.npz": ({"obs": np.array([None] * T)}, "only pickle reads"),
    "fortran.npz": ({"obs": np.asfortranarray(RGB)}, "column by column"),
}


def test_each_malformed_file_costs_a_line_and_the_good_ones_are_imported(tmp_path: Path, capsys: Any) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, (arrays, _) in BROKEN.items():
        save(source / name, **arrays)
    save(source / "good.npz")
    (source / "text.npz").write_text("no zip")
    whole = save(source / "cut.npz").read_bytes()
    (source / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(source / "nothing.npz", x=np.zeros(3))
    damage(save(source / "damaged.npz"))
    assert run("import", source, tmp_path / "out") == 0
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("skipped: ")]
    assert len(lines) == len(BROKEN) + 4
    for name, (_, text) in BROKEN.items():
        assert any(name in line and text in line for line in lines), (name, lines)
    assert "14 files of 15 skipped" in said.err
    assert (rows_of(tmp_path / "out")["obs"] == GREY).all()


def damage(path: Path) -> None:
    """Changes a byte of the frames: the file can be opened, and its checksum is wrong."""
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("obs.npy").header_offset + 200_000
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)


def test_nothing_imported_is_an_error(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "a.npz").write_bytes(b"")
    assert run("import", tmp_path / "a.npz", tmp_path / "out") == 2
    assert run("import", tmp_path / "none", tmp_path / "out") == 2
    assert run("import", tmp_path, tmp_path) == 2
    assert run("import", tmp_path / "a.npz", tmp_path / "a.npz" / "out") == 2
    assert "would be inside a file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@contextmanager
def room_for(most: int) -> Iterator[None]:
    """No file may have more bytes, as on a disk that is full."""
    resource = pytest.importorskip("resource", reason="no ulimit")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def errors(capsys: Any) -> list[str]:
    """The lines on stderr but for progress bars."""
    return [line for line in capsys.readouterr().err.splitlines() if line and "frames/s]" not in line]


@pytest.mark.parametrize("chunk", [T, 8192])
def test_a_full_disk_ends_the_import(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("adamas.conversion.writer.CHUNK", chunk)  # rows are written while files are read, or at the end
    (tmp_path / "source").mkdir()
    save(tmp_path / "source" / "black.npz", obs=np.zeros((T, 84, 84), np.uint8))
    save(tmp_path / "source" / "noise.npz", obs=frames(T, size=84).numpy())
    with room_for(9000):
        assert run("import", tmp_path / "source", tmp_path / "out", "values=0..255") == 2
    assert errors(capsys) == ["error: File too large; make room"]
    assert os.listdir(tmp_path) == ["source"]


@pytest.mark.parametrize("end", ["terminated", "truncated", "final", None])
def test_an_episode_ends_with_its_file(end: str | None, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    flags = {key: np.arange(T) == (T - 1 if key == end else T) for key in ("terminated", "truncated", "final")}
    for name in ("a.npz", "b.npz"):
        columns = {"obs": GREY, "action": ACTIONS.astype(np.uint8), "reward": REWARD.astype(np.float32), **flags}
        np.savez(tmp_path / "source" / name, **columns)
    assert run("import", tmp_path / "source", tmp_path / "out") == 0
    rows = rows_of(tmp_path / "out")
    for key in flags:
        assert np.flatnonzero(rows[key]).tolist() == ([T - 1, 2 * T - 1] if key == (end or "truncated") else [])
    assert read_dataset(tmp_path / "out", [1.0]).num_episodes == 2


# Films and pictures


def ffmpeg(path: Path, seconds: float = 0.8) -> Path:
    """A test film of 15 frames a second."""
    source = ["-f", "lavfi", "-i", f"testsrc=size=160x210:rate=15:duration={seconds}"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *source, "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, check=True)
    return path


def test_films_with_actions_beside_them_and_without(tmp_path: Path, capsys: Any) -> None:
    source = tmp_path / "films"
    source.mkdir()
    for name in ("a.mp4", "b.mp4", "c.avi"):
        ffmpeg(source / name)
    (source / "a.csv").write_text("action,reward\n" + "".join(f"{i % 3},{i}\n" for i in range(11)))
    (source / "b.jsonl").write_text("".join(json.dumps({"action": i % 3}) + "\n" for i in range(12)))
    (source / "d.mp4").write_bytes((source / "a.mp4").read_bytes()[:2000])
    assert run("import", source, tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "d.mp4 cannot be read as a film" in said.err
    assert "160x210 at 15 a second" in said.out
    rows = rows_of(tmp_path / "out")
    assert rows["obs"].shape == (36, SIZE, SIZE)
    assert rows["obs"].std() > 20
    assert rows["action"].tolist() == [*(i % 3 for i in range(11)), 0, *(i % 3 for i in range(12)), *[0] * 12]
    assert np.flatnonzero(rows["truncated"]).tolist() == [10, 23, 34]
    assert rows["reward"][:12].tolist() == [*range(11), 0]


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("a.csv", "action\n1\n2\n", "action has 2 entries, but there are 12 frames"),
        ("a.csv", "move\n1\n", "no column 'action'"),
        ("a.csv", "action\n" + "left\n" * 11, "row 0: 'action' is 'left'"),
        ("a.csv", "", "holds no rows"),
        ("a.jsonl", "{\n", "line 1: not JSON"),
        ("a.jsonl", "5\n", "line 1: an object expected"),
    ],
)
def test_a_malformed_table_is_named(name: str, text: str, error: str, tmp_path: Path, capsys: Any) -> None:
    write_pictures(tmp_path / "s" / "a")
    (tmp_path / "s" / name).write_text(text)
    assert run("import", tmp_path / "s", tmp_path / "out") == 2
    assert error in capsys.readouterr().err


def write_pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for i, frame in enumerate(RGB):
        cv2.imwrite(str(folder / f"{i}.png"), frame[..., ::-1])


def test_a_folder_of_png_is_an_episode_in_the_order_of_its_numbers(tmp_path: Path, capsys: Any) -> None:
    for name in ("one", "two"):
        write_pictures(tmp_path / "s" / name)
    (tmp_path / "s" / "three").mkdir()
    (tmp_path / "s" / "three" / "0.png").write_text("no picture")
    assert run("import", tmp_path / "s", tmp_path / "out") == 0
    assert "0.png cannot be read as a picture" in capsys.readouterr().err
    assert (rows_of(tmp_path / "out")["obs"] == np.concatenate([GREY, GREY])).all()


@pytest.mark.parametrize("source", [".", "../a", "deeper/.."])
def test_paths_without_a_name(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "s" / "a")
    (tmp_path / "s" / "a" / "deeper").mkdir()
    (tmp_path / "s" / "a.csv").write_text("action\n" + "".join(f"{i}\n" for i in ACTIONS))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "s" / "a")
    assert run("import", source, "../../out") == 0
    monkeypatch.chdir(tmp_path / "empty")
    assert run("import", tmp_path / "s" / "a", ".") == 0
    for out in ("out", "empty"):
        assert (rows_of(tmp_path / out)["action"] == ACTIONS).all()


def test_a_gif_of_imageio(tmp_path: Path) -> None:
    imageio = pytest.importorskip("imageio.v3", reason="imageio is not installed")
    imageio.imwrite(tmp_path / "a.gif", GREY, loop=0)
    content = (tmp_path / "a.gif").read_bytes()
    assert run("import", tmp_path / "a.gif", tmp_path / "out") == 0
    assert np.abs(rows_of(tmp_path / "out")["obs"].astype(int) - GREY).max() <= 2
    (tmp_path / "b.gif").write_bytes(content[:50])
    assert run("import", tmp_path / "b.gif", tmp_path / "none") == 2


# Minari


@pytest.fixture
def minari(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    module = pytest.importorskip("minari", reason="minari is not installed")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return module


def make_minari(minari: Any, name: str, action_space: Any, actions: Any) -> None:
    from gymnasium.spaces import Box
    from minari.data_collector.episode_buffer import EpisodeBuffer

    ends = [False] * (T - 2) + [True]
    episode = EpisodeBuffer(
        observations=RGB,
        actions=actions,
        rewards=[1.0] * (T - 1),
        terminations=ends,
        truncations=[False] * (T - 1),
        infos={},
    )
    spaces = {"observation_space": Box(0, 255, RGB.shape[1:], np.uint8), "action_space": action_space}
    minari.create_dataset_from_buffers(name, [episode, episode], **spaces, jpeg_encoding=False)


def test_a_minari_dataset_of_this_machine(minari: Any, tmp_path: Path) -> None:
    from gymnasium.spaces import Box, Discrete, MultiDiscrete

    make_minari(minari, "game/test-v0", Discrete(3, start=1), ACTIONS[1:] + 1)
    assert run("import", "game/test-v0", tmp_path / "out") == 0
    rows = rows_of(tmp_path / "out")
    assert (rows["obs"] == np.concatenate([GREY, GREY])).all()
    assert rows["action"][: T - 1].tolist() == ACTIONS[1:].tolist()
    assert np.flatnonzero(rows["terminated"]).tolist() == [10, 22]
    make_minari(minari, "game/multi-v0", MultiDiscrete([2, 3]), np.stack([ACTIONS[1:] % 2, ACTIONS[1:]], 1))
    assert run("import", tmp_path / "minari/game/multi-v0", tmp_path / "multi") == 0
    assert rows_of(tmp_path / "multi")["action"][:3].tolist() == [4, 2, 0]
    make_minari(minari, "game/box-v0", Box(-1, 1, (2,)), np.zeros((T - 1, 2), np.float32))
    assert run("import", "game/box-v0", tmp_path / "box") == 2


def test_minari_makes_no_env_that_a_file_names(minari: Any, tmp_path: Path, capsys: Any) -> None:
    from gymnasium.spaces import Discrete

    make_minari(minari, "game/test-v0", Discrete(3), ACTIONS[1:])
    path = tmp_path / "minari/game/test-v0/data/metadata.json"
    metadata = json.loads(path.read_text())
    del metadata["action_space"]
    path.write_text(json.dumps(metadata))
    assert run("import", "game/test-v0", tmp_path / "out") == 2
    assert "has no action_space" in capsys.readouterr().err


# There and back


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two whole episodes, and one that was cut short."""
    replay, random = Replay(20), np.random.default_rng(0)
    for end, steps in ((1, 5), (2, 4), (0, 3)):
        for i in range(steps):
            last = i == steps - 1
            flags = last and end == 1, last and end == 2
            replay.add(GREY[i], int(random.integers(4)), float(i - 1), *flags, GREY[i + 1])
    replay.save(tmp_path / "dataset")
    return tmp_path / "dataset"


def test_films_come_back_as_they_went(dataset: Path, tmp_path: Path) -> None:
    assert run("export", dataset, tmp_path / "films", "format=mp4") == 0
    assert sorted(os.listdir(tmp_path / "films")) == [
        f"episode-0000{i}.{kind}" for i in range(3) for kind in ("csv", "mp4")
    ]
    assert run("import", tmp_path / "films", tmp_path / "back") == 0
    there, back = rows_of(dataset), rows_of(tmp_path / "back")
    there["truncated"][-1] = True  # an import ends with its last row
    assert all((there[name] == back[name]).all() for name in there if name != "obs")
    assert np.abs(there["obs"].astype(int) - back["obs"]).mean() < 1


@pytest.mark.parametrize("format", ["mp4", "minari"])
def test_exports_to_and_from_paths_without_a_name(
    format: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if format == "minari":
        pytest.importorskip("minari", reason="minari is not installed")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(dataset)
    assert run("export", ".", "../out", f"format={format}") == 0
    monkeypatch.chdir(tmp_path / "empty")
    assert run("export", dataset, ".", f"format={format}") == 0
    assert sorted(os.listdir(tmp_path / "empty")) == sorted(os.listdir(tmp_path / "out"))


@pytest.mark.parametrize("steps", [3, 300])
def test_a_film_that_does_not_fit_on_the_disk_is_not_exported(steps: int, tmp_path: Path, capsys: Any) -> None:
    replay = Replay(steps)
    for frame in frames(steps, size=84):
        replay.add(frame, 0, 0.0, False, False, frame)
    replay.save(tmp_path / "dataset")
    with room_for(1000):
        assert run("export", tmp_path / "dataset", tmp_path / "films", "format=mp4") == 2
    (line,) = errors(capsys)
    assert line.startswith("error: ffmpeg cannot write the mp4 (")
    assert os.listdir(tmp_path) == ["dataset"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_what_ffmpeg_says_is_in_the_error() -> None:
    with pytest.raises(UserError, match=r"No space left on device\): is there room"):
        write_mp4(GREY, Path("/dev/full"))


def test_minari_comes_back_as_it_went(minari: Any, dataset: Path, tmp_path: Path) -> None:
    assert run("export", dataset, tmp_path / "minari" / "test-v0") == 0
    assert minari.load_dataset("test-v0").total_steps == 5 + 4 + 2, "without the step whose next frame is not known"
    assert run("import", "test-v0", tmp_path / "back") == 0
    there, back = rows_of(dataset), rows_of(tmp_path / "back")
    assert all((there[name][:11] == back[name][:11]).all() for name in there)
    assert (there["obs"] == back["obs"]).all()
    assert back["truncated"][-2]
    assert back["final"][-1]


def test_a_run_is_exported(tiny_run: Path, tmp_path: Path) -> None:
    assert run("export", tiny_run, tmp_path / "films", "format=mp4") == 0
    assert run("import", tmp_path / "films", tmp_path / "back") == 0
    there, back = rows_of(tiny_run / "replay"), rows_of(tmp_path / "back")
    assert there["action"].tolist() == back["action"].tolist()
    assert run("export", tmp_path, tmp_path / "none", "format=mp4") == 2
