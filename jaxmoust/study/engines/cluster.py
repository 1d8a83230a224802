"""What Ray and SLURM have in common as places to compute a study: a store that all machines see, and a mark that stops.

A stage is asked to stop by a mark in the store, for a signal of the driver reaches no other machine.
"""

import contextlib
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from jaxmoust.runtime import stop
from jaxmoust.study.engines.loop import NOT_IN_PARTS, Reply, Task
from jaxmoust.study.store import Stage, Store


class Cluster(ABC):
    """Machines that compute stages, each in a process of its own.

    Args:
        work: what such a process does with a task. options_of: what a stage of a kind asks of the cluster.
        most: how many stages may run or wait there at once. where: which cluster, as it calls that.
        parts: of a kind of stage, among how many tasks its work is shared out.
    Raises: ValueError: there is no such cluster.
    """

    tries = float("inf")  # machines go; a stage that ends its process each time has to be stopped by hand

    def __init__(
        self,
        store: Store,
        work: Callable[[Task], Reply],
        options_of: Callable[[str], Mapping[str, Any]],
        most: int,
        where: str,
        parts: Mapping[str, int] = NOT_IN_PARTS,
    ):
        self._store, self._work, self._options_of, self._most, self.parts = store, work, options_of, most, parts
        self._stop = f".stop-{uuid.uuid4().hex[:8]}"  # a mark in the store
        self._running: dict[str, Any] = {}  # what the cluster calls a stage, by its name
        self._connect(where)

    def at_work(self) -> contextlib.AbstractContextManager[object]:
        """Signals are noted, for the loop to pass on."""
        return stop.deferred()

    def start(self, stage: Stage, since: int | None) -> bool:
        """Submits a stage, unless as many as may be there are."""
        if len(self._running) >= self._most:
            return False
        options = self._options_of(stage.kind)
        task = Task.of(stage, self._store, since, self._stop, options.get("nodes", 1))
        self._running[stage.name] = self._submit(task, options)
        return True

    def finished(self, secs: float) -> list[tuple[str, Reply]]:
        """The stages of which the cluster has an answer."""
        over = self._over(secs) if self._running else []
        if not self._running and secs:
            time.sleep(secs)
        return [(name, self._reply(self._running.pop(name))) for name in over]

    def stop(self) -> None:
        """Asks what runs to stop, and takes back what has not begun: nobody holds its lease."""
        self._store.mark(self._stop)
        for name, one in self._running.items():
            if not self._store.holder(name):
                self._cancel(one)

    def close(self) -> None:
        """Removes the mark that stops."""
        self._store.unmark(self._stop)

    @abstractmethod
    def _connect(self, where: str) -> None:
        """Finds the cluster."""

    @abstractmethod
    def _submit(self, task: Task, options: Mapping[str, Any]) -> Any:
        """Hands a task to the cluster."""

    @abstractmethod
    def _over(self, secs: float) -> list[str]:
        """The names of stages that are over; waits so long for the first."""

    @abstractmethod
    def _reply(self, one: Any) -> Reply:
        """What became of one that is over."""

    @abstractmethod
    def _cancel(self, one: Any) -> None:
        """Takes back one that has not begun."""
