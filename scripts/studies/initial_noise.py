"""Which first noise should a dream start from? `python scripts/studies/initial_noise.py --games Breakout Pong RoadRunner`.

Trains two world models a game on random play (or goes on with, or takes, those that are in --runs): of the frame, as
published, and of the change. Then dreams the same held-out play from either first noise, with 1 to 10 denoising steps, by
Euler and by Heun. Saves to --out: detail.json (every figure at every step; what is there already is not measured again) and
table.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from adamas.evaluation.dreams import HORIZONS, dream
from adamas.evaluation.evaluate import FIXED_SEED, fixed_clip, measure_dreams
from adamas.evaluation.tables import at_all_steps
from adamas.training.load_run import SavedRun
from adamas.utils.errors import UserError, exit_code
from adamas.utils.markdown import markdown_table

ROOT = Path(__file__).resolve().parents[2]
MODELS = {
    "frame": [  # the published objective
        "denoiser.target=frame",
        "denoiser.P_mean=-0.4",
        "denoiser.P_std=1.2",
        "denoiser.sigma_max=20",
        "denoiser.offset_noise=0.3",
        "sampler.steps=3",
    ],
    "change": [],  # preset cpu as it is
}
VARIANTS = list(itertools.product(("unit", "sigma_max"), ("euler", "heun"), (1, 2, 3, 5, 10)))
FIGURES = {
    "psnr": "PSNR (dB)",
    "small_object_recall": "small objects found",
    "moving_recall": "moving pixels found",
    "change_recall": "changes found",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=["Breakout", "Pong", "RoadRunner"])
    parser.add_argument("--runs", type=Path, default=Path("runs/study"), help="where the models are, or will be")
    parser.add_argument("--updates", type=int, default=2000, help="of each denoiser")
    parser.add_argument("--collect", type=int, default=10_000, help="agent steps of random play to learn from")
    parser.add_argument("--dreams", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50, help="of a dream")
    parser.add_argument("--out", type=Path, default=Path("results/initial-noise"))
    parser.add_argument("settings", nargs="*", metavar="name=value", help="further settings of the models")
    study(parser.parse_intermixed_args())


def study(arguments: argparse.Namespace) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    store = arguments.out / "detail.json"
    figures = json.loads(store.read_text()) if store.exists() else {}
    for game, model in itertools.product(arguments.games, MODELS):
        measure_missing(figures.setdefault(game, {}), model, trained(game, model, arguments), arguments)
        store.write_text(json.dumps(figures) + "\n")
    (arguments.out / "table.md").write_text(table(figures) + "\n")
    print(table(figures))


def trained(game: str, model: str, arguments: argparse.Namespace) -> SavedRun:
    """The finished run of that model; trains it, or goes on with it, if need be."""
    runs, steps = arguments.runs / model, arguments.collect
    folders = sorted((runs / game).glob("*/"))
    if folders and "final_evaluation" in read(folders[-1] / "evaluations.jsonl"):
        return SavedRun(folders[-1])
    fresh = [  # a policy that has not learned plays at random
        f"env={game}",
        "preset=cpu",
        f"runs={runs}",
        *(f"collection.{name}={steps}" for name in ("steps", "first_steps", "first_steps_most")),
        "final_epochs=0",
        f"denoiser.optimization.first_updates={arguments.updates}",
        "reward_end.optimization.first_updates=0",
        "actor_critic.optimization.first_updates=0",
        "evaluation.games=1",
        "evaluation.final_games=1",
        *MODELS[model],
        *arguments.settings,
    ]
    overrides = [f"resume={folders[-1]}"] if folders else fresh
    if subprocess.run([sys.executable, str(ROOT / "src" / "main.py"), *overrides], check=False).returncode:
        raise UserError(f"{game}, {model}: its training ended as told above")
    return SavedRun(sorted((runs / game).glob("*/"))[-1])


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def measure_missing(figures: dict[str, Any], model: str, run: SavedRun, arguments: argparse.Namespace) -> None:
    """Fills `figures[name]` for each first noise, method and number of denoising steps."""
    config = run.config
    config.evaluation.dreams, config.evaluation.dream_steps = arguments.dreams, arguments.steps
    names = {f"{model} from {noise}, {method} {steps}": (noise, method, steps) for noise, method, steps in VARIANTS}
    missing = [name for name in names if name not in figures]
    if not missing:
        return
    models, _ = run.load(run.checkpoints()[-1], torch.device("cpu"))
    clip = fixed_clip(config)
    for name in tqdm(missing, desc=f"{config.env} {model}"):
        noise, method, steps = names[name]
        models.world.sampler = replace(config.sampler, initial_noise=noise, method=method, steps=steps)
        with models.autocast():
            dreams = dream(models.world, clip, config.denoiser.context, FIXED_SEED)
        figures[name] = at_all_steps(measure_dreams(dreams))


def table(figures: dict[str, Any]) -> str:
    """Markdown: a line for each game, model, first noise, method and number of steps."""
    shown = [(name, t) for name in FIGURES for t in HORIZONS]
    head = ["game", "model and first noise", *(f"{FIGURES[name]} at {t}" for name, t in shown)]
    body = [
        [game, row, *(cell(name, values[name], t) for name, t in shown)]
        for game, rows in figures.items()
        for row, values in rows.items()
    ]
    return markdown_table(head, body, "ll" + "r" * len(shown))


def cell(name: str, values: list[float | None], t: int) -> str:
    value = values[t - 1] if t <= len(values) else None
    return "-" if value is None else f"{value:.{1 if name == 'psnr' else 2}f}"


if __name__ == "__main__":
    sys.exit(exit_code(main))
