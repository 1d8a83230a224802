"""The gap between real and synthetic images, measured by a classifier that distinguishes them.

Starts from logits: the logit of "real" less that of "synthetic", of images that the classifier has not trained on;
and from features of images. Says how well the two can be distinguished (AUC with its interval; accuracy has its own in
accuracy.py), what a logit is worth as a density ratio, and how the features lie in a plane. This file knows no model,
no file and no device.
"""

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from jaxmoust.analysis.accuracy import Interval

# Of the logarithm of a density ratio: exp of more does not fit into float32, and a sampler wants weights above 0.
MAX_LOG_RATIO = 80.0


@dataclass(frozen=True)
class Calibration:
    """p(real | x) = sigmoid(slope * logit + intercept), among images with so many real for a synthetic one."""

    slope: float
    intercept: float
    num_real: int
    num_synthetic: int


@dataclass(frozen=True)
class Plane:
    """Where features lie in their first two principal components.

    Attributes:
        points: float64 [N, 2], centred.
        shares: of the features' variance that the two components carry, [2].
    """

    points: NDArray[np.float64]
    shares: NDArray[np.float64]


def auc(logits: ArrayLike, is_real: ArrayLike, folds: ArrayLike | None = None) -> tuple[float, Interval]:
    """Returns the chance that a real image's logit is above a synthetic one's (a tie is half), and its 95 % interval.

    Images are compared within a fold only, for two classifiers share no scale; the folds' values are averaged, each
    weighted by its images. 0.5 is no gap, 1 is two sets that can be distinguished without an error.

    The interval solves (value - t)^2 = z^2 V(t), where V(t) is Hanley and McNeil's variance at the candidate t itself,
    as Wilson's does for a share. So it does not shrink to nothing where the kinds part completely, which is where
    domain classifiers often end. Simulated (normal logits, one and two folds of 20 to 500 images of a kind, 600
    trials each) it covers 94-97 % at values of 0.5 and 0.9 and 97-100 % at 0.97 and 0.995, where DeLong's covers
    52-95 % (on the logit scale 50-96 %). It holds for other images of the same two sets, evaluated by these
    classifiers.

    Args:
        logits: [N], finite. is_real: booleans [N]. folds: integers [N], which classifier a logit is from; None: one.
    Raises: ValueError: lengths that differ, logits that are not finite, or a fold without an image of either kind.
    Source: Mann and Whitney 1947; Hanley and McNeil 1982, Radiology 143, with the sizes and the interval of Newcombe
        2006, Statistics in Medicine 25, 559-573, method 5.
    """
    logits, is_real = _pairs(logits, is_real)
    folds = np.zeros(len(logits), np.int64) if folds is None else np.asarray(folds)
    if folds.shape != logits.shape:
        raise ValueError(f"folds: got shape {folds.shape} beside logits {logits.shape}. Give one fold for each logit.")
    values, sizes = [], []
    for fold in np.unique(folds):
        mine = folds == fold
        size = _count_kinds(is_real[mine], f"auc of fold {fold}")
        ranks = scipy.stats.rankdata(logits[mine])[is_real[mine]]
        values.append((ranks.mean() - (size[0] + 1) / 2) / size[1])
        sizes.append(size)
    weights = np.sum(sizes, axis=1) / len(logits)
    value = float(np.dot(weights, values))
    z2 = scipy.stats.norm.ppf(0.975) ** 2

    def excess(t: float) -> float:
        variance = sum(w**2 * _mann_whitney_variance(t, *size) for w, size in zip(weights, sizes, strict=True))
        return (value - t) ** 2 - z2 * variance

    # The variance is 0 at 0 and 1, so that a value there is itself a root: the other one is looked for.
    inside = 1e-9
    low = scipy.optimize.brentq(excess, 0.0, min(value, 1 - inside)) if value > inside else 0.0
    high = scipy.optimize.brentq(excess, max(value, inside), 1.0) if value < 1 - inside else 1.0
    return value, (float(low), float(high))


