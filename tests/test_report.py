"""adamas report: run folders in, tables and pictures out."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import adamas, open_picture
from made_runs import make_run
from playing import set_on_2

from adamas.benchmark import showcase, systems
from adamas.benchmark.aggregates import mean_with_interval, read_published
from adamas.benchmark.figures import Curve, plot_curves
from adamas.benchmark.report import make_report
from adamas.benchmark.report_tables import to_markdown
from adamas.config import ActorCritic, Atari, Collection, Config, Denoiser, Evaluation, QNetwork
from adamas.envs.atari import AtariEnv
from adamas.training import run_records
from adamas.training.run_folder import RunFolder
from adamas.utils import device
from adamas.utils.logger import Logger
from adamas.utils.records import append_record

PUBLISHED = read_published()
GAMES = PUBLISHED.games


def test_the_averaged_policy_plays_in_the_film(made_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, step = [], AtariEnv.step

    def noted(env: AtariEnv, action: int) -> tuple:
        chosen.append(action)
        return step(env, action)

    monkeypatch.setattr(AtariEnv, "step", noted)
    monkeypatch.setattr(showcase, "FILM", 6)
    showcase.film(set_on_2(made_run, tmp_path / "averaged"), seed=0)
    assert chosen == 5 * [2]


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    """Of one seed that of its games; of several seeds wider, since they differ."""
    coins = [0.0, 10.0] * 50
    value, low, high = mean_with_interval([coins])
    assert value == 5
    assert high - low == pytest.approx(2 * 1.96 * 5 / 10, rel=0.05)
    seeds = [[float(s)] * 4 for s in range(25)]
    value, low, high = mean_with_interval(seeds)
    assert value == 12
    assert high - low == pytest.approx(2 * 1.96 * np.std(range(25)) / 5, rel=0.05)


def test_a_line_that_a_kill_cut_off_does_not_damage_the_next_one(tmp_path: Path) -> None:
    run = RunFolder(make_run(tmp_path, Config(), None))
    with open(run.evaluations, "a") as file:
        file.write('{"kind": "evalua')
    for epoch in (5, 6):
        run.append_evaluation({"kind": "evaluation", "epoch": epoch, "steps": 9, "return": 1.0, "returns": [1.0]})
    assert [record["epoch"] for record in run_records.read_curve(run)] == [0, 1, 5, 6]


def test_what_was_played_again_after_a_resume_replaces_what_was_played_before(tmp_path: Path) -> None:
    run = RunFolder(make_run(tmp_path, Config(), 3.0))
    for score, steps in (1.0, (50, 100, 150)), (2.0, (120, 170)):
        logger = Logger(run.tensorboard)
        for step in steps:
            logger.scalar("collect/game_return", score, step)
        logger.close()
    curve = showcase.curve_of(run_records.read_outcome(run.path), "adamas")
    assert curve.collected == [(50, 1.0), (100, 1.0), (120, 2.0), (170, 2.0)]
    assert curve.evaluated == [(0, 1.0), (100, 2.0)]
    assert curve.final == (100_000, 3.0, 3.0, 3.0)


def test_the_newest_run_of_a_seed_is_the_one_that_began_last_whatever_its_folder_is_called(tmp_path: Path) -> None:
    for name, day in (("agent", 2), ("2026-01-03_00-00-00", 3), ("z", 1)):
        run = make_run(tmp_path, Config(), float(day), name)
        (run / "origin.jsonl").write_text(
            json.dumps({"command": [], "started": f"2026-01-0{day}T00:00:00+00:00"}) + "\n"
        )
    found = run_records.find_outcomes([tmp_path], pytest.fail)
    assert [run.score for run in found] == [1.0, 2.0, 3.0]
    assert systems.newest_of_each_seed(found[::-1])["Breakout"][0].score == 3.0


def test_the_command_of_a_run_has_the_settings_that_a_resume_changed(tmp_path: Path) -> None:
    run = make_run(tmp_path, Config(), 1.0)
    starts = ["main.py", "env=Pong"], ["main.py", "resume=a"], ["main.py", "evaluation.final_games=9", "resume=a"]
    (run / "origin.jsonl").write_text("".join(json.dumps({"command": command}) + "\n" for command in starts))
    assert run_records.read_outcome(run).origin["command"] == ["main.py", "env=Pong", "evaluation.final_games=9"]


def test_a_level_below_negative_scores_is_drawn_and_not_called_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    monkeypatch.setattr(plt.Axes, "annotate", lambda axis, text, *args, **options: told.append(text))
    curve = Curve("adamas", 0, [(0, -21.0)], [(0, -20.5)], (100, -20.0, -20.5, -19.0))
    plot_curves([curve], {"random": -20.7, "human": 14.6}, "Pong", tmp_path / "curve.png")
    assert told == ["random -20.7", "above: human 14.6"]


def human(game: str) -> float:
    return PUBLISHED.human[game]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All games twice at the benchmark's settings, as good as a human and half as good; one game at 400 steps; one that
    is not finished."""
    folder = tmp_path_factory.mktemp("runs")
    for game in GAMES:
        make_run(folder, Config(env=game, seed=0), human(game))
        make_run(folder, Config(env=game, seed=1), (human(game) + PUBLISHED.random[game]) / 2)
    make_run(folder, Config(env="Pong", preset="smoke", collection=Collection(steps=400)), 1.0, "2026-01-02")
    make_run(folder, Config(env="Krull", preset="smoke", collection=Collection(steps=400)), None, "2026-01-03")
    return folder


