"""Builds faults into the code, one at a time, and prints which test notices: `python scripts/mutation/run.py`.

The faults are those of `faults.py`, beside this file. Each is built into a copy of the repository, where its tests then run
up to the first failure. Writes results/mutations.md when all were tried. Exit status 1 if any fault goes unnoticed.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from apply import module_file, mutated
from faults import FAULTS, Fault
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 400  # seconds a test; one that hangs has noticed too
LOG = "pytest.log"
OPTIONS = f"-x -q -n 0 -p no:cacheprovider --tb=short --timeout={LIMIT} --timeout-method=thread"
PASSED, FAILED = 0, 1  # exit statuses of pytest; any other means that the tests did not run
LIBRARIES = ["cv2", "hypothesis.strategies", "PIL.Image", "pytest", "torch.optim.swa_utils", "torch.utils.tensorboard"]
PROCESSES = multiprocessing.get_context("forkserver")  # to import the libraries once, and the package for each fault


class Outcome(NamedTuple):
    """What became of a fault."""

    fault: Fault
    caught_by: str  # "" if nothing failed
    seconds: float

    def row(self) -> list[str]:
        caught = f"`{self.caught_by}`" if self.caught_by else "**nothing**"
        return [self.fault.name, f"`{self.fault.module}.{self.fault.function}`", caught, f"{self.seconds:.0f}"]


def main() -> int:
    from adamas.utils.markdown import markdown_table  # not above: the processes that test import this file too

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the faults whose name or place contains this; no table is written")
    only = parser.parse_args().only
    chosen = [fault for fault in FAULTS if only in f"{fault.name} {fault.module}.{fault.function}"]
    if not chosen:
        parser.error(f"no fault contains '{only}'")
    os.environ["OMP_NUM_THREADS"] = "1"
    PROCESSES.set_forkserver_preload(LIBRARIES)
    code = commit()  # of now, whatever is committed while it runs
    outcomes = run_all(chosen)
    table = markdown_table(["fault", "where", "caught by", "s"], [outcome.row() for outcome in outcomes], "lllr")
    print(table)
    if not only:
        (ROOT / "results" / "mutations.md").write_text(f"{headline(outcomes, code)}\n\n{table}\n")
    survivors = [outcome.fault.name for outcome in outcomes if not outcome.caught_by]
    if survivors:
        print(f"{len(survivors)} of {len(outcomes)} faults went unnoticed: {'; '.join(survivors)}", file=sys.stderr)
    return int(bool(survivors))


def run_all(chosen: list[Fault]) -> list[Outcome]:
    """The outcomes in the order of the faults, after a look at whether the code passes as it is."""
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_the_repository(Path(folder) / "copy")
        needed = tuple(dict.fromkeys(test for fault in chosen for test in fault.tests))
        caught_by, seconds = run_tests(copy, needed)
        if caught_by:
            sys.exit(f"{caught_by} fails without any fault: put that right first")
        print(f"without a fault all of {len(needed)} test files pass in {seconds:.0f} s", file=sys.stderr)
        return [try_out(fault, copy) for fault in tqdm(chosen, unit="fault", smoothing=0)]


def copy_of_the_repository(to: Path) -> Path:
    """What git knows and what it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(command, cwd=ROOT, text=True).split("\0"):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)
    return to


def try_out(fault: Fault, copy: Path) -> Outcome:
    path = module_file(copy, fault.module)
    sound = path.read_text()
    path.write_text(mutated(sound, fault.function, fault.edits))
    outcome = Outcome(fault, *run_tests(copy, fault.tests))
    path.write_text(sound)
    tqdm.write(f"{outcome.caught_by or 'NOTHING'} <- {fault.name}", file=sys.stderr)
    return outcome


def run_tests(copy: Path, tests: tuple[str, ...]) -> tuple[str, float]:
    """The first test that fails, "" if none does; and the seconds that it took."""
    start = time.monotonic()
    process = PROCESSES.Process(target=be_pytest, args=(copy, tests))
    process.start()
    process.join()
    output = (copy / LOG).read_text()
    failed = re.search(r"^(?:FAILED|ERROR) tests/([^\s\[]+)", output, re.MULTILINE)
    if "+ Timeout +" in output:  # pytest ends at once, whatever it waits for
        failed = re.search(r"in (test_\w+)", output)
    if process.exitcode not in (PASSED, FAILED, 2) or (process.exitcode != PASSED and not failed):
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
    status = pytest.main([*OPTIONS.split(), *(f"tests/{test}" for test in tests)])
    if not Path(sys.modules["adamas"].__file__).is_relative_to(copy):
        sys.exit(f"the tests ran on {sys.modules['adamas'].__file__}")
    sys.exit(int(status))


def commit() -> str:
    def git(*words: str) -> str:
        return subprocess.check_output(["git", *words], cwd=ROOT, text=True).strip()

    changed = " with changes that are not committed" if git("status", "--porcelain", "src", "tests") else ""
    return git("rev-parse", "--short", "HEAD") + changed


def headline(outcomes: list[Outcome], code: str) -> str:
    caught = sum(bool(outcome.caught_by) for outcome in outcomes)
    command = shlex.join([os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]])
    return (
        "# Faults, and the tests that notice them\n\n"
        f"`python {command}`, {datetime.date.today()}, commit {code}: {caught} of {len(outcomes)} faults caught. "
        "Each is tried with the tests that `scripts/mutation/faults.py` names, in their order and up to the first failure. "
        "Seconds include pytest's start."
    )


if __name__ == "__main__":
    sys.exit(main())
