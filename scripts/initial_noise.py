"""Which first noise should a dream start from? `python scripts/initial_noise.py --games Breakout Pong RoadRunner`.

Trains three world models a game on random play (or goes on with, or takes, those that are in --runs): of the frame, of the
frame with the objective that starts from the previous frame, and of the change. Then dreams the same held-out play with every
first noise that a model knows, with 1 to 10 denoising steps, by Euler and by Heun. Saves to --out: detail.json (every figure
at every step; what is there already is not measured again), table.md and one picture a game.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from tqdm import tqdm

from adamas.evaluation.clips import Clip
from adamas.evaluation.dreams import HORIZONS, dream, ticks
from adamas.evaluation.evaluate import FIXED_SEED, fixed_clip, measure_dreams
from adamas.evaluation.tables import at_all_steps
from adamas.training.load_run import SavedRun
from adamas.training.models import Models
from adamas.utils.errors import UserError, exit_code
from adamas.utils.markdown import markdown_table

ROOT = Path(__file__).resolve().parents[1]
FRAME = [  # the published objective
    "denoiser.target=frame",
    "denoiser.sigma_log_mean=-0.4",
    "denoiser.sigma_log_std=1.2",
    "denoiser.sigma_most=20",
    "denoiser.offset_noise=0.3",
    "sampler.steps=3",
]
MODELS = {
    "frame": FRAME,
    "previous_frame": [*FRAME, "denoiser.objective=previous_frame", "sampler.initial_noise=previous_frame"],
    "change": [],  # preset cpu as it is
}
STARTS = {"frame": ("unit", "sigma_max"), "previous_frame": ("previous_frame",), "change": ("unit", "sigma_max")}
STEPS = (1, 2, 3, 5, 10)
FIGURES = {
    "psnr": "PSNR (dB)",
    "small_object_recall": "small objects found",
    "moving_recall": "moving pixels found",
    "change_recall": "changes found",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=["Breakout", "Pong", "RoadRunner"])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--runs", type=Path, default=Path("runs/study"), help="where the models are, or will be")
    parser.add_argument("--updates", type=int, default=2000, help="of each denoiser")
    parser.add_argument("--collect", type=int, default=10_000, help="agent steps of random play to learn from")
    parser.add_argument("--dreams", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50, help="of a dream")
    parser.add_argument("--out", type=Path, default=Path("results/initial-noise"))
    arguments = parser.parse_args()
    study(arguments)


def study(arguments: argparse.Namespace) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    store = arguments.out / "detail.json"
    figures = json.loads(store.read_text()) if store.exists() else {}
    for game in arguments.games:
        for model in arguments.models:
            run = trained(game, model, arguments)
            measure_missing(figures.setdefault(game, {}), model, run, arguments)
            store.write_text(json.dumps(figures) + "\n")
        draw(game, figures[game], arguments.out / f"{game}.png")
    (arguments.out / "table.md").write_text(table(figures))
    print((arguments.out / "table.md").read_text())


def trained(game: str, model: str, arguments: argparse.Namespace) -> SavedRun:
    """The finished run of that model; trains it, or goes on with it, if need be."""
    runs = arguments.runs / model
    folders = sorted((runs / game).glob("*/"))
    if not folders or not finished(folders[-1]):
        steps, updates = arguments.collect, arguments.updates
        fresh = [
            f"env={game}",
            "preset=cpu",
            f"runs={runs}",
            f"collection.steps={steps}",
            f"collection.first_steps={steps}",
            f"collection.first_steps_most={steps}",
            "collection.epsilon=1",
            "final_epochs=0",
            f"denoiser.optimization.first_updates={updates}",
            "reward_end.optimization.first_updates=0",
            "actor_critic.optimization.first_updates=0",
            "evaluation.games=1",
            "evaluation.final_games=1",
            *MODELS[model],
        ]
        overrides = [f"resume={folders[-1]}"] if folders else fresh
        if subprocess.run([sys.executable, str(ROOT / "src" / "main.py"), *overrides], check=False).returncode:
            raise UserError(f"{game}, {model}: its training ended as told above")
    return SavedRun(sorted((runs / game).glob("*/"))[-1])


def finished(folder: Path) -> bool:
    evaluations = folder / "evaluations.jsonl"
    return evaluations.exists() and '"final_evaluation"' in evaluations.read_text()


def measure_missing(figures: dict, model: str, run: SavedRun, arguments: argparse.Namespace) -> None:
    """Fills `figures[key]` for each first noise, method and number of denoising steps of the model."""
    config = run.config
    config.evaluation.dreams, config.evaluation.dream_steps = arguments.dreams, arguments.steps
    missing = [
        (start, method, steps)
        for start in STARTS[model]
        for method in ("euler", "heun")
        for steps in STEPS
        if key(model, start, method, steps) not in figures
    ]
    if not missing:
        return
    models, _ = run.load(run.checkpoints()[-1], torch.device("cpu"))
    clip = fixed_clip(config)
    calls = [steps if method == "euler" else 2 * steps - 1 for _, method, steps in missing]
    with tqdm(
        total=sum(calls) * ticks(arguments.dreams, arguments.steps), unit="call", desc=f"{config.env} {model}"
    ) as bar:
        for (start, method, steps), cost in zip(missing, calls, strict=True):
            figures[key(model, start, method, steps)] = measure(
                models, clip, start, method, steps, lambda c=cost: bar.update(c)
            )


def key(model: str, start: str, method: str, steps: int) -> str:
    return f"{model} from {start}, {method} {steps}"


def measure(models: Models, clip: Clip, start: str, method: str, steps: int, each_step) -> dict[str, list]:
    config, world = models.config, models.world
    world.sampler = replace(config.sampler, initial_noise=start, method=method, steps=steps)
    with models.autocast():
        return at_all_steps(measure_dreams(dream(world, clip, config.denoiser.context, FIXED_SEED, each_step)))


def table(figures: dict) -> str:
    """Markdown: a line for each game, model, first noise, method and number of steps."""
    shown = [(name, t) for name in FIGURES for t in HORIZONS]
    head = ["game", "model and first noise", *(f"{FIGURES[name]} at {t}" for name, t in shown)]
    body = [
        [game, row, *(_cell(name, values[name], t) for name, t in shown)]
        for game, rows in figures.items()
        for row, values in rows.items()
    ]
    return markdown_table(head, body, "ll" + "r" * len(shown)) + "\n"


def _cell(name: str, values: list, t: int) -> str:
    if t > len(values) or values[t - 1] is None:
        return "-"
    return f"{values[t - 1]:.{1 if name == 'psnr' else 2}f}"


def draw(game: str, rows: dict, path: Path) -> None:
    """Above: detail against horizon for three Euler steps. Below: at horizon 15 against the number of denoising steps."""
    figure, axes = plt.subplots(2, len(FIGURES), figsize=(4 * len(FIGURES), 7), layout="constrained")
    pairs = [(model, start) for model in MODELS for start in STARTS[model] if key(model, start, "euler", 1) in rows]
    for i, (model, start) in enumerate(pairs):
        for (above, below), (name, label) in zip(axes.T, FIGURES.items(), strict=True):
            values = rows[key(model, start, "euler", 3)][name]
            above.plot(range(1, len(values) + 1), _numbers(values), color=f"C{i}", label=f"{model} from {start}")
            above.set_title(f"{label}, 3 Euler steps", fontsize=9)
            above.set_xlabel("steps into the dream", fontsize=8)
            for method, line in (("euler", "-"), ("heun", "--")):
                at_15 = [rows[key(model, start, method, steps)][name][min(15, len(values)) - 1] for steps in STEPS]
                below.plot(
                    STEPS, _numbers(at_15), line, marker=".", color=f"C{i}", label=f"{model} from {start}, {method}"
                )
            below.set_title(f"{label}, 15 steps into the dream", fontsize=9)
            below.set_xlabel("denoising steps (dashed: Heun)", fontsize=8)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=7)
    axes[0, 0].legend(fontsize=7)
    figure.suptitle(game)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _numbers(values: list) -> list[float]:
    return [float("nan") if value is None else value for value in values]


if __name__ == "__main__":
    sys.exit(exit_code(main))
