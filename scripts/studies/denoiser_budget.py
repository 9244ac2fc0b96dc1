"""What a denoiser learns for a fixed cost: `python scripts/studies/denoiser_budget.py Breakout Assault --seconds 200 600`.

Trains the denoiser of a preset on random play for so many seconds of processor time on one core, and dreams other random
play from the same contexts, with the same noise for all and with fresh noise. Prints a row a game and budget, at 1, 5, 10 and
15 steps:

  lost       share of dreams in which most of the small things that moved are nowhere near
  recall     of the pixels that changed, the share that is right; and precision, of those that change in the dream
  spread     mean grey levels between two dreams that differ in their noise alone, where either of them changes: does the
             noise choose anything?

Further settings follow as name=value. Rows are added to --out, a JSON Lines file, from which a table is written beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adamas.config import Config
from adamas.config.files import load_config
from adamas.data.motion import lost_track
from adamas.data.replay import Replay
from adamas.envs.atari import AtariEnv
from adamas.evaluation.dreams import Dreams, dream, spread
from adamas.evaluation.evaluate import FIXED_SEED, FRESH_SEED, fixed_clip, measure_dreams
from adamas.training.models import Models
from adamas.training.updates import Updates
from adamas.utils.device import keep_freed_memory
from adamas.utils.markdown import markdown_table

ROOT = Path(__file__).resolve().parents[2]
AT = (1, 5, 10, 15)  # steps into a dream
DREAMS = 64
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("games", nargs="+")
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[200.0], help="of processor time, in ascending order"
    )
    parser.add_argument("--updates", type=int, nargs="+", help="in place of --seconds: where the machine is shared")
    parser.add_argument("--steps", type=int, default=20_000, help="agent steps of random play to learn from")
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", default="as it is", help="what the row is called")
    parser.add_argument("--set", nargs="*", default=[], metavar="name=value", help="further settings")
    parser.add_argument("--out", type=Path, default=Path("runs/denoiser-budget.jsonl"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for game in arguments.games:
        config = compose(game, arguments)
        budgets = arguments.updates or arguments.seconds
        for row in train(config, arguments.steps, budgets, counted=bool(arguments.updates)):
            line = {"game": game, "label": arguments.label, "seed": arguments.seed, "settings": arguments.set, **row}
            with arguments.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
    rows = [json.loads(line) for line in arguments.out.read_text().splitlines()]
    arguments.out.with_suffix(".md").write_text(table(rows))


def compose(game: str, arguments: argparse.Namespace) -> Config:
    """The config, as the command line understands it."""
    settings = [f"env={game}", f"seed={arguments.seed}", f"preset={arguments.preset}", "device=cpu", *arguments.set]
    command = [sys.executable, str(ROOT / "src" / "main.py"), *settings, "--cfg", "job"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    path = arguments.out.with_suffix(".yaml")
    path.write_text(text)
    config = load_config(path)
    config.evaluation.dreams, config.evaluation.dream_steps = DREAMS, max(AT)
    return config


def random_play(config: Config, steps: int) -> Replay:
    env = AtariEnv(config.env, config.atari, episodic_life=True)
    replay, random = Replay(steps, config.replay.age_weights), np.random.default_rng(config.seed)
    obs, _ = env.reset(seed=config.seed)
    for _ in range(steps):
        action = int(random.integers(len(env.action_meanings)))
        following, reward, terminated, truncated, _ = env.step(action)
        replay.add(obs, action, reward, terminated, truncated, following)
        obs = env.reset()[0] if terminated or truncated else following
    return replay


def train(config: Config, steps: int, budgets: list[float], counted: bool) -> list[dict[str, Any]]:
    """A row for each budget, of updates (`counted`) or of processor seconds."""
    torch.manual_seed(config.seed)
    replay = random_play(config, steps)
    meanings = AtariEnv(config.env, config.atari, episodic_life=True).action_meanings
    updates = Updates.without_run(Models(config, meanings, CPU), replay)
    updates.measure_changes()
    clip, rows, spent = fixed_clip(config), [], 0.0
    for budget in budgets:
        begun = time.process_time()
        while (updates.learners.steps("denoiser") if counted else spent + time.process_time() - begun) < budget:
            updates.make("denoiser")
        spent += time.process_time() - begun
        world, context = updates.models.world, config.denoiser.context
        with updates.models.autocast():
            fixed, fresh = (dream(world, clip, context, seed) for seed in (FIXED_SEED, FRESH_SEED))
        sigma_data = float(updates.models.denoiser.sigma_data)
        rows.append(
            {
                "seconds": round(spent),
                "updates": updates.learners.steps("denoiser"),
                "sigma_data": sigma_data,
                **figures(fixed, fresh),
            }
        )
    return rows


def figures(fixed: Dreams, fresh: Dreams) -> dict[str, list[float]]:
    """Each at the steps AT."""
    real, imagined = (torch.cat([fixed.previous[:, None], film], 1) for film in (fixed.real, fixed.imagined))
    lost, detail = lost_track(real, imagined).float().mean(0), measure_dreams(fixed)
    at = [step - 1 for step in AT]
    return {
        "lost": lost[at].tolist(),
        "change_recall": detail.change_recall[at].tolist(),
        "change_precision": detail.change_precision[at].tolist(),
        "spread": spread(fixed, fresh).nan_to_num(0)[at].tolist(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    names = ("lost", "change_recall", "change_precision", "spread")
    head = ["game", "label", "seconds", "updates", *(f"{name} at {'/'.join(map(str, AT))}" for name in names)]
    body = []
    for row in sorted(rows, key=lambda row: (row["game"], row["updates"], row["label"])):
        cells = [" ".join(f"{x:.1f}" if name == "spread" else f"{x:.2f}" for x in row[name]) for name in names]
        body.append([row["game"], row["label"], str(row["seconds"]), str(row["updates"]), *cells])
    return markdown_table(head, body, "llrrllll") + "\n"


if __name__ == "__main__":
    main()
