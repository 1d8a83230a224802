"""The real learning curve: how the error falls with the number of real images, and which number an error is worth.

Runs come as *cells* (one n_base and n_synthetic, several seeds). Everything that is uncertain is carried as draws: row
0 of an array is the data's own answer, every further row the answer of one bootstrap resample, so that an interval is
a quantile over rows whatever was computed in between. Errors are percent of test images; numpy and scipy only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]

LEVEL = 0.95
BETAS = np.geomspace(0.02, 3.0, 160)  # exponents tried; published curves lie between 0.1 and 1
# What the spread's slope is taken for until many cells say otherwise: 1 is a count of errors, var ∝ error.
SLOPE, SLOPE_SD = 1.0, 0.5
RISING = 0.001  # p, over all neighbours, of a rise that is no accident of the seeds
FINEST = 0.01  # points: the resolution of a test set of 10,000 images


@dataclass(frozen=True, eq=False)
class Cells:
    """Runs of several seeds at C settings.

    Args:
        n_base, n_synthetic: integers [C], real and synthetic images trained on.
        errors: C arrays of top-1 errors in percent, one figure a seed.
    Raises: ValueError: no runs at all, lengths that differ, errors that are not finite or outside 0..100.
    """

    n_base: NDArray[np.int64]
    n_synthetic: NDArray[np.int64]
    errors: Sequence[NDArray[np.float64]]

    def __post_init__(self):
        if not len(self.errors) or not len(self.n_base) == len(self.n_synthetic) == len(self.errors):
            raise ValueError(f"cells: got {len(self.n_base)} sizes beside {len(self.errors)} lists of errors, or none")
        for n, of_seeds in zip(self.n_base, self.errors, strict=True):
            if not len(of_seeds) or not all(0 <= error <= 100 for error in of_seeds):
                raise ValueError(
                    f"cells: got errors {np.asarray(of_seeds).tolist()} at n_base {n}, expected percent, 0 to 100, one "
                    "a seed. Leave out runs without a result."
                )

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """The mean error of each cell over its seeds, [C]."""
        return np.array([np.mean(e) for e in self.errors])

    @cached_property
    def count(self) -> NDArray[np.int64]:
        """The seeds of each cell, [C]."""
        return np.array([len(e) for e in self.errors])

    @cached_property
    def sizes(self) -> list[int]:
        """The n_base that there are, rising."""
        return np.unique(self.n_base).tolist()

    def __len__(self) -> int:
        """C."""
        return len(self.errors)

    def subset(self, kept: NDArray[np.bool_]) -> "Cells":
        """Returns the cells that are kept, booleans [C]."""
        return Cells(self.n_base[kept], self.n_synthetic[kept], [self.errors[i] for i in np.flatnonzero(kept).tolist()])


@dataclass(frozen=True, eq=False)
class Noise:
    """How far one run deviates from its cell's mean, estimated from all cells together.

    The spread of 3 to 5 seeds is hardly known, that of a few hundred is. The spread is taken to follow a power of the
    error, var = level · error^slope with the slope between 0 and 2 (weak classifiers differ more between seeds), near 1
    where few cells determine it.

    Args:
        level, slope: of that law. residuals: of all runs, in units of their cell's spread, corrected for the mean that
        was taken from the same seeds; empty where no cell has two seeds. dof: degrees of freedom of the level.
    """

    level: float
    slope: float
    residuals: NDArray[np.float64]
    dof: int

    def sd(self, error: ArrayLike) -> NDArray[np.float64]:
        """The standard deviation of a single run, in points, at these errors."""
        return np.maximum(np.sqrt(self.level * np.maximum(error, FINEST) ** self.slope), FINEST)

    def sd_of_means(self, cells: Cells) -> NDArray[np.float64]:
        """The standard deviation of each cell's mean over its seeds, [C]."""
        return self.sd(cells.mean) / np.sqrt(cells.count)

    def draws(self, cells: Cells, num: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Returns the cells' means [1 + num, C]: those measured, then those of `num` resamples of the seeds.

        Each resample gives every seed a residual of the pool. Resampling a cell's own 3 seeds would understate the
        spread by sqrt(2/3). The pool's scale is drawn too (chi-square of its degrees of freedom), which is what
        Student's t is to the normal: it matters for a handful of cells and is nothing for sixty.
        """
        if not len(self.residuals):
            return cells.mean[None]
        most = cells.count.max()
        picked = rng.choice(self.residuals, (num, len(cells), most))
        picked *= (np.arange(most) < cells.count[:, None]) / cells.count[:, None]
        scale = np.sqrt(self.dof / rng.chisquare(self.dof, (num, 1)))
        moved = cells.mean + scale * self.sd(cells.mean) * picked.sum(axis=2)
        return np.concatenate([cells.mean[None], np.clip(moved, 0.0, 100.0)])


def noise_of(every: Sequence[Cells]) -> Noise:
    """Estimates the seeds' spread from all cells with two seeds; 1 point at an error of 20 % where there are none."""
    errors = [np.asarray(e, np.float64) for cells in every for e in cells.errors if len(e) > 1]
    if not errors:
        return Noise(1.0 / 20**SLOPE, SLOPE, np.empty(0), 0)
    mean = np.maximum([e.mean() for e in errors], FINEST)
    var, dof = np.array([e.var(ddof=1) for e in errors]), np.array([len(e) - 1 for e in errors])
    slope, some = SLOPE, var > 0
    if some.sum() >= 3:
        x, y = np.log(mean[some]), np.log(var[some])
        weight = dof[some] / 2  # the variance of log s^2 is about 2 / dof
        x = x - np.average(x, weights=weight)
        known = float(np.sum(weight * x**2))
        slope = float(np.clip((np.sum(weight * x * y) + SLOPE / SLOPE_SD**2) / (known + 1 / SLOPE_SD**2), 0.0, 2.0))
    level = float(np.sum(dof * var / mean**slope) / dof.sum())
    if level == 0:
        return Noise(0.0, 0.0, np.zeros(1), int(dof.sum()))
    spread = np.sqrt(level * mean**slope)
    residuals = [(e - e.mean()) / s * np.sqrt(len(e) / (len(e) - 1)) for e, s in zip(errors, spread, strict=True)]
    return Noise(level, slope, np.concatenate(residuals), int(dof.sum()))


@dataclass(frozen=True, eq=False)
class Curve:
    """err(n) = alpha · n^(-beta) + gamma, measured between the smallest and the largest n of the real-only cells.

    Args:
        alpha, beta, gamma: [D] draws, row 0 the fit itself.
        cells: the real-only runs. means: the errors that each draw was fitted to, [D, C].
    """

    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    gamma: NDArray[np.float64]
    cells: Cells
    means: NDArray[np.float64]

    @property
    def n_min(self) -> int:
        """The smallest real set that was measured."""
        return self.cells.sizes[0]

    @property
    def n_max(self) -> int:
        """The largest real set that was measured."""
        return self.cells.sizes[-1]

    def error_at(self, n: ArrayLike) -> NDArray[np.float64]:
        """The error of n real images: n [..., X] or [D, ..., X] -> [D, ..., X]."""
        n = np.asarray(n, np.float64)
        alpha, beta, gamma = (np.expand_dims(p, tuple(range(1, max(n.ndim, 2)))) for p in self.parameters.values())
        return alpha * np.exp(-beta * np.log(n)) + gamma

    def alone(self, n_base: NDArray[np.int64]) -> NDArray[np.float64]:
        """The error of n_base [C] real images alone, [D, C]: as measured, or else as the curve has it."""
        errors = self.error_at(n_base)
        for size, of_size in zip(self.cells.n_base, self.means.T, strict=True):
            errors[:, n_base == size] = of_size[:, None]
        return errors

    def n_at(self, error: ArrayLike) -> NDArray[np.float64]:
        """The real images worth these errors [D, C] or [C]; n_min or n_max where the error is beyond the curve.

        An n at either end is a bound and not a figure: see `beyond`.
        """
        alpha, beta, gamma = (p[:, None] for p in self.parameters.values())
        above = np.maximum(np.asarray(error, np.float64) - gamma, 1e-300)
        with np.errstate(over="ignore", divide="ignore"):
            return np.clip((alpha / above) ** (1 / beta), self.n_min, self.n_max)

    def beyond(self, error: ArrayLike) -> NDArray[np.int64]:
        """+1 where an error is lower than the curve was measured (at least n_max), -1 where higher, 0 inside."""
        low, high = self.error_at([self.n_max]), self.error_at([self.n_min])
        return (np.asarray(error) < low).astype(int) - (np.asarray(error) > high).astype(int)

    @property
    def misfit(self) -> float:
        """How far the fitted curve misses the worst of its own means, in points."""
        return float(np.abs(self.error_at(self.cells.n_base)[0] - self.means[0]).max())

    def lack_of_fit(self, noise: Noise) -> float | None:
        """The chance of deviations from the power law as large as these if seeds were all there is.

        An F test of the means' deviations with the noise's degrees of freedom. None without seeds or spare sizes.
        """
        spare = len(self.cells.sizes) - (3 if self.gamma[0] > 0 else 2)
        if spare < 1 or not noise.dof:
            return None
        missed = (self.error_at(self.cells.n_base)[0] - self.means[0]) / noise.sd_of_means(self.cells)
        return float(scipy.stats.f.sf(np.sum(missed**2) / spare, spare, noise.dof))

    @property
    def parameters(self) -> dict[str, NDArray[np.float64]]:
        """alpha, beta and gamma, [D] each."""
        return {"alpha": self.alpha, "beta": self.beta, "gamma": self.gamma}


def fit_curve(cells: Cells, noise: Noise, num_resamples: int = 1000, seed: int = 0) -> Curve:
    """Fits alpha, gamma >= 0 and beta by weighted least squares, and again to every resample of the seeds.

    For a given beta the law is linear in (alpha, gamma), which have a closed form; beta is searched on a grid and
    refined by a parabola. Two sizes cannot determine an asymptote: gamma is then 0, the pure power law.

    Raises: ValueError: fewer than two sizes, or errors that do not surely fall with n or surely rise somewhere, on
        which no error can be turned into a number of images.
    Source: the power law with offset of Cortes et al. 1993, Learning Curves: Asymptotic Values and Rate of
        Convergence, and Hestness et al. 2017 (1712.00409), Eq. 1.
    """
    if len(cells.sizes) < 2:
        raise ValueError(
            f"learning curve: got real-only runs at n_base {cells.sizes}, expected at least two sizes, better four. "
            "Train on real images alone at more sizes. Accuracies can still be compared at this size."
        )
    sizes = cells.n_base
    means = noise.draws(cells, num_resamples, np.random.default_rng([seed, 0]))
    weight = cells.count / noise.sd(cells.mean) ** 2
    scaled = np.log(sizes / np.exp(np.log(sizes).mean()))
    offset = len(cells.sizes) > 2
    _, _, misses = _line(np.exp(-BETAS[:, None, None] * scaled), means, weight, offset)  # [G, D]
    best = np.argmin(misses, axis=0)
    inner = np.clip(best, 1, len(BETAS) - 2)
    left, at, right = (misses[inner + i, np.arange(len(means))] for i in (-1, 0, 1))
    bend = left - 2 * at + right
    shift = np.where((best == inner) & (bend > 0), (left - right) / np.where(bend > 0, 2 * bend, 1.0), best - inner)
    beta = np.exp(np.log(BETAS[inner]) + shift * np.log(BETAS[1] / BETAS[0]))
    alpha, gamma, _ = _line(np.exp(-beta[:, None] * scaled), means, weight, offset)
    curve = Curve(alpha * np.exp(beta * np.log(sizes).mean()), beta, gamma, cells, means)
    drop = alpha * (np.exp(-beta * scaled.min()) - np.exp(-beta * scaled.max()))
    # One run a size has no spread: then every fall counts.
    if np.quantile(drop, (1 - LEVEL) / 2) <= FINEST or means[0, sizes.argmax()] >= means[0, sizes.argmin()]:
        got = f"got errors {np.round(cells.mean, 2).tolist()} % at n_base {sizes.tolist()}"
        raise _no_curve(f"{got}, which do not surely fall with n", "Add real sizes further apart, or seeds")
    _check_rises(cells, noise)
    return curve


def _check_rises(cells: Cells, noise: Noise) -> None:
    """Refuses a curve that rises from one size to the next by more than the seeds explain."""
    if not noise.dof:
        return
    order = np.argsort(cells.n_base)
    mean, of_mean = cells.mean[order], noise.sd_of_means(cells)[order]
    apart = np.diff(mean) / np.hypot(of_mean[1:], of_mean[:-1])
    worst = int(apart.argmax())
    if scipy.stats.t.sf(apart[worst], noise.dof) * len(apart) < RISING:
        low, high = cells.n_base[order][worst : worst + 2]
        raise _no_curve(
            f"the error rises from {mean[worst]:.2f} % at n_base {low} to {mean[worst + 1]:.2f} % at {high}, by more "
            "than seeds explain",
            "Look at these runs (one may have gone wrong), or leave one size out by --real",
        )


def _no_curve(got: str, remedy: str) -> ValueError:
    return ValueError(
        f"learning curve: {got}, expected a curve that falls, on which an error is worth one number of images. "
        f"{remedy}. Accuracies can still be compared with each other."
    )


def _line(x: NDArray, y: NDArray, weight: NDArray, offset: bool) -> tuple[NDArray, NDArray, NDArray]:
    """Weighted least squares y = alpha x + gamma over the last axis with both >= 0: (alpha, gamma, sum of squares)."""

    def total(z):
        return (weight * z).sum(axis=-1)

    x, y = np.broadcast_arrays(x, y)
    mean_x, mean_y = total(x) / weight.sum(), total(y) / weight.sum()
    alpha = total((x - mean_x[..., None]) * y) / np.maximum(total((x - mean_x[..., None]) ** 2), 1e-300)
    gamma = mean_y - alpha * mean_x
    through = (gamma < 0) | (not offset)
    alpha, gamma = np.where(through, total(x * y) / total(x * x), alpha), np.where(through, 0.0, gamma)
    alpha, gamma = np.maximum(alpha, 0.0), np.where(alpha < 0, mean_y, gamma)
    return alpha, gamma, total((y - alpha[..., None] * x - gamma[..., None]) ** 2)


def interval(draws: NDArray, level: float = LEVEL) -> Interval | None:
    """The percentile interval of one quantity over its draws [D]; None where there were no resamples."""
    if len(draws) < 2:
        return None
    low, high = np.quantile(draws[1:], [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)
