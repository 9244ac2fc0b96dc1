"""Trains an agent inside a diffusion world model of an Atari game: `python src/main.py env=Breakout`, or `adamas train`."""

from __future__ import annotations

import sys

try:
    from adamas.cli.train import main
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is not installed here: pip install -e . where python is {sys.executable}")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