def test_reference_curves_are_of_the_same_settings(tmp_path: Path) -> None:
    for seed, steps, day in ((0, 300, 1), (0, 400, 2), (1, 400, 3), (2, 400, 4)):
        c = Config(env="Breakout", seed=seed, collection=Collection(steps=steps))
        make_run(tmp_path / "runs", c, 2.0, f"2026-01-0{day}")
    done = adamas("report", f"runs={tmp_path / 'runs'}", "reference=Breakout", f"out={tmp_path}")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"Breakout, preset diamond: 2026-01-04\S* over 2 others\n.*Breakout\.png\n", done.stdout)


@pytest.fixture(scope="module")
def report(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    done = adamas("report", f"runs={runs}", f"out={out}")
    assert done.returncode == 0, done.stderr
    return out


# Outcomes


def test_the_later_line_of_an_epoch_counts(tmp_path: Path) -> None:
    found = run_records.read_outcome(make_run(tmp_path, Config(), 3.0))
    assert [record["return"] for record in found.curve] == [1.0, 2.0, 3.0]
    assert found.score == 3.0
    assert run_records.read_outcome(make_run(tmp_path, Config(seed=1), None)).score is None


def test_a_line_that_a_kill_cut_off_is_left_and_damage_is_told(tmp_path: Path) -> None:
    path = make_run(tmp_path, Config(), None)
    with open(path / "evaluations.jsonl", "a") as file:
        file.write('{"kind": "fin')
    assert len(run_records.read_outcome(path).curve) == 2
    with open(path / "evaluations.jsonl", "a") as file:
        file.write("\n")
    said: list[str] = []
    assert len(run_records.read_outcome(path, said.append).curve) == 2
    assert said == [f"{path / 'evaluations.jsonl'}: line 4 is damaged, and is left out"]


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (Config(), "adamas diamond"),
        (Config(preset="cpu", collection=Collection(steps=8500)), "adamas cpu (8,500 steps)"),
        (Config(evaluation=Evaluation(final_games=20)), "adamas diamond (20 games)"),
        (Config(policy="model_free"), "adamas diamond (model-free Q-learning)"),
        (Config(dataset="x"), "adamas diamond (stored dataset)"),
        (Config(initialize={"from": "x", "parts": []}), "adamas diamond (other run's weights)"),
        (Config(atari=Atari(max_episode_steps=900)), "adamas diamond (games of 900 steps)"),
        (Config(atari=Atari(repeat_action_probability=0.25)), "adamas diamond (sticky actions)"),
    ],
)
def test_a_name_says_what_departs_from_the_benchmark(config: Config, name: str) -> None:
    assert systems.name_of(config) == name


def test_runs_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    for i, config in enumerate([Config(), Config(seed=1), Config(env="Pong", seed=1, device="cpu"), Config()]):
        changed = replace(config, denoiser=Denoiser(context=2)) if i == 3 else config
        make_run(tmp_path, changed, float(i), f"2026-01-0{i + 1}")
    found = systems.systems(run_records.find_outcomes([tmp_path], pytest.fail))
    assert {name: [run.score for run in group] for name, group in found.items()} == {
        "adamas diamond #1": [0.0, 1.0, 2.0],
        "adamas diamond #2": [3.0],
    }


