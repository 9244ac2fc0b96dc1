"""Several datasets in one training: shares, what is drawn from each, and resume."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU, TINY, adamas, final_parts, generator, train
from hypothesis import given
from hypothesis import strategies as st

from adamas.config import Config
from adamas.config.dataset_parts import Part, parts_of, with_paths
from adamas.data import storage
from adamas.training.datasets import read_experience
from adamas.utils.errors import UserError

DARK, BRIGHT = 10, 200  # the frames of two datasets


def write_dataset(path: Path, grey: int, episodes: int, steps: int = 6, action: int = 1) -> str:
    """Episodes of flat frames, the last step of each rewarded."""
    one = {
        "obs": np.full((steps + 1, 84, 84), grey),
        "action": np.full(steps + 1, action),
        "reward": np.arange(steps + 1) == steps - 1,
        "terminated": np.arange(steps + 1) == steps - 1,
        "truncated": np.zeros(steps + 1),
        "final": np.arange(steps + 1) == steps,
    }
    table = {name: np.concatenate([column] * episodes).astype(storage.DTYPES[name]) for name, column in one.items()}
    path.mkdir()
    storage.write(path, 0, table)
    return str(path)


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    return [write_dataset(tmp_path / "dark", DARK, episodes=30), write_dataset(tmp_path / "bright", BRIGHT, episodes=3)]


@pytest.mark.parametrize(
    ("dataset", "parts"),
    [
        (None, []),
        ("a:0.5", [Part("a:0.5", None)]),
        (["a", "b"], [Part("a", None), Part("b", None)]),
        (["r/2026-11-29_10-00-00:0.75", "b:.25"], [Part("r/2026-11-29_10-00-00", 0.75), Part("b", 0.25)]),
    ],
)
def test_a_dataset_is_a_path_or_several_with_shares(dataset: Any, parts: list[Part]) -> None:
    assert parts_of(dataset) == parts
    assert parts_of(with_paths(dataset, [part.path for part in parts])) == parts


@pytest.mark.parametrize(
    "dataset", [[], 5, {"a": 1}, ["a", 5], ["a", "a"], ["a:0.5", "b"], ["a:0.5", "b:0.6"], ["a:0", "b:1"]]
)
def test_other_datasets_are_refused(dataset: Any) -> None:
    with pytest.raises(UserError, match="dataset="):
        parts_of(dataset)


def test_a_dataset_whose_ends_teach_a_world_model_nothing_is_told_of(pair: list[str], capsys: Any) -> None:
    read_experience(pair[0], Config(), CPU)
    assert capsys.readouterr().err == ""
    (path,) = Path(pair[0]).iterdir()
    columns = dict(np.load(path))
    np.savez(path, **{name: column[~columns["final"]] for name, column in columns.items()})
    read_experience(pair[0], Config(), CPU)
    assert "has no frames after its ends: the world model cannot learn" in capsys.readouterr().err


@pytest.mark.parametrize("shared", [{"event_share": 0.5}, {"direction_change_share": 0.5}, {}])
def test_samples_are_drawn_in_their_shares(pair: list[str], shared: dict[str, float]) -> None:
    replay = read_experience([f"{pair[0]}:0.25", f"{pair[1]}:0.75"], Config(), CPU)
    segment = replay.sample(4000, 3, generator(), **shared)
    assert set(segment.obs.flatten(1).float().std(1).tolist()) == {0.0}, "no segment has frames of both"
    assert (segment.obs[:, 0, 0, 0] == BRIGHT).float().mean() == pytest.approx(0.75, abs=0.03)
    contexts = replay.sample_contexts(4000, 4, generator())
    assert (contexts.obs[:, 0, 0, 0] == BRIGHT).float().mean() == pytest.approx(0.75, abs=0.03)


def test_a_small_batch_may_leave_a_dataset_out(pair: list[str]) -> None:
    replay, random = read_experience(pair, Config(), CPU), generator()
    for batch in (1, 1, 1, 2, 2):
        assert len(replay.sample(batch, 3, random, event_share=0.5).obs) == batch
        assert len(replay.sample_contexts(batch, 3, random).obs) == batch


def test_without_shares_every_frame_counts_the_same(pair: list[str]) -> None:
    segment = read_experience(pair, Config(), CPU).sample(4000, 3, generator())
    assert (segment.obs[:, 0, 0, 0] == BRIGHT).float().mean() == pytest.approx(1 / 11, abs=0.02)


def test_one_path_draws_what_it_drew_before(pair: list[str]) -> None:
    one, listed = (read_experience(dataset, Config(), CPU) for dataset in (pair[0], [pair[0]]))
    assert one.mixture is None
    assert listed.mixture is None
    a, b = (replay.sample(64, 3, generator()) for replay in (one, listed))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_each_dataset_is_checked_by_itself(pair: list[str], tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "other", 3, episodes=1, action=17)
    with pytest.raises(UserError, match="other holds action 17 but Breakout has 4 actions"):
        read_experience([*pair, other], Config(), CPU)


def test_the_digest_tells_other_shares(pair: list[str]) -> None:
    digests = {
        read_experience([f"{pair[0]}:{a}", f"{pair[1]}:{b}"], Config(), CPU).digest()
        for a, b in [(0.5, 0.5), (0.1, 0.9)]
    }
    assert len(digests) == 2


@pytest.mark.slow
def test_a_run_on_several_datasets_resumes_exactly_and_takes_no_other_shares(pair: list[str], tmp_path: Path) -> None:
    argv = ["env=Breakout", *TINY, f"dataset=[{pair[0]}:0.5,{pair[1]}:0.5]"]
    folders = [tmp_path / "whole", tmp_path / "in parts"]
    for folder in folders:
        folder.mkdir()
    whole = train(*argv, "final_epochs=2", cwd=folders[0])
    part = train(*argv, cwd=folders[1])
    other = adamas("train", f"resume={part}", f"dataset=[{pair[0]}:0.1,{pair[1]}:0.9]", cwd=folders[1])
    assert other.returncode == 2
    assert "does not hold what that of the run held" in other.stderr
    done = adamas("train", f"resume={part}", "final_epochs=2", cwd=folders[1])
    assert done.returncode == 0, done.stderr
    a, b = (final_parts(folder)["models"] for folder in (whole, part))
    for name in ("denoiser", "reward_end", "actor_critic"):
        assert all(torch.equal(a[name][key], b[name][key]) for key in a[name])


@given(st.floats(1e-7, 0.999))
def test_a_share_is_the_same_number_when_it_is_read_again(share: float) -> None:
    typed = [f"a:{Decimal(share):f}", f"b:{Decimal(1 - share):f}"]
    assert parts_of(with_paths(typed, ["c", "d"])) == [Part("c", share), Part("d", 1 - share)]
