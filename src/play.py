"""Plays a trained world model in the browser: `python src/play.py run=runs/Breakout/DATE-TIME`, or `adamas play`."""

from __future__ import annotations

import sys

try:
    from adamas.cli.play import main
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is not installed here: pip install -e . where python is {sys.executable}")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
