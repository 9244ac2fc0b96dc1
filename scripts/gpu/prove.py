"""Proves the GPU path in two calls of a few minutes each: `python scripts/gpu/prove.py tests`, then `... prove.py runs`.

`tests`: a smoke run, the tests that need a GPU, a resume, recorded and eager speed, a profile of updates, the tests that compile.
`runs`: Breakout with preset fast, uncompiled, for a while, then the speed of compiled code. What matters most comes first. The second
call is to follow the first within half a minute, while the machine is still held.

Each step has a time limit of its own, and a failed one does not stop the next. Results go to one folder (`--out`, or $OUT):
a line of JSON a step, the log, and what the steps wrote. `--rehearse` does the same on a CPU with tiny sizes. Wheels that
`wheels.py` collected are installed for the steps alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WHEELS = ROOT / ".wheels"
SECONDS = 350  # of a call in all
TAIL = 1_500  # characters of a step's output that its line keeps
MOST_LOG = 8_000_000  # bytes
STOPPING = 25  # seconds that a run is given to save and to stop
BREAKOUT = [  # of preset fast: few random steps, and a dream, an evaluation and every curve early
    "collection.first_steps=1500",
    "collection.first_steps_most=1500",
    "collection.steps_per_epoch=200",
    "denoiser.optimization.first_updates=600",
    "denoiser.autoregressive_after=300",
    "reward_end.optimization.first_updates=100",
    "actor_critic.optimization.first_updates=10",
    "denoiser.optimization.updates=100",
    "reward_end.optimization.updates=20",
    "actor_critic.optimization.updates=10",
    "evaluation.every_epochs=1",
    "evaluation.games=4",
    "evaluation.dreams=8",
    "atari.max_episode_steps=1000",
]
TINY = [  # of preset smoke, for a rehearsal
    "denoiser.channels=[16]",
    "denoiser.depths=[1]",
    "reward_end.channels=[8,8,8]",
    "actor_critic.channels=[8,16]",
    "actor_critic.horizon=2",
    *(f"{part}.optimization.batch_size=2" for part in ("denoiser", "reward_end", "actor_critic")),
    "atari.max_episode_steps=60",
    "collection.first_steps=60",
    "collection.first_steps_most=60",
    "collection.steps_per_epoch=30",
    "collection.steps=90",
    "evaluation.games=1",
    "evaluation.final_games=1",
    "evaluation.dreams=1",
    "evaluation.dream_steps=4",
]


@dataclass(frozen=True)
class Step:
    """A command and the seconds that it may take. With `stop` it is asked to end before they are over, as by Ctrl-C."""

    name: str
    words: list[str]
    limit: float
    stop: bool = False
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Proof:
    """The steps of a call, and what they leave behind."""

    out: Path
    rehearse: bool
    work: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="prove-")))
    began: float = field(default_factory=time.monotonic)
    failed: int = 0

    def settings(self, preset: str, *more: str) -> list[str]:
        """Of `adamas train`, on the device that is to be proved."""
        if self.rehearse:
            kept = [word for word in more if not word.startswith(("compile", "cuda_graphs", *shortened()))]
            return ["env=Breakout", "preset=smoke", "device=cpu", *TINY, *kept]
        return ["env=Breakout", f"preset={preset}", "device=cuda", *more]

    def left(self) -> float:
        return (20 * SECONDS if self.rehearse else SECONDS) - (time.monotonic() - self.began)

    def run(self, step: Step) -> None:
        limit = min(step.limit * (20 if self.rehearse and not step.stop else 1), self.left())
        start = time.monotonic()
        code, output = self._output(step, limit) if limit > 5 else (None, "no time was left")
        seconds = round(time.monotonic() - start, 1)
        self.failed += code != 0
        line = {"step": step.name, "code": code, "seconds": seconds, "limit": round(limit), "tail": output[-TAIL:]}
        with open(self.out / "steps.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        with open(self.out / "log.txt", "a") as file:
            file.write(f"\n===== {step.name}: {' '.join(step.words)}\n{output[-MOST_LOG // 8 :]}\n")
        print(f"{step.name}: {'ok' if code == 0 else f'code {code}'}, {seconds} s", flush=True)
        if speed := [json.loads(path.read_text()) for path in sorted(self.work.glob("speed/*.json"))]:
            (self.out / "speed.json").write_text(json.dumps(speed, indent=1) + "\n")

    def _output(self, step: Step, limit: float) -> tuple[int | None, str]:
        """The exit code, None where the time was over, and what was printed."""
        path = self.work / "output.txt"
        with open(path, "w") as file:
            environment = {**self._environment(), **step.environment}
            process = subprocess.Popen(
                step.words, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True
            )
            try:
                process.wait(limit - STOPPING * step.stop)
            except subprocess.TimeoutExpired:
                if step.stop:
                    process.send_signal(signal.SIGINT)
            try:
                code = process.wait(STOPPING if step.stop else 0.1)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = None
        return code, path.read_text(errors="replace")

    def _environment(self) -> dict[str, str]:
        paths = [str(ROOT / "src"), str(self.work / "site"), os.environ.get("PYTHONPATH", "")]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}

    def install(self) -> None:
        """The wheels, for the steps alone."""
        wheels = sorted(map(str, WHEELS.glob("*.whl")))
        if wheels and not self.rehearse:
            words = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--target"]
            self.run(Step("install", [sys.executable, *words, str(self.work / "site"), *wheels], 40))

    def gather(self) -> None:
        """What the last run wrote, in few files."""
        for run in sorted(self.work.glob("runs/*/*"))[-1:]:
            for path in (run / "evaluations.jsonl", run / "config.yaml", *sorted(run.glob("dreams/*.gif"))[-1:]):
                if path.exists():
                    shutil.copy(path, self.out / ("dream.gif" if path.suffix == ".gif" else path.name))
            read = [sys.executable, "-c", CURVES, str(run / "tensorboard")]
            with open(self.out / "curves.json", "w") as file, suppress(subprocess.TimeoutExpired):
                subprocess.run(read, env=self._environment(), stdout=file, stderr=file, check=False, timeout=60)
        shutil.rmtree(self.work, ignore_errors=True)


CURVES = """
import json, sys
from pathlib import Path
from adamas.training.scalars import read_scalars
curves = read_scalars(Path(sys.argv[1]))
print(json.dumps({name: [[e.step, e.value] for e in events] for name, events in curves.items()}))
"""
MACHINE = """
import sys, torch
print(sys.version, torch.__version__, torch.version.cuda, torch.backends.cudnn.version())
print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")
"""


def shortened() -> tuple[str, ...]:
    """The settings of BREAKOUT, which a rehearsal makes smaller still."""
    return tuple(word.partition("=")[0] for word in BREAKOUT)


def script(*words: str) -> list[str]:
    return [sys.executable, *words]


def tests(proof: Proof) -> None:
    runs, train = f"runs={proof.work / 'runs'}", script("src/main.py")

    def smoke(policy: str) -> None:
        words = proof.settings("smoke", "compile=false", f"policy={policy}", runs)
        proof.run(Step(f"smoke {policy}", [*train, *words], 45))

    smoke("imagined")
    proof.run(pytest("not compile", limit=90))
    for graphs in ("true", "false"):
        for preset in ("fast", "diamond"):
            proof.run(speed(proof, preset, "compile=false", f"cuda_graphs={graphs}"))
    smoke("dyna")
    folders = sorted(proof.work.glob("runs/*/*"))  # the last one is of dyna, which has all that a checkpoint can hold
    again = [f"resume={folders[-1]}" if folders else runs, "final_epochs=2"]
    proof.run(Step("resume", [*train, *again], 45))
    words = script("scripts/gpu/profile_updates.py", *proof.settings("fast", "compile=false"))
    proof.run(Step("profile", words, 45))
    smoke("model_free")
    proof.run(pytest("compile", limit=120))


def runs(proof: Proof) -> None:
    words = proof.settings("fast", *BREAKOUT, "compile=false", f"runs={proof.work / 'runs'}")
    proof.run(Step("breakout", script("src/main.py", *words), 60 if proof.rehearse else 150, stop=True))
    for preset in ("fast", "diamond"):
        proof.run(speed(proof, preset, "compile=true", limit=110))


def pytest(chosen: str, limit: float) -> Step:
    """What is known of a test is printed as soon as it is: a call that runs out of time still tells of the others."""
    words = [
        "-m",
        "pytest",
        "-m",
        "gpu",
        "-k",
        chosen,
        "-n",
        "4",
        "-v",
        f"--timeout={limit - 15:.0f}",
        "tests/test_gpu.py",
    ]
    same = {"CUBLAS_WORKSPACE_CONFIG": ":16:8"}  # without it an LSTM may differ from run to run
    return Step(f"pytest {chosen}", script(*words), limit, environment=same)


def speed(proof: Proof, preset: str, *settings: str, limit: float = 45) -> Step:
    words = script("scripts/speed/speed.py", *proof.settings(preset, *settings), "--pairs", "2")
    name = " ".join(["speed", preset, *settings])
    return Step(name, [*words, "--out", str(proof.work / "speed")], limit)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("call", choices=["tests", "runs"])
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ROOT / "runs" / "gpu")))
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with tiny sizes")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    proof = Proof(arguments.out, arguments.rehearse)
    try:
        proof.install()
        proof.run(Step("machine", script("-c", MACHINE), 60))  # the first import of torch is slow
        {"tests": tests, "runs": runs}[arguments.call](proof)
    finally:
        proof.gather()
    return 1 if proof.failed else 0


if __name__ == "__main__":
    sys.exit(main())
