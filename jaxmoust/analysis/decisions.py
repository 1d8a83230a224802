"""Which arms are better, worse or equivalent, and which are undecided: all comparisons of a study with its control.

A few seeds say little of an arm's spread, so that arms lend each other theirs. The variance of a difference is made of
what seeds vary, and of what these test images do to this arm alone (arm x image), which no further seed takes away. How
the seeds' part is known is a rule:

- "moderated": every arm has a spread of its own, shrunk towards what arms of its error have (the variance goes with
  error^1.5) as far as the arms agree on that; an arm far above it keeps its own. Welch's degrees of freedom. The
  others are those of its family where they are enough, else those of the whole study.
- "pooled": the arms of a family and their baseline spread alike: one variance, about arm and seed, for all of them.
- "crossed": every arm alone, by its own differences; S - 1 degrees of freedom.

"auto" moderates where there are FEWEST_ARMS to learn a trend from; of fewer arms it pools a family whose spreads look
alike, and crosses where nothing can be shared. Pooling is not chosen more often because three seeds do not show that
spreads differ, and where they do it claims falsely two or three times as often as it says: 20 % of simulated studies of
a wide baseline, 12 % of spreads scattered as the committed ones are; where spreads are alike it finds little more.
`experiments/speed/decisions.py` has the simulations and what came of them.

Intervals and p are simultaneous over the study, so that the level is the chance that it claims any difference falsely:
of a pooled family by the distribution of the largest |T| (Dunnett), between families and arms by Sidak's inequality.
Numpy and scipy's special functions only: no model, no file, no device.
"""

import bisect
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import special

Rule = Literal["auto", "pooled", "moderated", "crossed"]
Verdict = Literal["better", "worse", "equivalent", "undecided"]
Values = Mapping[str, Mapping[int, NDArray[np.floating]]]

MIXTURE, SYNTHETIC_ALONE, CONTROL = "mixture", "synthetic_alone", "control"  # families by default
MARGIN = 1.0  # points within which two arms are equivalent
MOST_MORE = 100  # seeds that "n more seeds would decide it" goes up to
FEWEST_ARMS = 6  # that a trend is learnt from, the baseline among them
TREND = 1.5  # the variance over seeds goes with error^1.4 to 1.9 in the studies of experiments/results
MOST_PRIOR = 8.0  # degrees of freedom that arms lend one; those of the committed results agree like 4 to 6
# p of a spread so far above the trend, below which it is kept as it is; a baseline's is in every comparison.
OUTLYING, OUTLYING_BASE = 0.05, 0.2
UNEQUAL = 0.2  # p of Bartlett's test below which the spreads of a small family are not taken to be alike
# Squared points of Top-1, over the number of test images: what a run answers by chance, and what images do to an arm.
BY_CHANCE, BY_IMAGE = 200.0, 50.0
# Spreads over seeds beside it, in points, that studies of experiments/results had.
ASSUMED = {MIXTURE: 0.5, CONTROL: 0.5, SYNTHETIC_ALONE: 2.5}


