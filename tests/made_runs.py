"""Run folders with the records of a training, for tests that read them."""

from __future__ import annotations

from pathlib import Path

from adamas.config import Config
from adamas.config.files import save_config
from adamas.training.run_folder import RunFolder


def make_run(folder: Path, config: Config, score: float | None, name: str = "2026-01-01_00-00-00") -> Path:
    """A run folder with evaluations of epochs 0, 1 and 1 again, as after a resume, and a final one if it has a score."""
    path = folder / config.env / f"{name}-{config.seed}"
    path.mkdir(parents=True)
    save_config(config, path / "config.yaml")
    run = RunFolder(path)
    for epoch, value in [(0, 1.0), (1, 555.0), (1, 2.0)]:
        record = {"kind": "evaluation", "epoch": epoch, "steps": 100 * epoch, "seconds": 60 * epoch, "return": value}
        run.append_evaluation({**record, "returns": [value], "lengths": [9]})
    if score is not None:
        record = {"kind": "final_evaluation", "epoch": 2, "steps": 100_000, "seconds": 7200, "return": score}
        record["final_epochs"] = config.final_epochs
        run.append_evaluation({**record, "returns": [score] * 100, "lengths": [9] * 100})
    return path
