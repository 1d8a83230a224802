"""Interim analyses ("looks") of a study: the error that each look may spend, and what is decided at each.

A study that is tested again and again, at 5 % each time, makes false claims far more often than that. By a spending
function each look gets its part of the error beforehand, so that all of them together hold the level.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from jaxmoust.analysis.decisions import MARGIN, Decision, decide
from jaxmoust.analysis.metrics import METRICS

Values = Mapping[str, Mapping[int, NDArray]]

FEWEST = 2  # seeds of a look: one has no spread
LEAST = 1e-12  # level of a look
FARTHEST = 38.0  # a boundary at so many standard deviations is never crossed
NODES, WEIGHTS = np.polynomial.legendre.leggauss(128)


@dataclass(frozen=True)
class Rule:
    """How a study decides its verdicts.

    Args:
        metric: what is decided on, a number of each run's record: top1, balanced_accuracy, nll, ...
        margin: two arms that differ by less are equivalent, in the metric's unit: points of Top-1; above 0.
        level: the chance that the study claims any difference falsely.
        until_decided: whether arms get seeds, look by look, until they are decided; else those of config.seeds.
        looks: the numbers of seeds after which arms are evaluated; the last is most_seeds.
        spending: how the level is spent over the looks: "obrien_fleming" hardly any early, "pocock" about evenly.
        most_seeds: the most seeds that an arm may get, undecided or not.
    Raises: ValueError: no such metric, a margin or a level out of range, looks that do not rise, or fewer seeds than
        the first has.
    """

    metric: str = "top1"
    margin: float = MARGIN
    level: float = 0.05
    until_decided: bool = False
    looks: tuple[int, ...] = (3, 5, 7, 10, 15, 20)
    spending: Literal["obrien_fleming", "pocock"] = "obrien_fleming"
    most_seeds: int = 20

    def __post_init__(self):
        if self.metric not in METRICS:
            raise ValueError(f"decide.metric {self.metric!r}: expected one of {', '.join(METRICS)}.")
        if not self.margin > 0:
            raise ValueError(
                f"decide.margin {self.margin}: expected a number above 0, for no two arms are equal to the last digit. "
                "Give the difference that would not matter to you, such as 1.0."
            )
        if not 0 < self.level < 0.5:
            raise ValueError(f"decide.level {self.level}: expected a number above 0 and below 0.5, such as 0.05.")
        if not self.looks or self.looks[0] < FEWEST or any(b <= a for a, b in pairwise(self.looks)):
            raise ValueError(
                f"decide.looks {self.looks}: expected numbers of seeds that rise, from {FEWEST} up, such as 3,5,10."
            )
        if self.most_seeds < self.looks[0]:
            raise ValueError(
                f"decide.most_seeds {self.most_seeds} is below the first look, after {self.looks[0]} seeds. Allow "
                "more, or look earlier."
            )

    @property
    def plan(self) -> tuple[tuple[int, float], ...]:
        """The looks: (seeds, the level that claims of this look are tested at)."""
        seeds = (*(n for n in self.looks if n < self.most_seeds), self.most_seeds)
        levels = nominal_levels([n / seeds[-1] for n in seeds], self.level, self.spending)
        return tuple((n, max(level, LEAST)) for n, level in zip(seeds, levels, strict=True))


@dataclass(frozen=True)
class Look:
    """One look at a family: after so many seeds, at this level, what it found of each arm that was open."""

    seeds: int
    level: float
    decisions: Mapping[str, Decision]


@dataclass(frozen=True)
class Path:
    """The looks at a family that the runs allow.

    Args:
        family, baseline: its name, and the arm that its arms are compared with.
        arms: all of it. looks: those that were made, one after the other.
        going_on: the arms that the next look takes. next_seeds: how many seeds it takes; None: there is none.
    """

    family: str
    baseline: str
    arms: tuple[str, ...]
    looks: tuple[Look, ...]
    going_on: tuple[str, ...]
    next_seeds: int | None

    @property
    def undecided(self) -> tuple[str, ...]:
        """The arms of which no look has decided, whether they go on or not."""
        return tuple(
            arm for arm in self.arms if arm not in self.decisions or self.decisions[arm].verdict == "undecided"
        )

    @property
    def decisions(self) -> dict[str, Decision]:
        """The last decision on each arm that was evaluated."""
        return {arm: decision for look in self.looks for arm, decision in look.decisions.items()}

    @property
    def num_seeds(self) -> dict[str, int]:
        """How many seeds each arm had at its last look."""
        return {arm: look.seeds for look in self.looks for arm in look.decisions}


@dataclass(frozen=True)
class Compared:
    """An arm as it is compared: with which baseline (itself, if it is one), and together with which others."""

    baseline: str
    family: str


def follow(
    rule: Rule,
    seeds: Sequence[int],
    values: Values,
    arms: Mapping[str, Compared],
    lost: Collection[str] = (),
    higher_is_better: bool = True,
    decide: Callable[..., Mapping[str, Decision]] = decide,
) -> list[Path]:
    """Makes the looks for which all runs are there: of each family with its baseline, a function of these runs alone.

    The first look is one of all arms. After it a family has a look once its baseline and each of its open arms have
    the seeds. An arm that is decided takes part in later looks only by the spread of its seeds; so do the arms of other
    families, with the seeds of the first look.

    Args:
        seeds: of the study, at least rule.most_seeds of them, in their order.
        values: as `decide` has them, of whatever runs are finished.
        arms: all of the study, baselines among them. lost: those that will get no more runs: looks do without them.
    """
    first = rule.plan[0][0]
    ready = {arm for arm in arms if _has(values, arm, seeds[:first])}
    ready &= {arm for arm in ready if arms[arm].baseline in ready}
    begun = all(arm in ready or not {arm, arms[arm].baseline}.isdisjoint(lost) for arm in arms)
    groups: dict[Compared, list[str]] = {}
    for arm, compared in arms.items():
        if arm != compared.baseline:
            groups.setdefault(compared, []).append(arm)
    paths = []
    for group, members in groups.items():
        looks: list[Look] = []
        left, num_seeds, following = members, dict.fromkeys(ready, first), None if begun else first
        for count, level in rule.plan if begun else ():
            lacking = [arm for arm in (group.baseline, *left) if not _has(values, arm, seeds[:count])]
            left = [arm for arm in left if arm not in lacking or arm not in lost]
            if not left or (group.baseline in lacking and group.baseline in lost):
                break
            if not {*lacking} <= {*lost}:
                following = count
                break
            num_seeds |= dict.fromkeys((group.baseline, *left), count)
            taken = {arm: {seed: values[arm][seed] for seed in seeds[: num_seeds[arm]]} for arm in arms if arm in ready}
            baselines, families = ({arm: getattr(arms[arm], of) for arm in taken} for of in ("baseline", "family"))
            found = decide(taken, baselines, families, rule.margin, level, higher_is_better)
            looks.append(Look(count, level, {arm: found[arm] for arm in left}))
            left = [arm for arm in left if found[arm].verdict == "undecided"]
        going_on = tuple(arm for arm in left if following and arm not in lost)
        paths.append(Path(group.family, group.baseline, tuple(members), tuple(looks), going_on, following))
    return paths


def _has(values: Values, arm: str, seeds: Sequence[int]) -> bool:
    return all(seed in values.get(arm, ()) for seed in seeds)


def nominal_levels(fractions: Sequence[float], level: float = 0.05, spending: str = "obrien_fleming") -> list[float]:
    """Returns the two-sided level that each look is tested at, so that all looks together err with chance `level`.

    The statistic's path is a Brownian motion over the fractions; its density inside the boundaries is carried from look
    to look, and each boundary is where the chance to cross it first is what the spending function allows.

    Args: fractions: of the information that the last look has, rising, in (0, 1]. spending: as `Rule` has it.
    Raises: ValueError: fractions that do not rise in (0, 1], another spending function.
    Source: Lan and DeMets 1983, Biometrika 70, by the recursion of Armitage, McPherson and Rowe 1969, JRSS A 132.
    """
    times = np.asarray(fractions, np.float64)
    if times.size == 0 or times[0] <= 0 or (np.diff(times) <= 0).any() or times[-1] > 1:
        raise ValueError(f"fractions: got {list(fractions)}, expected numbers that rise in (0, 1].")
    to_spend = np.diff([_spent(t, level, spending) for t in times], prepend=0.0)
    levels, before = [], 0.0
    places, mass = np.zeros(1), np.ones(1)  # of the path at the last look, where it has crossed no boundary
    for t, share in zip(times, to_spend, strict=True):
        step, root = math.sqrt(t - before), math.sqrt(t)
        z = _boundary(places, mass, step, root, share)
        levels.append(2 * float(scipy.special.ndtr(-z)))
        edge = min(z, 9.0) * root  # beyond nine deviations there is nothing to integrate
        inside = edge * NODES
        density = np.exp(-0.5 * ((inside[:, None] - places) / step) ** 2) / (step * math.sqrt(2 * math.pi))
        places, mass, before = inside, edge * WEIGHTS * (density @ mass), t
    return levels


def _boundary(places: NDArray, mass: NDArray, step: float, root: float, share: float) -> float:
    """How many deviations `root` from 0 the path, at `places` and a step on, is with chance `share`."""

    def excess(z: float) -> float:
        tails = scipy.special.ndtr((places - z * root) / step) + scipy.special.ndtr((-places - z * root) / step)
        return float(mass @ tails) - share

    return FARTHEST if excess(FARTHEST) >= 0 else float(scipy.optimize.brentq(excess, 0.0, FARTHEST, xtol=1e-10))


def _spent(t: float, level: float, spending: str) -> float:
    """The error that may be spent until a fraction t of the information, on both sides."""
    if spending == "obrien_fleming":
        return 4 * float(scipy.special.ndtr(scipy.special.ndtri(level / 4) / math.sqrt(t)))
    if spending == "pocock":
        return level * math.log1p((math.e - 1) * t)
    raise ValueError(f"spending: got {spending!r}, expected 'obrien_fleming' or 'pocock'.")
