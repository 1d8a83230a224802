"""Content-addressed results: a stage is a job and its configuration, its name is the digest of both.

A configuration refers to the stages it builds on by their names, so a name covers everything that a result depends
on. What a store already holds is found again, by this study and the next; change one field, and only what depends on
it has another name and is computed. Several processes may work in one store: a stage is computed by one of them.
"""

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.runtime import stop
from jaxmoust.runtime.folder import digest
from jaxmoust.runtime.paths import read_json
from jaxmoust.study.lock import holder, lease

# Part of every name. It goes up when the code changes what an unchanged configuration means.
FORMAT = 2

POLL_SECS = 1.0  # between two looks at what other processes have finished


class BrokenResult(ValueError):
    """A result.json that is no result; the message names its folder, and says what to do."""

    def __init__(self, folder: Path, got: str, allowed: str):
        super().__init__(
            f"{folder}/result.json is no result: got {got}; allowed {allowed}. Put back a whole copy, or remove the "
            "folder and run again, which computes this stage anew."
        )


@dataclass(frozen=True)
class Stage:
    """One job to do.

    Args:
        kind: the verb: "fit", "sample", "score", "train", or one of a probe's.
        config: its configuration, plain; other stages are referred to by name.
        needs: the stages it refers to.
        contents: for each field, dotted, that names files from elsewhere, the content address of what lies there.
    """

    kind: str
    config: Mapping[str, Any]
    needs: tuple["Stage", ...] = ()
    contents: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def name(self) -> str:
        """KIND-DIGEST, the folder of its result in a store."""
        all_of_it = {"kind": self.kind, "config": self.config, "format": FORMAT}
        all_of_it |= {"contents": self.contents} if self.contents else {}
        return f"{self.kind}-{digest(all_of_it)[:16]}"


def in_order(stages: list[Stage]) -> list[Stage]:
    """Every stage and what it needs, once, each after what it needs."""
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        for need in stage.needs:
            visit(need)
        ordered.setdefault(stage.name, stage)

    for stage in stages:
        visit(stage)
    return list(ordered.values())


