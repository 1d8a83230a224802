"""Two laws of what synthetic images are worth in real ones, and their fit to mixed runs.

Both say how many real images n_eq a mixture of n_base real and n_syn synthetic images equals, and both are linear in
one of their two parameters:

    study      n_eq = n_base + theta · n_base · ln(1 + (n_syn / n_base) · exp(-phi · n_base))     a = phi, b = 1 / theta
    effective  n_eq = n_base + theta · n_syn^phi                                    kappa = theta, eta = phi

The first is n_syn / n_base = c1^(n_base/k) · (c2^(n_real_plus/n_base) - 1) of arXiv 2508.09550, solved for n_real_plus,
with a = ln(c1) / k >= 0 and b = ln(c2) > 0 (only c1^(1/k) can be identified). theta = 0 says that synthetic images are
worth nothing, which is b = infinity; that is why theta is fitted and not b.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from jaxmoust.analysis.equivalence.learning_curve import Cells, Curve
from jaxmoust.analysis.equivalence.solver import least_squares

# exp(-phi · n_base) at the largest n_base: down to e^-8 = 0.0003, where a synthetic image is worth nothing at all.
STEEPEST = 8.0
ETAS = (0.05, 2.5)
GAINS = (1e-4, 1e3)  # of the middle cell, in units of its n_base; at the lower end the gain counts as none
COARSE = (17, 22)


@dataclass(frozen=True)
class Law:
    """One law: what people call it, and its gain per theta as a function of phi and the cell.

    Args:
        name: "study" or "effective". reads: the formula, for people.
        shape: (phi, n_base, n_syn) -> gain in real images for theta = 1, by broadcasting.
        solve: (phi, theta, n_base, n_real_plus) -> n_syn, by broadcasting; infinite for theta = 0.
        phi_of: the coordinate that is searched, (w, n_base of the cells) -> phi. searched: its range.
    """

    name: str
    reads: str
    shape: Callable[..., NDArray[np.float64]]
    solve: Callable[..., NDArray[np.float64]]
    phi_of: Callable[..., NDArray[np.float64]]
    searched: tuple[float, float]


STUDY = Law(
    "study",
    "n_syn / n_base = exp(a n_base) (exp(b n_real_plus / n_base) - 1)",
    lambda phi, n_base, n_syn: n_base * np.log1p(n_syn / n_base * np.exp(-phi * n_base)),
    lambda phi, theta, n_base, n_real_plus: n_base * np.exp(phi * n_base) * np.expm1(n_real_plus / n_base / theta),
    lambda w, n_base: w**2 / n_base.max(),  # squared: near none as fine as it matters, and none itself is reached
    (0.0, STEEPEST**0.5),
)
EFFECTIVE = Law(
    "effective",
    "n_eff = n_base + kappa n_syn^eta",
    lambda phi, n_base, n_syn: np.exp(phi * np.log(n_syn)) + 0.0 * n_base,
    lambda phi, theta, n_base, n_real_plus: (n_real_plus / theta) ** (1 / phi) + 0.0 * n_base,
    lambda w, n_base: w,
    ETAS,
)
LAWS = {law.name: law for law in (STUDY, EFFECTIVE)}


@dataclass(frozen=True, eq=False)
class LawFit:
    """A law's parameters, phi and theta [D] (row 0 the fit itself), and its deviance [D] at them."""

    law: Law
    phi: NDArray[np.float64]
    theta: NDArray[np.float64]
    deviance: NDArray[np.float64]

    def n_real_plus(self, n_base: float, n_syn: float) -> NDArray[np.float64]:
        """The extra real images that n_syn synthetic ones are worth, [D]."""
        return self.theta * self.law.shape(self.phi, float(n_base), float(n_syn))

    def n_syn(self, n_base: float, n_real_plus: float) -> NDArray[np.float64]:
        """The synthetic images that n_real_plus more real ones are worth, [D]; infinite where they are worth none."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            return self.law.solve(self.phi, self.theta, float(n_base), float(n_real_plus))


def fit_law(
    law: Law,
    cells: Cells,
    means: NDArray[np.float64],
    error_sd: NDArray[np.float64],
    curve: Curve,
    kept: NDArray[np.bool_] | None = None,
) -> LawFit:
    """Fits a law to the errors of the mixed cells, once for every draw.

    The noise lies in the error, so that is where it is weighed: a cell pays ((error - curve(n_eq)) / sd)^2. Least
    squares on log(n_syn / n_base), each cell weighted by what its noise amounts to on that scale, is the same to first
    order; unweighted it has no place for a cell whose gain came out as nothing or negative (its logarithm does not
    exist, and dropping such cells keeps the lucky ones), and it lets the noisiest, the small gains, decide. Here
    they are ordinary cells. A cell whose error lies beyond the measured curve pays what its being beyond says and
    no more, -2 ln P(beyond), as in Tobit's regression; the law's own n_eq may lie beyond the curve too, and the
    curve's extrapolation enters the fit in that probability alone.

    Minimised in (phi, log of the middle cell's gain), which are nearly independent; see `solver.least_squares`.

    Args:
        means: errors [D, C]. error_sd: standard deviation of each mean, [C]. curve: of D draws, or of one for all.
        kept: [D, C] cells that count (for leaving one out); all by default.
    Source: Tobin 1958, Econometrica 26, for cells known by a bound only.
    """
    num_cells, n_base, n_syn = len(cells), cells.n_base.astype(float), cells.n_synthetic.astype(float)
    low, high = curve.error_at([curve.n_max]), curve.error_at([curve.n_min])
    side = curve.beyond(means)
    bound = np.where(side > 0, low, high)
    # Of the cells that are points the middle one: its gain is what the data know best.
    inside = np.flatnonzero(side[0] == 0) if (side[0] == 0).any() else np.arange(num_cells)
    middle = inside[np.argsort(n_syn[inside] / n_base[inside] * n_base.max() + n_base[inside])[len(inside) // 2]]
    some = np.ones_like(means) if kept is None else kept.astype(float)
    lowest, highest = np.log(GAINS)

    def theta_of(phi, u):
        gain = np.where(u <= lowest + 1e-6, 0.0, np.exp(u)) * n_base[middle]
        return gain / np.maximum(law.shape(phi, n_base[middle], n_syn[middle]), 1e-300)

    def residuals(w, u):
        phi = law.phi_of(w, n_base)
        n_eq = n_base + theta_of(phi, u)[..., None] * law.shape(phi[..., None], n_base, n_syn)
        error = curve.error_at(n_eq)
        left = (means[:, None] - error) / error_sd
        beyond = np.nonzero(np.broadcast_to(side[:, None] != 0, left.shape))
        sign, limit, sd = side[beyond[0], beyond[2]], bound[beyond[0], beyond[2]], error_sd[beyond[2]]
        left[beyond] = np.sqrt(-2 * log_ndtr(sign * (limit - error[beyond]) / sd))
        return left * some[:, None]

    # One cell cannot determine two parameters: the study's a is then 0, and eta is 1.
    alone = np.array([0.0 if law is STUDY else 1.0])
    w_grid = np.linspace(law.searched[0], law.searched[1], COARSE[0]) if num_cells > 1 else alone
    deviance, w, u = least_squares(residuals, w_grid, np.linspace(lowest, highest, COARSE[1]), len(means)).T
    # Steps end a little above 0; nothing of that size was distinguished from it.
    phi = law.phi_of(np.where(w < 1e-3, 0.0, w), n_base)
    return LawFit(law, phi, theta_of(phi, u), deviance)


def left_out_error(law: Law, cells: Cells, means: NDArray, error_sd: NDArray, curve: Curve) -> float | None:
    """Returns the leave-one-out error of the law in points: of predicting each cell without having been fitted to it.

    Root mean square over cells of (its mean error - curve(n_eq of the fit to all other cells)), both cut to the
    measured range of the curve, beyond which nothing is known. None for fewer than three cells.

    Args:
        means: [C], measured. curve: one draw (its row 0 is used).
    """
    if len(cells) < 3:
        return None
    first = Curve(curve.alpha[:1], curve.beta[:1], curve.gamma[:1], curve.cells, curve.means[:1])
    kept = ~np.eye(len(cells), dtype=bool)
    fit = fit_law(law, cells, np.broadcast_to(means, kept.shape), error_sd, first, kept)
    gain = fit.theta * law.shape(fit.phi, cells.n_base.astype(float), cells.n_synthetic.astype(float))
    low, high = first.error_at([first.n_max])[0, 0], first.error_at([first.n_min])[0, 0]
    predicted = np.clip(first.error_at(cells.n_base + gain)[0], low, high)
    return float(np.sqrt(np.mean(np.square(np.clip(means, low, high) - predicted))))
