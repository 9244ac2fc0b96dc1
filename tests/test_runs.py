"""Training as a user asks for it: what a run leaves, and that it is the seed's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import TINY, adamas, final_parts, main, only_run, same, train
from PIL import Image, ImageSequence
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adamas.envs.atari import game_names
from adamas.training import checkpoint

ATARI_100K = [
    "Alien",
    "Amidar",
    "Assault",
    "Asterix",
    "BankHeist",
    "BattleZone",
    "Boxing",
    "Breakout",
    "ChopperCommand",
    "CrazyClimber",
    "DemonAttack",
    "Freeway",
    "Frostbite",
    "Gopher",
    "Hero",
    "Jamesbond",
    "Kangaroo",
    "Krull",
    "KungFuMaster",
    "MsPacman",
    "Pong",
    "PrivateEye",
    "Qbert",
    "RoadRunner",
    "Seaquest",
    "UpNDown",
]


def test_preset_smoke_runs_the_whole_loop(tmp_path: Path) -> None:
    """As a user runs it, in a process of its own and with the rehearsal that says how long it will take."""
    code, out, err = main("env=Breakout", "preset=smoke", "device=cpu", cwd=tmp_path)
    assert code == 0, err
    folder = only_run(tmp_path)
    for words in (
        "adamas learns Breakout",
        "cpu (1 thread)",
        str(folder.relative_to(tmp_path)),
        "tensorboard",
        "about ",
    ):
        assert words in out

    records = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]
    assert [record["kind"] for record in records] == ["evaluation"] * 2 + ["final_evaluation"]
    assert all(len(record["returns"]) == 2 for record in records)
    assert records[-1]["steps"] == 400

    parts, _ = checkpoint.load_newest(folder / "checkpoints", warn=pytest.fail)
    assert parts["game"] == "Breakout"
    assert parts["progress"]["total"]["denoiser"] == 40
    assert all(torch.isfinite(value).all() for value in parts["models"]["denoiser"].values())

    curves = EventAccumulator(str(folder / "tensorboard")).Reload()
    losses = [event.value for event in curves.Scalars("denoiser/loss")]
    assert losses[-1] < losses[0]
    wanted = {"reward_end/loss", "reward_end/grad_norm", "actor_critic/entropy", "denoiser/grad_norm"}
    wanted |= {"denoiser/learning_rate", "evaluation/return", "final_evaluation/return", "speed/collect_a_second"}
    assert wanted <= set(curves.Tags()["scalars"])
    assert set(curves.Tags()["images"]) == {"data/card", "dream/moving", "dream/still", "dream/trajectory"}
    wanted = {f"detail_moving_recall/{name}_at_15" for name in ("random_play", "agent_play", "copy")}
    assert wanted <= set(curves.Tags()["scalars"])
    assert set(curves.Tags()["tensors"]) == {"data/card/text_summary", "detail/text_summary"}
    for name in ("first.gif", "epoch-0002.gif"):
        with Image.open(folder / "dreams" / name) as picture:
            shown = sum(frame.info["duration"] for frame in ImageSequence.Iterator(picture))
        assert shown == 20 * 70  # ms


@pytest.mark.slow
def test_one_seed_gives_one_run(tiny_run: Path, tmp_path: Path) -> None:
    again = train("env=Breakout", *TINY, cwd=tmp_path)
    assert same(final_parts(again), final_parts(tiny_run))


@pytest.mark.slow
def test_another_seed_gives_another_run(tiny_run: Path, tmp_path: Path) -> None:
    other = train("env=Breakout", *TINY, "seed=1", cwd=tmp_path)
    assert not same(final_parts(other)["models"], final_parts(tiny_run)["models"])


def test_a_run_whose_loss_is_not_finite_stops_with_its_last_good_weights(tmp_path: Path) -> None:
    bad = ["denoiser.optimization.learning_rate=1e30", "denoiser.optimization.first_updates=100"]
    code, _, err = adamas("train", "env=Breakout", *TINY, *bad, cwd=tmp_path)
    assert code == 2
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: denoiser: 10 steps in a row had a loss or gradient that was not")
    checkpoint.load_newest(only_run(tmp_path) / "checkpoints", warn=pytest.fail)


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
    assert total["collect"] == 90
    assert not {"denoiser", "reward_end", "q_network"} & set(total), "no dreams"
    assert parts["models"]["optimizers"]["q_network"]["updates"] == 90 - 50
    assert {*parts["models"]["optimizers"]} == {"q_network"}


def test_dyna_learns_from_the_real_game_and_from_dreams(tmp_path: Path) -> None:
    imagining = ["horizon=4", "steps_per_update=3", "optimization.first_updates=2", "optimization.updates=1"]
    done = adamas(
        "train", "env=Breakout", *TINY, "policy=dyna", *(f"q_network.{name}" for name in imagining), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path)
    assert done.stdout.splitlines()[-1] == f"done: play its dream with adamas play run={folder.relative_to(tmp_path)}"
    parts, _ = checkpoint.load_newest(folder / "checkpoints", warn=pytest.fail)
    assert parts["progress"]["total"]["q_network"] == 2 + 1 + 1
    assert parts["models"]["optimizers"]["q_network"]["updates"] == (90 - 50) + 3 * (2 + 1 + 1)
    assert json.loads((folder / "evaluations.jsonl").read_text().splitlines()[-1])["detail"]


@pytest.mark.slow  # a minute of imagined frames at the published size; test_updates makes an update of each part
def test_preset_diamond_takes_an_update_of_each_kind(tmp_path: Path) -> None:
    once = [
        *[setting for setting in TINY[2:] if not setting.split("=")[0].endswith(("channels", "depths", "lstm_dim"))],
        *(
            f"{part}.optimization.{name}"
            for part in ("denoiser", "reward_end", "actor_critic")
            for name in ("first_updates=1", "updates=0", "batch_size=1")
        ),
    ]
    short = ["collection.steps=60", "final_epochs=0", "evaluation.dream_steps=1"]
    folder = train("env=Breakout", "preset=diamond", "device=cpu", *once, *short, cwd=tmp_path)
    parts, _ = checkpoint.load_newest(folder / "checkpoints", warn=pytest.fail)
    assert {optimizer["updates"] for optimizer in parts["models"]["optimizers"].values()} == {1}
    assert sum(value.numel() for value in parts["models"]["denoiser"].values()) == pytest.approx(4.4e6, rel=0.02)


@pytest.mark.slow  # four minutes: what a game has to do with the loop is its actions and its lives
@pytest.mark.parametrize("game", ATARI_100K)
def test_every_game_of_atari_100k_runs_the_whole_loop(game: str, tmp_path: Path) -> None:
    assert game in game_names()
    train(f"env={game}", *TINY, cwd=tmp_path)


def test_a_multirun_makes_a_run_folder_for_each_job(tmp_path: Path) -> None:
    short = ["collection.steps=60", "final_epochs=0", "policy=model_free"]
    code, _, err = adamas("train", "-m", "env=Breakout,Pong", *TINY, *short, cwd=tmp_path)
    assert code == 0, err
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["Breakout", "Pong"]
