"""The loop of a study: which stage is started when, wherever that is, beside whoever else works in the same store.

The loop owns the graph. A stage is started once all that it needs is there, so nothing that computes ever waits. An
engine starts stages and says what became of them; the store's lease guards each one, whichever engine has it.
"""

import bisect
import contextlib
import dataclasses
import math
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol

from jaxmoust.report.numbers import seconds_text
from jaxmoust.runtime import parallel, stop
from jaxmoust.runtime.folder import LOG
from jaxmoust.study.store import Stage, Store, in_order

POLL_SECS = 1.0  # between two looks at what other processes have finished
SAY_SECS = 600.0  # between two lines that say what is waited for
PROGRESS_SECS = 60.0  # between two that say how many stages run
NOT_IN_PARTS: Mapping[str, int] = MappingProxyType({})
LOOKS_APART = 100.0  # so many times longer than a look takes it is until the next, where nothing moves


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


@dataclass(frozen=True)
class Reply:
    """What became of an attempt at a stage.

    Args:
        how: "over": done, found or failed; "taken": another process computes it; "stopped": asked to, by this process
            or for its time was nearly over, with a checkpoint; "lost": who computed it is gone.
        result, here, seconds, error: of a stage that is over, as `Done` has them.
    """

    how: Literal["over", "taken", "stopped", "lost"]
    result: Mapping[str, Any] | None = None
    here: bool = False
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Task:
    """A stage as another process is told of it; everything can be pickled.

    Args:
        kind, name, config, part: the stage's. needs: the names of all that it stands on.
        store: the store's folder, or its address in a bucket. cwd: the folder that relative paths are of.
        since: when the failure was recorded that does not count, see `attempt`.
        broken: whether what lies there is known to be damaged.
        stop: a mark in the store that asks to stop; "" where a signal does.
        hosts: how many processes, one a machine, do it together.
    """

    kind: str
    name: str
    config: Mapping[str, Any]
    needs: tuple[str, ...]
    store: str
    cwd: str
    since: int | None = None
    broken: bool = False
    stop: str = ""
    part: tuple[int, int] | None = None
    hosts: int = 1

    @classmethod
    def of(cls, stage: Stage, store: Store, since: int | None, stop: str = "", hosts: int = 1) -> "Task":
        """Describes a stage of a store, as this process sees both."""
        needs = tuple(one.name for one in in_order([stage]) if one is not stage)
        given = (stage.kind, stage.name, stage.config, needs, store.address, os.getcwd())
        return cls(*given, since, store.is_broken(stage), stop, stage.part, hosts)


class Engine(Protocol):
    """A place to compute stages."""

    tries: float  # how often a stage is begun whose worker dies
    parts: Mapping[str, int]  # of a kind of stage: among so many tasks its work is shared out, see `in_parts`

    def at_work(self) -> contextlib.AbstractContextManager[object]:
        """A block in which stages are started; SIGTERM does not interrupt the loop where others compute."""

    def start(self, stage: Stage, since: int | None) -> bool:
        """Begins a stage; False where there is no room now. Args: since: see `attempt`."""

    def finished(self, secs: float) -> list[tuple[str, Reply]]:
        """The stages, by name, of which something has become; waits so long for the first."""

    def stop(self) -> None:
        """Asks all that runs to stop with a checkpoint; what becomes of it, `finished` says."""

    def close(self) -> None:
        """Lets go of workers; nothing runs any more."""


def attempt(stage: Stage, store: Store, since: int | None = None) -> Reply:
    """Computes a stage here and now, unless somebody else does or has done it; never waits.

    Args: since: of a stage that another process was seen to compute, when its last failure before that was recorded:
        should it have failed there meanwhile, it has failed.
    Raises: stop.Stopped: asked to stop inside it.
    """
    with store.lease(stage) as ours:
        if not ours:
            return Reply("taken")
        if store.has(stage):  # by a process that finished it just before the lease was ours
            return Reply("over", store.find(stage))
        if since is not None and store.has_failed_since(stage, since):
            return Reply("over", error=f"in another process: {store.failure(stage)[1]}")
        started = time.monotonic()
        try:
            result = store.compute(stage)
            result = store.find(stage) or result  # as its file says it, to any process
        except Exception as e:  # whatever a stage's job does: the others go on
            store.fail(stage, e)
            return Reply("over", None, True, time.monotonic() - started, f"{e}" or type(e).__name__)
        return Reply("over", result, True, time.monotonic() - started)


