"""scripts/speed: what it counts, what it writes, what it notices."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from helpers import TINY, run_script, small_config
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts" / "speed"))
import costs
import flops
import minutes
import speed
import speed_published
import speed_record
import speed_sides
from helpers import PARTS

from adamas.config import Config
from adamas.utils.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the real script wrote about a tiny model."""
    out = tmp_path_factory.mktemp("speed")
    done = run_script("speed/speed.py", *TINY, "--pairs", "1", "--compare", "eager", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "device       cpu (1 thread" in done.stdout
    (path,) = out.glob("*.json")
    return path


def test_flops_of_a_convolution_and_its_gradients() -> None:
    conv, x = nn.Conv2d(4, 8, 3, padding=1), torch.randn(2, 4, 10, 12, requires_grad=True)
    forward = 2 * 2 * 10 * 12 * 8 * 4 * 3 * 3
    assert speed_sides.count(lambda: conv(x).detach()) == forward
    assert speed_sides.count(lambda: conv(x).sum().backward()) == 3 * forward


def test_flops_of_an_lstm_and_its_gradients() -> None:
    lstm, x = nn.LSTM(5, 7, batch_first=True), torch.randn(3, 6, 5, requires_grad=True)
    forward = 2 * 3 * 6 * (5 * 28 + 7 * 28)
    with torch.no_grad():
        assert speed_sides.count(lambda: lstm(x)) == forward
    assert speed_sides.count(lambda: lstm(x)[0].sum().backward()) == 3 * forward


@pytest.mark.parametrize("part", PARTS)
def test_flops_of_an_update_are_those_of_its_rows(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    c = small_config()
    c.precision, c.reward_end.imagined_share = "float32", 0.5
    getattr(c, part).optimization.batch_size = 8
    few = flops.gigaflop(c, part)
    monkeypatch.setattr(flops, "ROWS", 8)
    assert few == pytest.approx(flops.gigaflop(c, part))
    assert few > 0


def test_a_measurement_is_of_one_unit() -> None:
    calls: list[int] = []
    bench = speed_sides.Bench({"imagine": (lambda: calls.append(0), 10)}, CPU, "wall")
    bench.warm_up("imagine", count_flops=False)
    calls.clear()
    seconds = bench.measure("imagine")
    assert len(calls) == bench.repeats["imagine"] > 1
    assert 0 < seconds < 1e-3 / 10


def test_ratios_are_medians_of_pairs_and_not_ratios_of_medians() -> None:
    found = speed.Measured(flops=6e9, seconds={"ours": [1.0, 4.0, 2.0], "eager": [3.0, 4.0, 12.0]})
    row = speed.summary(found, peak=12e9)
    assert row["ratio"] == {"eager": 3.0}
    assert row["range"] == {"eager": [1.0, 6.0]}
    assert (row["seconds"], row["others"], row["gflops"], row["share"]) == (2.0, {"eager": 4.0}, 3.0, 0.25)


def test_an_epoch_is_its_updates_and_its_steps() -> None:
    names = {"denoiser": 2.0, "reward_end": 3.0, "actor_critic": 5.0}
    rows = {name: {"seconds": s, "others": {"eager": 2 * s, "published": 3 * s}} for name, s in names.items()}
    rows["collect"] = {"seconds": 0.5, "others": {"eager": 1.0}}
    record = {"rows": rows, "updates": {"denoiser": 10, "reward_end": 20, "actor_critic": 30, "collect": 40}}
    epoch = speed_record.projected(record)["epoch"]
    assert epoch["seconds"] == 20 + 60 + 150 + 20
    assert epoch["others"] == {"eager": 500, "published": 690 + 20}  # the published code has no row of collecting
    assert epoch["ratio"]["eager"] == 2
    del rows["reward_end"]
    assert speed_record.projected(record) == {}


def test_plain_eager_code_is_float32_in_torchs_own_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (speed_sides.encoders, speed_sides.denoiser):
        monkeypatch.setattr(module, "patches", module.patches)  # undone after the test
    models: list = []
    monkeypatch.setattr(speed_sides, "_works", lambda config, made, _: models.append(made))
    speed_sides.eager(speed.Config(precision="bfloat16"), CPU, Path())
    conv, x = models[0].denoiser.net.unet.conv_in, torch.zeros(1, 5, 84, 84)
    assert not conv.weight.is_contiguous(memory_format=torch.channels_last)
    with models[0].autocast():
        y = conv(speed_sides.denoiser.patches(x, 1))
    assert y.dtype == torch.float32
    assert y.is_contiguous()


@pytest.mark.slow  # it measures for 20 seconds
def test_it_writes_every_row(measured: Path) -> None:
    record = json.loads(measured.read_text())
    assert set(record["rows"]) == {*speed_sides.ROWS, "epoch"}
    for name, row in record["rows"].items():
        assert row["seconds"] > 0
        assert row["ratio"]["eager"] > 0
        if name not in ("replay", "epoch"):
            assert row["gflop"] > 0
            assert row["share"] == pytest.approx(row["gflop"] / row["seconds"] / record["peak"]["gflops"])
    assert record["memory"]["ours"] > 1e8
    table = measured.with_suffix(".md").read_text()
    assert all(f"| {speed_record.WORDS[name]} |" in table for name in record["rows"])


@pytest.mark.parametrize(("clock", "rows"), [("wall", {"frame", "replay"}), ("processor", {"frame"})])
def test_rows_that_were_not_measured_again_stay_if_all_else_is_the_same(
    clock: str, rows: set[str], tmp_path: Path
) -> None:
    def record(clock: str, **seconds: float) -> dict:
        same = {"chip": "x", "preset": "cpu", "clock": clock, "torch": "2", "precision": "auto"}
        entries = {row: {"seconds": s, "others": {}} for row, s in seconds.items()}
        memory = {"memory": {"ours": len(seconds)}, "gpu_bytes": None}
        return {**same, **memory, "updates": {"denoiser": 1}, "rows": entries, "seconds": {}}

    path = tmp_path / "x.json"
    path.write_text(json.dumps(record("wall", frame=1.0, replay=2.0)))
    merged = speed_record.with_earlier(record(clock, frame=3.0), path)
    assert merged["memory"] == {"ours": len(rows)}, "the greater of both"
    assert merged["rows"].keys() == rows
    assert merged["rows"]["frame"]["seconds"] == 3


@pytest.mark.parametrize(("lost", "code"), [(-0.5, 0), (0.19, 0), (0.21, 1)])
def test_a_check_forgives_a_fifth(lost: float, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def record(ratio: float) -> dict:
        return {"chip": "x", "rows": {"frame": {"ratio": {"eager": ratio}}}, "updates": {"denoiser": 1}}

    assert speed_record.tell_losses(record(2 * (1 - lost)), record(2.0), Path("ref.json"), 0.2) == code
    assert capsys.readouterr().out.startswith("slower: frame" if code else "as fast as before: 1 ratios")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "not a file that scripts/speed/speed.py wrote"),
        ("{}", "not a file that scripts/speed/speed.py wrote"),
        ('{"preset": "diamond", "clock": "wall", "rows": {"frame": {"ratio": {}}}}', "no ratios"),
        ('{"preset": "cpu", "clock": "wall", "rows": {"frame": {"ratio": {"eager": 2}}}}', "its preset is cpu"),
    ],
)
def test_a_reference_that_cannot_be_compared_with(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "ref.json"
    path.write_text(text)
    with pytest.raises(UserError, match=told):
        speed_record.read_reference(path, {"preset": "diamond", "clock": "wall"})


def test_the_published_code_is_asked_for_what_it_can_build() -> None:
    config = speed.Config()
    speed_published.check_sizes(config)
    config.network.patch = 4
    with pytest.raises(UserError, match=r"that code has no network.patch=4, only 1; use preset=diamond"):
        speed_published.check_sizes(config)
    with pytest.raises(UserError, match=r"it has no src/agent.py"):
        speed_published.works(config, CPU, Path("/nowhere"))


def test_a_process_that_fails_is_told_of_in_one_line() -> None:
    with pytest.raises(UserError, match=r"ours, its start: .*Nowhere"):
        speed.Side("ours", speed.Config(env="Nowhere"), CPU, "wall", None)


def test_costs_of_the_published_step_times() -> None:
    hours = (410_000 * 0.088 + 410_000 * 0.115 + 405_000 * 0.340) / 3600
    table = costs.to_markdown({"RTX 4090": costs.PUBLISHED})
    days, money = f"{130 * hours / 24:,.0f}", f"{130 * hours * 0.4:,.0f}"
    assert f"| 1 x RTX 4090 | at least {hours:.1f} h | {days} days | {130 * hours:,.0f} | ${money} | 12 GB |" in table
    assert "| 8 x H200 | not measured |" in table


@pytest.mark.slow
def test_costs_reads_what_speed_writes(measured: Path, tmp_path: Path) -> None:
    assert costs.read_speeds(measured.parent) == {}
    record = json.loads(measured.read_text()) | {"gpu": "NVIDIA H200", "preset": "diamond", "gpu_bytes": 7_000_000_000}
    (tmp_path / "h200.json").write_text(json.dumps(record))
    found = costs.read_speeds(tmp_path)
    assert set(found["H200"].seconds) == {"denoiser", "reward_end", "actor_critic", "collect"}
    assert "| 7 GB | measured (h200.json), without first dream, evaluation" in costs.to_markdown(found)
    (tmp_path / "worse.json").write_text("{}")
    with pytest.raises(UserError, match="is not a file that"):
        costs.read_speeds(tmp_path)


def record(preset: str) -> str:
    return json.dumps({"preset": preset, "rows": {}, "peak": {"gflops": 1.0}})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (record("diamond"), "is of preset diamond: give the file of preset smoke, or"),
        (
            record("smoke precision=bfloat16"),
            "is of preset smoke precision=bfloat16: give the file of preset smoke, or",
        ),
        ('{"preset": "smoke"}', "is no file of scripts/speed/speed.py"),
        ("{}", "is no file of scripts/speed/speed.py"),
        ("3", "is no file of scripts/speed/speed.py"),
        ("words", "is no file of scripts/speed/speed.py"),
        (None, "is no file of scripts/speed/speed.py"),
    ],
)
def test_minutes_want_a_record_of_their_settings(text: str | None, told: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "record.json").write_text(text)
    with pytest.raises(UserError, match=told) as caught:
        minutes.read(tmp_path / "record.json", Config(preset="smoke"), ["preset=smoke", "device=cpu"])
    assert "\n" not in str(caught.value)
