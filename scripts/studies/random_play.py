"""What random play gets here: `python scripts/studies/random_play.py`.

Plays full games of each game of Atari 100k with uniformly random actions, under the settings of every preset (at most 27,000 agent
steps a game, no sticky actions), and writes random-play.json and random-play.md, which it adds to game by game: what is there
already is not played again. Beside them stands the random play that human-normalised scores are computed from (Mnih et al. 2015).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from adamas.benchmark.aggregates import mean_with_interval, read_published
from adamas.benchmark.showcase import RANDOM_GAMES, random_games
from adamas.config import Config
from adamas.utils.files import publish_text
from adamas.utils.markdown import markdown_table

SEED = 0
HEADER = ("game", "mean return", "95% interval", "published", "steps a game")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[2] / "results")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    published, path = read_published(), arguments.out / "random-play.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    for game in published.games:
        if game in found:
            continue
        found[game] = (played := random_games(Config(env=game), SEED))._asdict()
        publish_text(path, json.dumps(found) + "\n")
        publish_text(path.with_suffix(".md"), table(found, published.random))
        print(f"{game}: {sum(played.returns) / len(played.returns):.2f}", flush=True)
    return 0


def table(found: dict[str, dict[str, list[float]]], published: dict[str, float]) -> str:
    body = []
    for game, played in sorted(found.items()):
        mean, low, high = mean_with_interval([played["returns"]])
        steps = sum(played["lengths"]) / len(played["lengths"])
        body.append([game, f"{mean:,.2f}", f"{low:,.2f} to {high:,.2f}", f"{published[game]:,}", f"{steps:,.0f}"])
    lines = ["# Random play in this emulator", "", "`python scripts/studies/random_play.py`", ""]
    lines += [f"{RANDOM_GAMES} full games of each, uniformly random actions, seed {SEED}.", ""]
    return "\n".join([*lines, markdown_table(HEADER, body, "lrrrr")]) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
