"""Collects in a folder the wheels that a machine with PyTorch, but without a network, lacks: `python scripts/gpu/wheels.py`.

For CPython 3.12 on x86-64 Linux, in the versions that this Python has. `prove.py` installs them from there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".wheels"
BINARY = ("ale-py", "gymnasium", "hydra-core", "omegaconf", "websockets", "farama-notifications")
SOURCE = ("antlr4-python3-runtime",)  # pure Python, and published as source alone
GLIBC = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.whl"):
        old.unlink()
    platforms = [f"--platform={name}_x86_64" for name in GLIBC]
    target = ["--only-binary=:all:", "--python-version=3.12", "--implementation=cp", *platforms, f"--dest={FOLDER}"]
    pip("download", *target, *map(pinned, BINARY))
    pip("wheel", f"--wheel-dir={FOLDER}", *map(pinned, SOURCE))
    wheels = sorted(FOLDER.glob("*.whl"))
    print(f"{len(wheels)} wheels, {sum(path.stat().st_size for path in wheels) / 1e6:.1f} MB, in {FOLDER}")


def pinned(name: str) -> str:
    return f"{name}=={version(name)}"


def pip(command: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", command, "-q", "--no-deps", *arguments], check=True)


if __name__ == "__main__":
    main()
