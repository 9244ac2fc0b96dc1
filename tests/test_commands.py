"""What is made of a run that was trained: `adamas evaluate`, `export` and `showcase`, and the scripts beside them."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY, adamas, change_config, final_parts, open_picture, run_script, train

from adamas.training import checkpoint
from adamas.training.load_run import SavedRun
from adamas.training.scalars import read_scalars
from adamas.utils.console import format_duration


@pytest.fixture(scope="module")
def second_seed(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of the run, as if they were of another seed."""
    out = tmp_path_factory.mktemp("second") / "records"
    done = adamas("export", f"run={tiny_run}", f"out={out}", "records=true")
    assert done.returncode == 0, done.stderr
    assert not (out / "checkpoints").exists()
    change_config(out, seed=1)
    return out


@pytest.mark.slow
def test_showcase_shows_what_runs_took_and_reached(tiny_run: Path, second_seed: Path, tmp_path: Path) -> None:
    done = adamas("showcase", f"runs=[{second_seed},{tiny_run}]", f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "runs.md").read_text()
    final = json.loads((tiny_run / "evaluations.jsonl").read_text().splitlines()[-1])
    interval = f"{final['return']:.2f} [{final['return']:.2f}, {final['return']:.2f}]"
    for seed in (0, 1):
        assert re.search(
            rf"\| {seed} \| 90 \| {format_duration(final['seconds'])} \| [\d.]+ GiB \| 1 \| {re.escape(interval)} \|",
            table,
        )
    assert f"all** | 2 seeds |  |  |  | 2 | {interval} |" in table
    assert re.search(r"\| random play, here \|  \|  \|  \|  \| 100 \| [\d.]+ \[", table)
    assert "env=Breakout preset=smoke" in table
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    assert [float(row["score"]) for row in rows if row["kind"] == "final_evaluation"] == [final["return"]] * 2
    assert all(row["steps"] == "90" for row in rows if row["kind"] == "final_evaluation")
    assert any(row["kind"] == "evaluation" for row in rows)
    played = [(str(e.step), e.value) for e in read_scalars(tiny_run / "tensorboard")["collect/game_return"]]
    for seed in "01":
        collected = [row for row in rows if (row["kind"], row["seed"]) == ("collected", seed)]
        assert [(row["steps"], float(row["score"])) for row in collected] == played
    assert open_picture(tmp_path / "agent.gif").size == (320, 420)
    assert min(open_picture(tmp_path / "curve.png").size) > 84


