"""The data card: closed forms, planted faults that are each found, and a clean set that has none."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from helpers import mostly_slow, open_picture, read_dataset

from adamas.cli.data_card import main
from adamas.cli.dataset import open_dataset
from adamas.config import Config
from adamas.config.files import save_config
from adamas.data import storage
from adamas.data_card import alignment, clusters, coverage, dreams, quality
from adamas.data_card import filter as data_filter
from adamas.data_card.card import Card, make_card
from adamas.data_card.filter import write_filtered
from adamas.data_card.first_update import show_card
from adamas.data_card.scan import change_features, perceptual_bits, scan
from adamas.data_card.source import SLICE, FileSource, ReplaySource
from adamas.training.run_folder import RunFolder
from adamas.utils.logger import NullLogger

Rows = dict[str, np.ndarray]
STEPS, LENGTH = 1200, 60  # of the set, and of an episode
ACTIONS = ("STAY", "LEFT", "RIGHT")


@cache
def clean() -> Rows:
    """A paddle that is moved at random under a ball that drifts; an episode is LENGTH steps and its final frame."""
    rng = np.random.default_rng(0)
    rows: list[tuple] = []
    for t in range(STEPS):
        if t % LENGTH == 0:
            paddle, ball, speed = 40, rng.integers(10, 70, 2), rng.integers(1, 4, 2)
        action = int(rng.integers(3))
        rows.append((_frame(paddle, ball), action, float(t % 20 == 0), t % LENGTH == LENGTH - 1, False, False))
        paddle = int(np.clip(paddle + 3 * (action == 2) - 3 * (action == 1), 0, 72))
        ball = (ball + speed) % 78
        if t % LENGTH == LENGTH - 1:
            rows.append((_frame(paddle, ball), 0, 0.0, False, False, True))
    columns = zip(*rows, strict=True)
    return {name: np.array(x, storage.DTYPES[name]) for name, x in zip(storage.DTYPES, columns, strict=True)}


def _frame(paddle: int, ball: np.ndarray) -> np.ndarray:
    frame = np.full((84, 84), 30, np.uint8)
    frame[ball[0] : ball[0] + 3, ball[1] : ball[1] + 3] = 240
    frame[80:83, paddle : paddle + 12] = 200
    return frame


def changed(**columns: np.ndarray) -> Rows:
    return {**{name: column.copy() for name, column in clean().items()}, **columns}


def save(rows: Rows, folder: Path, name: str = "a.npz") -> Path:
    folder.mkdir(exist_ok=True)
    np.savez(folder / name, **rows)
    return folder


def card(rows: Rows, folder: Path, names: tuple[str, ...] | None = ACTIONS) -> Card:
    return make_card(FileSource(storage.dataset_files(save(rows, folder))), names)


def dropped(found: Card) -> dict[str, int]:
    return {name: n for name, n in found.figures["quality"]["dropped"].items() if n}


# A set as it should be


def test_a_clean_set_has_no_findings_and_its_figures_are_counts(tmp_path: Path) -> None:
    found = card(clean(), tmp_path / "set")
    rows = STEPS + STEPS // LENGTH
    assert found.findings == []
    assert dropped(found) == {}
    assert found.figures["rows"] == rows
    assert found.figures["episodes"] == STEPS // LENGTH
    assert found.figures["coverage"]["distinct_frames"] == len(np.unique(clean()["obs"], axis=0))
    assert sum(cluster["rows"] for cluster in found.figures["coverage"]["clusters"]) == rows
    counts = np.bincount(clean()["action"][~clean()["final"]]).tolist()
    assert [action["steps"] for action in found.figures["coverage"]["actions"]] == counts
    assert found.figures["alignment"]["verdict"] == "aligned"


# Coverage and diversity


def test_entropy_and_divergence_of_known_shares() -> None:
    assert clusters.entropy(np.full(8, 1 / 8)) == pytest.approx(3)
    assert clusters.entropy(np.array([1.0, 0.0])) == 0
    assert clusters.divergence(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1)
    assert clusters.divergence(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == pytest.approx(0)


def test_clusters_that_are_far_apart_are_found_with_their_shares() -> None:
    counts, rng = (80, 40, 20, 10), np.random.default_rng(0)
    centres = 100 * np.eye(4, 5)
    points = np.concatenate([c + rng.normal(size=(n, 5)) for c, n in zip(centres, counts, strict=True)])
    found = clusters.cluster(points.astype(np.float32), distinct=4)
    assert found.share.tolist() == pytest.approx([n / 150 for n in counts])
    assert np.bincount(found.label).tolist() == list(counts)
    assert [found.label[row] for row in found.medoid] == [0, 1, 2, 3]


def test_fewer_distinct_frames_than_clusters_have_one_each() -> None:
    points = np.repeat(np.eye(3, 4, dtype=np.float32), (5, 3, 2), axis=0)
    assert clusters.cluster(points, distinct=3).share.tolist() == pytest.approx([0.5, 0.3, 0.2])


def test_growth_counts_distinct_states() -> None:
    assert coverage.growth(np.array([7, 7, 3, 7, 9], np.uint64)).tolist() == [1, 1, 2, 2, 3]


def test_a_perceptual_hash_sees_a_ball_and_not_a_grey_level() -> None:
    frame = _frame(40, np.array([20, 20]))
    without, brighter = np.where(frame == 240, 30, frame).astype(np.uint8), frame + 1
    bits = perceptual_bits(np.stack([frame, without, brighter]))
    assert not np.array_equal(bits[0], bits[1])
    assert np.array_equal(bits[0], bits[2])


def test_an_action_never_taken_is_named(tmp_path: Path) -> None:
    found = card(clean(), tmp_path / "set", names=(*ACTIONS, "JUMP"))
    assert found.findings == ["actions never taken: JUMP"]


# Quality: each planted fault is found and filtered, and nothing else is


def planted(kind: str) -> tuple[Rows, int]:
    """A set with one fault, and how many rows a filter should drop of it."""
    rows, rng = changed(), np.random.default_rng(1)
    if kind == "not finite":
        rows["reward"][[100, 200, 300]] = np.nan, np.inf, -np.inf
        return rows, 3
    if kind == "unknown action":
        rows["action"][[100, 200]] = 9
        return rows, 2
    if kind == "flat":
        rows["obs"][100:110] = 30
        return rows, 10
    if kind == "corrupt":
        rows["obs"][[100, 300]] = rng.integers(0, 256, (2, 84, 84))
        return rows, 2
    if kind == "frozen":  # one whole episode is stuck
        rows["obs"][61:122] = rows["obs"][61]
        return rows, 61
    if kind == "repeated":  # 30% of the rows are there twice
        again = np.ones(len(rows["obs"]), int)
        again[rng.permutation(np.flatnonzero(~rows["final"] & ~rows["terminated"]))[:360]] = 2
        return {name: np.repeat(column, again, 0) for name, column in rows.items()}, 360
    first = 6 * (LENGTH + 1)  # copied: these episodes are there twice
    return {name: np.concatenate([column, column[:first]]) for name, column in rows.items()}, first


@pytest.mark.parametrize(
    "kind",
    mostly_slow(
        ["not finite", "unknown action", "flat", "corrupt", "frozen", "repeated", "copied"],
        ["unknown action", "corrupt", "repeated"],
    ),
)
def test_a_planted_fault_is_named_and_filtered(kind: str, tmp_path: Path) -> None:
    rows, count = planted(kind)
    source = save(rows, tmp_path / "set")
    before = (source / "a.npz").read_bytes()
    found = card(rows, source)
    assert dropped(found).keys() == {kind}
    assert dropped(found)[kind] == pytest.approx(count, rel=0.05)
    (finding,) = [line for line in found.findings if not line.startswith("no rewards")]
    assert finding.startswith(kind)
    assert len(found.thumbnails[kind]) == min(8, dropped(found)[kind])
    stages = quality.stages(read := FileSource([source / "a.npz"]), scan(read), 3)
    kept = write_filtered(read, stages, tmp_path / "out")
    assert kept == len(rows["obs"]) - dropped(found)[kind]
    assert read_dataset(tmp_path / "out", [1.0]).num_rows == kept  # training takes it
    assert (source / "a.npz").read_bytes() == before
    again = FileSource(storage.dataset_files(tmp_path / "out"))
    assert not any(stage.dropped.any() for stage in quality.stages(again, scan(again), 3))


def test_rows_that_are_there_twice_are_joined_and_others_cut(tmp_path: Path) -> None:
    for kind, episodes in (("repeated", STEPS // LENGTH), ("flat", STEPS // LENGTH + 1)):
        rows, _ = planted(kind)
        source = FileSource(storage.dataset_files(save(rows, tmp_path / kind)))
        write_filtered(source, quality.stages(source, scan(source), 3), tmp_path / f"{kind}-out")
        assert read_dataset(tmp_path / f"{kind}-out", [1.0]).num_episodes == episodes


def test_frames_of_a_wrong_value_range_and_flicker_are_named(tmp_path: Path) -> None:
    dark = card(changed(obs=clean()["obs"] // 16), tmp_path / "dark")
    assert dark.findings[0].startswith("wrong value range: frames use grey levels 1..15")
    obs = clean()["obs"].copy()
    obs[::2, 10:30, 10:30] = 255  # a thing that is drawn in every other frame
    assert any(line.startswith("flicker") for line in card(changed(obs=obs), tmp_path / "flicker").findings)


def test_episodes_of_one_step_are_named(tmp_path: Path) -> None:
    rows = changed(terminated=~clean()["final"], obs=clean()["obs"])  # flags that are inverted
    assert any(line.startswith("episodes of one step") for line in card(rows, tmp_path / "set").findings)


# Alignment


@pytest.mark.parametrize("lag", [-1, 0, 1])
def test_the_lag_of_the_actions_is_named(lag: int) -> None:
    rows = clean()
    actions = np.stack([np.roll(rows["action"], lag - other) for other in alignment.LAGS], 1)[2:-3].astype(int)
    changes = change_features(rows["obs"])[2:-2]
    found = alignment.probe(changes, actions, np.arange(len(changes)) // 100)
    assert (found.verdict, found.lag) == ("aligned" if lag == 0 else "shifted", lag)
    assert max(found.scores, key=found.scores.__getitem__) == lag


def test_actions_that_do_nothing_cannot_be_told_and_neither_can_few_steps() -> None:
    changes, rng = change_features(clean()["obs"]), np.random.default_rng(3)
    actions = np.lib.stride_tricks.sliding_window_view(rng.integers(3, size=len(changes) + 4), 5)
    stretch = np.arange(len(changes)) // 100
    assert alignment.probe(changes, actions, stretch).verdict == "cannot tell"
    assert alignment.probe(changes[:99], actions[:99], stretch[:99]).verdict == "cannot tell"
    assert alignment.probe(changes, np.zeros_like(actions), stretch).verdict == "cannot tell"


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ([0.03, 0.25, 0.25, 0, 0], "aligned"),  # a slow paddle: the action before counts as much
        ([0.0, 0.09, 0.015, 0, 0], "aligned"),
        ([0.0, 0.03, 0.25, 0.25, 0], "shifted"),
        ([0.25, 0.25, 0.0, 0, 0], "shifted"),
        ([0.0, 0.0, 0.0, 0, 0], "cannot tell"),
    ],
)
def test_the_last_action_that_explains_a_change_is_its_own(scores: list[float], verdict: str) -> None:
    assert alignment.judge(np.array(scores), np.array(scores) / 0.001, 5000).verdict == verdict


# Dreams


def test_ranks_and_the_clusters_that_want_more_data() -> None:
    assert dreams.rank_correlation(np.array([3.0, 2.0, 1.0]), np.array([1.0, 4.0, 9.0])) == pytest.approx(-1)
    assert dreams.rank_correlation(np.array([1.0, 1.0]), np.array([1.0, 2.0])) == 0
    found = dreams.advice(np.array([0.5, 0.3, 0.15, 0.05]), [0.1, 0.1, 0.2, 0.9])
    assert found["more_data"] == [3, 4]
    assert found["rank_correlation"] < -0.9
    assert dreams.advice(np.array([1.0]), [None])["more_data"] == []


def test_a_run_says_where_its_dreams_diverge(made_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adamas.data_card.dreams.PER_CLUSTER", 3)
    assert main(["card", str(save(clean(), tmp_path / "set")), f"run={made_run}", "device=cpu"]) == 0
    figures = json.loads((tmp_path / "set" / "card" / "card.json").read_text())
    lost = [value for value in figures["dreams"]["lost"] if value is not None]
    assert lost
    assert all(0 <= value <= 1 for value in lost)
    assert len(figures["dreams"]["lost"]) == len(figures["coverage"]["clusters"])


# What is typed, and in a run


def test_a_card_is_written_and_broken_files_cost_a_line_each(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = save(clean(), tmp_path / "set")
    (folder / "b.npz").write_bytes((folder / "a.npz").read_bytes()[:5000])
    (folder / "c.npz").write_bytes(b"no zip")
    save({**clean(), "obs": clean()["obs"].astype(np.float32)}, folder, "d.npz")
    save({k: v for k, v in clean().items() if k != "action"}, folder, "e.npz")
    damaged = bytearray((folder / "a.npz").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / "f.npz").write_bytes(damaged)
    assert main(["card", str(folder), "env=Breakout"]) == 0
    figures = json.loads((folder / "card" / "card.json").read_text())
    assert [Path(line.split()[0].strip(":")).name[0] for line in figures["broken_files"]] == list("bcdef")
    assert figures["rows"] == len(clean()["obs"])
    assert "broken file: " in (folder / "card" / "card.md").read_text()
    assert "broken file: " in capsys.readouterr().out
    assert open_picture(folder / "card" / "card.png").size[0] == 1140


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["card", "nowhere"], "neither a folder nor a .npz file"),
        (["card"], "dir= is needed"),
        (["card", "set", "env=Nothing"], "unknown game"),
        (["filter", "set"], "out= is needed"),
        (["filter", "set", "set"], "is already there"),
        (["card", "broken"], "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    save(clean(), tmp_path / "set")
    save({}, tmp_path / "broken")
    (tmp_path / "broken" / "a.npz").write_bytes(b"no zip")
    assert main(words) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last


def test_filter_by_name(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = save(planted("flat")[0], tmp_path / "set")
    assert main(["filter", str(folder), str(tmp_path / "out")]) == 0
    assert "flat                   10 rows dropped" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "filter.json").read_text())["dropped"]["flat"] == 10


def test_the_rows_of_a_replay_are_those_of_its_files(tmp_path: Path) -> None:
    replay = read_dataset(save(clean(), tmp_path / "set"), [1.0])
    whole, files = ReplaySource(replay, 10**6), FileSource(storage.dataset_files(tmp_path / "set"))
    assert np.array_equal(np.concatenate(list(whole.blocks())), np.concatenate(list(files.blocks())))
    assert np.array_equal(whole.starts, files.starts)
    assert np.array_equal(files.frames([900, 3, 4]), clean()["obs"][[900, 3, 4]])
    some = ReplaySource(replay, 2 * SLICE)
    assert some.rows == SLICE + len(clean()["obs"]) % SLICE
    assert not some.leads_on[SLICE - 1]


def test_a_card_in_a_run_draws_no_random_number(tmp_path: Path) -> None:
    import random

    import torch

    replay = read_dataset(save(clean(), tmp_path / "set"), [1.0])
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    logger = NullLogger()
    shown: list[str] = []
    logger.text = lambda name, *_: shown.append(name)  # type: ignore[method-assign]
    logger.picture = lambda name, *_: shown.append(name)  # type: ignore[method-assign]
    assert show_card(replay, Config(env="Breakout"), ACTIONS, tmp_path / "card", logger) == []
    assert shown == ["data/card", "data/card"]
    assert torch.equal(states[0], torch.get_rng_state())
    assert random.getstate() == states[2]
    assert np.array_equal(states[1], np.random.get_state()[1])


def test_no_file_of_a_filtered_set_begins_with_the_last_frame_of_an_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would have lost its episode where the file is taken alone."""
    monkeypatch.setattr(data_filter, "CHUNK", 1)
    monkeypatch.setattr(FileSource, "blocks", lambda self: iter(np.split(clean()["obs"], range(1, self.rows))))
    source = FileSource(storage.dataset_files(save(clean(), tmp_path / "set")))
    kept = write_filtered(source, quality.stages(source, scan(source), 3), tmp_path / "out")
    files = storage.dataset_files(tmp_path / "out")
    assert kept == len(clean()["obs"]) > len(files) > 1
    assert not any(storage.read(file, (84, 84))["final"][0] for file in files)


