"""The sections that a page has besides its standard ones: what probes found, and what follows from all runs together.

A section is made from plain results by a function of the file that draws its charts; this file only knows which
function makes which, and shows the bare numbers of a table of probes that has none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxmoust.study.page import Page, Section, Table


@dataclass(frozen=True)
class Looked:
    """What a probe found: its name in the experiment, the set and the seed it looked at, its result, its folder."""

    name: str
    set: str
    seed: int
    result: Mapping[str, Any]
    folder: Path


# Table of probes -> the title of its section.
TITLES = {"domains": "Domain gap", "measures": "Fidelity and memorisation"}
# Table of probes -> what makes its section of everything that it found.
OF_PROBES: dict[str, Callable[[Sequence[Looked]], Section]] = {}
# What makes sections of the runs together; none when there is nothing to say.
OF_RUNS: list[Callable[[Page], Sequence[Section]]] = []


def collect(page: Page, looked: Mapping[str, Sequence[Looked]]) -> list[Section]:
    """Returns the further sections of a page, those of its runs first.

    Args:
        looked: table of probes -> what was found, in the experiment's order.
    """
    of_runs = [section for make in OF_RUNS for section in make(page)]
    of_probes = [
        OF_PROBES[table](found) if table in OF_PROBES else bare(TITLES[table], found)
        for table, found in looked.items()
        if found
    ]
    return of_runs + of_probes


def bare(title: str, looked: Sequence[Looked]) -> Section:
    """A section of the numbers alone: one row for each probe, a column for each number of its result."""
    numbers = [
        {k: v for k, v in one.result.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        for one in looked
    ]
    names = list(dict.fromkeys(name for of_one in numbers for name in of_one if name != "seconds"))
    rows = [
        (one.name, one.set, one.seed, *(of_one.get(name) for name in names))
        for one, of_one in zip(looked, numbers, strict=True)
    ]
    return Section(title, tables=[Table("", ("name", "set", "seed", *names), rows)])
