"""What workers of engines' tests do, in place of a job: kept apart, for a worker imports it."""

import json
import os
import time
from pathlib import Path

from jaxmoust.jobs.parts.worker import watched
from jaxmoust.runtime import stop
from jaxmoust.study.engines.loop import Reply, Task, attempt
from jaxmoust.study.store import Stage, Store


def job(stage: Stage, workdir: Path) -> dict:
    """Writes down that it begins; then dies, fails, or takes its time, as the stage's configuration says."""
    config = stage.config
    workdir.mkdir(parents=True, exist_ok=True)
    begun = workdir / "begun"
    with open(begun, "a") as log:
        log.write(f"{os.getpid()} {os.environ.get('JAX_NUM_CPU_DEVICES', '')}\n")
    if len(begun.read_text().splitlines()) <= config.get("dies", 0):
        os._exit(7)
    if config.get("fails"):
        raise ValueError("bad image 3")
    with stop.deferred():
        until = time.monotonic() + config.get("secs", 0.0)
        while time.monotonic() < until:
            if stop.requested():
                raise stop.Stopped("asked")
            time.sleep(0.02)
    result = {"by": os.getpid(), "needs": config.get("needs", 0)}
    (workdir / "result.json").write_text(json.dumps(result))
    return result


def work(task: Task) -> Reply:
    """Attempts a stage, as jobs/parts/worker.py does."""
    stage = Stage(task.kind, task.config)
    vars(stage)["name"] = task.name
    store, undo = Store(Path(task.store), job), stop.install()
    try:
        with watched(store, task.stop):
            return attempt(stage, store, task.since)
    except stop.Stopped:
        return Reply("stopped")
    finally:
        undo()
