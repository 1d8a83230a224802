"""Computes a study by SLURM: a stage is a job, submitted by submitit once all that it needs is there.

Its logs lie in .slurm/ of the store. A minute and a half before a job's time is over SLURM signals it; the stage leaves
a checkpoint and is submitted again.
"""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

import submitit

from jaxmoust.study.engines.cluster import Cluster
from jaxmoust.study.engines.loop import Reply, Task
from jaxmoust.study.store import Store

POLL_SECS = 1.0


class Slurm(Cluster):
    """SLURM, from a machine that submits to it.

    Args: kind: "slurm", or "local" for processes of this machine; the rest as `Cluster` has them.
    """

    def __init__(
        self,
        store: Store,
        work: Callable[[Task], Reply],
        options_of: Callable[[str], Mapping[str, Any]],
        most: int,
        kind: str = "slurm",
    ):
        super().__init__(store, work, options_of, most)
        logging.getLogger("submitit").setLevel(logging.ERROR)  # it warns at each look where SLURM keeps no accounts
        try:
            self._executor = submitit.AutoExecutor(store.path.absolute() / ".slurm", cluster=kind)
        except (RuntimeError, ValueError) as e:
            raise ValueError(f"--engine=slurm: {e} Start the study where `sbatch` is.") from e

    def _submit(self, task: Task, options: Mapping[str, Any]) -> Any:
        self._executor.update_parameters(name=task.name, **options)
        return self._executor.submit(_in_time, self._work, task)

    def _over(self, secs: float) -> list[str]:
        until = time.monotonic() + secs
        while not (over := [name for name, job in self._running.items() if job.done()]) and time.monotonic() < until:
            time.sleep(min(POLL_SECS, secs))
        return over

    def _reply(self, one: Any) -> Reply:
        try:
            return one.result()
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
