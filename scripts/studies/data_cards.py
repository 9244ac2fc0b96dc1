"""Makes the datasets of results/data-cards: `python scripts/studies/data_cards.py OUT`.

OUT/breakout: random play. OUT/catch: random play of a small game drawn with numpy. OUT/planted: that of Breakout with
actions stored one row late, 30% of the rows copied from others, and one stuck episode. What is there already is used
again. `--games` adds random play of
five games as it is, with its actions shifted by one either way, and with actions that do nothing, and prints what the
card says of the alignment of each.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adamas.config import Atari
from adamas.data import storage
from adamas.data_card import card as data_card
from adamas.data_card.scan import scan
from adamas.data_card.source import FileSource
from adamas.envs.atari import AtariEnv

Rows = dict[str, np.ndarray]
GAMES = ("Breakout", "Pong", "MsPacman", "Seaquest", "Freeway")
STUCK = 200  # steps of the stuck episode


class Catch:
    """A ball falls, and a paddle that moves 4 pixels a step catches it: +1, or -1. Three balls are an episode."""

    actions = ("STAY", "LEFT", "RIGHT")

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.num_actions = len(self.actions)

    def reset(self) -> np.ndarray:
        self.paddle, self.left = 40, 3
        return self._new_ball()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool]:
        self.paddle = int(np.clip(self.paddle + 4 * (action == 2) - 4 * (action == 1), 0, 72))
        self.ball += self.speed
        self.ball[1] = np.clip(self.ball[1], 0, 81)
        if self.ball[0] < 76:
            return self._obs(), 0.0, False, False
        reward = 1.0 if self.paddle - 3 <= self.ball[1] <= self.paddle + 12 else -1.0
        self.left -= 1
        return (self._obs() if not self.left else self._new_ball()), reward, not self.left, False

    def _new_ball(self) -> np.ndarray:
        self.ball = np.array([4, int(self.rng.integers(8, 74))])
        self.speed = np.array([3, int(self.rng.integers(-2, 3))])
        return self._obs()

    def _obs(self) -> np.ndarray:
        frame = np.full((84, 84), 30, np.uint8)
        frame[78:81, self.paddle : self.paddle + 12] = 200
        row, column = self.ball
        frame[row : row + 3, column : column + 3] = 240
        return frame


class Game:
    """A game of Atari, as `Catch` is one."""

    def __init__(self, name: str, seed: int) -> None:
        self.env, self.seed = AtariEnv(name, Atari(), episodic_life=True), seed
        self.num_actions = int(self.env.action_space.n)

    def reset(self) -> np.ndarray:
        seed, self.seed = self.seed, None
        return self.env.reset(seed=seed)[0]

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool]:
        return self.env.step(action)[:4]


def random_play(game: Any, steps: int, seed: int = 0) -> Rows:
    """The columns of a dataset."""
    rng, rows, obs = np.random.default_rng(seed), [], game.reset()
    for _ in range(steps):
        action = int(rng.integers(game.num_actions))
        after, reward, terminated, truncated = game.step(action)
        rows.append((obs, action, reward, terminated, truncated, False))
        obs = after
        if terminated or truncated:
            rows.append((obs, 0, 0.0, False, False, True))
            obs = game.reset()
    columns = zip(*rows, strict=True)
    return {name: np.array(column, storage.DTYPES[name]) for name, column in zip(storage.DTYPES, columns, strict=True)}


def shifted(rows: Rows, by: int) -> Rows:
    """Each action is stored `by` rows later, in its episode; where there is none, it is 0."""
    action, out = rows["action"], np.zeros_like(rows["action"])
    for first, stop in episodes(rows):
        for t in range(first, stop):
            if first <= t - by < stop and not rows["final"][t] and not rows["final"][t - by]:
                out[t] = action[t - by]
    return {**rows, "action": out}


def with_copies(rows: Rows, share: float) -> Rows:
    """Episodes from the start on are there once more at the end, until they are `share` of all rows."""
    wanted = share / (1 - share) * len(rows["obs"])
    copied = np.concatenate([np.arange(*span) for span in episodes(rows) if span[0] < wanted])[: round(wanted)]
    return _joined(rows, {name: column[copied] for name, column in rows.items()})


def with_stuck_episode(rows: Rows) -> Rows:
    """One more episode, of one frame."""
    rng = np.random.default_rng(1)
    stuck = {name: np.zeros((STUCK + 1, *rows[name].shape[1:]), rows[name].dtype) for name in rows}
    stuck["obs"][:] = rows["obs"][100]
    stuck["action"][:-1] = rng.integers(rows["action"].max() + 1, size=STUCK)
    stuck["truncated"][-2] = stuck["final"][-1] = True
    return _joined(rows, stuck)


def episodes(rows: Rows) -> Iterator[tuple[int, int]]:
    """(first row, one past the last) of each."""
    after = np.flatnonzero(storage.after_end(rows["terminated"] | rows["truncated"], rows["final"])) + 1
    return itertools.pairwise([0, *after.tolist(), len(rows["final"])])


def _joined(first: Rows, second: Rows) -> Rows:
    """One after the other; the last episode of the first one is truncated."""
    first = {name: column.copy() for name, column in first.items()}
    if not first["final"][-1]:
        first["truncated"][-1] = ~first["terminated"][-1]
    return {name: np.concatenate([column, second[name]]) for name, column in first.items()}


def save(rows: Rows, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    storage.write(folder, 0, rows)


def played(game: Any, steps: int, folder: Path) -> Rows:
    """Random play that is in the folder, else made and put there."""
    if not folder.exists():
        save(random_play(game, steps), folder)
    (path,) = storage.dataset_files(folder)
    return storage.read(path, (84, 84))


def print_alignment(out: Path, steps: int) -> None:
    """A line of Markdown for each game and what was done to its actions."""
    print("| game | actions | verdict | " + " | ".join(f"t{lag:+d}" for lag in (-2, -1, 0, 1, 2)) + " |")
    print("|---|---|---|" + "--:|" * 5)
    for game in GAMES:
        rows = played(Game(game, 0), steps, out / game.lower())
        nothing = np.random.default_rng(2).integers(rows["action"].max() + 1, size=len(rows["action"]))
        kinds = {
            "as they are": rows,
            "1 row late": shifted(rows, 1),
            "1 row early": shifted(rows, -1),
            "do nothing": {**rows, "action": np.where(rows["final"], 0, nothing).astype(np.uint8)},
        }
        source = FileSource(storage.dataset_files(out / game.lower()))
        seen = scan(source)
        for kind, columns in kinds.items():
            source.columns["action"] = columns["action"]
            found = data_card.align(source, seen, np.ones(source.rows, bool))
            scores = " | ".join(f"{score:.4f} ({found.z[lag]:.0f})" for lag, score in found.scores.items())
            lag = "" if found.lag is None else f", lag {found.lag:+d}"
            print(f"| {game} | {kind} | {found.verdict}{lag} | {scores} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=8_000, help="of each dataset")
    parser.add_argument("--games", action="store_true", help="print the alignment of five games")
    arguments = parser.parse_args()
    if arguments.games:
        print_alignment(arguments.out, arguments.steps)
    else:
        breakout = played(Game("Breakout", 0), arguments.steps, arguments.out / "breakout")
        played(Catch(0), arguments.steps, arguments.out / "catch")
        save(with_stuck_episode(with_copies(shifted(breakout, 1), 0.3)), arguments.out / "planted")
