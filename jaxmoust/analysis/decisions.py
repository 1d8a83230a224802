"""Which arms are better, worse or equivalent, and which are undecided: all comparisons of a study with one control."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Rule = Literal["auto", "pooled", "moderated", "crossed"]
Verdict = Literal["better", "worse", "equivalent", "undecided"]
Values = Mapping[str, Mapping[int, NDArray[np.floating]]]

MIXTURE, SYNTHETIC_ALONE, CONTROL = "mixture", "synthetic_alone", "control"  # families by default
MARGIN = 1.0  # points within which two arms are equivalent


@dataclass(frozen=True)
class Decision:
    """An arm beside the baseline, in the units of the metric. Of one seed the intervals are endless and p is 1.

    Args:
        arm, family: as given. rule: what its uncertainty was computed by: "pooled", "moderated" or "crossed".
        difference: arm minus baseline, over the seeds that both have.
        low, high: simultaneous interval of the difference, of level 1 - level.
        equivalence_low, equivalence_high: the same of level 1 - 2 level: inside the margin, the arms are equivalent.
        p: two-sided, adjusted for all comparisons.
        spread: standard deviation of the arm's runs over seeds, as the rule estimates it.
        image_error: standard error of the difference that is due to these test images and that no seed takes away.
        seeds: that both have.
        more_seeds: how many more would decide it, should the difference stay; 0 if it is decided, None if no number.
        same_as: the arm, or the baseline, whose runs are the very same runs; "" if none is.
    """

    arm: str
    family: str
    rule: Rule
    difference: float
    low: float
    high: float
    equivalence_low: float
    equivalence_high: float
    p: float
    spread: float
    image_error: float
    verdict: Verdict
    seeds: int
    more_seeds: int | None
    same_as: str = ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """low and high; None where they are endless."""
        return (self.low, self.high) if np.isfinite(self.high) else None


def decide(
    values: Values,
    baseline: str,
    families: Mapping[str, str],
    margin: float = MARGIN,
    level: float = 0.05,
    higher_is_better: bool = True,
    rule: Rule = "auto",
) -> dict[str, Decision]:
    """Returns a decision for each arm but the baseline, in the order of `values`; arms without a common seed have none.

    Args:
        values: arm -> seed -> [N], one number a test image whose mean is the run's metric; [1] where only that is known.
        baseline: the arm that the others are compared with. families: arm -> its family.
        margin: differences up to this are equivalent, in the units of the metric.
        level: of a false claim in the whole study.
        higher_is_better: whether a positive difference is "better".
    Raises: ValueError: margin <= 0, level outside (0, 0.5), an unknown baseline, an arm without a family, runs of
        different test sets or with values that are not finite.
    """
    raise NotImplementedError


def smallest_difference(
    spread: float,
    num_seeds: int,
    num_arms: int,
    image_error: float = 0.0,
    level: float = 0.05,
    power: float = 0.8,
) -> float:
    """Returns the smallest true difference that a family of `num_arms` arms shows with that power.

    Args: spread: of one arm's runs over seeds. num_arms: compared with the baseline. image_error: as in `Decision`.
    """
    raise NotImplementedError


def seeds_needed(
    difference: float,
    spread: float,
    num_arms: int,
    image_error: float = 0.0,
    level: float = 0.05,
    power: float = 0.8,
    most: int = 1000,
) -> int | None:
    """Returns how many seeds show a true difference with that power; None if `most` do not."""
    raise NotImplementedError


def assumed_spread(family: str, num_images: int) -> tuple[float, float]:
    """Returns (spread, image_error) of Top-1 to plan with before there is a result, from what studies here have had."""
    raise NotImplementedError