class InProcess:
    """Computes stages in this process, one after another."""

    tries: float = 1.0
    parts = NOT_IN_PARTS

    def __init__(self, store: Store):
        self._store, self._replies = store, list[tuple[str, Reply]]()

    def at_work(self) -> contextlib.AbstractContextManager[object]:
        """Nothing: a signal reaches the job itself."""
        return contextlib.nullcontext()

    def start(self, stage: Stage, since: int | None) -> bool:
        """Computes it; what becomes of it, `finished` says at once."""
        reply = attempt(stage, self._store, since)
        if reply.here:
            parallel.forget_programs()
        self._replies.append((stage.name, reply))
        return True

    def finished(self, secs: float) -> list[tuple[str, Reply]]:
        """What was computed; sleeps if that is nothing."""
        replies, self._replies = self._replies, []
        if not replies and secs:
            time.sleep(secs)
        return replies

    def stop(self) -> None:
        """Nothing runs between two stages."""

    def close(self) -> None:
        """There are no workers."""


def compute_all(
    stages: Sequence[Stage], store: Store, say: Callable[[str], object] = print, engine: Engine | None = None
) -> Generator[Done, None, None]:
    """Computes stages, each in one process however many work in the store, and yields each as it is over.

    A stage that another process computes is left to it: whatever else can be done is done first, then this loop waits.
    If the other one is killed, its lease is free, and the stage is continued here; if the stage fails there meanwhile,
    it has failed here, too. A failed stage is recorded in the store; only stages that need it are left out. A stage
    whose worker dies is begun again, from its checkpoint.

    Args:
        stages: each after what it needs, as `in_order` gives them.
        say: receives a line of text when there is nothing to do but wait.
        engine: where they are computed; by default in this process.
    Raises: stop.Stopped: asked to stop between two stages, or inside one.
    """
    loop = _Loop(stages, store, say, engine or InProcess(store))
    with loop.engine.at_work():
        try:
            yield from (done for done in loop.run() if not done.stage.part)
        finally:
            loop.halt()


