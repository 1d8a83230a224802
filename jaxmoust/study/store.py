"""Content-addressed results: a stage is a job and its configuration, its name is the digest of both.

A configuration refers to the stages it builds on by their names, so a name covers everything that a result depends
on. What a store already holds is reused, by this study and the next; change one field, and only what depends on
it has another name and is computed. Several processes may work in one store: a stage is computed by one of them.
"""

import contextlib
import functools
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.runtime.folder import damaged, digest
from jaxmoust.runtime.lock import holder, lease
from jaxmoust.runtime.paths import atomic_write, read_json, sweep

# Part of every name. It goes up when the code changes what an unchanged configuration means.
FORMAT = 3


class BrokenResult(ValueError):
    """A result.json that is no result; the message names its folder, and says what to do."""

    def __init__(self, folder: Path, got: str, allowed: str):
        super().__init__(
            f"{folder}/result.json is no result: got {got}, expected {allowed}. Put back a whole copy, or remove the "
            "folder and run again, which computes this stage anew."
        )


@dataclass(frozen=True)
class Stage:
    """One job to do.

    Args:
        kind: the verb: "fit", "sample", "score", "train", or a diagnostic's, "domain" or "measure".
        config: its complete configuration; other stages are referred to by name.
        needs: the stages it refers to.
        identity: what tells it from others: its configuration, with the content of images, files and folders in the
            place of where they lie; None: the configuration alone.
        part: (i, k): it writes every k-th shard of a set, from the i-th, into the set's folder, and does not finish it;
            None: all of the job.
    """

    kind: str
    config: Mapping[str, Any]
    # Neither printed nor compared: the configuration names them, and a walk over all paths of a graph takes for ever.
    needs: tuple["Stage", ...] = field(default=(), repr=False, compare=False)
    identity: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    part: tuple[int, int] | None = None

    @functools.cached_property
    def name(self) -> str:
        """KIND-DIGEST, the folder of its result in a store; of a part, with which one it is."""
        identity = self.config if self.identity is None else self.identity
        all_of_it = {"kind": self.kind, "identity": identity, "format": FORMAT}
        part = ".part{}of{}".format(*self.part) if self.part else ""
        return f"{self.kind}-{digest(all_of_it)[:16]}{part}"

    @property
    def whole(self) -> str:
        """The name of the stage that it is a part of, or its own."""
        return self.name.partition(".")[0]


def in_order(stages: list[Stage]) -> list[Stage]:
    """Every stage and what it needs, once, each after what it needs."""
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.name in ordered:
            return
        for need in stage.needs:
            visit(need)
        ordered[stage.name] = stage

    for stage in stages:
        visit(stage)
    return list(ordered.values())


