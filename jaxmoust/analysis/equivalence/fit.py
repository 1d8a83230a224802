"""How many synthetic images are worth one more real image: the answers, with their doubt, and when there is none.

A mixed run's error is turned into the number of real images n_eq that reach it (learning_curve.py); two laws are fitted
to all mixed runs (exchange_laws.py); here they are asked. An answer is a figure with an interval, a bound, or a refusal
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
`EQUIVALENCE_TRIALS=200 pytest -s tests/analysis/equivalence/fit_test.py -k planted`. Beside it `log_fit`: where seeds
are apart by 1.6 points (3 seeds, 100 trials), its b was 0.89 in the median where 1 was planted, and that of `fit` 0.99.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from jaxmoust.analysis.equivalence import learning_curve
from jaxmoust.analysis.equivalence.laws import EFFECTIVE, ETAS, LAWS, STEEPEST, STUDY, LawFit, fit_law, left_out_error
from jaxmoust.analysis.equivalence.learning_curve import LEVEL, Cells, Curve, Interval, interval

LACKING = 0.01  # p below which cells are said to stray from a curve or a law by more than chance
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


@dataclass(frozen=True)
class Point:
    """A mixed cell on the real learning curve.

    Args:
        n_base, n_synthetic, error, num_seeds: of the cell; error is the mean in percent.
        n_eq, interval: the real images it is worth, cut to the curve's range.
        censored: "at least" or "at most" where n_eq is a bound because the error is beyond the curve; else "".
    """

    n_base: int
    n_synthetic: int
    error: float
    num_seeds: int
    n_eq: float
    interval: Interval | None
    censored: str


@dataclass(frozen=True)
class LogFit:
    """The plain fit of the study's law, least squares on log(n_syn / n_base): a, b, and how many cells were what."""

    a: float
    b: float
    num_points: int
    num_bounds: int
    num_unused: int


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

    def b(self) -> Answer:
        """The study's b = ln c2; infinite ends (no gain) are None. Refused where a is at the end of its range."""
        fit = self.fits["study"]
        if self._steepest():
            return Answer(None, refused=self._too_steep())
        with np.errstate(divide="ignore"):
            return _told(1 / fit.theta, NOTHING)

    def a(self) -> Answer:
        """The study's a = ln(c1) / k, per real image; refused at the steepest one searched."""
        if np.ptp(self.mixed.n_base) == 0:
            return Answer(None, refused="mixed runs at one n_base do not tell how the rate changes with n_base")
        if not self.fits["study"].theta[0]:
            return Answer(None, refused=NOTHING)
        if self._steepest():
            return Answer(None, refused=self._too_steep())
        return _phi(self.fits["study"], -math.inf, EDGE * STEEPEST / self.mixed.n_base.max())

    def eta(self) -> Answer:
        """The exponent of the effective sample size; refused at the ends of the range that is searched."""
        fit, low, high = self.fits["effective"], ETAS[0] / EDGE, ETAS[1] * EDGE
        if not fit.theta[0]:
            return Answer(None, refused=NOTHING)
        if np.ptp(self.mixed.n_synthetic) == 0:
            return Answer(None, refused="mixed runs with one number of synthetic images do not tell how the gain grows")
        if fit.phi[0] <= low:
            return Answer(None, refused=f"the gain grows no faster than n_syn^{ETAS[0]:g}, the flattest searched")
        if fit.phi[0] >= high:
            return Answer(None, refused=f"the gain grows at least as fast as n_syn^{ETAS[1]:g}, the steepest searched")
        return _phi(fit, low, high)

    def kappa(self) -> Answer:
        """The factor of the effective sample size; refused where eta is."""
        if reason := self.eta().refused:
            return Answer(None, refused=reason)
        return _told(self.fits["effective"].theta, "")

    def n_syn(self, n_base: float, n_real_plus: float, law: str = "study") -> Answer:
        """How many synthetic images beside n_base real ones are worth n_real_plus more real ones.

        Raises: ValueError: n_real_plus <= 0 or n_base <= 0, an unknown law.
        """
        check_sizes(n_base=n_base, n_real_plus=n_real_plus)
        reason = self._outside(n_base) or self._past_the_curve(n_base, n_real_plus) or self._untold(n_base, law)
        if reason:
            return Answer(None, refused=reason)
        draws, most = self._fit(law).n_syn(n_base, n_real_plus), self.most_synthetic(n_base)
        if reason := self._no_gain(n_base):
            return Answer(None, refused=reason, at_least=most)
        answer = _told(draws, f"by the law no synthetic images are worth {n_real_plus:,.0f} real ones", most)
        more = f"it takes more than the {most:,} synthetic images that were tried with about {n_base:,.0f} real ones"
        return _within(answer, most, more, "run a mixture with more")

    def n_real_plus(self, n_base: float, n_syn: float, law: str = "study") -> Answer:
        """How many more real images n_syn synthetic ones beside n_base real ones are worth: the inverse of `n_syn`.

        Raises: ValueError: n_syn <= 0 or n_base <= 0, an unknown law.
        """
        check_sizes(n_base=n_base, n_syn=n_syn)
        most = self.most_synthetic(n_base) if not self._outside(n_base) else 0
        if reason := self._outside(n_base) or (
            f"at most {most:,} synthetic images were tried with about {n_base:,.0f} real ones"
            if n_syn > most
            else self._untold(n_base, law) or self._no_gain(n_base)
        ):
            return Answer(None, refused=reason)
        room = self.curve.n_max - n_base
        answer = _told(self._fit(law).n_real_plus(n_base, n_syn), "", room)
        better = f"the mixture does better than the largest real set of {self.curve.n_max:,} images"
        return _within(answer, room, better, "add larger real sets")

    def marginal_rate(self, n_base: float, law: str = "study") -> Answer:
        """Synthetic images worth the first extra real image: dn_syn / dn_real_plus at 0, exp(a n_base) b."""
        check_sizes(n_base=n_base)
        fit = self._fit(law)
        if reason := self._outside(n_base):
            return Answer(None, refused=reason)
        if fit.law is not STUDY:
            return Answer(None, refused="n_syn^eta has no slope at 0 unless eta is 1; ask for the average rate")
        if reason := self._untold(n_base, law):
            return Answer(None, refused=reason)
        most = self.most_synthetic(n_base)
        if reason := self._no_gain(n_base):
            return Answer(None, refused=reason, at_least=most)
        with np.errstate(divide="ignore", over="ignore"):
            draws = np.exp(fit.phi * n_base) / fit.theta
        few = f"not even the {most:,} synthetic images that were tried are worth a real one"
        return _within(_told(draws, NOTHING, most), most, few, "run a mixture with more")

    def average_rate(self, n_base: float, n_real_plus: float, law: str = "study") -> Answer:
        """Synthetic images for each of n_real_plus more real ones: n_syn / n_real_plus, with the same refusals."""
        answer = self.n_syn(n_base, n_real_plus, law)

        def each(x):
            return None if x is None else x / n_real_plus

        ends = answer.interval and tuple(each(x) for x in answer.interval)
        return replace(answer, value=each(answer.value), interval=ends, at_least=each(answer.at_least))

    def most_synthetic(self, n_base: float) -> int:
        """The most synthetic images tried at n_base, or at both measured n_base that it lies between."""
        return min(int(self.mixed.n_synthetic[self.mixed.n_base == size].max()) for size in self._near(n_base))

    def better(self) -> NDArray[np.bool_]:
        """Which mixtures [C] did better than their real images alone: as measured, or else as the curve has it."""
        alone = self.curve.error_at(self.mixed.n_base)[0]
        for size, error in zip(self.curve.cells.n_base, self.curve.means[0], strict=True):
            alone[self.mixed.n_base == size] = error
        return self.means[0] < alone

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
        told = self.curve.error_at(n_base + fit.theta[:, None] * fit.law.shape(fit.phi[:, None], n_base, n_syn))
        # The curve's own error is part of what may separate the two.
        sd = np.hypot(self.error_sd, np.std(self.curve.error_at(n_base)[1:], axis=0))
        return float(stats.chi2.sf(np.sum(np.square((told[0] - self.means[0]) / sd)[inside]), spare))

    def _fit(self, law: str) -> LawFit:
        if law not in self.fits:
            raise ValueError(f"law: got {law!r}; allowed {', '.join(self.fits)}")
        return self.fits[law]

    def _steepest(self) -> bool:
        """Whether the study's law, gaining something, has its a at the end of the range that is searched."""
        fit = self.fits[STUDY.name]
        return bool(fit.theta[0] and fit.phi[0] >= EDGE * STEEPEST / self.mixed.n_base.max())

    def _too_steep(self) -> str:
        sizes = sorted(set(self.mixed.n_base.tolist()))
        if len(sizes) == 1:
            return "the gain grows in proportion to the synthetic images, and b is told from where it slows down"
        return f"the gain falls from {sizes[0]:,} to {sizes[-1]:,} real images faster than the law can say"

    def _outside(self, n_base: float) -> str:
        low, high = int(self.mixed.n_base.min()), int(self.mixed.n_base.max())
        if low <= n_base <= high:
            return ""
        where = f"at {low:,}" if low == high else f"from {low:,} to {high:,}"
        return f"mixed runs were measured {where} real images, not at {n_base:,.0f}; run some there"

    def _near(self, n_base: float) -> list[int]:
        """The measured n_base itself, or the two that it lies between."""
        sizes = np.unique(self.mixed.n_base)
        return sorted({int(sizes[sizes <= n_base].max()), int(sizes[sizes >= n_base].min())})

    def _untold(self, n_base: float, law: str) -> str:
        """Why the law does not answer at this n_base though mixtures were run at it or on both sides of it; or ""."""
        if law == EFFECTIVE.name and (reason := self.eta().refused):
            return reason
        near = self._near(n_base)
        if near == [n_base]:
            return ""
        if law == STUDY.name and self._steepest():
            return f"{self._too_steep()}; ask at {_either(near)}"
        lost = [size for size in near if self._no_gain(size)]
        told = [size for size in near if size not in lost]
        reason = f"no mixture with {_either(lost)} real images did better than these alone"
        return (f"{reason}; ask at {_either(told)}" if told else reason) if lost else ""

    def _no_gain(self, n_base: float) -> str:
        own = self.mixed.n_base == n_base
        return "no mixture did better than its real images alone" if own.any() and not self.better()[own].any() else ""

    def _past_the_curve(self, n_base: float, n_real_plus: float) -> str:
        if n_base + n_real_plus <= self.curve.n_max:
            return ""
        return (
            f"real images alone were measured up to {self.curve.n_max:,}, not to {n_base:,.0f} + {n_real_plus:,.0f}; "
            f"ask for at most {self.curve.n_max - n_base:,.0f} more, or add larger real sets"
        )


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
            f"The errors of real images alone stray from the fitted curve by more than seeds explain (by up to "
            f"{curve.misfit:.2f} points, p < {LACKING:g}); what is read off between the sizes is rough."
        )
    if not on_curve.any():
        raise ValueError(
            f"mixed runs: got n_base {sorted(set(mixed.n_base.tolist()))} beside real-only runs of {curve.n_min:,} to "
            f"{curve.n_max:,} images; allowed n_base inside that range; add real-only runs at these sizes"
        )
    if not on_curve.all():
        away = sorted(set(mixed.n_base[~on_curve].tolist()))
        notes.append(f"Mixed runs at n_base {away} are left out: no real-only runs reach there.")
        mixed = Cells(
            mixed.n_base[on_curve],
            mixed.n_synthetic[on_curve],
            [e for e, kept in zip(mixed.errors, on_curve, strict=True) if kept],
        )
    if alone := sorted(set(mixed.n_base.tolist()) - set(real.n_base.tolist())):
        notes.append(f"No real-only runs at n_base {alone}: what real images reach there is read off the curve.")
    means = noise.draws(mixed, num_resamples, np.random.default_rng([seed, 1]))
    error_sd = noise.sd(mixed.mean) / np.sqrt(mixed.count)
    points = _points(mixed, means, curve)
    if all(p.censored for p in points):
        reason = (
            f"mixed runs: all {len(points)} cells lie beyond the real learning curve ({curve.n_min:,} to "
            f"{curve.n_max:,} images); each gives a bound ({_bounds(points)}) and none an exchange rate; add "
            f"{_missing_sizes(points)}. {' '.join(notes)}".rstrip(". ")
        )
        raise AllCensored(reason, points, curve)
    fits = {name: fit_law(law, mixed, means, error_sd, curve) for name, law in LAWS.items()}
    left_out = {name: left_out_error(law, mixed, means[0], error_sd, curve) for name, law in LAWS.items()}
    if len(means) == 1:
        notes.append("No cell has two seeds, so nothing has an interval.")
    if len(points) == 1:
        notes.append("One mixed cell: a is taken as 0, which no run supports.")
    elif len(set(mixed.n_base.tolist())) == 1:
        notes.append("One n_base: how the exchange rate changes with it cannot be told.")
    return Equivalence(curve, mixed, means, error_sd, fits, left_out, points, tuple(notes))


