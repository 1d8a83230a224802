"""Computes a study by SLURM: a stage is a job, submitted by submitit once all that it needs is there.

Its logs lie in .slurm/ of the store. A minute and a half before a job's time is over SLURM signals it; the stage leaves
a checkpoint and is submitted again.
"""

import contextlib
import functools
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

import submitit

from jaxmoust.study.engines.cluster import Cluster
from jaxmoust.study.engines.loop import Reply, Task

POLL_SECS, QUEUE_SECS = 1.0, 30.0  # between two looks for answers, and into SLURM's queue


class Slurm(Cluster):
    """SLURM, from a machine that submits to it.

    Args: where: "slurm", or "local" for processes of this machine; the rest as `Cluster` has them.
    """

    def _connect(self, where: str) -> None:
        self._where, self._asked = where, time.monotonic()
        logging.getLogger("submitit").setLevel(logging.ERROR)  # it warns at each look where SLURM keeps no accounts
        try:
            self._make = functools.partial(submitit.AutoExecutor, self._store.path.absolute() / ".slurm", cluster=where)
            self._make()
        except (RuntimeError, ValueError) as e:
            raise ValueError(f"--engine=slurm: {e} Start the study where `sbatch` is.") from e

    def _submit(self, task: Task, options: Mapping[str, Any]) -> Any:
        executor = self._make()  # a new one: it would keep what was asked for another kind of stage
        executor.update_parameters(name=task.name, **options)
        if {"timeout_min", "slurm_time"}.isdisjoint(options):  # not submitit's 5 minutes, but the partition's own limit
            executor._executor.update_parameters(time=None)
        return executor.submit(_in_time, self._work, task)

    def _over(self, secs: float) -> list[str]:
        until = time.monotonic() + secs
        while True:
            over = [name for name, job in self._running.items() if job.done()] or self._gone()
            if over or time.monotonic() >= until:
                return over
            time.sleep(min(POLL_SECS, secs))

    def _gone(self) -> list[str]:
        """What is no more in SLURM's queue and left no answer: where it keeps no accounts, nothing else says so."""
        if self._where != "slurm" or time.monotonic() < self._asked + QUEUE_SECS:
            return []
        self._asked = time.monotonic()
        queue = subprocess.run(["squeue", "--me", "--noheader", "--format=%i"], capture_output=True, text=True)
        jobs = queue.stdout.split()
        return [] if queue.returncode else [name for name, job in self._running.items() if job.job_id not in jobs]

    def _reply(self, one: Any) -> Reply:
        if not one.done():
            return Reply("lost")
        try:
            return one.results()[0]  # of several hosts each says the same
        except submitit.core.utils.FailedJobError as e:  # before the job could be tried
            return Reply("over", None, True, error=str(e).strip().splitlines()[-1])
        except submitit.core.utils.UncompletedJobError:
            return Reply("lost")

    def _cancel(self, one: Any) -> None:
        one.cancel()


def _in_time(work: Callable[[Task], Reply], task: Task) -> Reply:
    """Works until SLURM says that the time is nearly over, which then counts as being asked to stop."""
    with contextlib.suppress(AttributeError):
        signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    return work(task)
