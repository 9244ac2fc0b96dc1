"""The Fréchet distance against closed forms and torchmetrics, its two encoders, and what is kept between evaluations."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from adamas.config import Atari
from adamas.envs.atari import AtariEnv
from adamas.evaluation import random_encoder
from adamas.evaluation.frechet import Statistics, cached_statistics, compare, frechet_distance, statistics
from adamas.evaluation.inception import Inception, load_inception
from adamas.evaluation.random_encoder import NAME, load_encoder, random_filters
from adamas.utils.errors import UserError

D = 5
FAST = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**16)
COUNT = 200  # frames a set of real ones
KEY = {"encoder": NAME, "game": "Pong", "count": 3, "seed": 0}


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(seed: int, d: int = D) -> Tensor:
    return torch.linalg.qr(random(seed, d, d)).Q


def normal(seed: int, d: int = D) -> Statistics:
    """Any mean and any covariance of full rank."""
    root = random(seed, d, d)
    return Statistics(random(seed + 1, d), root @ root.T + 0.1 * torch.eye(d), 100)


def turned(s: Statistics, q: Tensor) -> Statistics:
    return Statistics(q @ s.mean, q @ s.covariance @ q.T, s.count)


def identity(features: Tensor) -> Tensor:
    return features


# The distance.


@FAST
@given(st.lists(st.tuples(*[st.floats(-3, 3)] * 2, *[st.floats(0, 4)] * 2), min_size=1, max_size=6), SEEDS)
def test_deviations_along_the_same_axes_are_compared_one_by_one(axes: list[tuple[float, ...]], seed: int) -> None:
    """Each axis adds (m_a - m_b)^2 + (s_a - s_b)^2, however the axes lie in space; a deviation may be 0."""
    m_a, m_b, s_a, s_b = torch.tensor(axes, dtype=torch.float64).T
    q = rotation(seed, len(axes))
    a, b = (turned(Statistics(m, torch.diag(s**2), 9), q) for m, s in ((m_a, s_a), (m_b, s_b)))
    expected = ((m_a - m_b) ** 2 + (s_a - s_b) ** 2).sum().item()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@FAST
@given(SEEDS, SEEDS)
def test_covariances_that_do_not_commute(seed: int, other: int) -> None:
    """The eigenvalues of the product, whose roots sum to the trace of its root."""
    a, b = normal(seed), normal(other)
    roots = torch.linalg.eigvals(a.covariance @ b.covariance).sqrt().real.sum()
    expected = (a.mean - b.mean).square().sum() + torch.trace(a.covariance + b.covariance) - 2 * roots
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("d", [2, 128])
def test_covariances_of_rank_1(d: int) -> None:
    """Those of u and v: |u|^2 + |v|^2 - 2 |u v|, to almost all digits."""
    u, v = random(0, d), random(1, d)
    a, b = (Statistics(torch.zeros(d, dtype=torch.float64), torch.outer(x, x), 2) for x in (u, v))
    expected = u.dot(u) + v.dot(v) - 2 * u.dot(v).abs()
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-11)


def test_frames_that_are_all_the_same() -> None:
    still = Statistics(torch.zeros(D, dtype=torch.float64), torch.zeros(D, D, dtype=torch.float64), 9)
    moving = normal(0)
    assert frechet_distance(still, still) == 0
    assert frechet_distance(still, moving) == pytest.approx(
        (moving.mean.square().sum() + moving.covariance.trace()).item()
    )


@FAST
@given(SEEDS, SEEDS, st.integers(2, 12))
def test_it_is_symmetric_never_negative_and_0_from_a_set_to_itself(seed: int, other: int, count: int) -> None:
    """Also with fewer frames than features."""
    a, b = (statistics([random(s, count, D)], identity) for s in (seed, other))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9, abs=1e-12)
    assert frechet_distance(a, b) >= 0
    assert 0 <= frechet_distance(a, a) < 1e-12 * a.covariance.trace().item()


@FAST
@given(SEEDS, SEEDS, SEEDS, st.floats(0.1, 10))
def test_space_may_be_turned_and_scaled(seed: int, other: int, turn: int, scale: float) -> None:
    a, b, q = normal(seed), normal(other), scale * rotation(turn)
    assert frechet_distance(turned(a, q), turned(b, q)) == pytest.approx(
        scale**2 * frechet_distance(a, b), rel=1e-8, abs=1e-9
    )


class Corner(nn.Module):
    """uint8 (B, 3, H, W) -> float64 (B, 4): some pixels, so that torchmetrics counts in double precision too."""

    num_features = 4

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, :2, :2].flatten(1).double()


@FAST
@given(SEEDS, st.integers(2, 40), st.integers(2, 40))
def test_torchmetrics_measures_the_same(seed: int, real_count: int, imagined_count: int) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance  # takes seconds

    generator = torch.Generator().manual_seed(seed)
    sets = [
        torch.randint(0, 256, (n, 4, 4), generator=generator, dtype=torch.uint8) for n in (real_count, imagined_count)
    ]
    metric = FrechetInceptionDistance(feature=Corner())
    for frames, real in zip(sets, (True, False), strict=True):
        metric.update(frames[:, None].expand(-1, 3, -1, -1), real=real)
    ours = frechet_distance(*(statistics(frames.split(7), Inception(Corner())) for frames in sets))
    assert ours == pytest.approx(metric.compute().item(), rel=1e-4)  # its roots lose digits where count <= D


# Statistics.


@FAST
@given(SEEDS, st.lists(st.integers(1, 9), min_size=1, max_size=8), st.sampled_from([0.0, 1e6]))
def test_any_split_into_batches_gives_the_same(seed: int, sizes: list[int], offset: float) -> None:
    """Also where the mean is a million times the deviation."""
    features = random(seed, sum(sizes) + 2, D) + offset
    s = statistics(features.split([*sizes, 2]), identity)
    assert s.count == len(features)
    assert s.mean.dtype == s.covariance.dtype == torch.float64
    np.testing.assert_allclose(s.mean, features.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(s.covariance, np.cov(features.T), rtol=1e-7, atol=1e-8)


def test_features_are_asked_for_batch_by_batch_and_without_gradient() -> None:
    network, asked = nn.Linear(3, 2), []

    def encode(frames: Tensor) -> Tensor:
        asked.append(frames.clone())
        return network(frames.float())

    frames = torch.arange(21, dtype=torch.uint8).reshape(7, 3)
    s = statistics(iter(frames.split(3)), encode)
    assert [len(batch) for batch in asked] == [3, 3, 1]
    assert torch.equal(torch.cat(asked), frames)
    assert not s.mean.requires_grad
    assert not s.covariance.requires_grad


@pytest.mark.parametrize("batches", [[], [torch.zeros(1, 2)]])
def test_a_covariance_takes_two_frames(batches: list[Tensor]) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        statistics(batches, identity)


# The ratio.


def shifted(s: Statistics, by: float) -> Statistics:
    return s._replace(mean=s.mean + by / D**0.5)


def test_the_ratio_is_of_imagined_to_real_over_real_to_real() -> None:
    real = normal(0)
    result = compare(shifted(real, 6), shifted(real, 2), real, "some encoder")
    assert result.distance == pytest.approx(36)
    assert result.real_distance == pytest.approx(4)
    assert result.ratio == pytest.approx(9)
    assert (result.count, result.encoder) == (100, "some encoder")


def test_where_real_frames_do_not_differ_the_ratio_is_infinite() -> None:
    real = Statistics(torch.zeros(D, dtype=torch.float64), torch.zeros(D, D, dtype=torch.float64), 100)
    assert compare(shifted(real, 1), real, real, "").ratio == float("inf")


@pytest.mark.parametrize("fewer", range(3))
def test_counts_must_be_the_same(fewer: int) -> None:
    sets = [normal(0)._replace(count=99 if i == fewer else 100) for i in range(3)]
    with pytest.raises(ValueError, match="counts"):
        compare(*sets, "")


# The cache.


class Compute:
    """Statistics of `seed`, and how often they were asked for."""

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.calls = seed, 0

    def __call__(self) -> Statistics:
        self.calls += 1
        return normal(self.seed, d=2)


def same(a: Statistics, b: Statistics) -> bool:
    equal = torch.equal(a.mean, b.mean) and torch.equal(a.covariance, b.covariance) and a.count == b.count
    return equal and a.mean.dtype == b.mean.dtype and a.covariance.dtype == b.covariance.dtype


def test_statistics_are_computed_once(tmp_path: Path) -> None:
    path, compute = tmp_path / "new" / "real.npz", Compute()
    results = [cached_statistics(path, KEY, compute) for _ in range(3)]
    results.append(cached_statistics(path, dict(reversed(KEY.items())), compute))
    assert compute.calls == 1
    assert all(same(result, normal(0, d=2)) for result in results)
    assert list(path.parent.iterdir()) == [path], "nothing else is left behind"


@pytest.mark.parametrize("name", KEY)
def test_another_key_is_another_cache(tmp_path: Path, name: str) -> None:
    path, other = tmp_path / "real.npz", Compute(1)
    cached_statistics(path, KEY, Compute())
    for _ in range(2):
        assert same(cached_statistics(path, {**KEY, name: "other"}, other), normal(1, d=2))
    assert other.calls == 1


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A cache, and what it held when it was whole."""
    path = tmp_path_factory.mktemp("cache") / "real.npz"
    cached_statistics(path, KEY, Compute())
    return path, path.read_bytes()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_computed_again(damaged: tuple[Path, bytes], data: st.DataObject) -> None:
    """One byte changed, or all from some byte on cut off: the answer is right, if not always computed again."""
    path, whole = damaged
    place, change = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    path.write_bytes(whole[:place] + (bytes([whole[place] ^ change]) + whole[place + 1 :] if change else b""))
    compute = Compute()
    for _ in range(2):
        assert same(cached_statistics(path, KEY, compute), normal(0, d=2))
    assert compute.calls <= 1
    if change == 0:
        assert compute.calls == 1
        assert path.read_bytes() == whole