def log_fit(points: tuple[Point, ...], n_max: int) -> LogFit | None:
    """Fits the study's law the plain way, by least squares on log(n_syn / n_base), for comparison with published c2.

    Cells with a gain inside the curve are points. A cell at the curve's end ("at least") costs only where the law
    gives it less; one whose error is no better than its base set's ("at most" the upper end of its interval) only
    where the law gives it more. Cells without an interval to bound them by are not used. None for less than two points.

    It is not what answers are taken from: see `fit_law`, and the figures above.
    """
    ratio = np.array([math.log(p.n_synthetic / p.n_base) for p in points])
    n_base = np.array([p.n_base for p in points], float)
    gain, kind = np.zeros(len(points)), np.zeros(len(points), int)  # kind: 2 a point, 1 at least, -1 at most, 0 unused
    for i, p in enumerate(points):
        if p.censored == "at least":
            gain[i], kind[i] = n_max - p.n_base, 1 if n_max > p.n_base else 0
        elif p.censored == "" and p.n_eq > p.n_base:
            gain[i], kind[i] = p.n_eq - p.n_base, 2
        elif p.interval is not None and p.interval[1] > p.n_base:
            gain[i], kind[i] = p.interval[1] - p.n_base, -1
    if (kind == 2).sum() < 2:
        return None
    r, y, size, kind_used = (x[kind != 0] for x in (gain / n_base, ratio, n_base, kind))

    def missed(parameters):
        a, log_b = parameters
        x = np.exp(log_b) * r
        residual = y - (a * size + x + np.log(-np.expm1(-x)))
        return np.where(
            kind_used == 2, residual, np.where(kind_used == 1, np.minimum(residual, 0), np.maximum(residual, 0))
        )

    best = optimize.least_squares(
        missed, [0.1 / size.max(), 0.0], bounds=([0.0, -7.0], [np.inf, 7.0]), x_scale=[1 / size.max(), 1.0]
    )
    counts = [int((kind == 2).sum()), int((abs(kind) == 1).sum()), int((kind == 0).sum())]
    return LogFit(float(best.x[0]), float(np.exp(best.x[1])), *counts)


