"""The wheel, installed into an environment of its own and used from a folder outside of the clone."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from adamas.config import Config
from adamas.config.files import load_config

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def adamas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command. What adamas depends on is that of the environment in which the tests run."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    subprocess.run([*pip, "--python", str(folder / "venv"), "install", "-q", "--no-deps", str(wheel)], check=True)
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder / "venv" / "bin" / "adamas"


def run(adamas: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([adamas, *words], cwd=cwd, env=environment, text=True, capture_output=True, check=False)


@pytest.mark.slow
def test_the_wheel_holds_presets_scores_and_the_page(adamas: Path, tmp_path: Path) -> None:
    where = "import adamas, adamas.play; print(adamas.__file__)"
    python = adamas.with_name("python")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run(
        [python, "-c", where], cwd=tmp_path, env=environment, text=True, capture_output=True, check=True
    )
    package = Path(found.stdout.strip()).parent
    assert adamas.parents[1] in package.parents
    assert (package / "play" / "page" / "index.html").is_file()
    assert (package / "py.typed").is_file()
    done = run(adamas, "train", "env=Pong", "preset=smoke", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "config.yaml").write_text(done.stdout)
    config = load_config(tmp_path / "config.yaml")
    assert (config.env, config.preset) == ("Pong", "smoke")
    assert config != Config(env="Pong", preset="smoke")
    done = run(adamas, "play", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.endswith("train one with adamas train env=Breakout\n")
    done = run(adamas, "report", "out=report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "DIAMOND" in (tmp_path / "report" / "atari100k.md").read_text()


@pytest.mark.slow
def test_the_wheel_trains(adamas: Path, tmp_path: Path) -> None:
    done = run(adamas, "train", "env=Pong", "preset=smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("runs/Pong/*")
    assert done.stdout.splitlines()[-1] == f"done: play its dream with adamas play run={folder.relative_to(tmp_path)}"
