"""How much of the detail of reality a run's world model keeps, checkpoint by checkpoint."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from adamas.config.rules import check
from adamas.evaluation.distances import frechet_ticks, load_encoders, measure_frechet
from adamas.evaluation.dreams import dream, ticks
from adamas.evaluation.evaluate import DREAM_SETS, FIXED_SEED, Evaluation, evaluate_world, fixed_clip, measure_dreams
from adamas.evaluation.figures import Column, contact_sheet, detail_curves, growth_curves
from adamas.evaluation.frechet import Frechet
from adamas.evaluation.tables import at_all_steps, each_step, markdown, plain, spread_in_words
from adamas.training.load_run import SavedRun
from adamas.training.models import Models
from adamas.training.run_folder import origin
from adamas.utils.console import progress_bar, say, warn
from adamas.utils.device import describe, keep_freed_memory, pick_device
from adamas.utils.errors import UserError
from adamas.utils.images import gif, png
from adamas.utils.quoting import as_typed
from adamas.utils.threads import Threads, threads_of


def evaluate(
    run: str,
    dreams: int,
    steps: int | None = None,
    seed: int = 0,
    newest: bool = False,
    frechet: int = 0,
    inception: str | None = None,
    device: str = "auto",
    out: str | None = None,
) -> None:
    """Dreams the same held-out play with each checkpoint of the run folder; see `adamas evaluate --help`.

    Args:
        dreams: of each set.
        steps: of each dream; None: as in the run's own evaluations.
        frechet: frames of a Fréchet distance; 0: none.
    """
    if frechet == 1:
        raise UserError("frechet=1 has no covariance: give it thousands of frames")
    if inception and not frechet:
        raise UserError("inception= is for a Fréchet distance: give frechet=5000 too")
    if frechet:
        load_encoders(Path(inception) if inception else None)  # what cannot be used is told before the dreams
    keep_freed_memory()
    saved, chip = SavedRun(Path(run)), pick_device(device)
    saved.check_world_model()
    settings = saved.config.evaluation
    settings.dreams, settings.dream_steps = dreams, steps or settings.dream_steps
    check(saved.config)
    paths = saved.checkpoints()[-1 if newest else 0 :]
    folder = Path(out or saved.path / "evaluation")
    folder.mkdir(parents=True, exist_ok=True)
    game = saved.config.env
    say(f"{game}: {len(paths)} checkpoints, {dreams} dreams of {settings.dream_steps} steps each, on {describe(chip)}")
    rounds = (len(paths) + DREAM_SETS) * ticks(dreams, settings.dream_steps) + (
        frechet_ticks(saved.config, frechet) if frechet else 0
    )
    distances: list[Frechet] = []
    with progress_bar(rounds, "step") as bar:
        with threads_of(chip) as threads:
            columns, models = measure_checkpoints(saved, paths, chip, bar, threads)
            with models.autocast():
                last = evaluate_world(models.world, models.policy, saved.config, seed, bar.update, threads)
        if frechet:
            with models.autocast():
                weights, cache = Path(inception) if inception else None, saved.folder.frechet
                distances = measure_frechet(models.world, saved.config, cache, frechet, weights, bar.update)
    title = f"{game}, {saved.path.name}, {columns[-1].updates:,} updates, {dreams} dreams"
    save_pictures(last, columns, title, folder)
    record = {
        **origin(),
        "game": game,
        "checkpoint": columns[-1].checkpoint,
        "detail": {name: at_all_steps(detail) for name, detail in last.detail.items()},
        "frechet": [plain(distance) for distance in distances],
        "spread": each_step(last.spread),
        "checkpoints": {str(column.updates): at_all_steps(column.detail) for column in columns},
    }
    (folder / "detail.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
    tables = "\n".join([markdown(last.detail), "", spread_in_words(last.spread) + ".", *map(in_words, distances)])
    (folder / "detail.md").write_text(f"{title}. `{as_typed(sys.argv)}`\n\n{tables}\n", encoding="utf-8")
    say(f"{tables}\nsaved to {folder}")


def measure_checkpoints(
    run: SavedRun, paths: list[Path], device: torch.device, bar: tqdm, threads: Threads
) -> tuple[list[Column], Models]:
    """A column a good checkpoint, and the models of the newest of them. UserError if there is none."""
    clip, context, columns = fixed_clip(run.config), run.config.denoiser.context, []
    for path, models, updates in readable(run, paths, device, bar):
        with models.autocast():
            dreams = dream(models.world, clip, context, FIXED_SEED, bar.update, threads)
        columns.append(Column(path.name, updates, dreams, measure_dreams(dreams)))
        newest = models
    if not columns:
        raise UserError(f"none of the checkpoints of {run.path} can be used")
    return columns, newest


def readable(run: SavedRun, paths: list[Path], device: torch.device, bar: tqdm) -> Iterator[tuple[Path, Models, int]]:
    """Each checkpoint that is not damaged, its models and how many updates its denoiser has seen."""
    for path in paths:
        try:
            models, progress = run.load(path, device)
        except UserError as error:
            with bar.external_write_mode():
                warn(f"{error}; left out")
            continue
        yield path, models, progress.total["denoiser"]


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