def test_showcase_wants_finished_runs_of_one_game(tiny_run: Path, second_seed: Path, tmp_path: Path) -> None:
    unfinished = tmp_path / "run"
    unfinished.mkdir()
    for told in (
        f"{unfinished} is not a run folder, and holds no finished run",
        f"{unfinished} is not finished: go on with",
    ):
        done = adamas("showcase", f"runs=[{tiny_run},{unfinished}]", f"out={tmp_path / 'out'}")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {told}")
        shutil.copy(tiny_run / "config.yaml", unfinished)
    pong = tmp_path / "pong"
    shutil.copytree(tiny_run, pong)
    change_config(pong, env="Pong")
    done = adamas("showcase", f"runs=[{tiny_run},{pong}]", f"out={tmp_path / 'out'}")
    assert done.stderr == "error: these runs are of Breakout, Pong: give those of one game at a time\n"
    done = adamas("showcase", f"runs=[{tiny_run},{tiny_run}]", f"out={tmp_path / 'out'}")
    assert done.stderr.endswith(": seed 0 is there more than once: give one run a seed\n")
    done = adamas("showcase", f"runs={second_seed}", f"out={tmp_path / 'out'}")
    assert (
        done.stderr == "error: none of these runs has its weights: give one that was not exported with records=true\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_precision_trains_in_both_and_tells_the_difference(tiny_run: Path) -> None:
    play = tiny_run / "replay"
    done = run_script(
        "studies/precision.py", *TINY, f"dataset={play}", f"--held-out={play}", "--updates=60", "--seeds=2"
    )
    assert done.returncode == 0, done.stderr
    rows = {name: list(map(float, row)) for name, *row in (re.findall(r"[-\w.]+", line) for line in last(done, 3))}
    assert list(rows) == ["float32", "bfloat16", "difference"]
    full, half, difference = rows.values()
    assert full != half
    assert full[0] != full[1]
    assert [b - a for a, b in zip(full[:3], half[:3], strict=True)] == pytest.approx(difference[:3], abs=2e-5)
    done = run_script("studies/precision.py", *TINY, f"--held-out={play}")
    assert (done.returncode, last(done, 1)) == (2, [])
    assert done.stderr.startswith("error: dataset= is missing")
    done = run_script("studies/precision.py", *TINY, "env=Freeway", f"dataset={play}", f"--held-out={play}")
    assert done.returncode == 2
    assert "holds action 3 but Freeway has 3 actions" in done.stderr


@pytest.mark.slow
def test_what_a_q_network_knows_of_its_own_play_is_told_beside_other_play(tiny_run: Path, tmp_path: Path) -> None:
    """The same play twice: the same figures."""
    (file,) = (tiny_run / "replay").glob("*.npz")
    columns = dict(np.load(file))
    columns["reward"] = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], len(columns["reward"])).astype(np.float32)
    np.savez(tmp_path / "play.npz", **columns)
    command = ["studies/q_held_out.py", *TINY, f"--replay={tmp_path}", f"--held-out={tmp_path}"]
    done = run_script(*command, "--updates=4", "--looks=2")
    assert done.returncode == 0, done.stderr
    rows = [re.findall(r"[-.\w]+", line) for line in last(done, 2)]
    assert [row[0] for row in rows] == ["2", "4"]
    assert rows[0][1:] != rows[1][1:]
    for row in rows:
        assert row[1::2][:3] == row[2::2][:3]
    done = run_script(*command, "--updates=1", "--looks=2")
    assert (done.returncode, last(done, 1)) == (2, [])
    assert "no more looks than updates" in done.stderr


def last(done: subprocess.CompletedProcess, lines: int) -> list[str]:
    return done.stdout.splitlines()[-lines:]


