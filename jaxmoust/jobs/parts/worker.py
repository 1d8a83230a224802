"""What a process does that computes stages for a study which is conducted elsewhere."""

import contextlib
import functools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from jaxmoust.jobs.parts.inputs import Inputs
from jaxmoust.jobs.parts.job import do
from jaxmoust.runtime import parallel, stop
from jaxmoust.runtime.bucket import BucketError
from jaxmoust.runtime.folder import LOG
from jaxmoust.study.bucket_store import store_at
from jaxmoust.study.engines.loop import Reply, Task, attempt
from jaxmoust.study.store import Stage, Store

STOP_SECS = 1.0  # between two looks for the mark that asks to stop


def work(task: Task) -> Reply:
    """Computes a stage here and now, unless another process does or has done it; what its job says goes to a file.

    Never waits. What stages share, such as the real images, is opened once in a process.
    """
    os.chdir(task.cwd)
    parallel.use_all_cores()
    undo = stop.install()
    try:
        if task.hosts > 1:
            parallel.initialize("auto")
        parallel.enable_compilation_cache()
        store, names = _open(task.store)
        names |= {task.name, *task.needs}
        stage = Stage(task.kind, task.config, part=task.part)
        vars(stage)["name"] = task.name  # which covers what this process does not know
        if task.broken:
            store.distrust(stage)
        with watched(store, task.stop):
            reply = attempt(stage, store, task.since)
    except stop.Stopped:
        return Reply("stopped")
    finally:
        undo()
    if reply.here:
        parallel.forget_programs()
    return reply


@functools.cache
def _open(path: str) -> tuple[Store, set[str]]:
    """A store, and the names in it that configurations refer to."""
    names: set[str] = set()
    inputs = Inputs(lambda ref: store.folder(ref) if ref in names else Path(ref), names.__contains__)

    def run(stage: Stage, workdir: Path) -> dict:
        with _logged(workdir / LOG):
            return do(stage.config, workdir, inputs, stage.part).result

    machine = parallel.Machine.all()
    store = store_at(path, run, machine.primary, machine.agree)
    return store, names


@contextlib.contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Sends all that is printed in a block to a file, which it is added to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = os.dup(1), os.dup(2)
    with open(path, "a", encoding="utf-8") as log:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} process {os.getpid()} on {socket.gethostname()}\n")
        log.flush()
        for number in (1, 2):
            os.dup2(log.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, kept in zip((1, 2), before, strict=True):
            os.dup2(kept, number)
            os.close(kept)


@contextlib.contextmanager
def watched(store: Store, mark: str) -> Iterator[None]:
    """Asks this process to stop, in a block, once a store has a mark ("": never)."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(STOP_SECS):
            with contextlib.suppress(BucketError):  # of which the way there may come back
                if store.is_marked(mark):
                    os.kill(os.getpid(), signal.SIGTERM)
                    return

    if mark:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
