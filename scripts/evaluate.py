"""How much of the detail of reality a run's world model keeps: `python scripts/evaluate.py RUN`.

Dreams the same held-out real play with each checkpoint that the run folder keeps. Prints the table of the newest one and
saves to RUN/evaluation: detail.md and detail.json (every figure at every step), detail.png (detail against horizon),
contact_sheet.png (does detail grow or fade from checkpoint to checkpoint?), dreams.gif, dreams.png and trajectory.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from adamas.config import UserError
from adamas.device import describe, pick_device
from adamas.evaluation.distances import frechet_ticks, measure_frechet
from adamas.evaluation.dreams import dream, ticks
from adamas.evaluation.evaluate import FIXED_SEED, evaluate_world, fixed_clip, measure_dreams
from adamas.evaluation.figures import Column, contact_sheet, detail_curves
from adamas.evaluation.tables import at_all_steps, markdown
from adamas.frames import gif, png
from adamas.training.run_folder import origin
from adamas.training.saved import SavedRun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--dreams", type=int, default=64, help="dreams of each set")
    parser.add_argument("--steps", type=int, default=50, help="steps of a dream")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the agent's own play and of its dreams (the fixed set has its own)"
    )
    parser.add_argument("--newest", action="store_true", help="the newest checkpoint alone, without a contact sheet")
    parser.add_argument("--frechet", type=int, default=0, metavar="FRAMES", help="Frechet distance over so many frames")
    parser.add_argument("--inception", type=Path, help="a local file of Inception weights, for the FID too")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="where to save (RUN/evaluation)")
    arguments = parser.parse_args()
    try:
        evaluate(arguments)
    except UserError as error:
        sys.exit(f"error: {error}")


def evaluate(arguments: argparse.Namespace) -> None:
    run, device = SavedRun(arguments.run), pick_device(arguments.device)
    settings = run.config.evaluation
    settings.dreams, settings.dream_steps = arguments.dreams, arguments.steps
    settings.frechet_frames = arguments.frechet or settings.frechet_frames
    settings.frechet_inception = str(arguments.inception) if arguments.inception else None
    paths = run.checkpoints()[-1 if arguments.newest else 0 :]
    out = arguments.out or arguments.run / "evaluation"
    out.mkdir(parents=True, exist_ok=True)
    print(
        f"{run.config.env}: {len(paths)} checkpoints, {arguments.dreams} dreams of {arguments.steps} steps each, on {describe(device)}",
        flush=True,
    )
    clip, columns = fixed_clip(run.config), []
    rounds = (len(paths) + 2) * ticks(arguments.dreams, arguments.steps)
    with tqdm(total=rounds + (frechet_ticks(run.config) if arguments.frechet else 0), unit="step") as bar:
        for path in paths:
            models, progress = run.load(path, device)
            with models.autocast():
                dreams = dream(models.world, clip, run.config.denoiser.context, FIXED_SEED, bar.update)
            updates = progress.total["denoiser"]
            columns.append(Column(f"{updates:,} updates", updates, dreams, measure_dreams(dreams)))
        with models.autocast():
            newest = evaluate_world(models.world, models.actor_critic, run.config, arguments.seed, bar.update)
            distances = (
                measure_frechet(models.world, run.config, out / "frechet", bar.update) if arguments.frechet else []
            )
    title = f"{run.config.env}, {run.path.name}, {columns[-1].title}, {arguments.dreams} dreams"
    detail_curves(newest.detail, title, out / "detail.png")
    if len(columns) > 1:
        contact_sheet(columns, title, out / "contact_sheet.png")
    (out / "dreams.gif").write_bytes(gif(newest.film))
    (out / "dreams.png").write_bytes(png(newest.grid))
    (out / "trajectory.png").write_bytes(png(newest.trajectory))
    table = markdown(newest.detail)
    (out / "detail.md").write_text(f"{title}. `{' '.join(['python', *sys.argv])}`\n\n{table}\n")
    record = {
        **origin(),
        "game": run.config.env,
        "checkpoint": paths[-1].name,
        "detail": {name: at_all_steps(detail) for name, detail in newest.detail.items()},
        "frechet": [distance._asdict() for distance in distances],
        "checkpoints": {str(column.updates): at_all_steps(column.detail) for column in columns},
    }
    (out / "detail.json").write_text(json.dumps(record) + "\n")
    for d in distances:
        print(
            f"Frechet distance by {d.encoder}: {d.ratio:.2f} x that of real frames ({d.distance:.4g} / {d.real_distance:.4g})"
        )
    print(f"{table}\nsaved to {out}")


if __name__ == "__main__":
    main()