@dataclass(frozen=True)
class Decision:
    """An arm beside its baseline, in the units of the metric. Of one seed the intervals are endless and p is 1.

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
    rule: str
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
        """The interval from low to high; None where it is endless."""
        return (self.low, self.high) if np.isfinite(self.high) else None


class Largest:
    """The distribution of the largest |T| of arms of one variance, whose differences are to the same control.

    T of an arm is (sqrt(r) z + sqrt(1 - r) e) / s, of a normal e of its own, the control's z, and s^2 of chi square.

    Args: num_arms: compared with the control. correlation: r of any two differences, in [0, 1).
    Source: Dunnett 1955, JASA 50; the integrals: Hochberg and Tamhane 1987, Multiple Comparison Procedures, Appendix 3.
    """

    _WIDTHS = np.linspace(0, 7, 141)
    _NORMAL = np.polynomial.hermite_e.hermegauss(40)

    def __init__(self, num_arms: int, correlation: float):
        self.num_arms, (z, weights) = num_arms, self._NORMAL
        shift, rest = np.sqrt(correlation) * z, np.sqrt(1 - correlation)
        inside = special.ndtr((self._WIDTHS[:, None] - shift) / rest) - special.ndtr(
            (-self._WIDTHS[:, None] - shift) / rest
        )
        outside = 1 - inside**num_arms @ weights / weights.sum()
        self._log_outside = np.log(np.maximum(outside, 1e-300))

    def tail(self, t: NDArray, dof: NDArray) -> NDArray:
        """P(largest |T| > t) for t >= 0 and degrees of freedom, both [A]."""
        if self.num_arms == 1:
            return 2 * special.stdtr(dof, -t)
        # The chi distribution over x = log s, with enough of its left tail for p of 1e-9.
        x = np.linspace(-23 / dof - 5 / np.sqrt(dof), 4 / np.sqrt(dof), 121, axis=-1)
        weights = np.exp(dof[:, None] * (x - np.exp(2 * x) / 2 + 0.5))
        outside = np.exp(np.interp(t[:, None] * np.exp(x), self._WIDTHS, self._log_outside))
        return (weights * outside).sum(-1) / weights.sum(-1)

    def critical(self, level: float, dof: float) -> float:
        """What the largest |T| exceeds with probability `level`."""
        low, high = special.stdtrit(dof, 1 - level / 2), special.stdtrit(dof, 1 - level / 2 / self.num_arms)
        if self.num_arms == 1:
            return float(low)
        for _ in range(25):
            middle = np.sqrt(low * high)
            low, high = (middle, high) if self.tail(np.array([middle]), np.array([dof]))[0] > level else (low, middle)
        return float(high)


def decide(
    values: Values,
    baseline: str | Mapping[str, str],
    families: Mapping[str, str],
    margin: float = MARGIN,
    level: float = 0.05,
    higher_is_better: bool = True,
    rule: Rule = "auto",
) -> dict[str, Decision]:
    """Returns a decision for each arm but the baselines, in the order of `values`; for none without a common seed.

    An arm is better or worse where its interval excludes 0, else equivalent where the narrower one lies inside the
    margin, else undecided. Arms whose runs are the very same runs are decided together and count as one.

    Args:
        values: arm -> seed -> [N], one number a test image, whose mean is the run's metric; [1] where no more is known,
            and then the images' part is taken from the arms of which it is.
        baseline: the arm that the others are compared with; or of each arm its own, a baseline's being itself.
        families: arm -> its family, of each arm but the baselines.
        margin: differences up to this are equivalent, in the units of the metric.
        level: the chance that the study claims any difference falsely.
        higher_is_better: whether a positive difference is "better".
    Raises: ValueError: margin <= 0, level outside (0, 0.5), an unknown baseline or rule, an arm without a family, runs
        of different test sets or with values that are not finite.
    """
    base_of = dict.fromkeys(values, baseline) if isinstance(baseline, str) else {arm: baseline[arm] for arm in values}
    _check(values, base_of, families, margin, level, rule)
    same_as = _same_runs(values, base_of)
    pairs = [
        _pair(arm, base, families[arm], values)
        for arm, base in base_of.items()
        if arm != base and arm not in same_as and not values[arm].keys().isdisjoint(values[base])
    ]
    runs = {arm: {seed: float(np.mean(x)) for seed, x in of.items()} for arm, of in values.items() if of}
    errors = {arm: abs((100 if higher_is_better else 0) - float(np.mean([*of.values()]))) for arm, of in runs.items()}
    # A mean over N images comes in steps of 1 / N of their range: runs that tie are no closer than that.
    step = max((float(np.ptp(x)) / np.size(x) for of in values.values() for x in of.values()), default=0.0)
    set_spreads(pairs, runs, errors, step**2 / 12, rule)
    decisions = verdicts(pairs, margin, level, higher_is_better)
    for arm, other in same_as.items():
        if other == base_of[arm]:
            same = Decision(arm, families[arm], "same runs", 0, 0, 0, 0, 0, 1, 0, 0, "equivalent", len(values[arm]), 0)
            decisions[arm] = replace(same, same_as=other)
        elif other in decisions:
            decisions[arm] = replace(decisions[other], arm=arm, family=families[arm], same_as=other)
    return {arm: decisions[arm] for arm in values if arm in decisions}


def smallest_difference(
    spread: float,
    num_seeds: int,
    num_arms: int,
    image_error: float = 0.0,
    level: float = 0.05,
    power: float = 0.8,
) -> float:
    """Returns the smallest true difference that a study shows of an arm with that power; infinity for one seed.

    Args: spread: of the runs of this arm and of its baseline over seeds. num_arms: that the study compares.
        image_error: as in `Decision`.
    Source: the power of t is by the noncentral t distribution.
    """
    if num_seeds < 2:
        return float("inf")
    seeds, arms = num_seeds - 1, num_arms + 1
    if arms < FEWEST_ARMS:
        dof, critical = float(num_arms * seeds), Largest(num_arms, 0.5).critical(level, float(num_arms * seeds))
    else:
        dof = 2 * (seeds + 1 / (2 / MOST_PRIOR + 1 / (arms * seeds)))
        critical = Largest(1, 0.5).critical(1 - (1 - level) ** (1 / num_arms), dof)
    shift = float(special.nctdtrinc(dof, 1 - power, critical))
    return shift * float(np.sqrt(2 * spread**2 / num_seeds + image_error**2))


def seeds_needed(
    difference: float,
    spread: float,
    num_arms: int,
    image_error: float = 0.0,
    level: float = 0.05,
    power: float = 0.8,
    most: int = 1000,
) -> int | None:
    """Returns how many seeds show a true difference, by `smallest_difference`; None if not even `most` do."""

    def shown(seeds: int) -> bool:
        return smallest_difference(spread, seeds, num_arms, image_error, level, power) <= abs(difference)

    return _first(shown, 2, most)


def assumed_spread(family: str, num_images: int) -> tuple[float, float]:
    """Returns (spread, image_error) of Top-1 to plan with before there is a result, from what studies here have had."""
    of_seeds = ASSUMED.get(family, ASSUMED[MIXTURE]) ** 2 + BY_CHANCE / num_images
    return float(np.sqrt(of_seeds)), float(np.sqrt(BY_IMAGE / num_images))


@dataclass
class Pair:
    """An arm beside its baseline, before it is decided.

    Args: gains: [S], its differences by seed. images: variance of their mean by images; NaN where it is not known.
        of_arm, of_base: variance of one run of either over seeds, by the rule. dof: that these rest on.
    """

    arm: str
    base: str
    family: str
    gains: NDArray
    images: float = float("nan")
    rule: str = "crossed"
    of_arm: float = float("inf")
    of_base: float = 0.0
    dof: float = 1.0

    @property
    def seeds(self) -> int:
        """How many it has."""
        return len(self.gains)

    def error(self, seeds: int = 0) -> float:
        """The standard error of the difference, with the seeds there are or with so many."""
        return float(np.sqrt((self.of_arm + self.of_base) / (seeds or self.seeds) + self.images))


def _pair(arm: str, base: str, family: str, values: Values) -> Pair:
    ours, theirs = values[arm], values[base]
    shared = [seed for seed in ours if seed in theirs]
    if len({np.size(of[seed]) for of in (ours, theirs) for seed in shared}) > 1:
        gains = np.array([np.mean(ours[seed]) - np.mean(theirs[seed]) for seed in shared])
        return Pair(arm, base, family, gains)
    d = np.stack([np.subtract(ours[seed], theirs[seed], dtype=np.float64) for seed in shared])
    return Pair(arm, base, family, d.mean(axis=1), by_images(d))


def by_images(d: NDArray) -> float:
    """The variance of the mean of d [S, N] by what images vary beyond noise: two-way analysis of variance."""
    num_seeds, num_images = d.shape
    if min(d.shape) < 2:
        return float("nan")
    mean, rows, columns = d.mean(), d.mean(axis=1), d.mean(axis=0)
    of_images = num_seeds * np.square(columns - mean).sum() / (num_images - 1)
    rest = np.square(d).sum() - num_images * np.square(rows).sum() - num_seeds * np.square(columns).sum()
    residual = (rest + d.size * mean**2) / ((num_seeds - 1) * (num_images - 1))
    return float(max(of_images - residual, 0.0) / d.size)


def set_spreads(
    pairs: Sequence[Pair],
    runs: Mapping[str, Mapping[int, float]],
    errors: Mapping[str, float],
    floor: float,
    rule: Rule = "auto",
) -> None:
    """Sets what pairs of two seeds or more know of their spread over seeds: rule, variances, degrees of freedom.

    Args: runs: arm -> seed -> the run's metric. errors: arm -> how far it is from a perfect one. floor: of a variance.
    """
    families: dict[tuple[str, str], list[Pair]] = {}
    for pair in (pair for pair in pairs if pair.seeds > 1):
        families.setdefault((pair.base, pair.family), []).append(pair)
    arms = dict.fromkeys(arm for pairs in families.values() for pair in pairs for arm in (pair.base, pair.arm))
    own = {arm: max(float(np.var([*runs[arm].values()], ddof=1)), floor) for arm in arms}
    known = [pair.images for pair in pairs if np.isfinite(pair.images)]
    for (base, _), family in families.items():
        members = [base, *(pair.arm for pair in family)]
        lenders = members if len(members) >= FEWEST_ARMS else list(arms)
        s2, dof = np.array([own[arm] for arm in members]), np.array([len(runs[arm]) - 1.0 for arm in members])
        used: str = rule
        if rule == "auto" and len(lenders) >= FEWEST_ARMS:
            used = "moderated"
        elif rule == "auto":
            used = "pooled" if len(members) > 2 and _bartlett(s2, dof) >= UNEQUAL else "crossed"
        moderated = _moderated(lenders, base, own, runs, errors) if used == "moderated" else {}
        pooled = _pooled([runs[arm] for arm in members], floor) if used == "pooled" else (0.0, 0.0)
        for pair in family:
            pair.rule = used
            pair.images = pair.images if np.isfinite(pair.images) else float(np.mean(known or [0.0]))
            if used == "pooled":
                pair.of_arm, pair.of_base, pair.dof = pooled[0], *pooled
            elif used == "moderated":
                (pair.of_arm, ours), (pair.of_base, theirs) = moderated[pair.arm], moderated[base]
                total = max(pair.of_arm + pair.of_base, 1e-300)
                pair.dof = 1 / ((pair.of_arm / total) ** 2 / ours + (pair.of_base / total) ** 2 / theirs)
            else:
                pair.of_arm, pair.dof = max(float(np.var(pair.gains, ddof=1)), floor), pair.seeds - 1.0


def _bartlett(s2: NDArray, dof: NDArray) -> float:
    """P that variances are alike. Source: Bartlett 1937, Proceedings of the Royal Society A 160."""
    if not s2.all():
        return 0.0
    pooled = (dof * s2).sum() / dof.sum()
    scale = 1 + ((1 / dof).sum() - 1 / dof.sum()) / 3 / (len(dof) - 1)
    return float(special.chdtrc(len(dof) - 1, (dof * np.log(pooled / s2)).sum() / scale))


def _pooled(runs: Sequence[Mapping[int, float]], floor: float) -> tuple[float, float]:
    """The variance of a run about its arm and its seed, pooled over arms, and its degrees of freedom."""
    cells = [(arm, seed, y) for arm, of in enumerate(runs) for seed, y in of.items()]
    arms, seeds, y = (np.array(column) for column in zip(*cells, strict=True))
    design = np.hstack([arms[:, None] == np.unique(arms), seeds[:, None] == np.unique(seeds)[1:]]).astype(float)
    fit, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    dof = len(y) - int(rank)
    return max(float(np.square(y - design @ fit).sum() / dof), floor), float(dof)


def _moderated(
    arms: Sequence[str],
    base: str,
    own: Mapping[str, float],
    runs: Mapping[str, Mapping[int, float]],
    errors: Mapping[str, float],
) -> dict[str, tuple[float, float]]:
    """Each arm's variance, shrunk towards the trend of all, and its degrees of freedom.

    Source: Smyth 2004, Statistical Applications in Genetics 3, 6.2; here the slope of the trend is given, and that its
        height comes of few arms is counted by the harmonic sum.
    """
    s2, d = np.maximum([own[arm] for arm in arms], 1e-12), np.array([len(runs[arm]) - 1.0 for arm in arms])
    trend = TREND * np.log(np.maximum([errors[arm] for arm in arms], 0.01))
    e = np.log(s2) - trend - special.digamma(d / 2) + np.log(d / 2)
    noise = special.polygamma(1, d / 2)
    height = np.average(e, weights=1 / noise)
    beyond = np.square(e - height).sum() / (len(e) - 1) - noise.mean()  # trigamma(d0 / 2), falling in d0
    grid = np.linspace(0.5, MOST_PRIOR, 200)
    d0 = 1 / (1 / np.interp(-beyond, -special.polygamma(1, grid / 2), grid) + 1 / d.sum())
    prior = np.exp(trend + height + special.digamma(d0 / 2) - np.log(d0 / 2))
    least = np.where(np.array(arms) == base, OUTLYING_BASE, OUTLYING)
    alone = special.fdtrc(d, d0, s2 / prior) < least
    variances, dof = np.where(alone, s2, (d0 * prior + d * s2) / (d0 + d)), np.where(alone, d, d0 + d)
    return {arm: (float(v), float(nu)) for arm, v, nu in zip(arms, variances, dof, strict=True)}


def verdicts(pairs: Sequence[Pair], margin: float, level: float, higher_is_better: bool = True) -> dict[str, Decision]:
    """Returns the decisions of pairs whose spreads are set; those of one seed stay undecided."""
    decisions = {}
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.base, pair.family if pair.rule == "pooled" else pair.arm), []).append(pair)
    num_arms = sum(pair.seeds > 1 for pair in pairs)
    for group in groups.values():
        counts = [pair.seeds for pair in group]
        # Arms of fewer seeds share fewer of the baseline's: the smallest correlation that two of them have, or less.
        largest = _largest(len(group), round(0.5 * float(np.sqrt(min(counts) / max(counts))), 3))
        for pair in group:
            decisions[pair.arm] = _verdict(
                pair, largest, len(group) / max(num_arms, 1), margin, level, higher_is_better
            )
    return decisions


def _verdict(
    pair: Pair, largest: Largest, part: float, margin: float, level: float, higher_is_better: bool
) -> Decision:
    """Decides a pair of a group that has so large a part of the study's comparisons."""
    mean, inf = float(pair.gains.mean()), float("inf")
    if pair.seeds < 2:
        ends, nan = (-inf, inf, -inf, inf), float("nan")
        return Decision(pair.arm, pair.family, pair.rule, mean, *ends, 1.0, nan, nan, "undecided", pair.seeds, None)

    def half(seeds: int, of_level: float) -> float:
        # Further seeds add what they are known to: to a pooled spread one of each arm, else one.
        dof = pair.dof + (seeds - pair.seeds) * (pair.dof / (pair.seeds - 1) if pair.rule == "pooled" else 1)
        return _critical(largest, 1 - (1 - of_level) ** part, round(dof, 3)) * pair.error(seeds)

    def decided(seeds: int) -> bool:
        return half(seeds, level) < abs(mean) or half(seeds, 2 * level) + abs(mean) < margin

    error, wide, narrow = pair.error(), half(pair.seeds, level), half(pair.seeds, 2 * level)
    p = float(largest.tail(np.array([abs(mean) / error]), np.array([pair.dof]))[0]) if error else float(not mean)
    p = min(-float(np.expm1(np.log1p(-min(p, 1 - 1e-16)) / part)), 1.0)
    verdict: Verdict = "undecided"
    if wide < abs(mean):
        verdict = "better" if (mean > 0) == higher_is_better else "worse"
    elif narrow + abs(mean) < margin:
        verdict = "equivalent"
    enough = pair.seeds if verdict != "undecided" else _first(decided, pair.seeds + 1, pair.seeds + MOST_MORE)
    return Decision(
        *(pair.arm, pair.family, pair.rule, mean, mean - wide, mean + wide, mean - narrow, mean + narrow, p),
        *(float(np.sqrt(pair.of_arm)), float(np.sqrt(pair.images)), verdict, pair.seeds),
        None if enough is None else enough - pair.seeds,
    )


