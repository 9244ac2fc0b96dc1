"""`python -m adamas.cli`, for torchrun and where `adamas` is not on the path."""

from __future__ import annotations

import sys

from adamas.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
