"""Runs of a queue as jobs of a SLURM cluster, through submitit."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence

from adamas.benchmark.queue import QUEUED, RUNNING, Queue, Task
from adamas.utils.console import say
from adamas.utils.errors import UserError

CLUSTER = {"timeout_min": 24 * 60, "gpus_per_node": 1, "cpus_per_task": 4, "slurm_signal_delay_s": 120}
ENDLESS = 10_000  # times that a job may run out of its time and go on in a new one


def submit(queue: Queue, tasks: Sequence[Task], parameters: Mapping[str, str]) -> int:
    """One job a run, under a name of its own, so that what is queued already can be left out. The exit code."""
    try:
        import submitit
    except ModuleNotFoundError:
        raise UserError("--slurm needs submitit: pip install submitit") from None
    from adamas.benchmark.worker import Job

    known = jobs_of_cluster()
    cluster = parameters.get("cluster", "slurm")
    values = {name: int(x) if x.isdecimal() else x for name, x in parameters.items() if name != "cluster"}
    if "name" in values:
        raise UserError("--slurm name= is set by the queue, which knows its jobs by it: leave it out")
    try:
        executor = submitit.AutoExecutor(queue.runs / "slurm", cluster=cluster, slurm_max_num_timeout=ENDLESS)
        for task in tasks:
            if (state := queue.status_of(task, known).state) in (QUEUED, RUNNING):
                say(f"{task}: {state} already")
                continue
            executor.update_parameters(name=queue.job_name(task), **{**CLUSTER, **values})
            say(f"{task}: job {executor.submit(Job(queue, task)).job_id}")
    except (NameError, ValueError, RuntimeError, submitit.core.utils.FailedJobError) as error:
        raise UserError(f"--slurm: {' '.join(str(error).split())}") from error
    return 0


def jobs_of_cluster() -> dict[str, str]:
    """{name: state} of my jobs that wait or run on SLURM; nothing where there is none."""
    if not shutil.which("squeue"):
        return {}
    listing = subprocess.run(["squeue", "--me", "-h", "-o", "%T %j"], capture_output=True, text=True, check=False)
    lines = [line.partition(" ") for line in listing.stdout.splitlines()]
    return {name: QUEUED if state == "PENDING" else RUNNING for state, _, name in lines}
