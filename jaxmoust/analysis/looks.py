"""When a study may look at its results: the error that each look may spend, and what is decided at each.

A study that looks again and again, and claims at 5 % each time, claims something false far more often than that. Of a
spending function each look gets its part of the error beforehand, so that all of them together hold the level.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from jaxmoust.analysis.decisions import Decision, decide

Values = Mapping[str, Mapping[int, NDArray]]

FEWEST = 2  # seeds of a look: one has no spread
FARTHEST = 38.0  # a boundary at so many standard deviations is never crossed
NODES, WEIGHTS = np.polynomial.legendre.leggauss(128)


@dataclass(frozen=True)
class Rule:
    """How a study comes to its verdicts.

    Args:
        metric: what is decided on, a number of each run's record.
        margin: two arms that differ by less are equivalent, in the metric's unit: points of Top-1; above 0.
        level: the chance of any false claim about the arms of a family.
        until_decided: whether arms get seeds, look by look, until they are decided; else those of config.seeds.
        looks: numbers of seeds after which is looked; the last is most_seeds.
        spending: how the level is spent over the looks: "obrien_fleming" hardly any early, "pocock" about evenly.
        most_seeds: of an arm, undecided or not.
    Raises: ValueError: a margin or a level out of range, looks that do not rise, or fewer seeds than the first has.
    """

    metric: str = "top1"
    margin: float = 1.0
    level: float = 0.05
    until_decided: bool = False
    looks: tuple[int, ...] = (3, 5, 7, 10, 15, 20)
    spending: Literal["obrien_fleming", "pocock"] = "obrien_fleming"
    most_seeds: int = 20

    def __post_init__(self):
        if not self.margin > 0:
            raise ValueError(
                f"decide.margin {self.margin}: allowed is above 0, for no two arms are equal to the last digit. Give "
                "the difference that would not matter to you, such as 1.0."
            )
        if not 0 < self.level < 0.5:
            raise ValueError(f"decide.level {self.level}: allowed is above 0 and below 0.5, such as 0.05.")
        if not self.looks or self.looks[0] < FEWEST or any(b <= a for a, b in pairwise(self.looks)):
            raise ValueError(
                f"decide.looks {self.looks}: allowed are numbers of seeds that rise, from {FEWEST} up, such as 3,5,10."
            )
        if self.most_seeds < self.looks[0]:
            raise ValueError(
                f"decide.most_seeds {self.most_seeds} is below the first look, after {self.looks[0]} seeds. Allow "
                "more, or look earlier."
            )

    @property
    def plan(self) -> tuple[tuple[int, float], ...]:
        """The looks: (seeds, the level that a claim of this look is tested at)."""
        seeds = (*(n for n in self.looks if n < self.most_seeds), self.most_seeds)
        levels = nominal_levels([n / seeds[-1] for n in seeds], self.level, self.spending)
        return tuple(zip(seeds, levels, strict=True))


@dataclass(frozen=True)
class Look:
    """One look at a family: after so many seeds, at this level, what it found of each arm that was open."""

    seeds: int
    level: float
    decisions: Mapping[str, Decision]


@dataclass(frozen=True)
class Path:
    """The looks that a family's runs allow.

    Args:
        family, baseline: its name, and the arm that its arms are compared with.
        looks: those that were made, one after the other.
        undecided: the arms that are open after these.
        next_seeds: how many seeds the next look takes of the baseline and of each open arm; None: there is none.
    """

    family: str
    baseline: str
    looks: tuple[Look, ...]
    undecided: tuple[str, ...]
    next_seeds: int | None

    @property
    def decisions(self) -> dict[str, Decision]:
        """The last word on each arm that was looked at."""
        return {arm: decision for look in self.looks for arm, decision in look.decisions.items()}

    @property
    def num_seeds(self) -> dict[str, int]:
        """How many seeds each arm had at its last look."""
        return {arm: look.seeds for look in self.looks for arm in look.decisions}


def follow(
    rule: Rule,
    seeds: Sequence[int],
    values: Values,
    baseline: str,
    family: str,
    arms: Sequence[str],
    higher_is_better: bool = True,
    decide: Callable[..., Mapping[str, Decision]] = decide,
) -> Path:
    """Makes the looks at a family for which all runs are there, a function of these runs alone.

    An arm that one look decides is in no later one; a look is made once each open arm and the baseline have its seeds.

    Args:
        seeds: of the study, at least rule.most_seeds of them, in their order.
        values: as `decide` has them, of whatever runs are finished.
        arms: those of the family, but for the baseline.
    """
    looks: list[Look] = []
    left, following = tuple(arms), None
    for num_seeds, level in rule.plan:
        if not left:
            break
        of_look, taken = (baseline, *left), seeds[:num_seeds]
        if not all(seed in values.get(arm, ()) for arm in of_look for seed in taken):
            following = num_seeds
            break
        compared = {arm: {seed: values[arm][seed] for seed in taken} for arm in of_look}
        families = dict.fromkeys(left, family)
        found = decide(compared, baseline, families, rule.margin, level, higher_is_better)
        looks.append(Look(num_seeds, level, {arm: found[arm] for arm in left}))
        left = tuple(arm for arm in left if found[arm].verdict == "undecided")
    return Path(family, baseline, tuple(looks), left, following)


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
        raise ValueError(f"fractions: got {list(fractions)}; allowed are numbers that rise in (0, 1]")
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
    raise ValueError(f"spending: got {spending!r}; allowed 'obrien_fleming', 'pocock'")