def _points(mixed: Cells, means: NDArray, curve: Curve) -> tuple[Point, ...]:
    n_eq, side = curve.n_at(means), curve.beyond(means[:1])[0]
    words = {1: "at least", -1: "at most", 0: ""}
    return tuple(
        Point(
            int(mixed.n_base[i]),
            int(mixed.n_synthetic[i]),
            float(mixed.mean[i]),
            int(mixed.count[i]),
            float(n_eq[0, i]),
            interval(n_eq[:, i]),
            words[int(side[i])],
        )
        for i in range(len(mixed))
    )


def _bounds(points: tuple[Point, ...]) -> str:
    shown = [f"{p.n_base:,} + {p.n_synthetic:,} is worth {p.censored} {p.n_eq:,.0f}" for p in points[:4]]
    return ", ".join([*shown, *(["and so on"] if len(points) > 4 else [])])


def _missing_sizes(points: tuple[Point, ...]) -> str:
    kinds = {p.censored for p in points}
    both = {"at least": "larger real sets", "at most": "smaller real sets (or better synthetic images)"}
    return " and ".join(both[kind] for kind in sorted(kinds))


def _told(draws: NDArray, nothing: str, most: float = math.inf) -> Answer:
    """The answer of some draws [D]; ends beyond `most` or infinite are None, an infinite value is refused."""
    ends = interval(draws)
    shown = ends and tuple(float(x) if math.isfinite(x) and x <= most else None for x in ends)
    if not math.isfinite(draws[0]):
        return Answer(None, shown, nothing, at_least=shown and shown[0])
    return Answer(float(draws[0]), shown)


