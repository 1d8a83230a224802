"""Which verbs and tasks there are: read off the docstrings of the files of jobs/, without importing them.

The first line of a verb's file says which verb and tasks are its own, and what it does: "Verb `score`, task `score`:
scores a synthetic set ...". The rest of the docstring is its help. So a new verb is one file.
"""

import ast
import functools
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxmoust.config import Schema
    from jaxmoust.jobs.parts.job import Job

FOLDER = Path(__file__).parents[1]


class BadInput(ValueError):
    """What was asked for cannot be done; said before anything was written."""


@dataclass(frozen=True)
class Entry:
    """A file of jobs/.

    Args:
        verb: as it is typed. tasks: of the configurations that it takes; () for a verb without configurations.
        does: one line. help: what it reads and leaves, with an example.
        module: its name.
    """

    verb: str
    tasks: tuple[str, ...]
    does: str
    help: str
    module: str

    def load(self) -> Any:
        """Imports the file."""
        return importlib.import_module(self.module)


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Every file that is a verb, or one task of a verb, by name."""
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        head, _, rest = doc.partition("\n")
        if match := re.fullmatch(r"Verb `([a-z ]+)`(?:, tasks? ([a-z_` and]+))?: (.*)", head):
            verb, tasks, does = match.groups()
            named = tuple(re.findall(r"`(\w+)`", tasks or ""))
            found.append(Entry(verb, named, does, rest.strip("\n"), f"jaxmoust.jobs.{path.stem}"))
    # Of several files of a verb, the one that is called like it comes first.
    return tuple(sorted(found, key=lambda entry: (entry.verb, not entry.module.endswith(f".{entry.verb}"))))


def entry_of(task: Any) -> Entry:
    """The file of a task. Raises: ValueError: no such task."""
    of_task = {name: entry for entry in entries() for name in entry.tasks}
    if task not in of_task:
        raise ValueError(f"config.task is {task!r}, expected one of {', '.join(of_task)}.")
    return of_task[task]


@functools.cache
def job_of(task: str) -> "type[Job]":
    """The job that a configuration of a task describes."""
    job = entry_of(task).load().JOB
    return job[task] if isinstance(job, dict) else job


def schema_of(task: str) -> "Schema":
    """What a configuration of a task holds, besides `task`."""
    return job_of(task).sections