def _first(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The first integer from low to high where something holds that then goes on to hold; None if it never does."""
    at = bisect.bisect_left(range(low, high + 1), True, key=holds)
    return low + at if low + at <= high else None


_largest, _critical = functools.lru_cache(256)(Largest), functools.lru_cache(4096)(Largest.critical)


def _same_runs(values: Values, base_of: Mapping[str, str]) -> dict[str, str]:
    """Arm -> its baseline, or the first arm of the same baseline, whose runs are the very same."""
    first: dict[tuple[object, ...], str] = {}
    same = {}
    for arm in dict.fromkeys([*base_of.values(), *values]):
        runs = tuple((seed, np.asarray(x).tobytes()) for seed, x in sorted(values[arm].items()))
        if runs and first.setdefault((base_of[arm], *runs), arm) != arm:
            same[arm] = first[base_of[arm], *runs]
    return same


def _check(
    values: Values,
    base_of: Mapping[str, str],
    families: Mapping[str, str],
    margin: float,
    level: float,
    rule: str,
) -> None:
    if not 0 < margin < np.inf:
        raise ValueError(
            f"margin: got {margin}, expected a number above 0, in the units of the metric, such as 1 for 1 point."
        )
    if not 0 < level < 0.5:
        raise ValueError(f"level: got {level}, expected a number inside (0, 0.5), such as 0.05.")
    if rule not in get_args(Rule):
        raise ValueError(f"rule: got {rule!r}, expected one of {', '.join(get_args(Rule))}.")
    if wrong := sorted({base for base in base_of.values() if base_of.get(base) != base}):
        raise ValueError(f"baseline: got {wrong}, expected arms of {list(values)} that are compared with no other.")
    if homeless := [arm for arm, base in base_of.items() if arm != base and not families.get(arm)]:
        raise ValueError(f"families: got none of {homeless}. Name the family of each arm, such as {MIXTURE!r}.")
    sizes: dict[int, str] = {}
    for arm, of in values.items():
        for seed, x in of.items():
            if np.ndim(x) != 1 or not np.size(x) or not np.isfinite(x).all():
                raise ValueError(
                    f"values of {arm}, seed {seed}: got shape {np.shape(x)}, {np.sum(~np.isfinite(x))} not finite, "
                    "expected one finite number for each test image. Leave failed runs out."
                )
            sizes.setdefault(np.size(x), f"{arm}, seed {seed}")
    sizes.pop(1, None)
    if len(sizes) > 1:
        raise ValueError(
            "values: got test sets of different sizes: "
            + "; ".join(f"{size:,} images in {run}" for size, run in sizes.items())
            + ". Runs are compared on the same images: evaluate them on one test set."
        )
