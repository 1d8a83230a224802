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
from jaxmoust.analysis.decisions import CONTROL, MARGIN, MIXTURE, SYNTHETIC_ALONE, Decision, decide
from jaxmoust.analysis.metrics import METRICS

LEVEL = 0.05  # of any false claim of a study

Row = Mapping[str, Any]
Ranks = Mapping[str, Mapping[int, NDArray]]


@dataclass(frozen=True)
class ArmInfo:
    """An arm's name, title and description.

    Args:
        name: as in rows and ranks. title: for people. description: what it does, in a sentence.
        baseline: the arm that it is compared with, where it is not the page's.
        family: of arms that share information about their spread; "" for that of its images (see `ArmSummary.family`).
    """

    name: str
    title: str
    description: str = ""
    baseline: str = ""
    family: str = ""


@dataclass(frozen=True)
class Terms:
    """The terms of a decision: the metric, the margin of equivalence in its unit, the level of the study."""

    metric: str = "top1"
    margin: float = MARGIN
    level: float = LEVEL

    @property
    def unit(self) -> str:
        """The metric's unit, for people: "points of Top-1"."""
        metric = METRICS[self.metric]
        return f"{'points' if metric.unit == '%' else metric.unit} of {metric.title}"

    @property
    def margin_words(self) -> str:
        """How large the margin is: "1 point"."""
        unit = METRICS[self.metric].unit
        return (
            f"{self.margin:g} {'point' if self.margin == 1 else 'points'}" if unit == "%" else f"{self.margin:g} {unit}"
        )


@dataclass(frozen=True)
class ArmSummary:
    """One arm's line of the table. None is what is unknown: no run, one seed, or a baseline itself.

    Args:
        runs: its row of results.csv by seed. base: the arm that this one is compared with; None for a baseline.
        gains: of the metric that is decided on, above the baseline, by seed that both have.
        fewer_errors: in percent of the baseline's.
    """

    info: ArmInfo
    runs: Mapping[int, Row]
    base: ArmInfo | None = None
    gains: Mapping[int, float] = field(default_factory=dict)
    decision: Decision | None = None
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
        values = (row.get(column) for row in self.runs.values())
        return " / ".join(dict.fromkeys(str(value) for value in values if value is not None))

    @property
    def verdict(self) -> str:
        """'better', 'worse', 'equivalent', or 'undecided' when chance may be all there is."""
        return self.decision.verdict if self.decision else "undecided"

    @property
    def family(self) -> str:
        """The one it is given, or what it trains on."""
        if self.info.family or not self.has_synthetic:
            return self.info.family or CONTROL
        return SYNTHETIC_ALONE if min(self.by_seed("share").values(), default=0.0) >= 1 else MIXTURE

    @property
    def seconds(self) -> float:
        """What one of its runs takes."""
        return float(np.mean([*self.by_seed("seconds").values()] or [0.0]))

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


def compare(
    summaries: Sequence[ArmSummary],
    baseline_of: Mapping[str, str],
    ranks: Ranks,
    terms: Terms,
    contributions: Ranks,
    decided: Mapping[str, Decision | None],
) -> list[ArmSummary]:
    """Returns the arms, each compared with its baseline over the seeds that both have.

    Args: ranks, contributions: of Top-k, of other metrics; where a run has none, its number in the row is all there is.
        decided: what is known of arms already; None: that nothing can be said of one.
    """
    metric = terms.metric
    values: dict[str, dict[int, NDArray]] = {}
    for arm in summaries:
        of_arm = ranks.get(arm.info.name, {}) if metric in TOP_K else contributions.get(arm.info.name, {})
        values[arm.info.name] = {
            seed: np.array([top]) if seed not in of_arm else _contributions(metric, of_arm[seed])
            for seed, top in arm.by_seed(metric).items()
        }
    by_name = {arm.info.name: arm for arm in summaries}
    families = {arm.info.name: arm.family for arm in summaries}
    higher = METRICS[metric].higher_is_better
    decisions = {**decide(values, baseline_of, families, terms.margin, terms.level, higher), **decided}
    return [
        _compared(arm, by_name[baseline_of[arm.info.name]], metric, decisions.get(arm.info.name)) for arm in summaries
    ]


TOP_K = {"top1": 1, "top5": 5}


def _contributions(metric: str, of_run: NDArray) -> NDArray:
    return np.multiply(np.asarray(of_run) < TOP_K[metric], 100.0, dtype=np.float32) if metric in TOP_K else of_run


def _compared(arm: ArmSummary, reference: ArmSummary, metric: str, decision: Decision | None) -> ArmSummary:
    if arm is reference:
        return arm
    ours, theirs = arm.by_seed(metric), reference.by_seed(metric)
    gains = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
    arm = replace(arm, base=reference.info, gains=gains, decision=decision)
    if not gains or decision is None or metric not in TOP_K:
        return arm
    base = float(np.mean([theirs[seed] for seed in gains]))
    return replace(arm, fewer_errors=accuracy.relative_error_reduction(base + decision.difference, base))


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
