"""Inputs that nobody should give: each costs one line and no traceback. Drawn by hypothesis, the same each time."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Row, apart, train
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

QUIET = {"deadline": None, "database": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


class Tally:
    """How many inputs were refused in one line, how many happened to be right, and those that were neither."""

    def __init__(self) -> None:
        self.refused, self.right, self.faults = 0, 0, []

    def count(self, what: object, run: Callable[[], int | None]) -> None:
        err = io.StringIO()
        try:
            with redirect_stderr(err), redirect_stdout(io.StringIO()):
                code = run() or 0
        except Exception as error:
            self.faults.append(f"{what!r}: {type(error).__name__}: {error}")
            print(self.faults[-1][:400], flush=True)
            return
        lines = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
        if code == 0:
            self.right += 1
        elif code == 2 and len(lines) == 1 and "Traceback" not in err.getvalue():
            self.refused += 1
        else:
            self.faults.append(f"{what!r}: code {code}, {err.getvalue()[-300:]}")
            print(self.faults[-1][:400], flush=True)

    def row(self, kind: str) -> Row:
        found = f"{self.refused} one-line errors, {self.right} that were no mistakes, {len(self.faults)} faults"
        tried = f"{self.refused + self.right + len(self.faults)} of {kind}"
        return Row("bad input costs one line, no traceback", tried, found, not self.faults)


def bad_inputs(folder: Path, count: int) -> list[Row]:
    from adamas.cli import train as train_command

    run = train("checkpoint.every_minutes=0.05", cwd=folder / "inputs")
    train_command.run = lambda config: True  # whatever is right is not run
    return [
        apart(words, count),
        apart(yaml, run, folder / "yaml", count),
        apart(npz, run, folder / "npz", count),
        apart(checkpoints, run, folder / "checkpoints", count),
    ]


def command(*words: str) -> Callable[[], int]:
    from adamas.cli.main import main

    def run() -> int:
        before, sys.argv = sys.argv, ["adamas", *words]
        try:
            return main([*words])
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            sys.argv = before

    return run


def words(count: int) -> Row:
    from adamas.cli.main import COMMANDS
    from adamas.config.help import kinds

    tally = Tally()
    text = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=12)
    value = st.one_of(
        text,
        st.integers().map(str),
        st.floats().map(str),
        st.sampled_from(
            [
                "[",
                "{a:1}",
                "null",
                "'",
                "a,b",
                "${x}",
                "${env}",
                "range(1,3)",
                "[1,[2]]",
                "-1",
                "1e999",
                "~",
                "!!python/object:os.system x",
            ]
        ),
    )
    key = st.one_of(st.sampled_from([*kinds(), "run", "runs", "out", "games", "seeds", "host", "port"]), text)
    word = st.one_of(st.tuples(key, value).map("=".join), text)
    name = st.sampled_from([c for c in COMMANDS if c not in ("play", "benchmark")])

    @settings(max_examples=count, **QUIET)
    @given(name, st.lists(word, min_size=1, max_size=3))
    def each(name: str, given_words: list[str]) -> None:
        if not {"-h", "--help", "-m"} & {*given_words}:
            tally.count([name, *given_words], command(name, *given_words))

    each()
    return tally.row("command lines")


def yaml(run: Path, folder: Path, count: int) -> Row:
    shutil.copytree(run, folder, dirs_exist_ok=True)
    path, tally = folder / "config.yaml", Tally()
    lines = path.read_text().splitlines()[:-1]
    junk = st.one_of(
        st.text(max_size=30),
        st.sampled_from(
            [
                "*a",
                "&a [*a]",
                "!!python/object/apply:os.system ['id']",
                "? ",
                "{",
                "- 1",
                "\t",
                "denoiser: 3",
                "env: [1]",
                "a: &a [*a, *a]",
                "<<: 1",
                "seed: {}",
                "initialize: null",
                "env: ${seed}",
            ]
        ),
    )

    @settings(max_examples=count, **QUIET)
    @given(st.integers(0, len(lines) - 1), junk, st.booleans())
    def each(number: int, text: str, instead: bool) -> None:
        changed = [*lines[:number], text, *lines[number + instead :]]
        path.write_text("\n".join(changed), encoding="utf-8", errors="surrogatepass")
        tally.count(text, command("train", f"resume={folder}"))

    each()
    return tally.row("config.yaml")


def npz(run: Path, folder: Path, count: int) -> Row:
    from adamas.config.files import load_config
    from adamas.training.datasets import read_experience
    from adamas.utils.errors import exit_code

    folder.mkdir(exist_ok=True)
    config, tally, path = load_config(run / "config.yaml"), Tally(), folder / "data.npz"
    rows = dict(np.load(next((run / "replay").glob("rows-*.npz"))))
    dtypes = st.sampled_from(["uint8", "int64", "float64", "bool", "complex64", "U3", "datetime64[s]", "O"])
    shapes = st.sampled_from([(), (0,), (3,), (62, 1), (62, 84), (62, 84, 84), (62, 84, 84, 3)])

    @settings(max_examples=count, **QUIET)
    @given(st.sampled_from([*rows]), st.one_of(st.none(), st.tuples(dtypes, shapes), st.binary(max_size=300)))
    def each(name: str, what: Any) -> None:
        changed = {k: v for k, v in rows.items() if what is not None or k != name}
        if isinstance(what, tuple):
            changed[name] = np.zeros(what[1], what[0])
        np.savez(path, **changed)
        if isinstance(what, bytes):
            path.write_bytes(what if len(what) % 2 else path.read_bytes()[: -1 - len(what)] + what)
        tally.count(
            (name, what), lambda: exit_code(lambda: read_experience(path, config, torch.device("cpu")) and None)
        )

    each()
    return tally.row("datasets")


def checkpoints(run: Path, folder: Path, count: int) -> Row:
    """Files whose digest is right, with other parts."""
    from adamas.config.files import load_config
    from adamas.play.load import open_agent
    from adamas.play.settings import Options
    from adamas.training import checkpoint
    from adamas.training.run_folder import RunFolder
    from adamas.training.trainer import Trainer
    from adamas.utils.errors import exit_code

    shutil.copytree(run, folder, dirs_exist_ok=True)
    config, tally = load_config(run / "config.yaml"), Tally()
    parts = checkpoint.load(checkpoint.newest_first(run / "checkpoints")[0])
    paths = [*places(parts)]
    junk = st.one_of(st.none(), st.integers(), st.text(max_size=5), st.just([]), st.just({}), st.just(torch.zeros(3)))

    @settings(max_examples=count, **QUIET)
    @given(st.sampled_from(paths), junk, st.booleans(), st.booleans())
    def each(place: tuple, what: Any, gone: bool, to_play: bool) -> None:
        for path in (folder / "checkpoints").iterdir():
            path.unlink()
        checkpoint.save(folder / "checkpoints", 1, changed(parts, place, what, gone), keep=1)

        def use() -> None:
            if to_play:
                open_agent(Options(run=str(folder), device="cpu"))
            else:
                Trainer(config, RunFolder(folder), torch.device("cpu")).resume()

        tally.count((place, what, gone, "play" if to_play else "resume"), lambda: exit_code(use))

    each()
    return tally.row("checkpoints")


def places(node: Any, at: tuple = ()) -> list[tuple]:
    """The ways to what is up to three levels deep."""
    if not isinstance(node, dict) or len(at) == 3:
        return []
    ways = [(*at, key) for key in node]
    return [*ways, *(way for key in node for way in places(node[key], (*at, key)))]


def changed(node: Any, at: tuple, what: Any, gone: bool) -> Any:
    key, *rest = at
    if rest:
        return {**node, key: changed(node[key], tuple(rest), what, gone)}
    return {k: v for k, v in node.items() if k != key} if gone else {**node, key: what}