def _mann_whitney_variance(t: float, num_real: int, num_synthetic: int) -> float:
    n = (num_real + num_synthetic) / 2 - 1
    return t * (1 - t) * (1 + n * (1 - t) / (2 - t) + n * t / (1 + t)) / (num_real * num_synthetic)


def calibrate(logits: ArrayLike, is_real: ArrayLike) -> Calibration:
    """Finds by maximum likelihood what logits are worth as probabilities, from images that were not trained on.

    The targets are Platt's, (n + 1) / (n + 2) for n real images and 1 / (n + 2) for n synthetic ones, instead of 1 and
    0: a sample of n that was parted without an error is no proof of certainty, and the slope stays finite. The slope
    is at least 0: a classifier that orders held-out images the wrong way round is taken to know nothing.

    Args:
        logits: [N], finite. is_real: booleans [N].
    Raises: ValueError: lengths that differ, logits that are not finite, or no image of one kind.
    Source: Platt 1999, Probabilistic outputs for support vector machines, sections 2.1 and 2.2.
    """
    logits, is_real = _pairs(logits, is_real)
    num_real, num_synthetic = _count_kinds(is_real, "calibrate")
    target = np.where(is_real, (num_real + 1) / (num_real + 2), 1 / (num_synthetic + 2))
    scale = float(np.abs(logits).max()) or 1.0
    scaled = logits / scale

    def loss(parameters: NDArray) -> tuple[float, NDArray]:
        z = parameters[0] * scaled + parameters[1]
        error = scipy.special.expit(z) - target
        return float((np.logaddexp(0, z) - target * z).sum()), np.array([error @ scaled, error.sum()])

    start = np.array([0.0, np.log(num_real / num_synthetic)])
    bounds = [(0.0, None), (None, None)]
    options = {"ftol": 1e-14, "gtol": 1e-8, "maxiter": 1000}
    best = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return Calibration(float(best[0]) / scale, float(best[1]), num_real, num_synthetic)


def log_density_ratio(logits: ArrayLike, calibration: Calibration) -> NDArray[np.float64]:
    """Returns ln p(x | real) / p(x | synthetic): [N], within +- MAX_LOG_RATIO.

    By Bayes' rule it is the calibrated log odds of "real" plus ln(n_synthetic / n_real), which takes out how many of
    each the odds were found among. Where the calibration holds, the ratio's mean over synthetic images is 1.

    Args:
        logits: [N], of images on which neither the classifier nor, but for two numbers, the calibration was trained.
    Source: Bickel, Brueckner and Scheffer 2007, Discriminative learning for differing training and test
        distributions; Sugiyama, Suzuki and Kanamori 2012, Density ratio estimation, chapter 4.
    """
    odds = calibration.slope * np.asarray(logits, np.float64) + calibration.intercept
    prior = np.log(calibration.num_synthetic / calibration.num_real)
    return np.clip(odds + prior, -MAX_LOG_RATIO, MAX_LOG_RATIO)


def cross_calibrated(
    logits: ArrayLike, is_real: ArrayLike, halves: ArrayLike
) -> tuple[NDArray[np.float64], list[Calibration]]:
    """Returns the cross-fitted log density ratio of each image, and the calibrations.

    A classifier that has memorised a few real images calls other real ones synthetic, and yet gives them higher
    logits than it gives synthetic ones: the logit of even odds has to be estimated on other images, and then applied
    to these.

    Args:
        logits: [N], finite, of one classifier. is_real: booleans [N]. halves: integers [N], 0 or 1; an image is
            calibrated by the images of the other half.
    Returns: ([N], as `log_density_ratio`; the calibrations by the images of half 0 and of half 1).
    Raises: ValueError: as `calibrate`, for either half.
    """
    logits, is_real = _pairs(logits, is_real)
    halves = np.asarray(halves)
    if halves.shape != logits.shape or not np.isin(halves, (0, 1)).all():
        raise ValueError(f"halves: got shape {halves.shape} beside logits {logits.shape}. Give a 0 or a 1 for each.")
    first, second = (calibrate(logits[halves == h], is_real[halves == h]) for h in (0, 1))
    ratio = np.where(halves == 0, log_density_ratio(logits, second), log_density_ratio(logits, first))
    return ratio, [first, second]


