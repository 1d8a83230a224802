"""The differences that the seeds and test images can show, in words: by spreads assumed before or found in a study."""

import math
from collections.abc import Sequence

from jaxmoust.analysis.decisions import Decision, seeds_needed, smallest_difference
from jaxmoust.report.numbers import seconds_text
from jaxmoust.report.page import Page, Section

POWER = 0.8
NAMES = {"mixture": "Mixtures", "synthetic_alone": "Synthetic images alone", "control": "Controls"}


def family_words(
    family: str,
    num_arms: int,
    num_compared: int,
    num_seeds: int,
    spread: float,
    image_error: float,
    margin: float,
    level: float,
    unit: str,
    seed_seconds: float | None = None,
) -> str:
    """Says the smallest difference of a family's arms that is likely to be found, and the seeds for that of the margin.

    Args:
        num_arms: of the family; num_compared: of the whole study, with a baseline.
        spread: of one arm's runs over seeds. image_error: that of a difference that no seed takes away.
        unit: of the metric. seed_seconds: what the family's runs of one seed take; None where nobody knows.
    """
    least = smallest_difference(spread, num_seeds, num_compared, image_error, level, POWER)
    needed = seeds_needed(margin, spread, num_compared, image_error, level, POWER)
    arms = f"{num_arms} arm{'s' if num_arms > 1 else ''}"
    who = f"{NAMES.get(family, family)} ({arms}, standard deviation over seeds {spread:.1f} {unit})"
    seen = f"{num_seeds} seeds find differences of {least:.1f} {unit} and more with probability {POWER:g}"
    if needed is None:
        return f"{who}: {seen}; for {margin:g} there are too few test images, whatever the seeds."
    time = f", about {seconds_text(needed * seed_seconds)} of runs" if seed_seconds else ""
    return f"{who}: {seen}; for {margin:g} it takes {needed} seeds{time}."


def sections(page: Page) -> list[Section]:
    """Returns what the seeds of a page's arms can show, of the spreads that they had; none where all are decided."""
    families: dict[tuple[str, str], list[Decision]] = {}
    for arm in page.summaries:
        if arm.base and arm.decision and arm.decision.interval and not arm.decision.same_as:
            families.setdefault((arm.base.name, arm.decision.family), []).append(arm.decision)
    num_compared = sum(map(len, families.values()))
    words = [
        family_words(
            family,
            len(decisions),
            num_compared,
            max(one.seeds for one in decisions),
            _typical([one.spread for one in decisions]),
            _typical([one.image_error for one in decisions]),
            page.terms.margin,
            page.terms.level,
            page.terms.unit.partition(" ")[0],
        )
        for (_, family), decisions in families.items()
        if any(one.verdict == "undecided" for one in decisions)
    ]
    return [Section("What these seeds can show", words)] if words else []


def _typical(spreads: Sequence[float]) -> float:
    """The root of the mean of variances."""
    return math.sqrt(sum(x * x for x in spreads) / len(spreads))
