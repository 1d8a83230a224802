"""Content-addressed results: a stage is a job and its configuration, its name is the digest of both.

A configuration refers to the stages it builds on by their names, so a name covers everything that a result depends
on. What a store already holds is found again, by this study and the next; change one field, and only what depends on
it has another name and is computed.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxmoust.runtime.folder import digest, read_json

# Part of every name. It goes up when the code changes what an unchanged configuration means.
FORMAT = 2


@dataclass(frozen=True)
class Stage:
    """One job to do.

    Args:
        kind: the verb: "fit", "sample", "score" or "train".
        config: its configuration, plain; other stages are referred to by name.
        needs: the stages it refers to.
    """

    kind: str
    config: Mapping[str, Any]
    needs: tuple["Stage", ...] = ()

    @functools.cached_property
    def name(self) -> str:
        """KIND-DIGEST, the folder of its result in a store."""
        return f"{self.kind}-{digest({'kind': self.kind, 'config': self.config, 'format': FORMAT})[:16]}"


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
    """

    def __init__(self, path: Path, run: Callable[[str, Mapping, Path, Callable[[str], Path]], dict]):
        self.path, self._run = Path(path), run

    def folder(self, stage: Stage | str) -> Path:
        """Where a stage's result lies or will lie."""
        return self.path / (stage if isinstance(stage, str) else stage.name)

    def find(self, stage: Stage) -> dict | None:
        """The stage's result if it was finished, else None."""
        return read_json(self.folder(stage) / "result.json")

    def environment(self, stage: Stage) -> dict:
        """The machine and the versions that computed a finished stage."""
        return read_json(self.folder(stage) / "environment.json") or {}

    def compute(self, stage: Stage) -> dict:
        """Does a stage's job (continuing it if it was interrupted) and returns its result."""
        return self._run(stage.kind, stage.config, self.folder(stage), self.folder)