class Store:
    """A folder of results.

    Args:
        path: where they lie; shared by any number of studies.
        run: `run(stage, workdir) -> result` does the job of a stage.
        primary: whether this process takes leases; where several make one run, one of them does for all.
        agree: tells every process of a run the answer of its primary one.
    """

    def __init__(
        self,
        path: Path,
        run: Callable[[Stage, Path], dict],
        primary: bool = True,
        agree: Callable[[bool], bool] = bool,
    ):
        self.path, self._run, self.primary, self._agree = Path(path), run, primary, agree
        self.address = os.path.abspath(path)  # by which other processes open it
        # What was read once of finished stages, which never change: a study asks after each of its stages for all.
        self._results: dict[str, dict] = {}
        self._broken: set[str] = set()  # see `unfinished`
        self._environments: dict[str, dict] = {}

    def folder(self, stage: Stage | str) -> Path:
        """Where a stage's result lies or will lie."""
        return self.path / (stage if isinstance(stage, str) else stage.whole)

    def small(self, stage: Stage) -> Path:
        """The folder of a finished stage, for whoever reads its result, its answers or its record alone."""
        return self.folder(stage)

    def is_whole(self, folder: Path) -> bool:
        """Whether a set has all its images."""
        return synthetic.is_whole(folder)

    def find(self, stage: Stage) -> dict | None:
        """The stage's result if it was finished, else None; one that has been damaged since is not.

        Raises: BrokenResult: its result.json has none. ValueError: it is no JSON.
        """
        if (result := self._results.get(stage.name)) is not None:
            return result
        folder = self.small(stage)
        if self.is_broken(stage) or damaged(folder, deep=False):
            return None  # its job mends it
        result = read_json(folder / "result.json")
        if result is not None:
            if not isinstance(result, dict) or not result:
                raise BrokenResult(folder, f"{result!r:.60}", "an object with what the stage found")
            if synthetic.is_set(folder) and not self.is_whole(folder):
                return None  # its job fills in what is lost
            self._results[stage.name] = result
        return result

    def unfinished(self, stages: Sequence[Stage]) -> list[Stage]:
        """Those of some stages that are to be computed, in their order.

        Of what these will read, that is checkpoints and all, what is damaged is computed again, too.
        """
        todo = [stage for stage in stages if not self.has(stage)]
        names, whole = {stage.name for stage in todo}, set[str]()
        for stage in todo:  # which grows
            for need in stage.needs:
                if need.name in names or need.name in whole:
                    continue
                if not self._agree(self.is_damaged(need)):
                    whole.add(need.name)
                    continue
                self._results.pop(need.name, None)
                self.distrust(need)
                names.add(need.name)
                todo.append(need)
        return [stage for stage in in_order([*stages]) if stage.name in names]

    def is_damaged(self, stage: Stage) -> bool:
        """Whether something of a finished stage is other than it was left, checkpoints and all."""
        return bool(damaged(self.folder(stage)))

    def has(self, stage: Stage) -> bool:
        """Whether the stage was finished: the primary process's answer, in every process of a run."""
        return self._agree(self.find(stage) is not None)

    def take(self, stage: Stage, result: Mapping[str, Any] | None) -> None:
        """Learns what another process has found, so that it is not read again; None: nothing."""
        if result is not None:
            self._broken.discard(stage.name)
            self._results[stage.name] = dict(result)

    def knows(self, stage: Stage) -> bool:
        """Whether the stage's result was read already, or heard of."""
        return stage.name in self._results

    def is_broken(self, stage: Stage) -> bool:
        """Whether what lies there of a stage is known to be damaged, so that its job is to mend it."""
        return stage.whole in self._broken

    def distrust(self, stage: Stage) -> None:
        """Takes what lies there of a stage for damaged until it is computed."""
        self._broken.add(stage.whole)

    def environment(self, stage: Stage) -> dict:
        """The machine and the versions that computed a finished stage; empty where their record is lost."""
        if stage.name not in self._environments:
            try:
                machine = read_json(self.small(stage) / "environment.json")
            except ValueError:  # damaged: a record of the past, not worth a page
                machine = {}
            self._environments[stage.name] = machine if isinstance(machine, dict) else {}
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
        result = self._run(stage, self.folder(stage))
        self._broken.discard(stage.name)
        if self.primary and not stage.part:
            self._error_path(stage).unlink(missing_ok=True)
            sweep(self.path, f"{stage.name}.*")  # whoever has the lease is alone there
        return result

    def fail(self, stage: Stage, error: Exception) -> None:
        """Records that a stage could not be computed, and why, beside its folder, until it is computed after all."""
        if self.primary:
            record = {
                "when": time.time_ns(),
                "error": f"{error}" or type(error).__name__,
                "kind": type(error).__name__,
                "traceback": traceback.format_exception(error),
            }
            with contextlib.suppress(OSError):  # of a full disk: then the terminal alone says it
                self.path.mkdir(parents=True, exist_ok=True)
                atomic_write(self._error_path(stage), json.dumps(record, indent=2))

    def failure(self, stage: Stage) -> tuple[int, str]:
        """When a stage's failure was recorded (in ns), and what it was; (0, "") where none is."""
        try:
            record: Any = read_json(self._error_path(stage))
            return int(record["when"]), str(record["error"])
        except (OSError, ValueError, LookupError, TypeError):
            return 0, ""

    def has_failed_since(self, stage: Stage, when: int) -> bool:
        """Whether another failure of a stage is recorded than that of a moment: the primary process's answer."""
        return self._agree(self.failure(stage)[0] not in (0, when))

    @contextlib.contextmanager
    def lease(self, stage: Stage) -> Iterator[bool]:
        """Takes the right to compute a stage, if no other process has it: `with store.lease(stage) as ours`."""
        with lease(self._lease_path(stage)) if self.primary else contextlib.nullcontext(False) as ours:
            yield self._agree(ours)

    def is_taken(self, stage: Stage) -> bool:
        """Whether another process computes a stage now."""
        with self.lease(stage) as free:
            return not free

    def holder(self, stage: Stage | str) -> str:
        """Who computes a stage now, in words; "" when that cannot be told."""
        return holder(self._lease_path(stage))

    def mark(self, name: str) -> None:
        """Leaves a mark for other processes."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / name).touch()

    def is_marked(self, name: str) -> bool:
        """Whether a process has left a mark."""
        return (self.path / name).exists()

    def unmark(self, name: str) -> None:
        """Takes a mark back, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    # Beside the stage's folder, for a job that refuses its input leaves no folder.
    def _error_path(self, stage: Stage) -> Path:
        return self.path / f"{stage.whole}.error.json"

    def _lease_path(self, stage: Stage | str) -> Path:
        return self.path / f".{stage if isinstance(stage, str) else stage.name}.lease"
