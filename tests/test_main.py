"""The program as a user runs it: `src/main.py` in a process of its own, on the real emulator."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adamas.training.estimate import in_words
from PIL import Image, ImageSequence
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_atari import ROMS

from adamas.cli import train as train_command
from adamas.config import Config
from adamas.config.files import load_config, save_config
from adamas.training import checkpoint, estimate
from adamas.training.load_run import SavedRun
from adamas.training.run_records import read_scalars
from adamas.utils.errors import UserError
from adamas.utils.locks import take_lock

ROOT = Path(__file__).resolve().parents[1]
TINY = [
    "preset=smoke",
    "device=cpu",
    "final_epochs=1",
    "collection.steps=90",
    "collection.first_steps=60",
    "collection.first_steps_most=60",
    "collection.steps_per_epoch=30",
    *(
        f"{part}.optimization.{name}"
        for part in ("denoiser", "reward_end", "actor_critic")
        for name in ("first_updates=4", "updates=2", "batch_size=2")
    ),
    "denoiser.channels=[16]",
    "denoiser.depths=[1]",
    "reward_end.channels=[8,8,8]",
    "reward_end.lstm_dim=16",
    "actor_critic.channels=[8,16]",
    "actor_critic.lstm_dim=16",
    "actor_critic.horizon=4",
    "atari.max_episode_steps=60",
    "evaluation.games=1",
    "evaluation.final_games=1",
    "evaluation.dreams=1",
    "evaluation.dream_steps=4",
    "evaluation.frechet=final",
    "evaluation.frechet_frames=10",
]


def start(*overrides: str, cwd: Path) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "src" / "main.py"), *overrides]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def main(*overrides: str, cwd: Path) -> tuple[int, str, str]:
    process = start(*overrides, cwd=cwd)
    out, err = process.communicate()
    return process.returncode, out, err


def train(*overrides: str, cwd: Path) -> Path:
    """Runs to the end and returns the run folder."""
    code, out, err = main(*overrides, cwd=cwd)
    assert code == 0, err
    assert out.splitlines()[-1].startswith("done")
    return only_run(cwd)


def only_run(cwd: Path) -> Path:
    (folder,) = cwd.glob("runs/*/*")
    return folder


def final_parts(folder: Path) -> dict:
    """What a run ended with, less what may differ from machine hour to machine hour."""
    parts, _ = checkpoint.load_newest(folder / "checkpoints", warn=pytest.fail)
    chunks = sorted((folder / "replay").glob("*.npz"))
    rows = [dict(np.load(chunk)) for chunk in chunks]
    parts["replay"] = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    parts["progress"] = {k: v for k, v in parts["progress"].items() if k not in ("seconds", "saves")}
    return parts


def same(a: object, b: object) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("env=Breakout", *TINY, cwd=tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("game", ["Breakout", "Pong", "MsPacman"])
def test_preset_smoke_runs_the_whole_loop(game: str, tmp_path: Path) -> None:
    folder = train(f"env={game}", "preset=smoke", cwd=tmp_path)

    records = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]
    assert [record["kind"] for record in records] == ["evaluation"] * 3 + ["final_evaluation"]
    assert all(len(record["returns"]) == 2 for record in records)
    assert records[-1]["steps"] == 400

    parts, _ = checkpoint.load_newest(folder / "checkpoints", warn=pytest.fail)
    assert parts["game"] == game
    assert parts["progress"]["total"]["denoiser"] == 50
    assert all(torch.isfinite(value).all() for value in parts["models"]["denoiser"].values())

    curves = EventAccumulator(str(folder / "tensorboard")).Reload()
    losses = [event.value for event in curves.Scalars("denoiser/loss")]
    assert losses[-1] < losses[0]
    wanted = {"reward_end/loss", "reward_end/grad_norm", "actor_critic/entropy", "denoiser/grad_norm"}
    wanted |= {"denoiser/learning_rate", "evaluation/return", "final_evaluation/return", "speed/collect_a_second"}
    assert wanted <= set(curves.Tags()["scalars"])
    assert set(curves.Tags()["images"]) == {"dream/moving", "dream/still", "dream/trajectory"}
    wanted = {f"detail_moving_recall/{name}_at_15" for name in ("random_play", "agent_play", "copy")}
    assert wanted <= set(curves.Tags()["scalars"])
    assert curves.Tags()["tensors"] == ["detail/text_summary"]
    for name in ("first.gif", "epoch-0002.gif"):
        with Image.open(folder / "dreams" / name) as picture:
            shown = sum(frame.info["duration"] for frame in ImageSequence.Iterator(picture))
        assert shown == 20 * 70  # ms


def test_the_start_says_what_where_and_how_long(tmp_path: Path) -> None:
    code, out, _ = main("env=Breakout", *TINY, "collection.steps=60", "final_epochs=0", cwd=tmp_path)
    folder = only_run(tmp_path).relative_to(tmp_path)
    assert code == 0
    for words in ("adamas learns Breakout", "cpu (1 threads)", str(folder), "tensorboard --logdir runs", "about "):
        assert words in out


def test_one_seed_gives_one_run(tiny_run: Path, tmp_path: Path) -> None:
    again = train("env=Breakout", *TINY, cwd=tmp_path)
    assert same(final_parts(again), final_parts(tiny_run))


def test_the_frechet_distance_is_measured_at_the_end(tiny_run: Path) -> None:
    records = [json.loads(line) for line in (tiny_run / "evaluations.jsonl").read_text().splitlines()]
    assert ["frechet" in record for record in records] == [False] * (len(records) - 1) + [True]
    (distance,) = records[-1]["frechet"]
    assert distance["ratio"] == pytest.approx(distance["distance"] / distance["real_distance"])
    kept = sorted(path.name.partition("-")[0] for path in (tiny_run / "frechet").iterdir())
    assert kept == ["adamas", "adamas"]
    curves = read_scalars(tiny_run / "tensorboard")
    assert curves[f"frechet/{distance['encoder']}_ratio"][0].value == pytest.approx(distance["ratio"])


def run_script(name: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / name), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, env=environment, text=True, capture_output=True, check=False)


def adamas(*words: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs a command: adamas("export", "run=...")."""
    command = [sys.executable, "-m", "adamas.cli", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    return subprocess.run(command, env=environment, text=True, capture_output=True, check=False)


def change_config(run: Path, **changes: object) -> None:
    """As a person would edit config.yaml, digest and all."""
    save_config(replace(load_config(run / "config.yaml"), **changes), run / "config.yaml")


def open_picture(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


@pytest.fixture(scope="module")
def second_seed(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of the run, as if they were of another seed."""
    out = tmp_path_factory.mktemp("second") / "records"
    done = adamas("export", f"run={tiny_run}", f"out={out}", "records=true")
    assert done.returncode == 0, done.stderr
    assert not (out / "checkpoints").exists()
    change_config(out, seed=1)
    return out


def test_showcase_shows_what_runs_took_and_reached(tiny_run: Path, second_seed: Path, tmp_path: Path) -> None:
    done = adamas("showcase", f"runs=[{second_seed},{tiny_run}]", f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "runs.md").read_text()
    final = json.loads((tiny_run / "evaluations.jsonl").read_text().splitlines()[-1])
    interval = f"{final['return']:.2f} [{final['return']:.2f}, {final['return']:.2f}]"
    for seed in (0, 1):
        assert re.search(
            rf"\| {seed} \| 90 \| {in_words(final['seconds'])} \| [\d.]+ GiB \| 1 \| {re.escape(interval)} \|", table
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


def test_precision_trains_in_both_and_tells_the_difference(tiny_run: Path) -> None:
    play = tiny_run / "replay"
    done = run_script(
        "studies/precision.py", *TINY, f"dataset={play}", f"--held-out={play}", "--updates=3", "--seeds=2"
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
    for name, ours in models.agent.state_dict().items():
        torch.testing.assert_close(ours, theirs.agent.state_dict()[name], rtol=2**-11, atol=2**-24)
    for file in ("config.yaml", "origin.jsonl", "evaluations.jsonl"):
        assert (exported / file).read_bytes() == (tiny_run / file).read_bytes()


def test_an_exported_run_is_much_smaller(tiny_run: Path, exported: Path) -> None:
    ours, theirs = (checkpoint.newest_first(run / "checkpoints")[0].stat().st_size for run in (exported, tiny_run))
    assert ours < theirs / 4  # of 2 bytes a weight for 16 there are; the rest is names, much in so small a run


def test_an_exported_run_can_be_measured_and_started_from(exported: Path, tmp_path: Path) -> None:
    done = adamas("evaluate", f"run={exported}", "dreams=1", "steps=2", f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    folder = train("env=Breakout", *TINY, f"initialize.from={exported}", cwd=tmp_path)
    assert final_parts(folder)["progress"]["total"]["denoiser"] == 8


def test_an_exported_run_cannot_go_on_and_says_what_can(exported: Path, tmp_path: Path) -> None:
    code, _, err = main(f"resume={exported}", cwd=tmp_path)
    assert code == 2
    (path,) = (exported / "checkpoints").iterdir()
    told = f"error: {path} was exported, without what training needs: start a new run with initialize.from={exported}\n"
    assert err == told


def test_export_refuses_what_it_cannot_do(tiny_run: Path, tmp_path: Path) -> None:
    done = adamas("export", f"run={tmp_path}", f"out={tmp_path / 'agent'}")
    assert (done.returncode, done.stderr) == (2, f"error: {tmp_path} is not a run folder: it has no config.yaml\n")
    done = adamas("export", f"run={tiny_run}", f"out={tmp_path}")
    assert done.stderr == f"error: {tmp_path} is already there: give another name, or remove it\n"
    assert not any(tmp_path.iterdir())


def test_another_seed_gives_another_run(tiny_run: Path, tmp_path: Path) -> None:
    other = train("env=Breakout", *TINY, "seed=1", cwd=tmp_path)
    assert not same(final_parts(other)["models"], final_parts(tiny_run)["models"])


def test_a_run_killed_at_random_moments_ends_like_one_that_was_not(tiny_run: Path, tmp_path: Path) -> None:
    """SIGKILL after a random number of saves and a random moment more, first while it collects; it saves after every
    single step and update."""
    draw = random.Random(0)
    often = "checkpoint.every_minutes=1e-9"
    arguments, stopped_in = ["env=Breakout", *TINY, often], []
    for _ in range(40):
        process = start(*arguments, cwd=tmp_path)
        _wait_for_saves(process, tmp_path, draw.randrange(10, 50) if not stopped_in else draw.randrange(20, 120))
        time.sleep(0.05 * draw.random())
        process.kill()
        if process.wait() == 0:
            break
        parts, _ = checkpoint.load_newest(only_run(tmp_path) / "checkpoints", warn=print)
        stopped_in.append(max(parts["progress"]["done"], key=_order, default="start"))
        arguments = [f"resume={only_run(tmp_path)}", often]
    assert len(stopped_in) >= 3
    assert "collect" in stopped_in
    assert len(set(stopped_in)) >= 2
    assert same(final_parts(only_run(tmp_path)), final_parts(tiny_run))


def _order(phase: str) -> int:
    phases = ["collect", "denoiser", "first look", "reward_end", "actor_critic", "evaluation", "final evaluation"]
    return phases.index(phase)


def _wait_for_saves(process: subprocess.Popen, cwd: Path, count: int) -> None:
    seen = {path.name for path in cwd.glob("runs/*/*/checkpoints/*.pt")}
    first = len(seen)
    while process.poll() is None and len(seen) < first + count:
        seen |= {path.name for path in cwd.glob("runs/*/*/checkpoints/*.pt")}
        time.sleep(0.005)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_saves_and_ends_with_0(name: str, tiny_run: Path, tmp_path: Path) -> None:
    process = start("env=Breakout", *TINY, cwd=tmp_path)
    _wait_for_saves(process, tmp_path, 1)
    time.sleep(0.1)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert f"resume=runs/Breakout/{only_run(tmp_path).name}" in out
    code, _, err = main(f"resume={only_run(tmp_path)}", cwd=tmp_path)
    assert code == 0, err
    assert same(final_parts(only_run(tmp_path)), final_parts(tiny_run))


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tiny_run: Path, tmp_path: Path) -> None:
    folder = train("env=Breakout", *TINY, "checkpoint.every_minutes=0.005", cwd=tmp_path)
    newest = sorted((folder / "checkpoints").glob("*.pt"))[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    code, out, err = main(f"resume={folder}", cwd=tmp_path)
    assert code == 0, err
    assert f"checkpoint {newest} is damaged" in out
    assert same(final_parts(folder), final_parts(tiny_run))


def test_a_run_whose_loss_is_not_finite_stops_with_its_last_good_weights(tmp_path: Path) -> None:
    code, _, err = main(
        "env=Breakout",
        *TINY,
        "denoiser.optimization.learning_rate=1e30",
        "denoiser.optimization.warmup_updates=0",
        "denoiser.optimization.first_updates=100",
        cwd=tmp_path,
    )
    assert code == 2
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: denoiser: 10 updates in a row had a loss or gradient that was not")
    checkpoint.load_newest(only_run(tmp_path) / "checkpoints", warn=pytest.fail)


def test_a_resumed_run_takes_new_knobs(tiny_run: Path, tmp_path: Path) -> None:
    folder = train("env=Breakout", *TINY, cwd=tmp_path)
    code, _, err = main(f"resume={folder}", "final_epochs=2", cwd=tmp_path)
    assert code == 0, err
    assert final_parts(folder)["progress"]["epoch"] == final_parts(tiny_run)["progress"]["epoch"] + 1


def test_training_on_a_dataset_collects_nothing(tiny_run: Path, tmp_path: Path) -> None:
    folder = train("env=Breakout", *TINY, f"dataset={tiny_run / 'replay'}", cwd=tmp_path)
    parts, _ = checkpoint.load_newest(folder / "checkpoints", warn=pytest.fail)
    assert "collect" not in parts["progress"]["total"]
    assert parts["progress"]["total"]["denoiser"] == 4 + 2
    assert not (folder / "replay").exists()


def test_the_weights_of_another_game_are_a_start(tiny_run: Path, tmp_path: Path) -> None:
    still = [
        f"{part}.optimization.{name}=0"
        for part in ("denoiser", "reward_end", "actor_critic")
        for name in ("first_updates", "updates")
    ]
    folder = train(
        "env=Pong", *TINY, *still, f"initialize.from={tiny_run}", "initialize.parts=[denoiser]", cwd=tmp_path
    )
    pong, breakout = final_parts(folder)["models"], final_parts(tiny_run)["models"]
    for name, value in pong["denoiser"].items():
        theirs = breakout["averages"]["denoiser"][f"module.{name}"]
        if name != "net.action_embedding.weight":
            assert torch.equal(value, theirs)
    ours, theirs = (
        pong["denoiser"]["net.action_embedding.weight"],
        breakout["averages"]["denoiser"]["module.net.action_embedding.weight"],
    )
    assert pong["action_meanings"] == ["NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"]
    assert torch.equal(ours[:4], theirs)
    assert not torch.equal(pong["reward_end"]["lstm.weight_ih_l0"], breakout["reward_end"]["lstm.weight_ih_l0"])


def test_model_free_learns_from_the_real_game_alone(tmp_path: Path) -> None:
    folder = train("env=Breakout", *TINY, "policy=model_free", cwd=tmp_path)
    parts, _ = checkpoint.load_newest(folder / "checkpoints", warn=pytest.fail)
    total = parts["progress"]["total"]
    assert total["play"] >= 90
    assert not {"collect", "denoiser", "reward_end"} & set(total)
    assert parts["models"]["optimizers"]["actor_critic"]["updates"] > 0
    assert parts["models"]["optimizers"]["denoiser"]["updates"] == 0


def test_a_rollout_beyond_an_epoch_of_model_free_is_made_up_for_in_the_next(tmp_path: Path) -> None:
    """A rollout of 8 games and 4 steps is three epochs long: there are about as many as planned all the same."""
    knobs = ["policy=model_free", "collection.steps=300", "collection.steps_per_epoch=10", "evaluation.every_epochs=99"]
    parts, _ = checkpoint.load_newest(train("env=Breakout", *TINY, *knobs, cwd=tmp_path) / "checkpoints", pytest.fail)
    assert 1 + (300 - 60) // 10 - 3 <= parts["progress"]["epoch"] <= 1 + (300 - 60) // 10
    assert 300 <= parts["progress"]["total"]["play"] < 300 + 32


def test_model_free_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir(), parted.mkdir()
    arguments = ["env=Breakout", *TINY, "policy=model_free", "collection.steps=150"]
    expected, _ = checkpoint.load_newest(train(*arguments, cwd=whole) / "checkpoints", warn=pytest.fail)
    process = start(*arguments, "checkpoint.every_minutes=1e-9", cwd=parted)
    _wait_for_saves(process, parted, 4)
    process.kill()
    process.wait()
    assert main(f"resume={only_run(parted)}", cwd=parted)[0] == 0
    found, _ = checkpoint.load_newest(only_run(parted) / "checkpoints", warn=pytest.fail)
    for key in ("models", "random", "player"):
        assert same(found[key], expected[key])


def test_preset_diamond_takes_an_update_of_each_kind(tmp_path: Path) -> None:
    once = [
        *[knob for knob in TINY[2:] if not knob.split("=")[0].endswith(("channels", "depths", "lstm_dim"))],
        *(
            f"{part}.optimization.{name}"
            for part in ("denoiser", "reward_end", "actor_critic")
            for name in ("first_updates=1", "updates=0", "batch_size=1")
        ),
    ]
    short = ["collection.steps=60", "final_epochs=0", "evaluation.dream_steps=1", "evaluation.frechet=off"]
    folder = train("env=Breakout", "preset=diamond", "device=cpu", *once, *short, cwd=tmp_path)
    parts, _ = checkpoint.load_newest(folder / "checkpoints", warn=pytest.fail)
    assert {optimizer["updates"] for optimizer in parts["models"]["optimizers"].values()} == {1}
    assert sum(value.numel() for value in parts["models"]["denoiser"].values()) == pytest.approx(4.4e6, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["env=Breakout", "evaluation.frechet=final", "evaluation.frechet_inception=nowhere.pth"],
            "Inception weights nowhere.pth cannot be read: FileNotFoundError",
        ),
        (["env=Brekout"], "unknown game 'Brekout': did you mean Breakout?"),
        (["device=cdua"], "unknown device 'cdua': did you mean cuda?"),
        (["device=cuda:99"], "device=cuda:99: this machine shows"),
        (["densoier.context=3"], "unknown key 'densoier.context': did you mean denoiser.context?"),
        (["dataset=nowhere"], "dataset nowhere is neither a folder nor a .npz file"),
        (["initialize.from=nowhere"], "nowhere"),
        (["evaluation.dream_steps=2000"], "evaluation.dream_steps=2000 takes games of 2003 steps"),
        (["denoiser.channels=[]", "denoiser.depths=[]"], "denoiser.channels is empty"),
        (["actor_critic.channels=[8,8,8,8,8]"], "actor_critic.channels has 5 levels, too many to halve 21 pixels"),
        (["resume=nowhere"], "resume=nowhere is not a run folder"),
    ],
)
def test_mistakes_cost_one_line_and_leave_nothing_behind(arguments: list[str], line: str, tmp_path: Path) -> None:
    preset = [] if "resume=nowhere" in arguments else ["preset=smoke"]
    code, _, err = main(*preset, *arguments, cwd=tmp_path)
    assert code == 2
    assert "Traceback" not in err
    assert err.startswith(f"error: {line}")
    assert not list(tmp_path.glob("runs/*/*"))


def test_a_dataset_of_another_game_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    code, _, err = main("env=Freeway", *TINY, f"dataset={tiny_run / 'replay'}", cwd=tmp_path)
    assert code == 2
    assert "holds action 3 but Freeway has 3 actions" in err


def test_a_resume_that_changes_sizes_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    code, _, err = main(f"resume={tiny_run}", "denoiser.channels=[8]", cwd=tmp_path)
    assert code == 2
    assert err.rstrip().endswith("does not fit the sizes that this command asks for: drop such knobs")


@pytest.mark.parametrize(
    ("knob", "value", "other"),
    [
        ("denoiser.target", "change", "frame"),
        ("denoiser.change_scale", "4.0", "8"),
        ("reward_end.input", "changes", "frames"),
    ],
)
def test_weights_that_mean_something_else_are_refused(
    knob: str, value: str, other: str, tiny_run: Path, tmp_path: Path
) -> None:
    code, _, err = main("env=Breakout", *TINY, f"{knob}={other}", f"initialize.from={tiny_run}", cwd=tmp_path)
    assert (code, err) == (2, f"error: initialize.from={tiny_run}: its {knob} is {value}; set {knob}={value}\n")
    assert not list(tmp_path.glob("runs/*/*"))


def test_of_older_weights_it_is_known_what_they_diffuse(tmp_path: Path) -> None:
    old = ROOT / "results/breakout-cpu/agent"
    code, _, err = main("env=Breakout", *TINY, "denoiser.target=frame", f"initialize.from={old}", cwd=tmp_path)
    assert (code, err.endswith("its denoiser.target is change; set denoiser.target=change\n")) == (2, True)


def test_a_run_is_trained_by_one_process_at_a_time(tiny_run: Path, tmp_path: Path) -> None:
    lock = take_lock(tiny_run / "lock")
    code, _, err = main(f"resume={tiny_run}", cwd=tmp_path)
    os.close(lock)
    assert (code, err) == (2, f"error: {tiny_run} is being trained by another process: stop that one first\n")
    assert main(f"resume={tiny_run}", cwd=tmp_path)[0] == 0


def test_a_disk_that_is_full_costs_one_line_and_nothing_that_was_saved(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    before = sorted(path.name for path in (run / "checkpoints").iterdir())
    room = min(path.stat().st_size for path in (run / "checkpoints").iterdir()) // 2048  # half of one, in blocks
    script = f"ulimit -f {room} && exec {sys.executable} {ROOT / 'src/main.py'} resume={run} final_epochs=2"
    done = subprocess.run(["bash", "-c", script], text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert re.search(r"^error: .*File too large; make room: what was saved last is good$", done.stderr, re.M)
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == before
    assert main(f"resume={run}", "final_epochs=2", cwd=tmp_path)[0] == 0


def test_a_chip_without_room_costs_one_line_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure_costs(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(estimate, "measure_costs", measure_costs)
    with pytest.raises(UserError, match=r"^the memory of cpu is full: set denoiser\.optimization\.micro_batch and"):
        train_command.run(Config(device="cpu", runs=str(tmp_path)))
    assert list(tmp_path.iterdir()) == [tmp_path / "Breakout"]
    assert not list((tmp_path / "Breakout").iterdir())


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = main("env=Breakout", *TINY, "runs=file", cwd=tmp_path)
    assert (code, err) == (2, "error: runs=file: no folder can be made there (Not a directory)\n")


@pytest.mark.slow
@pytest.mark.parametrize("game", ROMS)
def test_every_game_of_atari_100k_runs_the_whole_loop(game: str, tmp_path: Path) -> None:
    train(f"env={game}", *TINY, cwd=tmp_path)


def test_a_multirun_makes_a_run_folder_for_each_job(tmp_path: Path) -> None:
    code, _, err = main("-m", "env=Breakout,Pong", *TINY, "collection.steps=60", "final_epochs=0", cwd=tmp_path)
    assert code == 0, err
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["Breakout", "Pong"]