def _within(answer: Answer, most: float, beyond: str, remedy: str) -> Answer:
    """Refuses an answer above `most`, or an infinite one, as what the law estimates; its interval is kept."""
    if answer.value is not None and answer.value <= most:
        return answer
    low = answer.interval and answer.interval[0]
    known = f" (95 %: at least {low:,.{0 if low >= 9.95 else 1}f})" if low else ""
    reason = answer.refused or f"by the law {beyond}{known}; {remedy}"
    return replace(answer, value=None, refused=reason, at_least=most if low is None else low)


def _phi(fit: LawFit, low: float, high: float) -> Answer:
    """A law's phi. An end of its interval outside (low, high) is None, and so are both where the law finds no gain in
    more resamples than an interval leaves out: without a gain every phi is as good.
    """
    gains = fit.theta > 0
    ends = (None, None) if (~gains).sum() > (1 - LEVEL) / 2 * (len(gains) - 1) else interval(fit.phi[gains])
    return Answer(float(fit.phi[0]), ends and tuple(x if x is not None and low < x < high else None for x in ends))


def _either(sizes: list[int]) -> str:
    return " or ".join(f"{size:,}" for size in sizes)


def check_sizes(**sizes: float) -> None:
    """Refuses numbers of images that are none.

    Raises: ValueError: one that is not finite or not above 0.
    """
    for name, size in sizes.items():
        if not (math.isfinite(size) and size > 0):
            raise ValueError(f"{name}: got {size}; allowed a number of images above 0")
