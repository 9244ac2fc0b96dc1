"""How much of the detail of reality a run's world model keeps: `python scripts/evaluate.py RUN`.

Dreams the same held-out real play with each checkpoint that the run folder keeps. Prints the table of the newest one and
saves to RUN/evaluation: detail.md and detail.json (every figure at every step), detail.png (detail against horizon),
growth.png and contact_sheet.png (does detail grow or fade from checkpoint to checkpoint?), dreams.gif, dreams.png and
trajectory.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from adamas.config.rules import check
from adamas.data.frames import gif, png
from adamas.evaluation.distances import frechet_ticks, measure_frechet
from adamas.evaluation.dreams import dream, ticks
from adamas.evaluation.evaluate import FIXED_SEED, Evaluation, evaluate_world, fixed_clip, measure_dreams
from adamas.evaluation.figures import Column, contact_sheet, detail_curves, growth_curves
from adamas.evaluation.frechet import Frechet
from adamas.evaluation.tables import at_all_steps, markdown, plain
from adamas.training.load_run import SavedRun
from adamas.training.models import Models
from adamas.training.run_folder import origin
from adamas.utils.device import describe, keep_freed_memory, pick_device
from adamas.utils.errors import UserError, exit_code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--dreams", type=int, default=64, help="dreams of each set")
    parser.add_argument("--steps", type=int, default=50, help="steps of a dream")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the agent's own play and of its dreams (random play has its own)"
    )
    parser.add_argument("--newest", action="store_true", help="the newest checkpoint alone, without a contact sheet")
    parser.add_argument("--frechet", type=int, default=0, metavar="FRAMES", help="Fréchet distance over so many frames")
    parser.add_argument("--inception", type=Path, help="a local file of Inception weights, for the FID too")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="where to save (RUN/evaluation)")
    arguments = parser.parse_args()
    evaluate(arguments)


def evaluate(arguments: argparse.Namespace) -> None:
    keep_freed_memory()
    run, device = open_run(arguments), pick_device(arguments.device)
    paths = run.checkpoints()[-1 if arguments.newest else 0 :]
    out = arguments.out or arguments.run / "evaluation"
    out.mkdir(parents=True, exist_ok=True)
    size = f"{len(paths)} checkpoints, {arguments.dreams} dreams of {arguments.steps} steps each"
    print(f"{run.config.env}: {size}, on {describe(device)}", flush=True)
    clip, context, columns, distances = fixed_clip(run.config), run.config.denoiser.context, [], []
    rounds = (len(paths) + 2) * ticks(arguments.dreams, arguments.steps)
    rounds += frechet_ticks(run.config) if arguments.frechet else 0
    with tqdm(total=rounds, unit="step") as bar:
        for path, models, updates in readable(run, paths, device):
            with models.autocast():
                dreams = dream(models.world, clip, context, FIXED_SEED, bar.update)
            columns.append(Column(path.name, updates, dreams, measure_dreams(dreams)))
        with models.autocast():
            newest = evaluate_world(models.world, models.agent, run.config, arguments.seed, bar.update)
            if arguments.frechet:
                distances = measure_frechet(models.world, run.config, run.folder.frechet, bar.update)
    title = f"{run.config.env}, {run.path.name}, {columns[-1].updates:,} updates, {arguments.dreams} dreams"
    save_pictures(newest, columns, title, out)
    record = {
        **origin(),
        "game": run.config.env,
        "checkpoint": columns[-1].checkpoint,
        "detail": {name: at_all_steps(detail) for name, detail in newest.detail.items()},
        "frechet": [plain(distance) for distance in distances],
        "checkpoints": {str(column.updates): at_all_steps(column.detail) for column in columns},
    }
    (out / "detail.json").write_text(json.dumps(record) + "\n")
    tables = "\n".join([markdown(newest.detail), *map(in_words, distances)])
    (out / "detail.md").write_text(f"{title}. `python {' '.join(sys.argv)}`\n\n{tables}\n")
    print(f"{tables}\nsaved to {out}")


def open_run(arguments: argparse.Namespace) -> SavedRun:
    """The run, its config with what the command line asks for."""
    run = SavedRun(arguments.run)
    if run.config.policy == "model_free":
        raise UserError(f"{run.path} has policy=model_free, and so no world model to evaluate")
    settings = run.config.evaluation
    settings.dreams, settings.dream_steps = arguments.dreams, arguments.steps
    settings.frechet_frames = arguments.frechet or settings.frechet_frames
    settings.frechet_inception = str(arguments.inception) if arguments.inception else None
    check(run.config)
    return run


def readable(run: SavedRun, paths: list[Path], device: torch.device) -> Iterator[tuple[Path, Models, int]]:
    """Each checkpoint that is not damaged, its models and how many updates its denoiser has seen."""
    found = False
    for path in paths:
        try:
            models, progress = run.load(path, device)
        except UserError as error:
            tqdm.write(f"{error}; left out", file=sys.stderr)
            continue
        found = True
        yield path, models, progress.total["denoiser"]
    if not found:
        raise UserError(f"none of the checkpoints of {run.path} can be used")


def save_pictures(newest: Evaluation, columns: list[Column], title: str, out: Path) -> None:
    detail_curves(newest.detail, title, out / "detail.png")
    if len(columns) > 1:
        growth_curves({column.updates: column.detail for column in columns}, title, out / "growth.png")
        contact_sheet(columns, title, out / "contact_sheet.png")
    (out / "dreams.gif").write_bytes(gif(newest.film))
    (out / "dreams.png").write_bytes(png(newest.grid))
    (out / "trajectory.png").write_bytes(png(newest.trajectory))


def in_words(d: Frechet) -> str:
    ratio, distances = f"{d.ratio:.2f} x that of real frames", f"{d.distance:.4g} / {d.real_distance:.4g}"
    return f"\nFréchet distance by {d.encoder}: {ratio} ({distances}, {d.count} frames)"


if __name__ == "__main__":
    sys.exit(exit_code(main))
