"""The sections that a page has besides its standard ones: what follows from all runs together, and diagnostics.

Diagnostics are of synthetic sets: how well these are distinguished from real images, how close they are, whether they
are copies.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxmoust.report.arms import ArmInfo, summarise
from jaxmoust.report.page import Section
from jaxmoust.report.sections import domain_gap, fidelity, ratio
from jaxmoust.report.sections.diagnostic import Diagnostic

# A table of the experiment -> what makes the section of its diagnostics.
SECTIONS: dict[str, Callable[[Sequence[Diagnostic]], Section]] = {
    "domains": domain_gap.section,
    "measures": fidelity.section,
}


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
    return of_runs + [SECTIONS[table](found) for table, found in diagnostics.items() if found]
