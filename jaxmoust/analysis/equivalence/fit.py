"""How many synthetic images are worth one more real image: the answers, with their uncertainty, and when there is none.

A mixed run's error is turned into the number of real images n_eq that reach it (learning_curve.py); two laws are fitted
to all mixed runs (laws.py); here they are asked. An answer is a figure with an interval, a bound, or a refusal
that says what was not measured. Nothing is extrapolated: not to an n_base between which no mixed run lies, not past
the largest real set, not past the most synthetic images that were tried. Nor does a law, which can but gain, answer
at, or next to, an n_base where every mixture that was run did no better than its real images alone, nor with a
parameter at the end of the range that is searched.

Intervals are the 2.5 and 97.5 % quantiles of 1,000 resamples of the seeds of every cell, curve and law fitted anew to
each. They take the runs of different cells as independent and the base sets as given: another draw of the base set, or
another generator, is not in them. Nor is what a law itself misses; see `Equivalence.lack_of_fit`.

Measured on planted runs (tests/planted_equivalence.py: 15 mixtures, 8 real sizes, seeds apart by 0.8 points at an error
of 20 %), 200 trials: 95 % intervals held the study's a and b in 96.5 and 94 % (3 seeds), 95 and 93.5 % (5 seeds), eta
and kappa in 94 and 96 % (3 seeds), 94.5 and 94.5 % (5 seeds).
`EQUIVALENCE_TRIALS=200 pytest -s tests/analysis/equivalence/fit_test.py -k planted`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from jaxmoust.analysis.equivalence import learning_curve
from jaxmoust.analysis.equivalence.laws import EFFECTIVE, ETAS, LAWS, STEEPEST, STUDY, LawFit, fit_law, left_out_error
from jaxmoust.analysis.equivalence.learning_curve import FINEST, LEVEL, Cells, Curve, Interval, interval

LACKING = 0.01  # p below which cells are said to deviate from a curve or a law by more than chance
EDGE = 0.999  # of the range that a parameter is searched in
NOTHING = "the law finds no gain in these mixtures taken together"


@dataclass(frozen=True)
class Answer:
    """A figure with its interval, or why there is none.

    Args:
        value: None where refused. interval: None for one seed a cell; an end that lies where nothing was measured
            is None; what lies beyond all that was measured is refused and has its interval all the same. refused: the
            reason; "" for an answer. at_least: what is known all the same, where it is.
    """

    value: float | None
    interval: tuple[float | None, float | None] | None = None
    refused: str = ""
    at_least: float | None = None

    def mapped(self, law: Callable[[float], float | None]) -> "Answer":
        """Returns the same answer about a rising function of the figure."""

        def of(x: float | None) -> float | None:
            return None if x is None else law(x)

        ends = self.interval and (of(self.interval[0]), of(self.interval[1]))
        return Answer(of(self.value), ends, self.refused, of(self.at_least))


@dataclass(frozen=True)
class Point:
    """A mixed cell on the real learning curve.

    Args:
        n_base, n_synthetic, error, num_seeds: of the cell; error is the mean in percent.
        n_eq, interval: the real images it is worth, cut to the curve's range.
        censored: "at least" or "at most" where n_eq is a bound because the error is beyond the curve; else "".
        lost: of a mixture that does worse than its real images alone, how many of these could be taken away at the same
            cost, n_base - n_eq; at_least where real sets end before. None where no loss is certain (`_losing`).
    """

    n_base: int
    n_synthetic: int
    error: float
    num_seeds: int
    n_eq: float
    interval: Interval | None
    censored: str
    lost: Answer | None = None


@dataclass(frozen=True, eq=False)
class Equivalence:
    """The fit of a grid of mixed runs.

    Args:
        curve: of real images. mixed: the cells; means: their errors by draw [D, C]; error_sd: of each mean [C].
        fits: by law. left_out: by law, the error in points on cells left out of the fit, or None.
        points: the mixed cells on the curve, in order. notes: what is worth knowing, in words.
    """

    curve: Curve
    mixed: Cells
    means: NDArray[np.float64]
    error_sd: NDArray[np.float64]
    fits: Mapping[str, LawFit]
    left_out: Mapping[str, float | None]
    points: tuple[Point, ...]
    notes: tuple[str, ...]

    @property
    def sizes(self) -> list[int]:
        """The n_base of the mixtures, rising."""
        return self.mixed.sizes

    def b(self) -> Answer:
        """The study's b = ln c2; infinite ends (no gain) are None. Refused where a is at the end of its range."""
        if reason := self._too_steep():
            return Answer(None, refused=reason)
        with np.errstate(divide="ignore"):
            return _answer(1 / self.fits["study"].theta, nothing=NOTHING)

    def a(self) -> Answer:
        """The study's a = ln(c1) / k, per real image; refused at the steepest one searched."""
        fit, steep = self.fits["study"], self._too_steep()
        reason = _first(
            (len(self.sizes) == 1, "mixed runs at one n_base do not tell how the rate changes with n_base"),
            (not fit.theta[0], NOTHING),
            (steep, steep),
        )
        return _phi(fit, -math.inf, EDGE * STEEPEST / self.sizes[-1], reason)

    def eta(self) -> Answer:
        """The exponent of the effective sample size; refused at the ends of the range that is searched."""
        fit, low, high = self.fits["effective"], ETAS[0] / EDGE, ETAS[1] * EDGE
        one = "mixed runs with one number of synthetic images do not tell how the gain grows"
        reason = _first(
            (not fit.theta[0], NOTHING),
            (np.ptp(self.mixed.n_synthetic) == 0, one),
            (fit.phi[0] <= low, f"the gain grows no faster than n_syn^{ETAS[0]:g}, the flattest searched"),
            (fit.phi[0] >= high, f"the gain grows at least as fast as n_syn^{ETAS[1]:g}, the steepest searched"),
        )
        return _phi(fit, low, high, reason)

    def kappa(self) -> Answer:
        """The factor of the effective sample size; refused where eta is."""
        reason = self.eta().refused
        return Answer(None, refused=reason) if reason else _answer(self.fits["effective"].theta)

    def n_syn(self, n_base: float, n_real_plus: float, law: str = "study") -> Answer:
        """How many synthetic images beside n_base real ones are worth n_real_plus more real ones.

        Raises: ValueError: n_real_plus <= 0 or n_base <= 0, an unknown law.
        """
        check_sizes(n_base=n_base, n_real_plus=n_real_plus)
        draws, n_max = self._fit(law).n_syn(n_base, n_real_plus), self.curve.n_max
        short = (
            f"real images alone were measured up to {n_max:,}, not to {n_base:,.0f} + {n_real_plus:,.0f}; ask for at "
            f"most {n_max - n_base:,.0f} more, or add larger real sets"
        )
        reason = self._outside(n_base) or _first((n_base + n_real_plus > n_max, short))
        nothing = f"by the law no synthetic images are worth {n_real_plus:,.0f} real ones"
        more = f"it takes more than the {{:,}} synthetic images that were tried with about {n_base:,.0f} real ones"
        return self._in_synthetic(draws, n_base, law, reason, nothing, more)

    def n_real_plus(self, n_base: float, n_syn: float, law: str = "study") -> Answer:
        """How many more real images n_syn synthetic ones beside n_base real ones are worth: the inverse of `n_syn`.

        Raises: ValueError: n_syn <= 0 or n_base <= 0, an unknown law.
        """
        check_sizes(n_base=n_base, n_syn=n_syn)
        draws = self._fit(law).n_real_plus(n_base, n_syn)
        if not (reason := self._outside(n_base)):
            most = self.most_synthetic(n_base)
            few = f"at most {most:,} synthetic images were tried with about {n_base:,.0f} real ones"
            reason = _first((n_syn > most, few)) or self._untold(n_base, law)
        if reason := reason or self._no_gain(n_base):
            return Answer(None, refused=reason)
        better = f"the mixture does better than the largest real set of {self.curve.n_max:,} images"
        return _answer(draws, self.curve.n_max - n_base, beyond=better, remedy="add larger real sets")

    def marginal_rate(self, n_base: float, law: str = "study") -> Answer:
        """Synthetic images worth the first extra real image: dn_syn / dn_real_plus at 0, exp(a n_base) b."""
        check_sizes(n_base=n_base)
        fit = self._fit(law)
        curved = "n_syn^eta has no slope at 0 unless eta is 1; ask for the average rate"
        reason = self._outside(n_base) or _first((fit.law is not STUDY, curved))
        with np.errstate(divide="ignore", over="ignore"):
            draws = np.exp(fit.phi * n_base) / fit.theta
        few = "not even the {:,} synthetic images that were tried are worth a real one"
        return self._in_synthetic(draws, n_base, law, reason, NOTHING, few)

    def average_rate(self, n_base: float, n_real_plus: float, law: str = "study") -> Answer:
        """Synthetic images for each of n_real_plus more real ones: n_syn / n_real_plus, with the same refusals."""
        return self.n_syn(n_base, n_real_plus, law).mapped(lambda x: x / n_real_plus)

    def most_synthetic(self, n_base: float) -> int:
        """The most synthetic images tried at n_base, or at both measured n_base that it lies between."""
        return min(int(self.mixed.n_synthetic[self.mixed.n_base == size].max()) for size in self._near(n_base))

    def better(self) -> NDArray[np.bool_]:
        """Which mixtures [C] did better than their real images alone: as measured, or else as the curve has it."""
        return self.means[0] < self.curve.alone(self.mixed.n_base)[0]

    def lack_of_fit(self, law: str = "study") -> float | None:
        """The chance of deviations from the law as large as these if seeds were all there is; None without spare cells.

        Chi-square of the deviance over the cells that are points, less the parameters. Small: the law is a summary of
        these cells and its intervals are too short.
        """
        inside = self.curve.beyond(self.means[:1])[0] == 0
        spare = int(inside.sum()) - 2
        if spare < 1 or len(self.means) < 2:
            return None
        fit = self._fit(law)
        n_syn, n_base = self.mixed.n_synthetic.astype(float), self.mixed.n_base.astype(float)
        expected = self.curve.error_at(n_base + fit.theta[:, None] * fit.law.shape(fit.phi[:, None], n_base, n_syn))
        # The curve's own error is part of what may separate the two.
        sd = np.hypot(self.error_sd, np.std(self.curve.error_at(n_base)[1:], axis=0))
        return float(scipy.stats.chi2.sf(np.sum(np.square((expected[0] - self.means[0]) / sd)[inside]), spare))

    def _fit(self, law: str) -> LawFit:
        if law not in self.fits:
            raise ValueError(f"law: got {law!r}, expected one of {', '.join(self.fits)}")
        return self.fits[law]

    def _in_synthetic(self, draws: NDArray, n_base: float, law: str, reason: str, nothing: str, beyond: str) -> Answer:
        """The answer of some draws of a number of synthetic images, which is known up to the most that were tried."""
        if reason := reason or self._untold(n_base, law):
            return Answer(None, refused=reason)
        most = self.most_synthetic(n_base)
        if reason := self._no_gain(n_base):
            return Answer(None, refused=reason, at_least=most)
        return _answer(draws, most, nothing, beyond.format(most), "run a mixture with more")

    def _too_steep(self) -> str:
        """Why the study's law says little, where it gains and its a is at the end of the range that is searched."""
        fit, sizes = self.fits["study"], self.sizes
        if not fit.theta[0] or fit.phi[0] < EDGE * STEEPEST / sizes[-1]:
            return ""
        if len(sizes) == 1:
            return "the gain grows in proportion to the synthetic images, and b is told from where it slows down"
        return f"the gain falls from {sizes[0]:,} to {sizes[-1]:,} real images faster than the law can say"

    def _outside(self, n_base: float) -> str:
        low, high = self.sizes[0], self.sizes[-1]
        if low <= n_base <= high:
            return ""
        where = f"at {low:,}" if low == high else f"from {low:,} to {high:,}"
        return f"mixed runs were measured {where} real images, not at {n_base:,.0f}; run some there"

    def _near(self, n_base: float) -> list[int]:
        """The measured n_base itself, or the two that it lies between."""
        below, above = [n for n in self.sizes if n <= n_base], [n for n in self.sizes if n >= n_base]
        return sorted({below[-1], above[0]})

    def _untold(self, n_base: float, law: str) -> str:
        """Why the law does not answer at this n_base though mixtures were run at it or on both sides of it; or ""."""
        if law == EFFECTIVE.name and (reason := self.eta().refused):
            return reason
        near = self._near(n_base)
        if near == [n_base]:
            return ""
        if law == STUDY.name and (reason := self._too_steep()):
            return f"{reason}; ask at {_either(near)}"
        lost = [size for size in near if self._no_gain(size)]
        if not lost:
            return ""
        others = [size for size in near if size not in lost]
        reason = f"no mixture with {_either(lost)} real images did better than these alone"
        return f"{reason}; ask at {_either(others)}" if others else reason

    def _no_gain(self, n_base: float) -> str:
        own = self.mixed.n_base == n_base
        return "no mixture did better than its real images alone" if own.any() and not self.better()[own].any() else ""