def effective_size(weights: ArrayLike) -> float:
    """Returns how many equally weighted images carry as much as these weights: (sum w)^2 / sum w^2, from 1 to N.

    Source: Kish 1965, Survey sampling.
    """
    relative = np.asarray(weights, np.float64)
    relative = relative / relative.max()  # squares of large ratios would overflow
    return float(relative.sum() ** 2 / np.square(relative).sum())


def principal_plane(features: ArrayLike) -> Plane:
    """Projects features onto their first two principal components, always with the same signs.

    The sign of a component is free; it is chosen so that its largest loading is positive. Features that vary in fewer
    than two directions have zeros in the others.

    Args:
        features: [N, F], N >= 2, finite; of as many real as synthetic images, else the more frequent kind rules.
    Raises: ValueError: another shape, or features that are not finite.
    """
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or len(features) < 2 or not features.shape[1] or not np.isfinite(features).all():
        raise ValueError(f"features: got shape {features.shape}, expected [N >= 2, F >= 1], all of them finite.")
    from sklearn.decomposition import PCA  # a slow import

    num = min(2, *features.shape)
    pca, points, shares = PCA(num, svd_solver="full"), np.zeros((len(features), 2)), np.zeros(2)
    with np.errstate(invalid="ignore"):  # features that do not vary have no shares
        points[:, :num] = pca.fit_transform(features)
    shares[:num] = np.nan_to_num(pca.explained_variance_ratio_)
    return Plane(points, shares)


def overlap(points: ArrayLike, is_real: ArrayLike, num_neighbours: int = 10) -> float:
    """Returns how mixed two kinds of points are: 0, apart; about 1, no more apart than chance.

    Of each point's nearest neighbours the share of the other kind, over the share that chance would give, averaged
    over both kinds alike.

    Args:
        points: [N, D], finite. is_real: booleans [N]. num_neighbours: at most N - 1 are used.
    Raises: ValueError: lengths that differ, points that are not finite, or no point of one kind.
    Source: the nearest-neighbour test of two samples, Schilling 1986, JASA 81; Henze 1988, Annals of Statistics 16.
    """
    points, is_real = np.asarray(points, np.float64), np.asarray(is_real, bool)
    if points.ndim != 2 or is_real.shape != points.shape[:1] or not np.isfinite(points).all():
        raise ValueError(f"points: got shape {points.shape} beside kinds {is_real.shape}, expected [N, D] finite, [N].")
    from sklearn.neighbors import NearestNeighbors  # a slow import

    num_real, num_synthetic = _count_kinds(is_real, "overlap")
    others = NearestNeighbors(n_neighbors=min(num_neighbours, len(points) - 1)).fit(points).kneighbors()[1]
    other_kind = (is_real[others] != is_real[:, None]).mean(axis=1)
    mixed = other_kind / (np.where(is_real, num_synthetic, num_real) / (len(points) - 1))
    return float((mixed[is_real].mean() + mixed[~is_real].mean()) / 2)


def _pairs(logits: ArrayLike, is_real: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    logits, is_real = np.asarray(logits, np.float64), np.asarray(is_real)
    if logits.ndim != 1 or is_real.shape != logits.shape or is_real.dtype != bool or not np.isfinite(logits).all():
        raise ValueError(
            f"logits: got shape {logits.shape} beside is_real {is_real.dtype} {is_real.shape}, expected finite [N] and "
            "booleans [N]."
        )
    return logits, is_real


def _count_kinds(is_real: NDArray[np.bool_], what: str) -> tuple[int, int]:
    """How many images are real, and how many are synthetic."""
    num_real = int(is_real.sum())
    if num_real in (0, len(is_real)):
        raise ValueError(
            f"{what}: got {num_real} real and {len(is_real) - num_real} synthetic images, expected at least 1 of each."
        )
    return num_real, len(is_real) - num_real
