"""The sections that a page has besides its standard ones: what follows from all runs together, and diagnostics.

Diagnostics are of synthetic sets: how well these are distinguished from real images, how close they are, whether they
are copies. A page has one table of all of them, a row a set, and pictures of each set beside one another.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxmoust.report.arms import ArmInfo, summarise
from jaxmoust.report.page import Cell, Section, Table
from jaxmoust.report.sections import domain_gap, fidelity, ratio
from jaxmoust.report.sections.diagnostic import Diagnostic

TITLE = "How close to real images"


def collect(
    arms: Sequence[ArmInfo],
    baseline: str,
    rows: Sequence[Mapping[str, Any]],
    diagnostics: Mapping[str, Sequence[Diagnostic]],
) -> list[Section]:
    """Returns the further sections of a page, those of its runs first.

    Args:
        arms, baseline, rows: as the page has them.
        diagnostics: table of diagnostics, "domains" or "measures", -> what was found, in the experiment's order.
    """
    from jaxmoust.report.sections import equivalence  # here, as its pandas takes a while, which no plan should pay

    of_runs = ratio.sections(summarise(arms, rows), baseline) + equivalence.sections(rows)
    return of_runs + of_sets(diagnostics)


def of_sets(diagnostics: Mapping[str, Sequence[Diagnostic]]) -> list[Section]:
    """Returns the section of all diagnostics of the sets, and that of what lies nearest; none where there are none."""
    domains, measures = (diagnostics.get(table, ()) for table in ("domains", "measures"))
    gaps = [domain_gap.section(domains)] if domains else []
    distances, *pairs = fidelity.sections(measures) if measures else [None]
    parts = [*gaps, *([distances] if distances else [])]
    if not parts:
        return []
    measured = fidelity.overview(measures)
    by_title: dict[str, dict[str, Cell]] = {}
    for title in dict.fromkeys(one.title for one in (*domains, *measures)):
        gap = [one for one in domains if one.title == title]
        by_title[title] = {**(domain_gap.overview(gap) if gap else {}), **measured.get(title, {})}
    columns = list(dict.fromkeys(column for cells in by_title.values() for column in cells))
    rows = [[title, *map(cells.get, columns)] for title, cells in by_title.items()]
    figures = [figure for title in by_title for part in parts for figure in part.figures if figure.group == title]
    merged = Section(
        TITLE,
        [words for part in parts for words in part.words],
        figures,
        [Table("Every set", ("Set", *columns), rows), *(table for part in parts for table in part.tables)],
        [note for part in parts for note in part.notes],
        gaps[0].answer if gaps else "",
        " ".join(filter(None, (part.legend for part in parts))),
        small=True,
        by_group=True,
    )
    return [merged, *pairs]