class Bomb:
    def __reduce__(self) -> tuple:
        return (pytest.fail, ("the file ran code",))


def npz(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("content", [b"", b"text", npz(mean=1.0), npz(key=np.array(Bomb(), dtype=object))])
def test_a_foreign_file_is_replaced_and_runs_no_code(tmp_path: Path, content: bytes) -> None:
    path, compute = tmp_path / "real.npz", Compute()
    path.write_bytes(content)
    for _ in range(2):
        assert same(cached_statistics(path, KEY, compute), normal(0, d=2))
    assert compute.calls == 1


# The random encoder.


def picture() -> Tensor:
    """Frames uint8 (6, 84, 84) that differ."""
    y, x = torch.arange(84)[:, None], torch.arange(84)
    return torch.stack([x * y * k // 7 % 256 for k in range(1, 7)]).to(torch.uint8)


def test_the_filters_are_those_that_the_name_stands_for() -> None:
    assert load_encoder().sha256() == "8cbc6d4c7556ca24ebd27b23a776894881bf1d69be5047f714646445e21fa994"


def test_other_filters_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_encoder, "random_filters", lambda *label: random_filters(*label) + 1e-6)
    with pytest.raises(RuntimeError, match=NAME):
        load_encoder()


def test_the_features_of_a_picture_stay_what_they_were() -> None:
    """Some of each layer: distances of older runs must go on meaning the same."""
    features = load_encoder()(picture())
    assert features.shape == (6, 128)
    assert features.dtype == torch.float32
    some = torch.tensor([-2.66699, -0.01768, 0.08195, 0.93438, 0.64183, 0.66306, 0.35952, 0.50652])
    torch.testing.assert_close(features[2, [0, 15, 16, 79, 80, 111, 112, 127]], some, rtol=1e-4, atol=1e-4)


def test_filters_have_mean_0_and_norm_1() -> None:
    filters = random_filters("any", 5, 7).double()
    torch.testing.assert_close(filters.mean(dim=(2, 3)), torch.zeros(7, 5, dtype=torch.float64), atol=1e-8, rtol=0)
    torch.testing.assert_close(filters.square().sum(dim=(1, 2, 3)), torch.ones(7, dtype=torch.float64))


@pytest.mark.parametrize("grey", [0, 87, 255])
def test_a_flat_frame_is_its_brightness_alone(grey: int) -> None:
    (features,) = load_encoder()(torch.full((1, 84, 84), grey, dtype=torch.uint8))
    torch.testing.assert_close(features[:16], torch.full((16,), 4 * (grey / 127.5 - 1)))
    assert features[16:].abs().max() < 1e-5


def test_a_ball_is_seen_in_its_cell() -> None:
    frames = torch.zeros(1, 84, 84, dtype=torch.uint8)
    frames[0, 30:32, 50:52] = 200  # row 1, column 2 of the 4 x 4 cells
    (features,) = load_encoder()(frames)
    seen = features[16:80].reshape(4, 4, 4) > 0.05
    assert seen.any(dim=0).nonzero().tolist() == [[1, 2]]
    assert seen[:, 1, 2].all()


@pytest.mark.parametrize("size", [1, 4, 5])
def test_batches_do_not_matter(size: int) -> None:
    encoder = load_encoder()
    together, apart = encoder(picture()), torch.cat([encoder(batch) for batch in picture().split(size)])
    torch.testing.assert_close(apart, together, rtol=1e-5, atol=1e-5)


def test_nothing_global_matters() -> None:
    """Neither seed nor default dtype nor autocast, nor train(); and the encoder draws no random number."""
    expected = load_encoder()(picture())
    state = torch.random.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        encoder = load_encoder().train()
        with torch.autocast("cpu", torch.bfloat16):
            features = encoder(picture())
    finally:
        torch.set_default_dtype(torch.float32)
    assert features.dtype == torch.float32
    assert torch.equal(features, expected)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_it_is_frozen() -> None:
    encoder = load_encoder()
    assert not [p for p in encoder.parameters() if p.requires_grad]
    assert not encoder(picture()).requires_grad


# What the ratio makes of real frames.


def play(game: str, seed: int) -> Tensor:
    """uint8 (COUNT, 84, 84): every other frame of games of random actions."""
    env, rng = AtariEnv(game, Atari(), episodic_life=False), np.random.default_rng(seed)
    frame, _ = env.reset(seed=seed)
    frames = []
    while len(frames) < 2 * COUNT:
        frames.append(torch.from_numpy(frame))
        frame, _, terminated, truncated, _ = env.step(int(rng.integers(env.action_space.n)))
        if terminated or truncated:
            frame, _ = env.reset()
    return torch.stack(frames)[::2]


@pytest.fixture(scope="module", params=["Breakout", "Pong"])
def real(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    """Two sets of real frames, of other games."""
    return play(request.param, seed=0), play(request.param, seed=1)


def ratio(frames: Tensor, real: tuple[Tensor, Tensor]) -> float:
    encoder = load_encoder()
    return compare(*(statistics(s.split(100), encoder) for s in (frames, real[1], real[0])), NAME).ratio


def blurred(frames: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames.numpy()]))


def noisy(frames: Tensor, sigma: float) -> Tensor:
    noise = sigma * random(0, *frames.shape)
    return (frames + noise).round().clamp(0, 255).to(torch.uint8)


def test_real_frames_have_ratio_1(real: tuple[Tensor, Tensor]) -> None:
    assert ratio(real[1], real) == 1
    assert ratio(real[0], real) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("damage", "levels", "least"), [(blurred, (0.5, 1, 2), 1.2), (noisy, (4, 8, 16), 1.1)])