def test_a_reward_that_is_not_finite_counts_for_nothing(tmp_path: Path) -> None:
    rows = changed(reward=clean()["reward"].copy())
    rows["reward"][:3] = np.inf, -np.inf, np.nan
    spoilt, whole = (
        card(each, tmp_path / name).figures["coverage"]["actions"] for each, name in ((rows, "a"), (clean(), "b"))
    )
    assert sum(action["positive"] + action["negative"] for action in spoilt) <= sum(
        a["positive"] + a["negative"] for a in whole
    )
    assert all(abs(action["reward"]) < 1e6 for action in spoilt)


def test_the_steps_of_an_untrained_policy_are_those_of_a_runs_first_epoch(tmp_path: Path) -> None:
    """Which goes on beyond `collection.first_steps` until some rewards were seen."""
    run, config = RunFolder(tmp_path), Config(env="Breakout")
    save_config(config, run.config)
    save(clean(), tmp_path / "replay")
    assert open_dataset(tmp_path / "replay", None).random_steps == 0
    for epoch, steps in ((0, 8_000), (1, 13_000)):
        run.append_evaluation({"kind": "evaluation", "epoch": epoch, "steps": steps, "return": 1.0, "returns": [1.0]})
    assert open_dataset(tmp_path / "replay", None).random_steps == 8_000
    save_config(replace(config, policy="dyna"), run.config)
    assert open_dataset(tmp_path / "replay", None).random_steps == 0