def in_parts(stages: Sequence[Stage], parts: Mapping[str, int]) -> list[Stage]:
    """Stages in the same order, before each whose work can be shared out its parts, as many as its kind has.

    A set has parts of shards of their own, at most as many as there are shards; adapters by class parts of classes.
    """
    divided: dict[str, Stage] = {}
    for stage in stages:
        config = stage.config
        sampled = {"num_images", "shard_images"} <= config.keys()  # imported sets have as many images as they have
        most = -(-config["num_images"] // config["shard_images"]) if sampled else 1
        by_class = config.get("task") == "finetune" and config["method"].get("per") == "class"
        count = parts.get(stage.kind, 1)  # how many classes there are, the data say
        if (count := count if by_class else min(count, most)) > 1:
            some = [dataclasses.replace(stage, part=(i, count)) for i in range(count)]
            divided |= {one.name: one for one in some}
            stage = dataclasses.replace(stage, needs=(*stage.needs, *some))
        divided[stage.name] = stage
    return [*divided.values()]


class _Loop:
    """The graph of a study as it is computed: what is ready, what runs, what has failed."""

    def __init__(self, stages: Sequence[Stage], store: Store, say: Callable[[str], object], engine: Engine):
        self.stages, self.store, self.say, self.engine = in_parts(stages, engine.parts), store, say, engine
        self.left = {stage.name for stage in self.stages}  # those that are not over
        self.needed_by: dict[str, list[int]] = {}
        self.missing = Counter[int]()  # how many of its needs are not over
        for i, stage in enumerate(self.stages):
            for need in {need.name for need in stage.needs} & self.left:
                self.needed_by.setdefault(need, []).append(i)
                self.missing[i] += 1
        self.ready = [i for i in range(len(self.stages)) if not self.missing[i]]
        self.running: dict[str, int] = {}
        self.held: dict[str, contextlib.ExitStack] = {}  # leases of stages in parts, by name
        self.failed: set[str] = set()
        self.elsewhere: dict[str, int] = {}  # stages that others compute, and when their last failure before that was
        self.lost = Counter[str]()
        self.took: dict[str, float] = {}  # the seconds of the parts of a stage
        self.stopping = False
        self.seconds: dict[str, list[float]] = {}  # that stages took, by kind
        self.said, self.counted = -math.inf, time.monotonic()  # when it was last said what is waited for, and what runs

    @property
    def _num_over(self) -> int:
        return len(self.stages) - len(self.left)

    def run(self) -> Iterator[Done]:
        """Yields each stage as it is over."""
        while self.left:
            if not self.stopping and parallel.Machine.all().any(stop.requested()):
                self.stopping = True
                self.engine.stop()
            if self.stopping and not self.running:
                raise stop.Stopped(
                    f"Stopped on request before stage {self._num_over + 1} of {len(self.stages)}; the same command "
                    "continues."
                )
            started, moved = time.monotonic(), False
            for done in self._start():
                moved = True
                yield done
            if not moved:
                self._say()
                # A look at what others compute is to cost little of their disk, and of a core here.
                yield from self._collect(max(POLL_SECS, LOOKS_APART * (time.monotonic() - started)))

    def halt(self) -> None:
        """Stops what still runs, and waits until it has."""
        if self.running and not self.stopping:
            self.stopping = True
            self.engine.stop()
        while self.running:
            for _ in self._collect(POLL_SECS):
                pass
        for name in [*self.held]:
            self._let_go(name)

    def _start(self) -> Iterator[Done]:
        """Starts what is ready until there is no room; ends at the first that is over, for that may free others."""
        for i in () if self.stopping else [*self.ready]:
            stage = self.stages[i]
            if (done := self._known(stage)) is not None:
                self.ready.remove(i)
                yield self._over(i, done)
                return
            if not self._is_free(stage):
                continue
            if not self.engine.start(stage, self.elsewhere.get(stage.name)):
                return
            self.ready.remove(i)
            self.running[stage.name] = i
            done = None
            for done in self._collect(0.0):
                yield done
            if done is not None:
                return

    def _is_free(self, stage: Stage) -> bool:
        """Whether nobody else computes a stage; of a stage in parts, this process has its lease then."""
        if not stage.part:
            self._let_go(stage.name)  # for who finishes it
        elif stage.whole not in self.held:
            with contextlib.ExitStack() as stack:
                whole = self.stages[self.needed_by[stage.name][0]]
                if not stack.enter_context(self.store.lease(whole)):
                    return False
                self.held[stage.whole] = stack.pop_all()
        return stage.name not in self.elsewhere or not self.store.is_taken(stage)

    def _let_go(self, name: str) -> None:
        if name in self.held:
            self.held.pop(name).close()

    def _known(self, stage: Stage) -> Done | None:
        """What is over without being started: found, or standing on something that failed."""
        if self.store.has(stage):
            return Done(stage, self.store.find(stage), here=False)
        if lost := [need for need in stage.needs if need.name in self.failed]:
            error = self.store.failure(stage)[1] if lost[0].part else ""
            return Done(stage, None, here=bool(error), error=error or f"it needs {lost[0].name}, which failed")
        return None

    def _collect(self, secs: float) -> Iterator[Done]:
        """What has become of those that run, waiting so long for the first."""
        for name, reply in self.engine.finished(secs):
            i = self.running.pop(name)
            stage = self.stages[i]
            if reply.how == "over":
                self.store.take(stage, reply.result)
                yield self._over(i, Done(stage, reply.result, reply.here, reply.seconds, reply.error))
                continue
            if reply.how == "taken":
                self.elsewhere.setdefault(name, self.store.failure(stage)[0])
            elif reply.how == "stopped" and not self.stopping:  # its time was nearly over
                self.say(f"{name} was stopped where it is, with a checkpoint, and is begun again from there")
            elif not self.stopping:
                self.lost[name] += 1
                if self.lost[name] >= self.engine.tries:
                    error = RuntimeError(f"its worker died {self.lost[name]} times; {LOG} in its folder says how far")
                    self.store.fail(stage, error)
                    yield self._over(i, Done(stage, None, True, error=str(error)))
                    continue
                self.say(f"the worker of {name} died; the stage is begun again, where its last checkpoint is")
            bisect.insort(self.ready, i)

    def _over(self, i: int, done: Done) -> Done:
        self._let_go(done.stage.name)
        if done.stage.part:
            self.took[done.stage.whole] = self.took.get(done.stage.whole, 0.0) + done.seconds
        elif done.stage.name in self.took:
            done = dataclasses.replace(done, seconds=done.seconds + self.took.pop(done.stage.name))
        self.left.discard(done.stage.name)
        self.said = -math.inf
        if done.here:
            self.seconds.setdefault(done.stage.kind, []).append(done.seconds)
        if done.error:
            self.failed.add(done.stage.name)
        for other in self.needed_by.get(done.stage.name, ()):
            self.missing[other] -= 1
            if not self.missing[other]:
                bisect.insort(self.ready, other)
        return done

    def _say(self) -> None:
        """Says now and then what runs, or what is waited for."""
        now = time.monotonic()
        if self.running and now - self.counted >= PROGRESS_SECS:
            self.counted = now
            self.say(f"{len(self.running)} running, {self._num_over} of {len(self.stages)} over{self._time_left()}")
        elif self.ready and not self.running and now - self.said >= SAY_SECS:
            self.said, first = now, self.stages[self.ready[0]]
            self.say(f"waiting for {first.name}, which {self.store.holder(first.whole) or 'another process'} computes")

    def _time_left(self) -> str:
        """How long the rest takes if as many go on to run, by what stages of each kind took; "" where that is open."""
        left = Counter(stage.kind for stage in self.stages if stage.name in self.left)
        if not left.keys() <= self.seconds.keys():
            return ""
        seconds = sum(count * statistics.mean(self.seconds[kind]) for kind, count in left.items())
        return f", about {seconds_text(seconds / len(self.running))} left"
