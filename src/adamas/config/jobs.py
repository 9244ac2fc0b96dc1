"""The jobs of a command line: one, or those of a sweep, one after the other."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

from adamas.config import Config
from adamas.utils.console import say
from adamas.utils.errors import code_of, one_line


def run_jobs(run: Callable[[Config], bool | None], configs: Sequence[Config], names: Sequence[str]) -> int:
    """The exit code. What a single job raises is raised; a job of a sweep that fails is told of, and the next one begins.

    Args:
        run: returns False if it was asked to stop, and so is the sweep.
        names: what was typed for each job.
    """
    if len(configs) == 1:
        run(configs[0])
        return 0
    failed: dict[str, int] = {}
    for number, (config, name) in enumerate(zip(configs, names, strict=True), 1):
        say(f"job {number} of {len(configs)}: {name}")
        try:
            if run(config) is False:
                break
        except Exception as error:
            failed[f"job {number} of {len(configs)} failed: {name}"] = _tell(error)
    for line in failed:
        say(f"error: {line}", error=True)
    return min(failed.values(), default=0)


def _tell(error: Exception) -> int:
    """Prints it as a single job would. Returns its exit code."""
    code = code_of(error)
    if code is None:
        say("".join(traceback.format_exception(error)).rstrip(), error=True)
        return 1
    say(f"error: {one_line(error)}", error=True)
    return code
