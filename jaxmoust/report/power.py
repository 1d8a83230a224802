"""What so many seeds and test images can show, in words: of spreads assumed before a study, and found after it."""

from jaxmoust.analysis.decisions import seeds_needed, smallest_difference
from jaxmoust.report.numbers import seconds_text

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
    who = f"{NAMES.get(family, family)} ({arms}, which spread by {spread:.1f} {unit} over seeds)"
    seen = f"{num_seeds} seeds find differences from {least:.1f} {unit} on with probability {POWER:g}"
    if needed is None:
        return f"{who}: {seen}; for {margin:g} there are too few test images, whatever the seeds."
    time = f", about {seconds_text(needed * seed_seconds)} of runs" if seed_seconds else ""
    return f"{who}: {seen}; for {margin:g} it takes {needed} seeds{time}."
