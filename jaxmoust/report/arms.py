"""The arms of a study: their runs, their means over seeds, and how each compares with its baseline.

Every number that the page says of an arm is computed here, once. Knows neither sentences nor HTML.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxmoust.analysis import accuracy

LEVEL = 0.05  # of the family of comparisons, after Holm

Row = Mapping[str, Any]
Ranks = Mapping[str, Mapping[int, NDArray]]


@dataclass(frozen=True)
class ArmInfo:
    """What an arm is called and does.

    Args:
        name: as in rows and ranks. title: for people. description: what it does, in a sentence.
        baseline: the arm that it is compared with, where it is not the page's.
    """

    name: str
    title: str
    description: str = ""
    baseline: str = ""


@dataclass(frozen=True)
class ArmSummary:
    """One arm's line of the table. None is what cannot be said: no run, one seed, or a baseline itself.

    Args:
        runs: its row of results.csv by seed. base: the arm that this one is compared with; None for a baseline.
        gains: points of Top-1 above the baseline, by seed that both have.
    """

    info: ArmInfo
    runs: Mapping[int, Row]
    base: ArmInfo | None = None
    gains: Mapping[int, float] = field(default_factory=dict)
    difference: accuracy.Difference | None = None
    holm_p: float | None = None
    fewer_errors: float | None = None

    @property
    def title(self) -> str:
        """The arm's name for people."""
        return self.info.title

    def by_seed(self, column: str) -> dict[int, float]:
        """The column's numbers by seed, without the missing."""
        numbers = {seed: number_of(row.get(column)) for seed, row in self.runs.items()}
        return {seed: x for seed, x in numbers.items() if x is not None}

    def over_seeds(self, column: str) -> accuracy.Summary | None:
        """Mean and interval of the column over seeds."""
        numbers = self.by_seed(column)
        return accuracy.summary(list(numbers.values())) if numbers else None

    def setting(self, column: str, form: str = "") -> str:
        """The column's value when all seeds share it, else all values; as numbers in a form of `str.format`, if any."""
        if form:
            return " / ".join(form.format(number) for number in dict.fromkeys(self.by_seed(column).values()))
        return " / ".join(dict.fromkeys(str(row[column]) for row in self.runs.values() if row[column] is not None))

    @property
    def verdict(self) -> str:
        """'better', 'worse', or 'undecided' when chance may be all there is."""
        if self.difference is None or self.holm_p is None or self.holm_p >= LEVEL:
            return "undecided"
        return "better" if self.difference.mean > 0 else "worse"

    @property
    def has_synthetic(self) -> bool:
        """Whether it trains on synthetic images; an arm that does not is a control."""
        return any(self.by_seed("n_synthetic").values())


def summarise(arms: Sequence[ArmInfo], rows: Sequence[Row]) -> list[ArmSummary]:
    """Returns the arms with their runs, compared with nothing."""
    runs: dict[str, dict[int, Row]] = {arm.name: {} for arm in arms}
    for row in sorted(rows, key=lambda row: int(row["seed"])):
        runs[row["arm"]][int(row["seed"])] = row
    return [ArmSummary(arm, runs[arm.name]) for arm in arms]


def compare(summaries: Sequence[ArmSummary], baseline_of: Mapping[str, str], ranks: Ranks) -> list[ArmSummary]:
    """Returns the arms, each compared with its baseline.

    The comparison is paired over the seeds that both arms have; p values are Holm's over the arms that have one.
    """
    by_name = {arm.info.name: arm for arm in summaries}
    arms = [_compared(arm, by_name[baseline_of[arm.info.name]], ranks) for arm in summaries]
    p_values = {i: arm.difference.p for i, arm in enumerate(arms) if arm.difference and arm.difference.p is not None}
    for i, p in zip(p_values, accuracy.holm(list(p_values.values())), strict=True):
        arms[i] = replace(arms[i], holm_p=p)
    return arms


def _compared(arm: ArmSummary, reference: ArmSummary, ranks: Ranks) -> ArmSummary:
    if arm is reference:
        return arm
    ours, theirs = arm.by_seed("top1"), reference.by_seed("top1")
    gains = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
    arm = replace(arm, base=reference.info, gains=gains)
    if not gains:
        return arm
    if both := shared_ranks(arm, ranks):
        difference = accuracy.paired_difference(*both)
    else:
        num_images = int(number_of(arm.runs[next(iter(gains))].get("n_test")) or 0) or None
        pairs = [ours[seed] for seed in gains], [theirs[seed] for seed in gains]
        difference = accuracy.seed_difference(pairs[0], pairs[1], num_images=num_images)
    base = float(np.mean([theirs[seed] for seed in gains]))
    fewer = accuracy.relative_error_reduction(base + difference.mean, base)
    return replace(arm, difference=difference, fewer_errors=fewer)


def shared_ranks(arm: ArmSummary, ranks: Ranks) -> tuple[NDArray, NDArray] | None:
    """Returns the ranks [S, N] of an arm and of its baseline at the seeds of both, None where some were not kept."""
    if arm.base is None:
        return None
    ours, theirs = (ranks.get(info.name, {}) for info in (arm.info, arm.base))
    if not all(seed in ours and seed in theirs for seed in arm.gains):
        return None
    return np.stack([ours[seed] for seed in arm.gains]), np.stack([theirs[seed] for seed in arm.gains])


def number_of(value: Any) -> float | None:
    """A row's number, or None where there is none: empty text, None, NaN."""
    if value is None or value == "":
        return None
    number = float(value)
    return number if math.isfinite(number) else None
