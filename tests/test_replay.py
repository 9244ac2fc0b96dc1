"""The replay against a slow and obvious one: Python lists of episodes."""

from __future__ import annotations

import os
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from helpers import generator, read_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from adamas.config import Config
from adamas.data.batch import Segment
from adamas.data.frames import to_float, to_uint8
from adamas.data.replay import Replay
from adamas.training.datasets import read_experience
from adamas.utils.errors import UserError

SHAPE = (1, 2)  # a frame spells the number of its row: two digits to the base of 256
FAST = settings(max_examples=60, deadline=None)
DISK = settings(max_examples=12, deadline=None)


class Row(NamedTuple):
    id: int
    action: int = 0
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    final: bool = False


Episodes = list[list[Row]]


@st.composite
def stories(draw: st.DrawFn) -> Episodes:
    """Ended episodes (each with its final frame) of random lengths, then perhaps one that goes on."""
    ends = draw(st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), max_size=12))
    running = draw(st.integers(0 if ends else 1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    episodes = [[_step(rng) for _ in range(length)] for length, _, _ in ends]
    for episode, (_, terminated, truncated) in zip(episodes, ends, strict=True):
        episode[-1] = episode[-1]._replace(terminated=terminated, truncated=truncated or not terminated)
        episode.append(Row(0, final=True))
    if running:
        episodes.append([_step(rng) for _ in range(running)])
    numbers = iter(range(10_000))
    return [[row._replace(id=next(numbers)) for row in episode] for episode in episodes]


def _step(rng: np.random.Generator) -> Row:
    return Row(0, action=int(rng.integers(1, 18)), reward=float(rng.integers(-3, 8)) / 2)


def frame(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    image = np.zeros(shape, np.uint8)
    image.flat[:2] = divmod(number, 256)
    return image


def number(image: torch.Tensor) -> int:
    return int(image.flatten()[0]) * 256 + int(image.flatten()[1])


def steps(episodes: Episodes, shape: tuple[int, int] = SHAPE) -> list[tuple]:
    """The calls of `Replay.add` that tell the story."""
    calls = []
    for episode in episodes:
        for row, after in zip(episode, [*episode[1:], Row(9_999)], strict=True):
            if not row.final:
                calls.append((frame(row.id, shape), *row[1:5], frame(after.id, shape)))
    return calls


def filled(episodes: Episodes, capacity: int = 1, **options: object) -> Replay:
    replay = Replay(capacity, frame_shape=SHAPE, **options)
    for call in steps(episodes):
        replay.add(*call)
    return replay


def fixed_story(lengths: list[int]) -> Episodes:
    """Terminated episodes of these numbers of steps."""
    numbers, episodes = iter(range(10_000)), []
    for length in lengths:
        episode = [Row(next(numbers), action=1) for _ in range(length)]
        episode[-1] = episode[-1]._replace(terminated=True)
        episodes.append([*episode, Row(next(numbers), final=True)])
    return episodes


def same(one: Segment, other: Segment) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def check_segment(segment: Segment, b: int, episodes: Episodes) -> tuple[list[Row], int]:
    """Asserts that segment `b` is a window of one episode, with padding as promised. Returns the episode and the
    position in it, possibly negative, at which the segment begins."""
    length = segment.mask.shape[1]
    anchor = int(segment.mask[b].nonzero()[0])
    wanted = number(segment.obs[b, anchor])
    episode = next(episode for episode in episodes if episode[0].id <= wanted <= episode[-1].id)
    start = wanted - episode[0].id - anchor
    for t in range(length):
        inside = 0 <= start + t < len(episode)
        row = episode[min(max(start + t, 0), len(episode) - 1)]
        expected = (row.id, *row[1:4], False, True) if inside else (row.id, 0, 0.0, *[False] * 3)
        assert (number(segment.obs[b, t]), *(column[b, t].item() for column in segment[1:])) == expected
    return episode, start


@FAST
@given(stories(), st.integers(1, 8), st.data())
def test_a_sample_is_a_window_of_one_episode_around_a_row(episodes: Episodes, length: int, data: st.DataObject) -> None:
    first_target = data.draw(st.integers(0, length - 1))
    replay = filled(episodes, capacity=data.draw(st.sampled_from([1, 100])))
    segment = replay.sample(16, length, generator(data.draw(st.integers(0, 9))), first_target)
    assert segment.obs.shape == (16, length, *SHAPE)
    assert [column.dtype for column in segment] == [torch.uint8, torch.int64, torch.float32] + [torch.bool] * 3
    for b in range(16):
        episode, start = check_segment(segment, b, episodes)
        assert any(0 <= start + place < len(episode) for place in range(first_target, length))


@FAST
@given(stories(), st.integers(1, 8), st.integers(0, 9))
def test_a_context_ends_where_one_can_act(episodes: Episodes, length: int, seed: int) -> None:
    context = filled(episodes).sample_contexts(16, length, generator(seed))
    for frames, actions in zip(context.obs, context.action, strict=True):
        newest = number(frames[-1])
        episode = next(episode for episode in episodes if episode[0].id <= newest <= episode[-1].id)
        places = range(newest - episode[0].id - length + 1, newest - episode[0].id + 1)
        assert not episode[places[-1]].final
        assert [number(frame) for frame in frames] == [episode[max(place, 0)].id for place in places]
        assert actions.tolist() == [episode[place].action if place >= 0 else 0 for place in places[:-1]]


@FAST
@given(stories())
def test_counts(episodes: Episodes) -> None:
    replay = filled(episodes)
    played = [row for episode in episodes for row in episode if not row.final]
    assert (replay.num_steps, replay.num_episodes) == (len(played), len(episodes))
    assert replay.num_rows == sum(map(len, episodes))
    signs = [int(np.sign(row.reward)) for row in played]
    assert replay.reward_counts == {sign: signs.count(sign) for sign in (-1, 0, 1)}


def test_every_row_can_be_drawn_at_every_place() -> None:
    episodes = fixed_story([3, 1, 4, 2, 5])
    rows = {row.id for episode in episodes for row in episode}
    actable = {row.id for episode in episodes for row in episode if not row.final}
    replay = filled(episodes)
    segment = replay.sample(8_000, 4, generator(), first_target=2)
    for place in (2, 3):
        assert {number(obs) for obs in segment.obs[segment.mask[:, place], place]} == rows  # final frames too
    contexts = replay.sample_contexts(2_000, 3, generator())
    assert {number(obs) for obs in contexts.obs[:, -1]} == actable


def test_places_are_uniform() -> None:
    episodes = [[Row(i, 1) for i in range(1_000)]]
    segment = filled(episodes, age_weights=(1.0,)).sample(40_000, 6, generator(), first_target=2)
    starts = np.array([number(obs) for obs in segment.obs[:, 0]])
    inner = np.bincount(starts, minlength=1_000)[10:990]  # away from the ends every start is as likely
    assert abs(inner.mean() - 40) < 1
    whole = segment.mask.all(1).double().mean()
    clipped = np.mean([(row - place < 0) or (row - place + 5 > 999) for row in range(1_000) for place in range(2, 6)])
    assert abs(1 - whole - clipped) < 5 * (clipped / 40_000) ** 0.5


def test_the_share_of_events_is_drawn_from_all_steps_with_a_reward_or_an_end() -> None:
    episodes = fixed_story([400, 600])
    for where, reward in ((50, 1.0), (51, -2.0), (300, 0.5)):
        episodes[1][where] = episodes[1][where]._replace(reward=reward)
    ends = {episode[-2].id for episode in episodes}
    events = ends | {episodes[1][where].id for where in (50, 51, 300)}
    replay = filled(episodes)
    segment = replay.sample(4_000, 5, generator(), event_share=0.75)
    whole = segment.mask & ((segment.reward != 0) | segment.terminated)
    whole = whole[:, :-1] & segment.mask[:, 1:]  # the frame that the step led to is there too
    seen = [number(segment.obs[i, t]) for i, t in whole.nonzero().tolist()]
    assert set(seen) == events
    assert 0.75 <= whole.any(1).double().mean() < 0.8  # a few more by chance
    shares = np.array([seen.count(event) for event in sorted(events - {51 + 401})]) / 3_000
    assert shares[[0, -1]] == pytest.approx([0.2, 0.2], abs=0.03)
    places = torch.bincount(whole[:3_000].int().argmax(1), minlength=4)
    assert places.min() > 500
    restored = replay.sample(4_000, 5, generator(), event_share=0.0)
    assert same(restored, replay.sample(4_000, 5, generator()))


def bouncing(lengths: list[int]) -> tuple[Replay, set[int]]:
    """Episodes of a ball that flies to and fro, where actions number the rows; and the rows in which it has just turned
    or had so at most two frames before."""
    replay, turns = Replay(100, frame_shape=(40, 40)), set()
    for length in lengths:
        first, frames, place, step = replay.num_rows, torch.zeros(length, 40, 40, dtype=torch.uint8), 5, 5
        for t in range(length):
            frames[t, 10:12, place : place + 2] = 110
            if not 5 <= place + step <= 30:
                step = -step
                turns |= {first + t + after for after in (1, 2, 3) if t >= 2 and t + after < length}
            place += step
        for t in range(length - 1):
            replay.add(frames[t], first + t, 0.0, t == length - 2, False, frames[t + 1])
            replay.sample(2, 1, generator(), direction_change_share=0.5 * (t % 9 == 0))  # turns are found as rows come
    return replay, turns


@pytest.mark.parametrize("scan", [1, 2, 7, 2048])
def test_the_share_of_direction_changes_is_drawn_from_all_frames_in_or_just_after_one(scan, monkeypatch) -> None:
    monkeypatch.setattr("adamas.data.direction_changes.SCAN", scan)
    replay, turns = bouncing([27, 4, 3, 2, 38, 5, 40])
    assert len(turns) > 20
    segment = replay.sample(6_000, 6, generator(), first_target=5, direction_change_share=0.5)
    rows = segment.action[:3_000, 4] + 1  # at the last index: a final frame has no action that could name it
    assert segment.mask[:3_000, 3:].all()
    count = torch.bincount(rows)
    assert set(rows.tolist()) == turns
    even = 3_000 / len(turns)
    assert (count[count > 0] - even).abs().max() < 5 * even**0.5
    others = (segment.action[3_000:, 4] + 1)[segment.mask[3_000:, 4]]
    assert torch.isin(others, torch.tensor(sorted(turns))).double().mean() < 0.6


def test_without_any_event_all_segments_are_ordinary() -> None:
    replay = filled([[Row(i, 1) for i in range(20)]])
    assert same(replay.sample(8, 3, generator(), event_share=0.5), replay.sample(8, 3, generator()))


def test_without_any_direction_change_all_segments_are_ordinary() -> None:
    replay, turns = bouncing([6, 5])
    assert not turns
    assert same(replay.sample(8, 3, generator(), direction_change_share=0.5), replay.sample(8, 3, generator()))


def age_groups(count: int, groups: int) -> list[range]:
    """The episodes of each, oldest first: as many in each, and the newest group has what is left over."""
    each = count // groups
    return [range(g * each, (g + 1) * each if g < groups - 1 else count) for g in range(groups)]


@FAST
@given(st.integers(1, 5), st.integers(0, 18), st.data())
def test_a_sample_comes_from_the_age_group_that_has_all_the_weight(groups: int, more: int, data: st.DataObject) -> None:
    count = groups + more
    episodes = fixed_story(data.draw(st.lists(st.integers(1, 6), min_size=count, max_size=count)))
    chosen = data.draw(st.integers(0, groups - 1))
    replay = filled(episodes, age_weights=[float(g == chosen) for g in range(groups)])
    drawn = {number(obs) for obs in replay.sample(50, 1, generator()).obs[:, 0]}
    assert drawn <= {row.id for e in age_groups(count, groups)[chosen] for row in episodes[e]}


@pytest.mark.parametrize(
    ("lengths", "weights"),
    [
        ([3, 9, 1, 5, 5, 2, 8, 30, 1, 1, 4], (0.1, 0.1, 0.1, 0.7)),
        ([4, 20, 2, 7], (0, 0.5, 0.25, 0.25)),
        ([4, 20], (0.3, 0.1, 0.1, 0.5)),  # fewer episodes than groups
        ([4, 20], (0, 0, 0, 1)),
    ],
)
def test_groups_get_their_share_and_so_do_the_episodes_of_a_group_and_the_rows_of_an_episode(
    lengths: list[int], weights: tuple
) -> None:
    episodes, draws = fixed_story(lengths), 40_000
    segment = filled(episodes, age_weights=weights).sample(draws, 1, generator(1))
    count = np.bincount([number(obs) for obs in segment.obs[:, 0]], minlength=episodes[-1][-1].id + 1)
    chance = {}
    for group, share in zip(age_groups(len(lengths), 4), weights, strict=True):
        chance |= {row.id: share / len(group) / len(episodes[e]) for e in group for row in episodes[e]}
    if len(lengths) < 4:
        chance = dict.fromkeys(range(len(count)), 1 / len(count))
    assert sum(chance.values()) == pytest.approx(1)
    for row, p in chance.items():
        assert abs(count[row] / draws - p) <= 5 * (p / draws) ** 0.5


def test_sampling_depends_on_the_generator_alone() -> None:
    replay = filled(fixed_story([3, 7, 2, 9]))
    torch.manual_seed(1)
    one, state = replay.sample(32, 5, generator(3)), torch.get_rng_state()
    torch.manual_seed(2)
    assert same(one, replay.sample(32, 5, generator(3)))
    assert not same(one, replay.sample(32, 5, generator(4)))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


def test_what_cannot_be_sampled_or_stored_says_so() -> None:
    with pytest.raises(ValueError, match="empty"):
        Replay(5, frame_shape=SHAPE).sample(1, 1, generator())
    with pytest.raises(TypeError, match=r"uint8, not torch\.float32"):
        Replay(5, frame_shape=SHAPE).add(np.zeros(SHAPE, np.float32), 0, 0.0, False, False, frame(0))


def test_memory_of_100k_steps() -> None:
    replay = Replay(100_000)
    assert sum(column.nbytes for column in replay._columns.values()) < 0.75e9
    before = resident()
    for i in range(1_000):
        replay.add(np.full((84, 84), i % 256, np.uint8), 0, 0.0, i % 20 == 19, False, np.zeros((84, 84), np.uint8))
    if before is not None:  # only rows that were written take memory
        assert resident() - before < 30e6


def resident() -> int | None:
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if path.exists() else None


@DISK
@given(stories(), st.data())
def test_a_restored_replay_goes_on_as_if_never_interrupted(episodes: Episodes, data: st.DataObject) -> None:
    calls = steps(episodes)
    saves = data.draw(st.lists(st.integers(0, len(calls)), max_size=3).map(sorted))
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        replay, twin = Replay(1, frame_shape=SHAPE), Replay(1, frame_shape=SHAPE)
        for i, call in enumerate(calls):
            for _ in range(saves.count(i)):
                manifest = twin.save(Path(other))
                assert replay.save(Path(one)) == manifest
                replay = Replay(1, frame_shape=SHAPE)
                replay.load(Path(one), manifest)
                if i:
                    assert same(replay.sample(9, 4, generator(i)), twin.sample(9, 4, generator(i)))
            replay.add(*call)
            twin.add(*call)
        assert replay.save(Path(one)) == twin.save(Path(other))
        assert same(replay.sample(64, 4, generator()), twin.sample(64, 4, generator()))
        assert {p.name: p.read_bytes() for p in Path(one).iterdir()} == {
            p.name: p.read_bytes() for p in Path(other).iterdir()
        }


def test_every_grey_level_survives_100_rounds_of_saving_loading_and_floats(tmp_path: Path) -> None:
    """By way of a checkpoint and of a dataset in turn."""
    levels = (torch.arange(84 * 84) % 256).to(torch.uint8).reshape(84, 84)
    picture = levels
    for i in range(100):
        replay, folder = Replay(1), tmp_path / str(i)
        replay.add(picture, 0, 0.0, False, False, picture)
        manifest = replay.save(folder)
        if i % 2:
            loaded = read_dataset(folder, [1.0])
        else:
            loaded = Replay(1)
            loaded.load(folder, manifest)
        picture = to_uint8(to_float(loaded.sample(1, 1, generator()).obs[0, 0]))
    assert torch.equal(picture, levels)


def test_a_save_writes_only_what_is_new(tmp_path: Path) -> None:
    episodes = fixed_story([4, 30, 6])
    replay = filled(episodes[:1])
    replay.save(tmp_path)
    (first,) = tmp_path.iterdir()
    before = (first.name, first.stat().st_mtime_ns, first.read_bytes())
    for call in steps(episodes[1:2]):
        replay.add(*call)
    manifest = replay.save(tmp_path)
    assert before == (first.name, first.stat().st_mtime_ns, first.read_bytes())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows-00000000-00000005.npz", "rows-00000005-00000036.npz"]
    with np.load(tmp_path / "rows-00000005-00000036.npz", allow_pickle=False) as file:
        assert [number(torch.from_numpy(obs)) for obs in file["obs"]] == list(range(5, 36))
        assert file["final"].tolist() == [False] * 30 + [True]
    assert replay.save(tmp_path) == manifest
    assert manifest["rows"] == 36
    assert len(list(tmp_path.iterdir())) == 2


def test_a_manifest_is_plain_data_and_a_copy(tmp_path: Path) -> None:
    replay = filled(fixed_story([4]))
    manifest = replay.save(tmp_path / "replay")
    torch.save(manifest, tmp_path / "manifest.pt")
    assert torch.load(tmp_path / "manifest.pt", weights_only=True) == manifest
    replay.add(*steps(fixed_story([1]))[0])
    assert replay.save(tmp_path / "replay") != manifest


@pytest.mark.parametrize("where", [0.0, 0.3, 0.6, 0.99])
def test_a_flipped_bit_is_caught(tmp_path: Path, where: float) -> None:
    replay = filled(fixed_story([4, 30]))
    manifest = replay.save(tmp_path)
    (chunk,) = tmp_path.iterdir()
    damage(chunk, where)
    fresh = Replay(1, frame_shape=SHAPE)
    with pytest.raises(UserError, match=f"{chunk.name} is damaged") as error:
        fresh.load(tmp_path, manifest)
    assert "\n" not in str(error.value)
    assert fresh.num_rows == 0


def damage(path: Path, where: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 4
    path.write_bytes(content)


def test_a_missing_chunk_is_named_and_nothing_is_half_loaded(tmp_path: Path) -> None:
    replay = filled(fixed_story([4]))
    replay.save(tmp_path)
    for call in steps(fixed_story([3])):
        replay.add(*call)
    manifest = replay.save(tmp_path)
    (tmp_path / manifest["chunks"][1]["name"]).unlink()
    fresh = Replay(1, frame_shape=SHAPE)
    with pytest.raises(UserError, match=r"rows-00000005-00000009\.npz is missing"):
        fresh.load(tmp_path, manifest)
    assert fresh.num_rows == 0
    with pytest.raises(ValueError, match="empty"):
        replay.load(tmp_path, manifest)


@pytest.mark.parametrize("lost", [3, 5, 9])
def test_chunks_that_outlived_their_checkpoint_are_ignored_and_then_removed(tmp_path: Path, lost: int) -> None:
    kept, abandoned, again = fixed_story([4]), fixed_story([lost, lost]), fixed_story([5])
    replay = filled(kept)
    manifest = replay.save(tmp_path)
    for episode in abandoned:
        for call in steps([episode]):
            replay.add(*call)
        replay.save(tmp_path)
    (tmp_path / "rows-00000005-00000777.tmp").write_bytes(b"killed while writing")
    restored, twin = Replay(1, frame_shape=SHAPE), filled(kept)
    restored.load(tmp_path, manifest)
    assert same(restored.sample(64, 4, generator()), twin.sample(64, 4, generator()))
    for call in steps(again):
        restored.add(*call)
        twin.add(*call)
    manifest = restored.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [chunk["name"] for chunk in manifest["chunks"]]
    fresh = Replay(1, frame_shape=SHAPE)
    fresh.load(tmp_path, manifest)
    assert same(fresh.sample(64, 4, generator()), twin.sample(64, 4, generator()))


def test_a_save_that_fails_leaves_the_last_one_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = filled(fixed_story([4]))
    manifest = replay.save(tmp_path)
    replay.add(*steps(fixed_story([1]))[0])
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space left"):
            replay.save(tmp_path)
    fresh = Replay(1, frame_shape=SHAPE)
    fresh.load(tmp_path, manifest)
    assert fresh.num_rows == 5
    assert replay.save(tmp_path)["rows"] == 7


# All pairs of frames


@given(stories(), st.integers(1, 40))
def test_transitions_are_the_steps_whose_next_frame_is_known_each_once(story: Episodes, most: int) -> None:
    pairs = [(one.id, two.id) for episode in story for one, two in pairwise(episode)]
    chunks = list(filled(story).frame_pairs(most, generator()))
    found = [(number(a), number(b)) for before, after in chunks for a, b in zip(before, after, strict=True)]
    assert len(found) == len(set(found)) == min(most, len(pairs))
    assert set(found) <= set(pairs)


# Datasets: 84x84 frames in .npz files


def columns(rows: list[Row]) -> dict[str, np.ndarray]:
    names = ("action", "reward", "terminated", "truncated", "final")
    dtypes = ("uint8", "float32", "bool", "bool", "bool")
    small = {
        name: np.array([getattr(row, name) for row in rows], dtype) for name, dtype in zip(names, dtypes, strict=True)
    }
    return {"obs": np.stack([frame(row.id, (84, 84)) for row in rows]), **small}


def write(path: Path, rows: list[Row]) -> Path:
    np.savez_compressed(path, **columns(rows))
    return path


def test_the_replay_folder_of_a_run_is_a_dataset(tmp_path: Path) -> None:
    replay, twin = Replay(1), Replay(100)
    for i, call in enumerate(steps([*fixed_story([4, 7]), [Row(50, 2), Row(51, 3)]], (84, 84))):
        if i in (2, 3, 8):  # in the middle of episodes
            replay.save(tmp_path)
        replay.add(*call)
        twin.add(*call)
    replay.save(tmp_path)
    dataset = read_dataset(tmp_path, (0.1, 0.1, 0.1, 0.7))
    assert (dataset.num_steps, dataset.num_episodes) == (13, 3)
    assert same(dataset.sample(64, 5, generator()), twin.sample(64, 5, generator()))


def test_a_file_of_another_name_ends_its_episode(tmp_path: Path) -> None:
    write(tmp_path / "b.npz", [Row(10, 1), Row(11, 1, 1.0, True), Row(12, 2), Row(13, 2)])  # no final frame
    write(tmp_path / "a.npz", [Row(0, 1), Row(1, 1)])
    dataset = read_dataset(tmp_path, (1.0,))
    assert (dataset.num_steps, dataset.num_rows, dataset.num_episodes) == (6, 6, 3)
    episodes = [[Row(0, 1), Row(1, 1, truncated=True)], [Row(10, 1), Row(11, 1, 1.0, True)], [Row(12, 2), Row(13, 2)]]
    segment = dataset.sample(64, 4, generator())
    assert len({check_segment(segment, b, episodes)[0][0].id for b in range(64)}) == 3
    assert read_dataset(tmp_path / "a.npz", (1.0,)).num_rows == 2


def test_a_dataset_that_cannot_be_used_says_what_is_wrong(tmp_path: Path) -> None:
    def wrong(name: str, match: str, **changes: np.ndarray | None) -> None:
        folder = tmp_path / name
        folder.mkdir()
        good = columns(fixed_story([3])[0])
        np.savez(folder / "x.npz", **{k: v for k, v in {**good, **changes}.items() if v is not None})
        refused(folder, rf"x\.npz.*{match}")

    def refused(path: Path, match: str) -> None:
        with pytest.raises(UserError, match=match) as error:
            read_dataset(path, (1.0,))
        assert "\n" not in str(error.value)

    wrong("lacking", "column 'reward' is missing", reward=None)
    wrong("lacking_final", "column 'final' is missing", final=None)
    wrong("floats", r"column 'obs' is float32 \(4, 84, 84\), but must be uint8", obs=np.zeros((4, 84, 84), np.float32))
    wrong("colour", r"column 'obs' is uint8 \(4, 64, 64, 3\), but must be", obs=np.zeros((4, 64, 64, 3), np.uint8))
    wrong("short", r"column 'action' is uint8 \(3,\)", action=np.zeros(3, np.uint8))
    wrong("nan", "'reward' holds a number that is not finite", reward=np.array([0, 0, np.nan, 0], np.float32))
    wrong("wide", "column 'action' is int64", action=np.zeros(4, np.int64))
    wrong("code", "cannot be read", reward=np.array([print] * 4, object))
    wrong("first", "row 0 is 'final', but no step of its episode comes", final=np.array([True, False, False, False]))
    no, twice = np.zeros(4, bool), np.array([False, True, True, False])
    wrong("twice", "row 2 is 'final', but no step of its episode comes", final=twice, terminated=no, truncated=no)
    wrong("ends", "row 2 is 'final'.* or it ends one itself", final=np.array([False, False, True, False]))
    wrong("scalar", r"column 'obs' is uint8 \(4, 84, 84\), but must be uint8 \(1, 84, 84\)", final=np.array(True))
    refused(tmp_path / "nowhere", "nowhere is neither a folder nor")
    (tmp_path / "bare").mkdir()
    refused(tmp_path / "bare", "bare holds no .npz file")
    (tmp_path / "bare" / "x.npz").write_bytes(b"not a zip")
    refused(tmp_path / "bare", r"x\.npz cannot be read")
    np.savez(tmp_path / "bare" / "x.npz", **{k: v[:0] for k, v in columns([Row(0)]).items()})
    refused(tmp_path / "bare", "holds no rows")


def test_a_gap_between_chunks_of_a_dataset_is_named(tmp_path: Path) -> None:
    write(tmp_path / "rows-00000000-00000002.npz", [Row(0), Row(1)])
    write(tmp_path / "rows-00000004-00000005.npz", [Row(4)])
    with pytest.raises(UserError, match=r"rows-00000004-00000005.npz does not go on where rows-00000000-00000002.npz"):
        read_dataset(tmp_path, (1.0,))


def test_a_transition_is_valid_between_two_frames_that_exist() -> None:
    mask = torch.tensor([[False, True, True, True, False]])
    segment = Segment(*(torch.zeros(1, 5) for _ in range(5)), mask)
    assert segment.valid.tolist() == [[False, True, True, False]]


def test_a_frame_that_ends_an_episode_of_which_nothing_else_is_there_is_left_out(tmp_path: Path) -> None:
    """As where a chunk of a run is taken alone: nobody could act on it, and nothing led to it."""
    rows = columns(fixed_story([3])[0])
    path = tmp_path / "rows-00000004-00000009.npz"
    last = {name: np.concatenate([column[-1:], column]) for name, column in rows.items()}
    np.savez(path, **last)
    dataset = read_dataset(path, [1.0])
    assert (dataset.num_rows, dataset.num_episodes) == (4, 1)
    assert not dataset.rows(0)["final"][0]
    dataset.sample_contexts(16, 2, generator())


def test_a_file_of_such_a_frame_alone_adds_no_episode(tmp_path: Path) -> None:
    rows = columns(fixed_story([3])[0])
    np.savez(tmp_path / "rows-00000004-00000005.npz", **{name: column[-1:] for name, column in rows.items()})
    np.savez(tmp_path / "rows-00000005-00000009.npz", **rows)
    dataset = read_dataset(tmp_path, [1.0])
    assert (dataset.num_rows, dataset.num_episodes, dataset.count_transitions(0, 4)) == (4, 1, 3)
    with pytest.raises(UserError, match="holds no step that leads to another frame"):
        read_experience(tmp_path / "rows-00000004-00000005.npz", Config(), torch.device("cpu"))