def test_damage_raises_the_ratio(
    real: tuple[Tensor, Tensor], damage: object, levels: tuple[float, ...], least: float
) -> None:
    ratios = [ratio(damage(real[1], level), real) for level in levels]
    assert ratios[0] > least
    assert ratios == sorted(ratios)
    assert ratios[2] > 4 * ratios[0]


def test_frames_that_lost_what_moves_raise_the_ratio(real: tuple[Tensor, Tensor]) -> None:
    """The ball, the paddles, the score and the bricks that are gone: none of them is in the median."""
    median = real[1].median(dim=0).values
    assert ratio(median.expand_as(real[1]), real) > 3


# Inception.


class Recorder(nn.Module):
    """A network of random features that remembers what it was shown."""

    def forward(self, images: Tensor) -> Tensor:
        self.images, self.autocast = images, torch.is_autocast_enabled("cpu")
        return images.flatten(1).float()


def test_inception_is_shown_grey_as_three_equal_colours_without_autocast() -> None:
    network = Recorder()
    with torch.autocast("cpu", torch.bfloat16):
        features = Inception(network)(picture())
    assert network.images.dtype == torch.uint8
    assert network.images.shape == (6, 3, 84, 84)
    assert all(torch.equal(network.images[:, colour], picture()) for colour in range(3))
    assert not network.autocast
    assert features.shape == (6, 3 * 84 * 84)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save({"layer": torch.ones(2)}, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def stand_in(monkeypatch: pytest.MonkeyPatch, metric: object) -> None:
    """Has torch-fidelity be there, and torchmetrics build `metric`."""
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setattr("torchmetrics.image.fid.FrechetInceptionDistance", metric)


def test_inception_comes_from_torchmetrics_and_the_weights_from_the_path(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a path torch-fidelity downloads nothing."""
    network, asked = Recorder(), []

    def metric(**options: object) -> types.SimpleNamespace:
        asked.append(options)
        return types.SimpleNamespace(inception=network)

    stand_in(monkeypatch, metric)
    assert load_inception(weights).network is network
    assert asked == [{"feature_extractor_weights_path": str(weights)}]


def test_weights_of_another_network_are_refused(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def metric(feature_extractor_weights_path: str) -> None:
        nn.Linear(1, 1).load_state_dict(torch.load(feature_extractor_weights_path))

    stand_in(monkeypatch, metric)
    with pytest.raises(UserError, match=r"weights\.pth does not hold the weights of torch-fidelity's Inception v3"):
        load_inception(weights)


@pytest.mark.parametrize("missing", ["torch_fidelity", "torchmetrics.image.fid"])
def test_a_missing_package_says_what_to_install(weights: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=rf"{missing}.*pip install -e '\.\[inception\]'$") as caught:
        load_inception(weights)
    assert "\n" not in str(caught.value)


def test_a_torchvision_for_another_torch_says_what_to_install(
    weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torch_fidelity.py").write_text("raise RuntimeError('operator torchvision::nms\\ndoes not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch_fidelity", raising=False)
    with pytest.raises(UserError, match=r"torchvision::nms does not exist\): pip install -e '\.\[inception\]'$"):
        load_inception(weights)


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04 cut off"])
def test_weights_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.pth cannot be read: \w+Error$"):
        load_inception(path)


def test_weights_run_no_code(tmp_path: Path) -> None:
    """torch-fidelity would run it."""
    torch.save(Bomb(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"weights\.pth cannot be read"):
        load_inception(tmp_path / "weights.pth")