class AllCensored(ValueError):
    """Every mixed cell lies beyond the real learning curve: the points are bounds, and no law can be fitted."""

    def __init__(self, reason: str, points: tuple[Point, ...], curve: Curve):
        super().__init__(reason)
        self.points, self.curve = points, curve


def fit(real: Cells, mixed: Cells, num_resamples: int = 1000, seed: int = 0) -> Equivalence:
    """Fits the real learning curve and both laws, with every resample of the seeds.

    60 mixed cells and 8 real sizes of 5 seeds took 2.3 s of one core (x86_64), with both laws and every cell left out.

    Args:
        num_resamples: of the bootstrap. seed: of its random numbers; the same gives the same answer.
    Raises: ValueError: no learning curve (see `fit_curve`), no mixed cell at an n_base on it, or (AllCensored) every
        mixed cell beyond it, which bounds exchange rates without measuring any.
    """
    noise = learning_curve.noise_of([real, mixed])
    curve = learning_curve.fit_curve(real, noise, num_resamples, seed)
    on_curve = (mixed.n_base >= curve.n_min) & (mixed.n_base <= curve.n_max)
    notes = []
    if (chance := curve.lack_of_fit(noise)) is not None and chance < LACKING:
        notes.append(
            f"The errors of real images alone deviate from the fitted curve by more than seeds explain (by up to "
            f"{curve.misfit:.2f} points, p < {LACKING:g}); what is read off between the sizes is rough."
        )
    if not on_curve.any():
        raise ValueError(
            f"mixed runs: got n_base {mixed.sizes} beside real-only runs of {curve.n_min:,} to "
            f"{curve.n_max:,} images, expected n_base inside that range. Add real-only runs at these sizes."
        )
    if not on_curve.all():
        away = mixed.subset(~on_curve).sizes
        notes.append(f"Mixed runs at n_base {away} are left out: no real-only runs reach there.")
        mixed = mixed.subset(on_curve)
    if alone := sorted(set(mixed.sizes) - set(real.sizes)):
        notes.append(f"No real-only runs at n_base {alone}: what real images reach there is read off the curve.")
    means = noise.draws(mixed, num_resamples, np.random.default_rng([seed, 1]))
    error_sd = noise.sd_of_means(mixed)
    points = points_of(mixed, means, curve)
    if all(p.censored for p in points):
        raise _all_censored(points, curve, notes)
    fits = {name: fit_law(law, mixed, means, error_sd, curve) for name, law in LAWS.items()}
    left_out = {name: left_out_error(law, mixed, means[0], error_sd, curve) for name, law in LAWS.items()}
    if len(means) == 1:
        notes.append("No cell has two seeds, so nothing has an interval.")
    if len(points) == 1:
        notes.append("One mixed cell: a is taken as 0, which no run supports.")
    elif len(mixed.sizes) == 1:
        notes.append("One n_base: how the exchange rate changes with it cannot be told.")
    return Equivalence(curve, mixed, means, error_sd, fits, left_out, points, tuple(notes))


