"""A run as a folder of static files that plays its dream in any browser."""

from __future__ import annotations

import gzip
import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from adamas.data.batch import Trajectory
from adamas.envs.keys import keys_of_actions
from adamas.envs.make import is_atari, make_env
from adamas.evaluation.clips import record
from adamas.play.http import PAGE as PLAY_PAGE
from adamas.play.keys import used
from adamas.training.export import without_training
from adamas.training.load_run import OpenedRun, SavedRun
from adamas.utils.files import check_new, new_folder
from adamas.utils.images import FPS
from adamas.web.graphs import save_graphs
from adamas.web.runtime import copy_runtime

PAGE = Path(__file__).parent / "page"
SHARED = ("dom.js", "events.js", "input.js", "policy.js", "icon.svg")  # with the play page, as they are there
STARTS = 32
FILM = 50  # steps of the real game behind each start
HORIZON = 500  # steps of a dream


def open_rounded(path: Path) -> OpenedRun:
    """The newest good checkpoint of a run, as a copy by `adamas export run=RUN out=DIR` has it: matrices and kernels are rounded to
    float16, and there is no experience. UserError where there is no world model."""
    run = SavedRun(path)
    run.check_world_model()
    parts, file = run.read()
    models, progress = run.restore(without_training(parts), file, torch.device("cpu"))
    return OpenedRun(run.folder, run.config, models, file.name, progress.total["denoiser"], replay_files=[])


def export_page(path: Path, out: Path) -> None:
    """Writes the page of a run to `out`.

    Raises:
        UserError: `path` is no run folder or holds no usable checkpoint, something is at `out` already, or a package is missing.
    """
    check_new(out)
    shipped = open_rounded(path)
    with new_folder(out) as folder:
        save_graphs(shipped.models, folder)
        clips = play(shipped)
        (folder / "starts.bin.gz").write_bytes(gzip.compress(clips.obs.numpy().tobytes(), 9, mtime=0))
        text = json.dumps(describe(shipped, clips), indent=1)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")
        copy_page(folder)


def play(shipped: OpenedRun) -> Trajectory:
    """STARTS stretches of the agent's real play, the same each time: a start's context, and the film of what came then."""
    c = shipped.config
    with closing(make_env(c)) as env:
        film = FILM if is_atari(c.env) else min(FILM, c.evaluation.dream_steps)  # the games of some envs are short
        return record(shipped.models.policy, env, STARTS, c.denoiser.context - 1 + film, seed=0)


def describe(shipped: OpenedRun, clips: Trajectory) -> dict[str, Any]:
    """What the page needs to know."""
    c, world, meanings = shipped.config, shipped.models.world, shipped.models.action_meanings
    context = c.denoiser.context
    return {
        "game": c.env,
        "checkpoint": shipped.checkpoint,
        "updates": shipped.updates,
        "parameters": sum(parameter.numel() for parameter in world.parameters()),
        "actions": list(meanings),
        "keys": used(meanings),
        "action_keys": [sorted(keys) for keys in keys_of_actions(meanings)],
        "context": context,
        "frame_stack": shipped.models.policy.frame_stack,
        "lstm_dim": c.network.lstm_dim,
        "fps": FPS,  # at first
        "horizon": HORIZON,
        "random": "Philox4x32-10, Box-Muller",
        "starts": [
            {"actions": actions[: context - 1], "film": actions[context - 1 :]} for actions in clips.action.tolist()
        ],
    }


def copy_page(out: Path) -> None:
    """The files that are the same for each run."""
    for file in PAGE.iterdir():
        if file.suffix in (".html", ".js"):
            shutil.copy(file, out)
    for name in SHARED:
        shutil.copy(PLAY_PAGE / name, out)
    sheets = (PLAY_PAGE / "style.css", PAGE / "web.css")
    (out / "style.css").write_text("".join(sheet.read_text(encoding="utf-8") for sheet in sheets), encoding="utf-8")
    copy_runtime(out / "runtime")
