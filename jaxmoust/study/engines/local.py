"""Computes a study in worker processes of this machine, each with devices of its own.

A worker lives as long as its devices are wanted by the same number, so stages that are alike compile once. It stops at
a checkpoint when it is asked to, by SIGTERM, and when this process is gone: the pipe that its tasks come by is closed.
"""

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any

from jaxmoust.runtime import parallel, stop
from jaxmoust.study.engines.loop import NOT_IN_PARTS, Reply, Task
from jaxmoust.study.store import Stage, Store

Work = Callable[[Task], Reply]


class Local:
    """Worker processes on devices of this machine.

    Args:
        work: what a worker does with a task; of a module, so that it can be imported there.
        devices: all that are shared out. count_of: how many of them a stage of a kind takes.
        parts: of a kind of stage, among how many tasks its work is shared out.
    """

    tries = 3.0  # one that ends the process each time is not begun for ever

    def __init__(
        self,
        store: Store,
        work: Work,
        devices: parallel.Devices,
        count_of: Callable[[str], int],
        parts: Mapping[str, int] = NOT_IN_PARTS,
    ):
        self._store, self._work, self._devices, self._count_of, self.parts = store, work, devices, count_of, parts
        self._free, self._workers = [*devices.names], list[_Worker]()
        self._inbox: queue.SimpleQueue[tuple[_Worker, Reply | None]] = queue.SimpleQueue()

    @contextlib.contextmanager
    def at_work(self) -> Any:
        """Signals are noted, for the loop to pass on; workers stay for the next block."""
        with stop.deferred():
            yield

    def start(self, stage: Stage, since: int | None) -> bool:
        """Gives a stage to an idle worker of as many devices, or to a new one; False where these are not free."""
        count = self._count_of(stage.kind)
        worker = next((one for one in self._workers if not one.task and len(one.names) == count), None)
        if worker is None:
            idle = [one for one in self._workers if not one.task]
            if len(self._free) + sum(len(one.names) for one in idle) < count:
                return False
            while len(self._free) < count:
                self._dismiss(idle.pop())
            names, self._free = tuple(self._free[:count]), self._free[count:]
            worker = _Worker(self._work, self._devices, names, self._inbox)
            self._workers.append(worker)
        worker.give(Task.of(stage, self._store, since))
        return True

    def finished(self, secs: float) -> list[tuple[str, Reply]]:
        """What workers have answered; of one that is gone, that its stage is lost."""
        replies = []
        with contextlib.suppress(queue.Empty):
            while True:
                worker, reply = self._inbox.get(timeout=secs) if secs else self._inbox.get_nowait()
                task, worker.task, secs = worker.task, None, 0.0
                if reply is None and worker in self._workers:
                    self._dismiss(worker)
                if task:
                    replies.append((task.name, reply or Reply("lost")))
        return replies

    def stop(self) -> None:
        """Asks every worker that has a stage to stop."""
        for worker in self._workers:
            if worker.task:
                worker.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Ends the workers."""
        for worker in [*self._workers]:
            self._dismiss(worker)

    def _dismiss(self, worker: "_Worker") -> None:
        self._workers.remove(worker)
        worker.end()
        self._free += worker.names


class _Worker:
    """A process that sees some devices, and what it does now."""

    def __init__(self, work: Work, devices: parallel.Devices, names: tuple[str, ...], inbox: queue.SimpleQueue):
        self.names = names
        self.task: Task | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **devices.environment(names)},
            start_new_session=True,  # a terminal's Ctrl-C is this process's, which passes on that it was asked
        )
        if devices.platform == "cpu" and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(self.process.pid, map(int, names))
        assert self.process.stdin and self.process.stdout
        self._tasks: IO[bytes] = self.process.stdin
        threading.Thread(target=self._read, args=(self.process.stdout, inbox), daemon=True).start()
        self._send(work)

    def give(self, task: Task) -> None:
        """Begins a stage; one that is gone meanwhile says so by the inbox."""
        self.task = task
        self._send(task)

    def end(self) -> None:
        """Ends it, and waits until it is gone: its devices are free then."""
        with contextlib.suppress(OSError):
            self._tasks.close()
        self.process.wait()

    def _send(self, value: object) -> None:
        with contextlib.suppress(OSError):
            pickle.dump(value, self._tasks)
            self._tasks.flush()

    def _read(self, answers: IO[bytes], inbox: queue.SimpleQueue) -> None:
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                inbox.put((self, pickle.load(answers)))
        inbox.put((self, None))


def serve() -> None:
    """What a worker runs: tasks from standard input, replies to standard output, until that is closed."""
    tasks, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a stage prints is no reply
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read() -> None:
        with contextlib.suppress(EOFError):
            while True:
                inbox.put(pickle.load(tasks))
        os.kill(os.getpid(), signal.SIGTERM)  # no more: a stage leaves a checkpoint, and an idle worker ends

    threading.Thread(target=read, daemon=True).start()
    work = inbox.get()
    while True:
        reply = work(inbox.get())
        pickle.dump(reply, answers)
        answers.flush()