def points_of(mixed: Cells, means: NDArray, curve: Curve) -> tuple[Point, ...]:
    """Returns mixed cells as points on the curve: means [D, C], errors by draw."""
    n_eq = curve.n_at(means)
    sides = np.array(["", "at least", "at most"])[curve.beyond(means[:1])[0]]
    columns = (mixed.n_base, mixed.n_synthetic, mixed.mean, mixed.count, n_eq[0])
    # Where the curve was not measured n_eq is cut to its end, and the loss is known to be larger than that says.
    lost = np.where(curve.beyond(means) < 0, np.inf, mixed.n_base - n_eq)
    unmeasured = f"the mixture does worse than the smallest real set of {curve.n_min:,} images; add smaller real sets"
    answers = [
        _answer(draws, float(n - curve.n_min), unmeasured) if loses else None
        for draws, n, loses in zip(lost.T, mixed.n_base, _losing(mixed, means, curve), strict=True)
    ]
    rows = zip(*(column.tolist() for column in columns), map(interval, n_eq.T), sides.tolist(), answers, strict=True)
    return tuple(Point(*row) for row in rows)


def _losing(mixed: Cells, means: NDArray, curve: Curve) -> NDArray[np.bool_]:
    """Which mixtures [C] certainly do worse than their real images alone; none where no cell has two seeds.

    The loss beside the runs of the same n_base is above what the largest deviation of any mixture reaches in 2.5 % of
    the resamples; and the interval of the loss beside the curve, on which its size is read, lies above 0. Of 200
    planted studies without gains or losses 11 claimed one, of 3 and 5 seeds: more than the nominal 2.5 %.

    Source: Romano and Wolf 2005, Econometrica 73, section 4 (the step without stepping down).
    """
    loss, beside_curve = means - curve.alone(mixed.n_base), means - curve.error_at(mixed.n_base)
    if len(loss) < 2:
        return np.zeros(len(mixed), bool)
    spread = np.maximum(loss[1:].std(axis=0), FINEST)
    largest = ((loss[1:] - loss[0]) / spread).max(axis=1)
    certain = loss[0] > np.quantile(largest, (1 + LEVEL) / 2) * spread
    return certain & (np.quantile(beside_curve[1:], (1 - LEVEL) / 2, axis=0, method="inverted_cdf") > 0)