@pytest.mark.parametrize(
    ("policy", "changed", "apart"),
    [
        ("imagined", {"q_network": QNetwork(n_step=3)}, False),
        ("imagined", {"denoiser": Denoiser(context=2)}, True),
        ("dyna", {"actor_critic": ActorCritic(horizon=3)}, False),
        ("dyna", {"q_network": QNetwork(imagined_share=0.5)}, True),
        ("model_free", {"denoiser": Denoiser(context=2), "q_network": QNetwork(imagined_share=0.5)}, False),
        ("model_free", {"q_network": QNetwork(n_step=3)}, True),
    ],
)
def test_what_a_policy_does_not_read_tells_no_systems_apart(policy: str, changed: dict[str, Any], apart: bool) -> None:
    first, other = Config(policy=policy), Config(policy=policy, **changed)
    assert (systems.settings_of(first) != systems.settings_of(other)) is apart


def test_the_commits_of_all_starts_of_a_system_are_told(tmp_path: Path) -> None:
    for seed, commits in enumerate((["a" * 40, "b" * 40 + "+"], ["b" * 40 + "+"])):
        run = make_run(tmp_path, Config(env="Pong", seed=seed), 1.0)
        for commit in commits:
            append_record(run / "origin.jsonl", {"command": ["train"], "commit": commit})
    told = to_markdown(make_report(run_records.find_outcomes([tmp_path], pytest.fail), read_published()), "DIAMOND")
    assert "adamas diamond holds runs of several commits: aaaaaaa, bbbbbbb+." in told


def test_settings_that_a_resume_changed_are_told(tmp_path: Path) -> None:
    paths = [make_run(tmp_path, Config(env="Pong", seed=seed), 1.0) for seed in range(3)]
    for path, words in zip(
        paths, ([], ["q_network.n_step=3", "checkpoint.every_minutes=9"], ["device=cuda"]), strict=True
    ):
        append_record(path / "origin.jsonl", {"command": ["train", "env=Pong"]})
        append_record(path / "origin.jsonl", {"command": ["train", f"resume={path}", *words]})
    told = to_markdown(make_report(run_records.find_outcomes([tmp_path], pytest.fail), read_published()), "DIAMOND")
    notes = [line for line in told.splitlines() if "was resumed with" in line]
    assert notes == [f"{paths[1]} began with other settings, and was resumed with `q_network.n_step=3`."]


def test_what_tells_systems_of_one_name_apart_is_said_and_how_rows_are_cut_is_not(tmp_path: Path) -> None:
    changed = Denoiser(context=2, target="change")
    configs = [Config(), Config(micro_batch=8, seed=1), Config(denoiser=changed), Config(preset="cpu")]
    for i, config in enumerate(configs):
        make_run(tmp_path, config, float(i), f"2026-01-0{i + 1}")
    groups = systems.systems(run_records.find_outcomes([tmp_path], pytest.fail))
    assert list(groups) == ["adamas diamond #1", "adamas diamond #2", "adamas cpu"]
    assert systems.differences(groups) == {"adamas diamond #2": "denoiser.context=2 denoiser.target=change"}


def test_the_newest_finished_run_of_a_seed_counts(tmp_path: Path) -> None:
    for day, score in [(1, 1.0), (3, None), (2, 2.0)]:
        make_run(tmp_path, Config(), score, f"2026-01-0{day}")
    table = systems.newest_of_each_seed(run_records.find_outcomes([tmp_path], pytest.fail))
    assert {game: {seed: run.score for seed, run in seeds.items()} for game, seeds in table.items()} == {
        "Breakout": {0: 2.0}
    }


def test_an_evaluation_says_what_the_machine_gave(tmp_path: Path) -> None:
    (record, *_) = run_records.read_outcome(make_run(tmp_path, Config(), None)).curve
    assert record["gpu"] is None
    assert record["ram_bytes"] > 50e6
    held = bytearray(record["ram_bytes"])  # as much again as was ever taken
    held[::4096] = b"x" * len(held[::4096])
    assert device.peak_usage()["ram_bytes"] > record["ram_bytes"]


