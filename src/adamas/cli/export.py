"""`adamas export`: makes of a run a small copy, a page for any browser, or a folder for Hugging Face's hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from omegaconf import MISSING

from adamas.config.arguments import run_command
from adamas.config.schema import setting
from adamas.utils.console import say
from adamas.utils.errors import UserError

USAGE = """
Makes something small of a run, to share or to ship.

usage: adamas export run=RUN out=DIR [records=true]   a small copy
       adamas export run=RUN web=DIR                  the dream as a page of static files
       adamas export run=RUN safetensors=DIR          the weights as Hugging Face's hub expects them

The copy is a run folder of a fraction of the size, which `adamas play`, `adamas evaluate`, `initialize.from=` and
gymnasium.make("adamas:WorldModel-v0", run=DIR) take. It holds the weights without optimizers and experience, matrices and
kernels rounded to float16, and the curves without pictures; resume= needs the whole folder. The page and the hub's folder
hold the same weights; `adamas play run=DIR` opens the latter.
"""


@dataclass
class Options:
    """What is made of which run, and where."""

    run: str = setting(MISSING, "a run folder")
    out: Optional[str] = setting(None, "a small copy: a folder that is not there yet, as the other two")
    records: bool = setting(False, "the copy without weights: what reports and showcases read")
    web: Optional[str] = setting(None, "a page that dreams in the browser alone; needs pip install 'adamas[web]'")
    safetensors: Optional[str] = setting(None, "weights, config and model card, in the layout of Hugging Face's hub")


def main(argv: list[str]) -> int:
    """The exit code."""
    return run_command(Options, argv, USAGE, run)


def run(options: Options) -> None:
    if not (options.out or options.web or options.safetensors):
        raise UserError("nothing to make: give out=DIR, web=DIR or safetensors=DIR")
    path = Path(options.run)
    if options.out:
        from adamas.training.export import export

        export(path, Path(options.out), weights=not options.records)
        _say_size(Path(options.out))
    if options.web:
        from adamas.web.export import export_page

        export_page(path, Path(options.web))
        _say_size(Path(options.web))
        say(f"open    python -m http.server -d {options.web}, then http://localhost:8000")
    if options.safetensors:
        from adamas.web.hub import export_hub

        export_hub(path, Path(options.safetensors))
        _say_size(Path(options.safetensors))


def _say_size(out: Path) -> None:
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    say(f"{out}: {size / 1e6:.1f} MB")
