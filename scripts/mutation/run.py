"""Breaks the code on purpose, one fault at a time, and prints which test notices: `python scripts/mutate.py`.

The faults are those of `mutations.py`, beside this file. Each is built into a copy of the repository, whose tests then
run up to the first failure. Exit status 1 if any fault goes unnoticed.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import pytest
from mutations import FAST, MUTATIONS, Mutation
from tqdm import tqdm

from adamas.utils.markdown import markdown_table

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("src/adamas")
LIMIT = 400  # seconds a test; one that hangs has noticed too
LOG = "pytest.log"
PASSED, FAILED = 0, 1  # exit statuses of pytest; any other means that the tests did not run
PROCESSES = multiprocessing.get_context("forkserver")  # to import the libraries once, and the package for each fault
LIBRARIES = [
    "ale_py.vector_env",
    "cv2",
    "hypothesis.strategies",
    "PIL.Image",
    "pytest",
    "torch.optim.swa_utils",
    "torch.utils.flop_counter",
    "torch.utils.tensorboard",
]


class Outcome(NamedTuple):
    """What became of a fault."""

    mutation: Mutation
    where: str
    caught_by: str  # "" if nothing failed
    seconds: float

    def row(self) -> list[str]:
        caught = f"`{self.caught_by}`" if self.caught_by else "**nothing**"
        return [self.mutation.fault, self.where, caught, f"{self.seconds:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="the faults whose name or file contains this")
    parser.add_argument("--jobs", type=int, default=1, help="faults that are tried side by side")
    parser.add_argument("--table", type=Path, help="the Markdown file to write")
    arguments = parser.parse_args()
    chosen = [m for m in MUTATIONS if arguments.only in m.fault or any(arguments.only in e.file for e in m.edits)]
    if not chosen:
        parser.error(f"no fault contains '{arguments.only}'")
    os.environ["OMP_NUM_THREADS"] = "1"
    PROCESSES.set_forkserver_preload(LIBRARIES)
    code = commit()  # of now, whatever is committed while it runs
    outcomes = run_all(chosen, arguments.jobs)
    table = markdown_table(["fault", "where", "caught by", "s"], (o.row() for o in outcomes), "lllr")
    print(table)
    if arguments.table:
        arguments.table.write_text(f"{headline(outcomes, code)}\n\n{table}\n")
    survivors = [o.mutation.fault for o in outcomes if not o.caught_by]
    sys.exit(f"{len(survivors)} of {len(outcomes)} faults went unnoticed: {'; '.join(survivors)}" if survivors else 0)


def run_all(chosen: list[Mutation], jobs: int) -> list[Outcome]:
    """The outcomes in the order of the faults, after a look at whether the code passes as it is."""
    files = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    ).split("\0")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        copies: SimpleQueue[Path] = SimpleQueue()
        for job in range(jobs):
            copies.put(copy_of_the_repository(files, Path(folder) / str(job)))
        for mutation in chosen:  # before anything runs: each of them fits the code of now
            mutated(mutation, ROOT)
        needed = tuple(dict.fromkeys(test for mutation in chosen for test in mutation.tests))
        caught_by, seconds = run_tests(Path(folder) / "0", needed)
        if caught_by:
            sys.exit(f"{caught_by} fails without any fault: put that right first")
        print(f"without a fault all of {len(needed)} test files pass in {seconds:.0f} s", file=sys.stderr)

        def attempt(mutation: Mutation) -> Outcome:
            copy = copies.get()
            try:
                return try_out(mutation, copy)
            finally:
                copies.put(copy)

        return list(tqdm(pool.map(attempt, chosen), total=len(chosen), unit="fault", smoothing=0))


def copy_of_the_repository(files: list[str], to: Path) -> Path:
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            (to / name).write_bytes((ROOT / name).read_bytes())
    return to


def mutated(mutation: Mutation, root: Path) -> dict[Path, str]:
    """The files of the repository at `root` that the fault changes, with the fault in them."""
    texts: dict[Path, str] = {}
    for edit in mutation.edits:
        path = PACKAGE / edit.file
        text = texts.get(path) or (root / path).read_text()
        if text.count(edit.old) != 1:
            sys.exit(
                f"'{mutation.fault}': {path} holds its old text {text.count(edit.old)} times, not once: {edit.old!r}"
            )
        texts[path] = text.replace(edit.old, edit.new)
    return texts


def try_out(mutation: Mutation, copy: Path) -> Outcome:
    texts = mutated(mutation, copy)
    sound = {path: (copy / path).read_text() for path in texts}
    first = mutation.edits[0]
    line = sound[PACKAGE / first.file].partition(first.old)[0].count("\n") + 1
    for path, text in texts.items():
        (copy / path).write_text(text)
    caught_by, seconds = run_tests(copy, mutation.tests)
    for path, text in sound.items():
        (copy / path).write_text(text)
    tqdm.write(f"{caught_by or 'NOTHING'} <- {mutation.fault}", file=sys.stderr)
    return Outcome(mutation, f"{first.file}:{line}", caught_by, seconds)


def run_tests(copy: Path, tests: tuple[str, ...]) -> tuple[str, float]:
    """The first test that fails, "" if none does; and the seconds that it took."""
    start = time.monotonic()
    process = PROCESSES.Process(target=be_pytest, args=(copy, tests))
    process.start()
    process.join()
    output = (copy / LOG).read_text()
    failed = re.search(r"^(?:FAILED|ERROR) tests/([^\s\[]+::[^\s\[]+)", output, re.MULTILINE)
    if "+ Timeout +" in output:  # pytest ends at once, whatever it waits for
        failed = re.search(r"in (test_\w+)", output)
    if process.exitcode not in (PASSED, FAILED) or (process.exitcode == FAILED and not failed):
        sys.exit(f"pytest did not run:\n{output[-3000:]}")
    return failed[1] if failed else "", time.monotonic() - start


def be_pytest(copy: Path, tests: tuple[str, ...]) -> None:
    """What a process does that has the libraries but not yet the package. Its exit status is pytest's."""
    with open(copy / LOG, "w") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy / "src")
    sys.path.insert(0, str(copy / "src"))
    sys.dont_write_bytecode = True  # a cached file of the same second and size would hide a fault
    options = [
        "-x",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        f"--timeout={LIMIT}",
        "--timeout-method=thread",
    ]
    status = pytest.main([*options, *(f"tests/{test}" for test in tests)])
    if not Path(sys.modules["adamas"].__file__).is_relative_to(copy):
        sys.exit(f"the tests ran on {sys.modules['adamas'].__file__}")
    sys.exit(int(status))


def commit() -> str:
    def git(*words: str) -> str:
        return subprocess.check_output(["git", *words], cwd=ROOT, text=True).strip()

    changed = " with changes that are not committed" if git("status", "--porcelain", "src", "tests") else ""
    return git("rev-parse", "--short", "HEAD") + changed


def headline(outcomes: list[Outcome], code: str) -> str:
    caught = sum(bool(o.caught_by) for o in outcomes)
    return (
        "# Faults, and the tests that notice them\n\n"
        f"`python {shlex.join([os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]])}`, "
        f"{datetime.date.today()}, commit {code}: "
        f"{caught} of {len(outcomes)} faults caught. Where not said otherwise in `scripts/mutations.py`, the tests are "
        f"{', '.join(FAST)}, in this order and up to the first failure; seconds include pytest's start."
    )


if __name__ == "__main__":
    main()