def test_a_run_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    make_run(tmp_path, Config(), 1.0)
    (make_run(tmp_path, Config(seed=1), 1.0) / "config.yaml").write_text("tomorrow: 1")
    said: list[str] = []
    assert len(run_records.find_outcomes([tmp_path], said.append)) == 1
    assert "unknown key 'tomorrow'" in said[0]


# The report


def test_aggregates_of_whole_systems(report: Path) -> None:
    record = json.loads((report / "atari100k.json").read_text())
    ours = record["systems"]["adamas diamond"]
    assert ours["missing_games"] == []
    assert ours["aggregates"]["mean"]["value"] == pytest.approx(0.75)
    assert ours["aggregates"]["optimality_gap"]["value"] == pytest.approx(0.25)
    assert 0.5 < ours["aggregates"]["iqm"]["low"] <= 0.75 <= ours["aggregates"]["iqm"]["high"] < 1
    assert ours["games_above_human"] == 0
    assert record["systems"]["DIAMOND"]["aggregates"]["iqm"]["value"] == pytest.approx(0.641, abs=5e-4)
    assert record["improvement"]["of"] == "adamas diamond"
    assert set(record["improvement"]["over"]) == set(PUBLISHED.runs)


def test_what_is_missing_is_shown_as_missing(report: Path) -> None:
    record = json.loads((report / "atari100k.json").read_text())["systems"]["adamas smoke (400 steps)"]
    assert record["aggregates"] == {}
    assert record["missing_games"] == [game for game in GAMES if game != "Pong"]
    lines = (report / "atari100k.md").read_text().splitlines()
    (aggregate,) = [line for line in lines if line.startswith("| **adamas smoke (400 steps)**")]
    assert aggregate.split("|")[2:-1] == [" 1 of 26 ", " 1 "] + [" missing "] * 5
    (krull,) = [line for line in lines if line.startswith("| Krull |")]
    assert krull.endswith("| missing | missing | 0 of 1 |")
    assert any("Krull" in line and "unfinished" in line and "| missing |" in line for line in lines)


@pytest.mark.slow
def test_a_missing_seed_leaves_no_aggregate(runs: Path, tmp_path: Path) -> None:
    few = [
        path for path in sorted(runs.glob("*/2026-01-01*")) if path.parent.name != "Pong" or path.name.endswith("-0")
    ]
    done = adamas("report", f"runs=[{','.join(map(str, few))}]", f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "atari100k.json").read_text())["systems"]["adamas diamond"]["aggregates"] == {}
    text = (tmp_path / "atari100k.md").read_text()
    assert "| **adamas diamond** | 26 of 26 | 1 to 2 | missing |" in text
    assert "| 1 of 2 |" in text


def test_every_run_has_a_row(report: Path, runs: Path) -> None:
    with open(report / "atari100k.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    ours = [row for row in rows if row["state"] != "published"]
    assert len(ours) == 54
    (pong,) = [row for row in ours if row["game"] == "Pong" and row["seed"] == "1"]
    assert float(pong["hns"]) == pytest.approx(0.5)
    assert (pong["seconds"], pong["gpu"], pong["games"], pong["state"]) == ("7200", "", "100", "finished")
    assert int(pong["ram_bytes"]) > 50e6
    assert (runs / "Pong") in Path(pong["path"]).parents
    assert len(rows) == 54 + 19 * 26


def test_pictures_are_drawn(report: Path) -> None:
    for name in ("games", "intervals", "profiles", "improvement"):
        picture = open_picture(report / f"atari100k-{name}.png").convert("RGB")
        assert min(picture.size) > 400
        assert len(picture.getcolors(maxcolors=picture.width * picture.height)) > 50


def test_reference_curves(runs: Path, tmp_path: Path) -> None:
    done = adamas("report", f"runs={runs}", "reference=Breakout", f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert min(open_picture(tmp_path / "reference-Breakout.png").size) > 400
    done = adamas("report", f"runs={runs}", "reference=Tennis", f"out={tmp_path}")
    assert (done.returncode, done.stderr) == (2, f"error: {runs} holds no evaluated run of Tennis\n")
    done = adamas("report", f"runs={tmp_path / 'none'}", f"out={tmp_path}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
