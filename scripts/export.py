"""A small copy of a run, to share or to ship: `python scripts/export.py RUN OUT`.

OUT is a run folder of a fraction of the size that `src/play.py run=OUT`, `scripts/evaluate.py OUT`, `initialize.from=OUT` and
`gymnasium.make("adamas:WorldModel-v0", run=OUT)` take. It holds the weights without optimizers and experience, matrices and
kernels rounded to float16, and the curves without pictures; `resume=` needs the whole folder. With --records it holds no
weights either: what reports and showcases of several runs read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from adamas.training.export import export
from adamas.utils.errors import exit_code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("out", type=Path, help="a folder that is not there yet")
    parser.add_argument("--records", action="store_true", help="without weights")
    arguments = parser.parse_args()
    export(arguments.run, arguments.out, weights=not arguments.records)
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(f"{arguments.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(exit_code(main))
