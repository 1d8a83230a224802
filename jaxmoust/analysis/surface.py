"""What the number of synthetic images and their weight do together: a quadratic surface over a grid of both.

Gains over real images alone, in points, are fitted by least squares in u = log10 of the synthetic images for each real
one and v = log10 of what a synthetic image's loss is multiplied with, both counted from the middle of the grid:

    gain = a + b u + c v + d u v + e u^2 + f v^2

Every number that is read off is linear in the runs' answers, so its error is that of a difference between two arms:
over seeds, and over test images (see `decisions`), with Satterthwaite's degrees of freedom.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from jaxmoust.analysis.decisions import by_images

LEVEL = 0.05
NUM_DRAWS = 1000  # of seeds and of images, for where the surface is highest
NUM_PLACES = 25  # along each axis, at which it is looked at


@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Surface:
    """The fitted surface.

    Args:
        cells: (ratio, weight) of each. gains, fitted: of each cell, in points.
        number, weight: points for ten times as many images, and for ten times the weight, at the middle of the grid.
        difference: the first less the second.
        ratio_best, weight_best: where it is highest within the grid, and where it is in 95 % of further draws.
        highest: the gain there; it was chosen for being the highest, so it is a little too high.
    """

    cells: Sequence[tuple[float, float]]
    gains: NDArray
    fitted: NDArray
    number: Estimate
    weight: Estimate
    difference: Estimate
    ratio_best: Estimate
    weight_best: Estimate
    highest: Estimate


def terms(u: NDArray, v: NDArray, square_u: bool, square_v: bool) -> NDArray:
    """The polynomial's terms [..., K] at some places; squares of what has two levels alone are left out."""
    columns = [np.ones_like(u), u, v, u * v, *([u**2] if square_u else []), *([v**2] if square_v else [])]
    return np.stack(columns, axis=-1)


def fit(cells: Sequence[tuple[float, float]], differences: NDArray) -> Surface:
    """Fits the surface.

    Args:
        cells: (ratio, weight) of each arm, both above 0.
        differences: [C, S, N] in points: what an arm got right less what real images alone did, by seed and test image.
    Raises: ValueError: one seed, or fewer cells, or worse placed ones, than the surface has terms.
    """
    places = np.log10(np.asarray(cells, float))
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    squares = tuple(len(np.unique(of.round(9))) > 2 for of in places.T)
    design = terms(*(places - middle).T, *squares)
    if np.linalg.matrix_rank(design) < design.shape[1] or differences.shape[1] < 2:
        raise ValueError(
            f"{len(cells)} cells of {differences.shape[1]} seeds: expected two seeds and more, and cells at several "
            "numbers for several weights each."
        )
    num_seeds, num_images = differences.shape[1:]
    solve = np.linalg.pinv(design)  # [K, C]
    by_term = np.einsum("kc,csn->ksn", solve, differences)
    mean = by_term.mean(axis=(1, 2))

    def estimate(contrast: NDArray) -> Estimate:
        of_runs = np.einsum("k,ksn->sn", contrast, by_term)
        parts = np.array([of_runs.mean(axis=1).var(ddof=1) / num_seeds, np.nan_to_num(by_images(of_runs))])
        known = (parts**2 / (np.array([num_seeds, num_images]) - 1)).sum()  # Satterthwaite
        half = scipy.stats.t.isf(LEVEL / 2, parts.sum() ** 2 / known) * np.sqrt(parts.sum()) if known else 0.0
        value = float(contrast @ mean)
        return Estimate(value, value - float(half), value + float(half))

    axes = [
        np.linspace(low, high, NUM_PLACES) for low, high in zip(places.min(axis=0), places.max(axis=0), strict=True)
    ]
    u, v = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    looked_at = terms(u - middle[0], v - middle[1], *squares)
    best = int(np.argmax(looked_at @ mean))
    rng = np.random.default_rng(0)
    of_seeds = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), NUM_DRAWS) / num_seeds
    of_images = rng.multinomial(num_images, np.full(num_images, 1 / num_images), NUM_DRAWS) / num_images
    drawn = np.einsum("bs,ksb->bk", of_seeds, by_term @ of_images.T)
    bests = np.argmax(looked_at @ drawn.T, axis=0)

    def place(of: NDArray) -> Estimate:
        low, high = np.quantile(10.0 ** of[bests], (LEVEL / 2, 1 - LEVEL / 2))
        return Estimate(float(10 ** of[best]), float(low), float(high))

    slope_u, slope_v = np.eye(design.shape[1])[1:3]
    return Surface(
        cells,
        differences.mean(axis=(1, 2)),
        design @ mean,
        estimate(slope_u),
        estimate(slope_v),
        estimate(slope_u - slope_v),
        place(u),
        place(v),
        estimate(looked_at[best]),
    )