def _all_censored(points: tuple[Point, ...], curve: Curve, notes: Sequence[str]) -> AllCensored:
    bounds = [f"{p.n_base:,} + {p.n_synthetic:,} is worth {p.censored} {p.n_eq:,.0f}" for p in points[:4]]
    remedies = {"at least": "larger real sets", "at most": "smaller real sets (or better synthetic images)"}
    reason = (
        f"mixed runs: all {len(points)} cells lie beyond the real learning curve ({curve.n_min:,} to {curve.n_max:,} "
        f"images); each gives a bound ({', '.join(bounds + ['and so on'] * (len(points) > 4))}) and none an exchange "
        f"rate; add {' and '.join(remedies[side] for side in sorted({p.censored for p in points}))}. {' '.join(notes)}"
    )
    return AllCensored(reason.rstrip(". "), points, curve)


def _answer(draws: NDArray, most: float = math.inf, nothing: str = "", beyond: str = "", remedy: str = "") -> Answer:
    """The answer of some draws [D]; ends beyond `most` or infinite are None.

    An infinite value is refused with `nothing`; one above `most`, as what the law estimates, with `beyond` and a
    remedy.
    """
    ends = interval(draws)
    shown = ends and (_up_to(most, ends[0]), _up_to(most, ends[1]))
    value, low = float(draws[0]), shown and shown[0]
    if _up_to(most, value) is not None:
        return Answer(value, shown)
    known = f" (95 %: at least {low:,.{0 if low >= 9.95 else 1}f})" if low else ""
    reason = f"by the law {beyond}{known}; {remedy}" if math.isfinite(value) else nothing
    return Answer(None, shown, reason, at_least=_up_to(math.inf, most) if low is None else low)