def test_evaluate_measures_every_kept_checkpoint(tiny_run: Path, tmp_path: Path) -> None:
    done = adamas("evaluate", f"run={tiny_run}", "dreams=2", "steps=5", "frechet=20", f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "| 5           | real " in done.stdout
    record = json.loads((tmp_path / "detail.json").read_text())
    kept = checkpoint.newest_first(tiny_run / "checkpoints")
    assert record["checkpoint"] == kept[0].name
    assert len(record["checkpoints"]) == len(kept) == 2
    assert record["checkpoints"]["8"] == record["detail"]["random_play"]  # the newest one, after all 8 updates
    assert record["detail"]["real"]["moving_recall"] == [1.0] * 5
    (distance,) = record["frechet"]
    assert distance["count"] == 20
    assert f"{distance['ratio']:.2f} x that of real frames" in done.stdout
    for name in ("detail.png", "growth.png", "contact_sheet.png", "dreams.gif", "dreams.png", "trajectory.png"):
        assert min(open_picture(tmp_path / name).size) > 84
    printed = done.stdout.partition("\n")[2].partition("\nsaved")[0]
    assert printed in (tmp_path / "detail.md").read_text()


def test_evaluate_leaves_out_a_damaged_checkpoint(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    older = checkpoint.newest_first(run / "checkpoints")[1]
    newest = checkpoint.newest_first(run / "checkpoints")[0]
    newest.write_bytes(newest.read_bytes()[:-100])
    done = adamas("evaluate", f"run={run}", "dreams=1", "steps=2")
    assert done.returncode == 0, done.stderr
    assert f"checkpoint {newest} is damaged" in done.stderr
    record = json.loads((run / "evaluation" / "detail.json").read_text())
    assert record["checkpoint"] == older.name
    older.write_bytes(b"")
    done = adamas("evaluate", f"run={run}", "dreams=1", "steps=2")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"error: none of the checkpoints of {run} can be used"


def test_evaluate_refuses_what_is_no_run(tmp_path: Path) -> None:
    done = adamas("evaluate", f"run={tmp_path}")
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path} is not a run folder: it has no config.yaml\n"


@pytest.fixture(scope="module")
def exported(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `adamas export` makes of the run."""
    out = tmp_path_factory.mktemp("exported") / "agent"
    done = adamas("export", f"run={tiny_run}", f"out={out}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}: {size_of(out) / 1e6:.1f} MB\n"
    return out


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_an_exported_run_keeps_its_curves(tiny_run: Path, exported: Path) -> None:
    ours, theirs = (read_scalars(run / "tensorboard") for run in (exported, tiny_run))
    assert "collect/game_return" in theirs
    assert ours == theirs


def test_an_exported_run_dreams_and_plays_as_the_run_does_to_float16(tiny_run: Path, exported: Path) -> None:
    cpu = torch.device("cpu")
    (models, progress), (theirs, then) = (SavedRun(run).load_newest(cpu) for run in (exported, tiny_run))
    assert progress.total == then.total
    for name, ours in models.world.state_dict().items():
        close = {"rtol": 2**-11, "atol": 2**-24} if ours.dim() > 1 else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(ours, theirs.world.state_dict()[name], **close)
    for name, ours in models.policy.state_dict().items():
        torch.testing.assert_close(ours, theirs.policy.state_dict()[name], rtol=2**-11, atol=2**-24)
    for file in ("config.yaml", "origin.jsonl", "evaluations.jsonl"):
        assert (exported / file).read_bytes() == (tiny_run / file).read_bytes()


def test_an_exported_run_is_much_smaller(tiny_run: Path, exported: Path) -> None:
    ours, theirs = (checkpoint.newest_first(run / "checkpoints")[0].stat().st_size for run in (exported, tiny_run))
    assert ours < theirs / 4  # of 2 bytes a weight for 16 there are; the rest is names, much in so small a run


@pytest.mark.slow
def test_an_exported_run_can_be_measured_and_started_from(exported: Path, tmp_path: Path) -> None:
    done = adamas("evaluate", f"run={exported}", "dreams=1", "steps=2", f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    folder = train("env=Breakout", *TINY, f"initialize.from={exported}", cwd=tmp_path)
    assert final_parts(folder)["progress"]["total"]["denoiser"] == 8


def test_an_exported_run_cannot_go_on_and_says_what_can(exported: Path, tmp_path: Path) -> None:
    before = sorted(exported.rglob("*"))
    code, _, err = adamas("train", f"resume={exported}", cwd=tmp_path)
    assert code == 2
    told = f"{exported} was exported, without what training needs: start a new run with initialize.from={exported}"
    assert err == f"error: {told}\n"
    assert sorted(exported.rglob("*")) == before


def test_a_run_is_no_dataset_and_its_replay_is(tiny_run: Path, tmp_path: Path) -> None:
    for words in (["card", tiny_run], ["import", tiny_run, tmp_path / "out"]):
        done = adamas("data", *map(str, words))
        assert done.returncode == 2
        assert done.stderr == f"error: {tiny_run} is a run: the dataset that it has played is {tiny_run / 'replay'}\n"


def test_export_refuses_what_it_cannot_do(tiny_run: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_run, damaged)
    (damaged / "config.yaml").write_text("garbage")
    done = adamas("export", f"run={damaged}", f"out={tmp_path / 'agent'}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "agent").exists()
    shutil.rmtree(damaged)
    done = adamas("export", f"run={tmp_path}", f"out={tmp_path / 'agent'}")
    assert (done.returncode, done.stderr) == (2, f"error: {tmp_path} is not a run folder: it has no config.yaml\n")
    (tmp_path / "mine").touch()
    done = adamas("export", f"run={tiny_run}", f"out={tmp_path}")
    assert done.stderr == f"error: {tmp_path} is already there: give another name, or remove it\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