class Store:
    """A folder of results.

    Args:
        path: where they lie; shared by as many studies as one likes.
        run: `run(kind, config, workdir, resolve) -> result` does the job of a stage.
        primary: whether this process takes leases; where several make one run, one of them does for all.
        agree: tells every process of a run the answer of its primary one.
    """

    def __init__(
        self,
        path: Path,
        run: Callable[[str, Mapping, Path, Callable[[str], Path]], dict],
        primary: bool = True,
        agree: Callable[[bool], bool] = bool,
    ):
        self.path, self._run, self._primary, self._agree = Path(path), run, primary, agree
        # What was read once of finished stages, which never change: a study asks after each of its stages for all.
        self._results: dict[str, dict] = {}
        self._environments: dict[str, dict] = {}

    def folder(self, stage: Stage | str) -> Path:
        """Where a stage's result lies or will lie."""
        return self.path / (stage if isinstance(stage, str) else stage.name)

    def find(self, stage: Stage) -> dict | None:
        """The stage's result if it was finished, else None; a set that has lost a shard since is not.

        Raises: BrokenResult: its result.json has none. ValueError: it is no JSON.
        """
        if (result := self._results.get(stage.name)) is not None:
            return result
        result = read_json(self.folder(stage) / "result.json")
        if result is not None:
            if not isinstance(result, dict) or not result:
                raise BrokenResult(self.folder(stage), f"{result!r:.60}", "an object with what the stage found")
            folder = self.folder(stage)
            if (folder / synthetic.PROVENANCE_FILE).is_file() and not synthetic.is_whole(folder):
                return None  # its job fills in what is lost
            self._results[stage.name] = result
        return result

    def has(self, stage: Stage) -> bool:
        """Whether the stage was finished: the primary process's answer, in every process of a run."""
        return self._agree(self.find(stage) is not None)

    def environment(self, stage: Stage) -> dict:
        """The machine and the versions that computed a finished stage; empty where their record is lost."""
        if stage.name not in self._environments:
            try:
                known = read_json(self.folder(stage) / "environment.json")
            except ValueError:  # damaged: a record of the past, not worth a page
                known = {}
            self._environments[stage.name] = known if isinstance(known, dict) else {}
        return self._environments[stage.name]

    def check_folder(self, writable: bool = False) -> None:
        """Refuses a store that is no folder and cannot be one; touches nothing.

        Args: writable: whether a stage is to be computed in it.
        Raises: ValueError: its folder is none, or cannot be made or written.
        """
        there = next(path for path in (self.path, *self.path.absolute().parents) if os.path.lexists(path))
        if not there.is_dir() or (writable and not os.access(there, os.W_OK | os.X_OK)):
            why = "may not be written by this user" if there.is_dir() else "is no folder"
            raise ValueError(
                f"cannot write in the store {self.path}: {there} {why}. Allowed is a folder that can be made and "
                "written; give another one by --store=DIR."
            )

    def compute(self, stage: Stage) -> dict:
        """Does a stage's job (continuing it if it was interrupted) and returns its result."""
        return self._run(stage.kind, stage.config, self.folder(stage), self.folder)

    @contextlib.contextmanager
    def lease(self, stage: Stage) -> Iterator[bool]:
        """Takes the right to compute a stage, if no other process has it: `with store.lease(stage) as held`."""
        with lease(self._lease_path(stage)) if self._primary else contextlib.nullcontext(False) as held:
            yield self._agree(held)

    def holder(self, stage: Stage) -> str:
        """Who computes a stage now, in words; "" when that cannot be told."""
        return holder(self._lease_path(stage))

    def _lease_path(self, stage: Stage) -> Path:
        # Beside the stage's folder, for a job that refuses its input leaves no folder.
        return self.path / f".{stage.name}.lease"


@dataclass(frozen=True)
class Done:
    """A stage that is finished now: its result, and whether and for how long it was computed here."""

    stage: Stage
    result: Mapping[str, Any]
    here: bool
    seconds: float = 0.0


def compute_all(stages: Sequence[Stage], store: Store, say: Callable = print) -> Iterator[Done]:
    """Computes stages, each in one process however many work in the store, and yields each as it is finished.

    A stage that another process computes is left to it: whatever else can be done is done first, then this process
    waits. Should the other one fail or be killed, its lease is free, and the stage is computed (or continued) here.

    Args:
        stages: each after what it needs, as `in_order` gives them.
        say: receives a line of text when there is nothing to do but wait.
    Raises: stop.Stopped: asked to stop between two stages; and what a stage's job raises.
    """
    left, waiting = list(stages), False
    while left:
        if stop.requested():
            raise stop.Stopped(
                f"Stopped on request before stage {len(stages) - len(left) + 1} of {len(stages)}; the same command "
                "continues."
            )
        if (done := _first_possible(left, store)) is not None:
            left.remove(done.stage)
            waiting = False
            yield done
        else:
            if not waiting:
                first = left[0]
                who = store.holder(first) or "another process"
                say(f"waiting for {first.name}, which {who} computes")
                waiting = True
            time.sleep(POLL_SECS)


def _first_possible(stages: Sequence[Stage], store: Store) -> Done | None:
    """The first stage that is finished, or that can be computed here and now, and then is; None when all must wait."""
    for stage in stages:
        if store.has(stage):
            return Done(stage, store.find(stage), here=False)
        if not all(store.has(need) for need in stage.needs):
            continue
        with store.lease(stage) as held:
            if not held:
                continue
            if store.has(stage):  # by a process that finished it just before the lease was ours
                return Done(stage, store.find(stage), here=False)
            started = time.monotonic()
            result = store.compute(stage)
            return Done(stage, result, True, time.monotonic() - started)
    return None
