"""Computes a study in this process, stage after stage, beside whoever else works in the same store."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxmoust.runtime import parallel, stop
from jaxmoust.study.store import Stage, Store

POLL_SECS = 1.0  # between two looks at what other processes have finished
SAY_SECS = 600.0  # between two lines that say what is waited for


@dataclass(frozen=True)
class Done:
    """A stage that is over.

    Args:
        result: what it found; None where it failed, or could not be tried.
        here: whether it was computed here. seconds: how long that took.
        error: why there is no result.
    """

    stage: Stage
    result: Mapping[str, Any] | None
    here: bool
    seconds: float = 0.0
    error: str = ""


def compute_all(stages: Sequence[Stage], store: Store, say: Callable[[str], object] = print) -> Iterator[Done]:
    """Computes stages, each in one process however many work in the store, and yields each as it is over.

    A stage that another process computes is left to it: whatever else can be done is done first, then this process
    waits. If the other one is killed, its lease is free, and the stage is continued here; if the stage fails there
    meanwhile, it has failed here, too. A failed stage is recorded in the store; only stages that need it are left out.

    Args:
        stages: each after what it needs, as `in_order` gives them.
        say: receives a line of text when there is nothing to do but wait.
    Raises: stop.Stopped: asked to stop between two stages, or inside one.
    """
    left, failed = list(stages), set[str]()
    elsewhere: dict[str, int] = {}  # the stages that others compute, and when their last failure before that was
    said = -math.inf
    while left:
        if parallel.Machine.all().any(stop.requested()):
            raise stop.Stopped(
                f"Stopped on request before stage {len(stages) - len(left) + 1} of {len(stages)}; the same command "
                "continues."
            )
        if (done := _first_possible(left, store, failed, elsewhere)) is not None:
            left = [stage for stage in left if stage is not done.stage]
            said = -math.inf
            if done.here:
                parallel.forget_programs()
            if done.error:
                failed.add(done.stage.name)
            yield done
        else:
            if time.monotonic() - said >= SAY_SECS:
                who = store.holder(left[0]) or "another process"
                say(f"waiting for {left[0].name}, which {who} computes")
                said = time.monotonic()
            time.sleep(POLL_SECS)


def _first_possible(stages: Sequence[Stage], store: Store, failed: set[str], elsewhere: dict[str, int]) -> Done | None:
    """The first stage that is over, or that can be computed here and now, and then is; None when all must wait."""
    for stage in stages:
        if store.has(stage):
            return Done(stage, store.find(stage), here=False)
        if lost := [need.name for need in stage.needs if need.name in failed]:
            return Done(stage, None, here=False, error=f"it needs {lost[0]}, which failed")
        if not all(store.has(need) for need in stage.needs):
            continue
        with store.lease(stage) as ours:
            if not ours:
                elsewhere.setdefault(stage.name, store.failure(stage)[0])
                continue
            if store.has(stage):  # by a process that finished it just before the lease was ours
                return Done(stage, store.find(stage), here=False)
            if stage.name in elsewhere and store.has_failed_since(stage, elsewhere[stage.name]):
                return Done(stage, None, False, error=f"in another process: {store.failure(stage)[1]}")
            started = time.monotonic()
            try:
                result = store.compute(stage)
            except Exception as e:  # whatever a stage's job does: the others go on
                store.fail(stage, e)
                return Done(stage, None, True, time.monotonic() - started, error=f"{e}" or type(e).__name__)
            return Done(stage, result, True, time.monotonic() - started)
    return None
