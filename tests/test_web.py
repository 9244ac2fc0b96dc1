"""The exported dream without a browser: random numbers, graphs, weights and model card."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CPU, MEANINGS, ROOT, adamas, frames, generator, same, small_config
from philox import NOISE, categorical, normal, philox, uniform
from web_dream import dream, torch_networks
from web_runs import make_awake_run

from adamas.play.load import open_agent
from adamas.play.settings import Options
from adamas.training import safetensors
from adamas.training.export import export
from adamas.training.load_run import SavedRun
from adamas.training.models import Models
from adamas.utils.errors import UserError
from adamas.utils.random import normal as torch_normal
from adamas.web.export import FILM, STARTS, export_page, open_rounded, play
from adamas.web.graphs import Frame, graphs, save_graphs
from adamas.web.hub import card, export_hub
from adamas.web.runtime import RUNTIME, copy_runtime

SHIPPED = ROOT / "results" / "breakout-cpu" / "agent"
STEPS = 50


# Random numbers


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # the known answers of Random123
        ([0, 0, 0, 0], (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_is_that_of_its_authors(counter: list[int], key: tuple[int, int], words: str) -> None:
    (drawn,) = philox(key, np.array([counter], np.uint32))
    assert " ".join(f"{word:08x}" for word in drawn) == words


def test_normal_numbers_are_normal_and_differ_by_seed_step_and_use() -> None:
    x = normal(7, 3, NOISE, 100_000)
    assert abs(x.mean()) < 0.02
    assert abs(x.std() - 1) < 0.02
    assert abs((np.abs(x) < 1).mean() - 0.6827) < 0.01
    others = [normal(8, 3, NOISE, 8), normal(7, 4, NOISE, 8), normal(7, 3, 1, 8)]
    assert not any(np.array_equal(x[:8], other) for other in others)
    assert np.array_equal(x[:8], normal(7, 3, NOISE, 8))


def test_classes_are_drawn_as_often_as_their_softmax_says() -> None:
    logits = np.log(np.array([0.5, 0.2, 0.3], np.float32))
    drawn = np.bincount([categorical(logits, 1, step, 2) for step in range(4000)], minlength=3) / 4000
    assert np.allclose(drawn, [0.5, 0.2, 0.3], atol=0.03)
    assert 0 < uniform(0, 0, 0, 10_000).min() < uniform(0, 0, 0, 10_000).max() < 1


# Graphs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_awake_run(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def models(run: Path) -> Models:
    return open_rounded(run).models


def test_the_frame_graph_is_the_world_models_own_sampler(models: Models) -> None:
    context, action = frames(1, 4), torch.tensor([[0, 1, 2, 3]])
    noise = torch_normal((1, 1, 84, 84), generator(5))
    wanted = models.world.denoiser.sample(context, action, models.config.sampler, generator(5))
    with torch.no_grad():
        assert torch.equal(Frame(models.world)(context, action.int(), noise), wanted)


def onnx_networks(folder: Path, models: Models) -> dict:
    runtime = pytest.importorskip("onnxruntime")
    networks = {}
    for name, graph in graphs(models).items():
        session = runtime.InferenceSession(folder / f"{name}.onnx")

        def run(*inputs: np.ndarray, session=session, names=list(graph.inputs)) -> list[np.ndarray]:  # noqa: B006
            return session.run(None, dict(zip(names, inputs, strict=True)))

        networks[name] = run
    return networks


def dreamed(networks: dict, models: Models, start: tuple[np.ndarray, list[int]], actions: list[int], steps: int):
    c = models.config
    steps_of = dream(
        networks, c.network.lstm_dim, c.actor_critic.frame_stack, *start, seed=3, choose=lambda step, _: actions[step]
    )
    return [next(steps_of) for _ in range(steps)]


def close(mine: list, theirs: list) -> float:
    """The share of pixels that differ by at most one grey level."""
    a, b = (np.stack([step.obs for step in steps]).astype(int) for steps in (mine, theirs))
    return float((np.abs(a - b) <= 1).mean())


@pytest.mark.slow  # in test_web_page the page does the same
def test_the_graphs_dream_what_pytorch_dreams(models: Models, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    save_graphs(models, tmp_path)
    start = frames(4).numpy(), [1, 2, 3]
    ours, theirs = (
        dreamed(networks, models, start, [3, 0, 2, 1, 1], 5)
        for networks in (onnx_networks(tmp_path, models), torch_networks(models))
    )
    assert close(ours, theirs) >= 0.999
    assert len({step.obs.tobytes() for step in theirs}) == 5
    assert [step[1:] for step in ours] == [step[1:] for step in theirs]


def test_the_graph_of_a_q_network_tells_what_pytorch_tells(tmp_path: Path) -> None:
    """It has a state that it does not use, which the page hands over all the same."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    models = Models(small_config(policy="dyna"), MEANINGS, CPU)
    torch.nn.init.normal_(models.policy.advantage.weight)
    save_graphs(models, tmp_path)
    session, stack = runtime.InferenceSession(tmp_path / "policy.onnx"), frames(1, 4)
    memory = {name: np.full((1, 1, models.config.network.lstm_dim), 0.5, np.float32) for name in ("h", "c")}
    logits, value, h, c = session.run(None, {"frames": stack.numpy(), **memory})
    with torch.no_grad():
        wanted, wanted_value, _ = models.policy(
            stack[:, -1:], models.policy.initial_hidden(1)._replace(past=stack[None, :, :-1].to(torch.int16))
        )
    np.testing.assert_allclose(logits.ravel(), wanted.numpy().ravel(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value.ravel(), wanted_value.numpy().ravel(), rtol=1e-4, atol=1e-5)
    assert len({*logits.ravel().round(5)}) == 2, "one action is better than the others"
    assert (h == memory["h"]).all()
    assert (c == memory["c"]).all()


@pytest.mark.slow
def test_the_shipped_agents_graphs_dream_what_pytorch_dreams(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    shipped = open_rounded(SHIPPED)
    save_graphs(shipped.models, tmp_path)
    clips = play(shipped)
    assert clips.obs.shape == (STARTS, 4 + FILM, 84, 84)
    for i in (0, 9):
        start, actions = (clips.obs[i, :4].numpy(), clips.action[i, :3].tolist()), clips.action[i, 3:].tolist()
        networks = onnx_networks(tmp_path, shipped.models), torch_networks(shipped.models)
        ours, theirs = (dreamed(each, shipped.models, start, actions, STEPS) for each in networks)
        assert close(ours, theirs) >= 0.999


def test_a_sampler_that_draws_on_the_way_is_refused(models: Models) -> None:
    models.config.sampler.s_churn = 1.0
    try:
        with pytest.raises(UserError, match="s_churn"):
            graphs(models)
    finally:
        models.config.sampler.s_churn = 0.0


def test_the_runtime_is_that_of_the_package(tmp_path: Path) -> None:
    copy_runtime(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    for file in RUNTIME.iterdir():
        (tmp_path / "bad" / file.name).write_bytes(file.read_bytes().replace(b"WebAssembly", b"WebAssembler"))
    with pytest.raises(UserError, match="onnxruntime-web"):
        copy_runtime(tmp_path / "copy", tmp_path / "bad")


# Weights for the hub


def test_the_hubs_folder_opens_as_the_run_does(run: Path, tmp_path: Path) -> None:
    done = adamas("export", f"run={run}", f"safetensors={tmp_path / 'hub'}")
    assert done.returncode == 0, done.stderr
    ours, theirs = SavedRun(tmp_path / "hub").load_newest(CPU)[0], open_rounded(run).models
    assert same(dict(ours.world.state_dict()), dict(theirs.world.state_dict()))
    assert same(dict(ours.policy.state_dict()), dict(theirs.policy.state_dict()))
    agent = open_agent(Options(run=str(tmp_path / "hub"), device="cpu"))
    assert agent.checkpoint == safetensors.NAME
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["env"] == "Breakout"
    hub = SavedRun(tmp_path / "hub")
    assert hub.checkpoints() == [tmp_path / "hub" / safetensors.NAME], "what evaluate, and initialize.from=, look for"
    assert same(
        hub.load(*hub.checkpoints(), CPU)[0].state_dict(), SavedRun(tmp_path / "hub").load_newest(CPU)[0].state_dict()
    )
    export(tmp_path / "hub", tmp_path / "copy")
    assert len(SavedRun(tmp_path / "copy").checkpoints()) == 1


def test_nothing_is_left_of_a_folder_that_could_not_be_made(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the same command works when what was wrong is mended."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("adamas.training.export.copy_curves", full)
    monkeypatch.setattr("adamas.training.safetensors.save", full)
    monkeypatch.setattr("adamas.web.export.save_graphs", full)
    for make in (export, export_hub, export_page):
        with pytest.raises(OSError, match="No space left"):
            make(run, tmp_path / "out")
    assert [*tmp_path.iterdir()] == []


def test_the_file_is_what_the_safetensors_package_reads(run: Path, tmp_path: Path) -> None:
    package = pytest.importorskip("safetensors.torch")
    export_hub(run, tmp_path / "hub")
    tensors, _ = safetensors.load(tmp_path / "hub" / safetensors.NAME)
    assert same(package.load_file(tmp_path / "hub" / safetensors.NAME), tensors)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:7], lambda b: b"\xff" * 8 + b[8:], lambda b: b"{}"])
def test_a_damaged_file_is_told(damage, run: Path, tmp_path: Path) -> None:
    export_hub(run, tmp_path / "hub")
    path = tmp_path / "hub" / safetensors.NAME
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="damaged"):
        SavedRun(tmp_path / "hub").load_newest(CPU)


def test_the_model_card_says_what_a_reader_needs() -> None:
    from adamas.training.run_records import read_outcome

    outcome = read_outcome(SHIPPED)
    stored = outcome._replace(config=replace(outcome.config, dataset="films"))
    assert "the stored steps of films of Breakout in ale-py" in card(stored, "x.pt")
    assert "collected by the agent itself" not in card(stored, "x.pt")
    text = card(outcome, "x.pt")
    assert text.startswith("---\nlicense: mit\n")
    for part in ("100,000 agent steps", "**15.80**, 95% interval [", "object recall", "## How to load", "MIT"):
        assert part in text


# The command


def test_export_says_what_is_wrong(run: Path, tmp_path: Path) -> None:
    done = adamas("export", f"run={run}")
    assert (done.returncode, done.stderr) == (2, "error: nothing to make: give out=DIR, web=DIR or safetensors=DIR\n")
    (tmp_path / "mine").touch()
    for option in ("web", "safetensors"):
        done = adamas("export", f"run={run}", f"{option}={tmp_path}")
        assert done.returncode == 2
        assert done.stderr == f"error: {tmp_path} is already there: give another name, or remove it\n"
