"""A run as a folder that Hugging Face's hub takes: weights, config and model card. Uploading is the user's own command."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from adamas.benchmark.aggregates import mean_with_interval
from adamas.config import Config
from adamas.config.help import shown
from adamas.envs.make import is_atari
from adamas.evaluation.tables import COLUMNS
from adamas.training import safetensors
from adamas.training.export import without_training
from adamas.training.load_run import SavedRun
from adamas.training.run_records import Outcome, read_outcome
from adamas.utils.files import check_new, new_folder
from adamas.utils.markdown import markdown_table

FILMS = {  # of an evaluation, also by the names of older records; that of the real game beside itself is left out
    "random_play": "random play",
    "fixed": "random play",
    "agent_play": "the agent",
    "random": "the agent",
    "copy": "no model: the last frame stays",
}


def export_hub(path: Path, out: Path) -> None:
    """Writes model.safetensors, config.yaml, config.json, README.md and the records of `path`'s newest good checkpoint.

    Raises:
        UserError: `path` is no run folder, has no world model or no usable checkpoint, or something is at `out` already.
    """
    check_new(out)
    run = SavedRun(path)
    run.check_world_model()
    parts, file = run.read()
    outcome = read_outcome(path)
    small = without_training(parts)
    facts = {"model_type": "adamas", "action_meanings": small["models"]["action_meanings"]}
    text = json.dumps({**facts, **dataclasses.asdict(outcome.config)}, indent=2)
    with new_folder(out) as folder:
        for record in (run.folder.config, run.folder.origin, run.folder.evaluations):
            if record.is_file():
                shutil.copy(record, folder)
        safetensors.save_parts(folder / safetensors.NAME, small)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")
        (folder / "README.md").write_text(card(outcome, file.name), encoding="utf-8")


def card(outcome: Outcome, checkpoint_name: str) -> str:
    """The model card: a YAML header that the hub reads, then Markdown."""
    c, evaluation = outcome.config, outcome.final or (outcome.curve[-1] if outcome.curve else None)
    parts = [
        header(c, evaluation),
        f"# adamas: {c.env}",
        WHAT.format(kind=kind_of(c), game=c.env),
        trained_on(outcome, checkpoint_name),
    ]
    if evaluation:
        parts += ["## Scores", score(evaluation, finished=outcome.final is not None)]
        if evaluation.get("detail"):
            parts += ["## How much detail its dreams keep", detail(evaluation["detail"])]
    parts += [HOW_TO_LOAD, LIMITS, "## Licence\n\nMIT. The game is its owners'; no part of its ROM is in this folder."]
    return "\n\n".join(parts) + "\n"


WHAT = """A reinforcement-learning agent for the {kind} {game} and the diffusion world model that it was trained in: the denoiser draws
the next 84x84 grey frame from the last frames and actions, the reward/end model tells what it means, the policy plays.
The idea is that of [DIAMOND](https://arxiv.org/abs/2405.12399)."""

HOW_TO_LOAD = """## How to load

```bash
pip install -e .         # in a clone of adamas
adamas play run=FOLDER   # this folder: a page with the dream and the real game
```

```python
from pathlib import Path
import torch
from adamas.training.load_run import SavedRun

models, _ = SavedRun(Path("FOLDER")).load_newest(torch.device("cpu"))
models.world, models.policy
```

`model.safetensors` holds the averaged weights, matrices and kernels rounded to float16. There are no optimizers and no experience."""

LIMITS = """## Limits

One game, one seed, 84x84 grey frames. Dreams drift from the game the longer they are; the detail table says how fast."""


def header(c: Config, evaluation: dict[str, Any] | None) -> str:
    atari = ["atari"] if is_atari(c.env) else []
    lines = ["---", "license: mit", "library_name: adamas", "pipeline_tag: reinforcement-learning", "tags:"]
    lines += [f"- {tag}" for tag in ("reinforcement-learning", "world-model", "diffusion", *atari, c.env)]
    if evaluation:
        lines += [
            "model-index:",
            f"- name: adamas-{c.env}",
            "  results:",
            "  - task: {type: reinforcement-learning, name: reinforcement-learning}",
            f"    dataset: {{type: {c.env}, name: {c.env}}}",
            f"    metrics: [{{type: mean_return, name: mean return, value: {evaluation['return']:.2f}}}]",
        ]
    return "\n".join([*lines, "---"])


def kind_of(c: Config) -> str:
    return "Atari game" if is_atari(c.env) else "Gymnasium env"


def trained_on(outcome: Outcome, checkpoint_name: str) -> str:
    c, origin = outcome.config, outcome.origin
    steps = outcome.curve[-1]["steps"] if outcome.curve else None
    collected = (
        f"{steps:,} agent steps{' (4 emulator frames each)' if is_atari(c.env) else ''}" if steps else "agent steps"
    )
    if c.dataset:
        collected = f"the stored steps of {shown(c.dataset)}"
    source = f" in ale-py {origin.get('ale-py', '')}" if is_atari(c.env) else ""
    lines = [
        "## Trained on",
        "",
        f"{collected} of {c.env}{source}{'' if c.dataset else ', collected by the agent itself'}; preset `{c.preset}`, "
        f"seed {c.seed}, checkpoint `{checkpoint_name}`.",
    ]
    if origin:
        lines += ["", f"adamas {origin.get('adamas')}, commit {origin.get('commit')}, torch {origin.get('torch')}."]
    return "\n".join(lines)


def score(evaluation: dict[str, Any], finished: bool) -> str:
    """The full games of the last evaluation, with an interval of their mean."""
    mean, low, high = mean_with_interval([evaluation["returns"]])
    when = (
        "at the end of the run" if finished else f"after {evaluation['steps']:,} agent steps; the run is not finished"
    )
    return (
        f"Mean return **{mean:.2f}**, 95% interval [{low:.2f}, {high:.2f}] (bootstrap over games), "
        f"{len(evaluation['returns'])} full games in the real game, {when}. One seed."
    )


def detail(films: dict[str, dict[str, dict[str, float | None]]]) -> str:
    """Held-out play, imagined from four frames and the actions alone, against what was real."""
    names = [name for name in COLUMNS if all(name in figures for figures in films.values())]
    head = ["steps ahead", "held-out play of", *(COLUMNS[name] for name in names)]
    body = [
        [t, label, *(_text(films[film][name].get(t)) for name in names)]
        for t in next(iter(films.values()))[names[0]]
        for film, label in FILMS.items()
        if film in films
    ]
    return markdown_table(head, body, "l" * len(head))


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