def _up_to(most: float, x: float) -> float | None:
    return float(x) if math.isfinite(x) and x <= most else None


def _phi(fit: LawFit, low: float, high: float, reason: str) -> Answer:
    """A law's phi, or the reason against it. An end of its interval outside (low, high) is None, and so are both where
    the law finds no gain in more resamples than an interval leaves out: without a gain every phi is as good.
    """
    if reason:
        return Answer(None, refused=reason)
    gains = fit.theta > 0
    ends = (-math.inf, math.inf) if (~gains).sum() > (1 - LEVEL) / 2 * (len(gains) - 1) else interval(fit.phi[gains])
    shown = ends and (ends[0] if low < ends[0] < high else None, ends[1] if low < ends[1] < high else None)
    return Answer(float(fit.phi[0]), shown)


def _first(*reasons: tuple[Any, str]) -> str:
    """The first reason that holds, or ""."""
    return next((reason for holds, reason in reasons if holds), "")


def _either(sizes: list[int]) -> str:
    return " or ".join(f"{size:,}" for size in sizes)


def check_sizes(**sizes: float) -> None:
    """Refuses numbers of images that are none.

    Raises: ValueError: one that is not finite or not above 0.
    """
    for name, size in sizes.items():
        if not (math.isfinite(size) and size > 0):
            raise ValueError(f"{name}: got {size}, expected a number of images above 0.")
