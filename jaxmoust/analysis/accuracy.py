"""Accuracy with its uncertainty: Top-k, intervals over seeds, paired tests between arms.

Everything starts from *ranks*: the rank of a test image is the number of classes scored above its true one,
so that an image is right at Top-k when its rank is below k, and one integer array serves every k. Units are
percent and percentage points throughout. Numpy and scipy only: this file knows no model, no file and no device.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]
Estimate = tuple[float, Interval | None, float | None]  # mean, interval, p


@dataclass(frozen=True)
class Summary:
    """A mean over n seeds; sd and interval are None for one seed, which says nothing about the next."""

    mean: float
    sd: float | None
    n: int
    interval: Interval | None


@dataclass(frozen=True)
class Difference:
    """Arm a minus arm b in percentage points; interval and p (two-sided) are None for one seed."""

    mean: float
    interval: Interval | None
    p: float | None
    num_seeds: int
    num_images: int | None
    method: str


@dataclass(frozen=True)
class McNemar:
    """Test images that only a, or only b, got right, and the exact two-sided p of that split."""

    only_a: int
    only_b: int
    p: float


def top_k(ranks: ArrayLike, k: int = 1) -> float:
    """Returns the percentage of images whose true class is among the k scored highest.

    Args:
        ranks: integers [N] >= 0, the number of classes scored above the true one.
        k: at least 1.
    Raises: ValueError: ranks that are empty, not [N], not integers or negative; k < 1.
    """
    return 100.0 * float(_hits(ranks, k, 1).mean())


def per_class(ranks: ArrayLike, labels: ArrayLike, num_classes: int, k: int = 1) -> NDArray[np.float64]:
    """Returns Top-k of each class alone, percent [K]; NaN for a class without a test image.

    Args:
        ranks: integers [N] >= 0.
        labels: integers [N] in [0, K).
        num_classes: K.
        k: at least 1.
    Raises: ValueError: lengths that differ, labels outside the classes, or ranks as in `top_k`.
    """
    hits, labels = _hits(ranks, k, 1), np.asarray(labels)
    if labels.shape != hits.shape:
        raise ValueError(f"labels: got shape {labels.shape} beside ranks {hits.shape}. Give one label per rank.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"labels: got {labels.min()}..{labels.max()}, expected 0..{num_classes - 1}. "
            "Pass num_classes of the test set the ranks were taken on."
        )
    count = np.bincount(labels, minlength=num_classes)
    right = np.bincount(labels, weights=hits, minlength=num_classes)
    return np.divide(100.0 * right, count, out=np.full(num_classes, np.nan), where=count > 0)


def worst_class(accuracy: ArrayLike) -> int | None:
    """Returns the class of lowest accuracy [K] (the first of equals), skipping NaN; None if all are NaN."""
    accuracy = np.asarray(accuracy, np.float64)
    return None if np.isnan(accuracy).all() else int(np.nanargmin(accuracy))


def wilson(num_correct: int, num_images: int, level: float = 0.95) -> Interval:
    """Returns the score interval, in percent, of one run's accuracy as a sample of test images.

    It keeps its coverage near 0 and 100 %, where the textbook interval shrinks to nothing. It covers the sampling of
    test images only: another seed of the same arm may well fall outside it.

    Raises: ValueError: not 0 <= num_correct <= num_images with num_images >= 1; level outside (0, 1).
    Source: Wilson 1927, JASA 22; recommended by Brown, Cai and DasGupta 2001, Statistical Science 16.
    """
    if not 0 <= num_correct <= num_images or num_images < 1:
        raise ValueError(
            f"wilson: got {num_correct} right of {num_images}, expected 0 <= right <= images, images >= 1."
        )
    share = scipy.stats.binomtest(num_correct, num_images).proportion_ci(_level(level), method="wilson")
    return 100.0 * float(share.low), 100.0 * float(share.high)


def summary(
    values: ArrayLike,
    method: Literal["t", "bootstrap"] = "t",
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Summary:
    """Returns mean, standard deviation and interval of one figure per seed.

    Student's t is the default because studies have 3 to 10 seeds: it pays for not knowing the spread (the
    factor is 4.3 at n = 3, 2.3 at n = 10), whereas n values resampled understate it by sqrt((n - 1) / n) and
    have only n^n arrangements; a percentile bootstrap of 3 seeds covers 75 % or so when it says 95 %. The
    bootstrap is for many seeds with skewed values. Both hold the test set fixed.

    Args:
        values: [n], finite, one per seed.
        method: "t" or "bootstrap" (percentile).
        level: coverage, inside (0, 1).
        num_resamples, seed: of the bootstrap only.
    Raises: ValueError: no values, values that are not finite, unknown method, level outside (0, 1).
    """
    values = _per_seed(values, "values")
    _check_method(method, "t", "bootstrap")
    mean, n, tail = float(values.mean()), len(values), (1 - _level(level)) / 2
    if n == 1:
        return Summary(mean, None, 1, None)
    sd = float(values.std(ddof=1))
    if method == "t":
        return Summary(mean, sd, n, _from_error(mean, sd / np.sqrt(n), n - 1, level)[1])
    resampled = np.random.default_rng(seed).choice(values, (num_resamples, n)).mean(axis=1)
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Summary(mean, sd, n, (float(low), float(high)))


def paired_difference(
    ranks_a: ArrayLike,
    ranks_b: ArrayLike,
    k: int = 1,
    method: Literal["crossed", "seeds", "bootstrap"] = "crossed",
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Returns the Top-k difference a - b between runs paired by seed and by test image.

    Seeds and test images are both samples, crossed: each seed meets each image. With d[s, i] in {-1, 0, 1}, "crossed"
    estimates the variance of the mean by two-way analysis of variance, adding to the spread between seeds whatever
    the images vary beyond noise, and takes Student's t with S - 1 degrees of freedom, as many as the seeds have. It is
    the analysis of readers x cases in radiology, where few readers and many cases are the rule. Degrees of freedom that
    grow where images dominate (Hillis) rely on a spread that is small by chance: of p below 0.005 there were then up to
    2.9 times as many as there should be with 3 seeds, and 11 equal arms of 5 seeds gave 7.7 % of studies a false claim.
    "seeds" is Student's t over the S per-seed differences: right for this test set, too narrow for other images.
    "bootstrap" resamples seeds and images (percentile, p by inverting it): free of a model, but with few seeds it
    cannot estimate their spread. Accuracies come in steps of one image: seeds that tie are taken to spread as widely as
    that rounding does, so that no p is 0.

    Of one pair of arms it says what there is to say; in a study, arms lend each other their spread (`decisions`).

    Args:
        ranks_a, ranks_b: integers [S, N] >= 0; row s of both is the same seed, column i the same image.
        k: at least 1.
        method: "crossed", "seeds" or "bootstrap".
        level: coverage, inside (0, 1).
        num_resamples, seed: of the bootstrap only.
    Raises: ValueError: shapes that differ, ranks that are not integers >= 0, unknown method.
    Source: Dorfman, Berbaum and Metz 1992, Investigative Radiology 27 (for accuracy the pseudovalues are the
        hits themselves); the crossed bootstrap: Owen 2007, Annals of Applied Statistics 1.
    """
    _check_method(method, "crossed", "seeds", "bootstrap")
    a, b = _paired_hits(ranks_a, ranks_b, k, 2)
    d = a.astype(np.int8) - b.astype(np.int8)
    num_seeds, num_images = d.shape
    if method == "seeds" or num_seeds == 1:
        method, estimate = "seeds", _student(100.0 * d.mean(axis=1), level, num_images)
    elif method == "crossed":
        estimate = _crossed(100.0 * d, level)
    else:
        estimate = _two_level_bootstrap(d, level, num_resamples, seed)
    return Difference(*estimate, num_seeds, num_images, method)


def mcnemar(ranks_a: ArrayLike, ranks_b: ArrayLike, k: int = 1) -> McNemar:
    """Tests whether two *runs* differ on the same images: the images that only one gets right, split 1 : 1?

    Exact binomial, no approximation. It compares these two networks; whether the arms differ needs several seeds
    (`paired_difference`), which must not be pooled here: their images are the same ones.

    Args:
        ranks_a, ranks_b: integers [N] >= 0 of one run each.
        k: at least 1.
    Raises: ValueError: shapes that differ or are not [N]; ranks as in `top_k`.
    Source: McNemar 1947, Psychometrika 12.
    """
    a, b = _paired_hits(ranks_a, ranks_b, k, 1)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    discordant = only_a + only_b
    # Of a fair coin both tails are alike, so that twice the smaller one is the exact test (at most 1).
    p = min(1.0, 2 * float(scipy.special.bdtr(min(only_a, only_b), discordant, 0.5))) if discordant else 1.0
    return McNemar(only_a, only_b, p)


def relative_error_reduction(accuracy: float, baseline: float) -> float | None:
    """Returns what share, in percent, of the baseline's errors is gone: 100 (a - b) / (100 - b).

    From 90 to 91 % is 10 %; from 98 to 99 % is 50 %. Negative when errors grew; None when the baseline made
    no error, for there is nothing to reduce.
    """
    return None if baseline >= 100 else 100.0 * (accuracy - baseline) / (100.0 - baseline)


def _crossed(d: NDArray, level: float) -> Estimate:
    """Interval of the grand mean of d [S, N] with rows and columns both random (see `paired_difference`)."""
    num_seeds, num_images = d.shape
    mean, rows, columns = d.mean(), d.mean(axis=1), d.mean(axis=0)
    of_seeds = num_images * max(np.square(rows - mean).sum() / (num_seeds - 1), _rounding(num_images))
    # One image has no spread between images to estimate; the seeds' spread is then all that is known.
    beyond_noise = 0.0
    if num_images > 1:
        of_images = num_seeds * np.square(columns - mean).sum() / (num_images - 1)
        residual = np.square(d - rows[:, None] - columns + mean).sum() / ((num_seeds - 1) * (num_images - 1))
        beyond_noise = max(of_images - residual, 0.0)
    error = np.sqrt((of_seeds + beyond_noise) / d.size)
    return _from_error(float(mean), float(error), num_seeds - 1, level)


def _rounding(num_images: int) -> float:
    """The variance, in squared points, that counting whole images hides: seeds that tie are no closer than this."""
    return (100.0 / num_images) ** 2 / 12


def _student(values: NDArray, level: float, num_images: int | None) -> Estimate:
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return mean, None, None
    variance = max(float(values.var(ddof=1)), _rounding(num_images) if num_images else 0.0)
    if not variance and mean:
        return mean, None, None
    return _from_error(mean, float(np.sqrt(variance / n)), n - 1, level)


def _from_error(mean: float, error: float, dof: float, level: float) -> Estimate:
    half = float(scipy.stats.t.isf((1 - _level(level)) / 2, dof)) * error
    # Without any spread: runs that are equal.
    p = float(2 * scipy.stats.t.sf(abs(mean) / error, dof)) if error > 0 else 1.0
    return mean, (mean - half, mean + half), p


def _two_level_bootstrap(d: NDArray[np.int8], level: float, num_resamples: int, seed: int) -> Estimate:
    """Resamples rows and columns of d [S, N] independently; returns mean, interval and p in points.

    Once the seeds are drawn, an image is worth one of 2 S + 1 integers (its sum over the drawn seeds), so that
    N images are drawn at once as a multinomial over those values: the same law, without N x resamples draws.
    Images that answered alike under every seed are counted once, as a pattern.
    """
    num_seeds, num_images = d.shape
    codes = np.zeros(num_images, np.int64)
    for row in d:
        _, codes = np.unique(3 * codes + row, return_inverse=True)
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    rng, worth = np.random.default_rng(seed), np.arange(-num_seeds, num_seeds + 1)
    weights = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), num_resamples)
    # So many resamples at a time as stay in the processor's cache: one histogram for all of them, in which each has
    # places of its own. The product in float32 is fast, and exact for whole numbers up to 2^24.
    size = max(1, min(2**15 // len(counts), 2**23 // worth.size))
    places = num_seeds + worth.size * (np.arange(num_resamples) % size)
    weights = np.column_stack([weights, places]).astype(np.float32)
    patterns = np.vstack([d[:, first], np.ones(len(first))]).astype(np.float32)
    repeated, counted = np.tile(counts.astype(np.float64), size), np.empty((num_resamples, worth.size))
    for start in range(0, num_resamples, size):
        cells = (weights[start : start + size] @ patterns).astype(np.intp)
        histogram = np.bincount(cells.ravel(), repeated[: cells.size], worth.size * len(cells))
        counted[start : start + size] = histogram.reshape(-1, worth.size)
    means = 100.0 * (rng.multinomial(num_images, counted / num_images) @ worth) / d.size
    tail = (1 - _level(level)) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    # The smallest level whose interval still touches 0; the + 1 keeps a finite number of draws from saying 0.
    touching = min((means <= 0).sum(), (means >= 0).sum())
    p = min(1.0, 2 * (touching + 1) / (num_resamples + 1))
    return 100.0 * float(d.mean()), (float(low), float(high)), float(p)


def _hits(ranks: ArrayLike, k: int, ndim: int, name: str = "ranks") -> NDArray[np.bool_]:
    """Which of the ranks, [N] or [S, N], are right at Top-k."""
    ranks, axes = np.asarray(ranks), ("[N]", "[S, N]")[ndim - 1]
    if k < 1:
        raise ValueError(f"k: got {k}, expected 1 or more.")
    if ranks.ndim != ndim or ranks.size == 0:
        raise ValueError(f"{name}: got shape {ranks.shape}, expected {axes}, none empty.")
    if not np.issubdtype(ranks.dtype, np.integer) or ranks.min() < 0:
        raise ValueError(
            f"{name}: got {ranks.dtype} from {ranks.min()}, expected integers >= 0. "
            "A rank is the number of classes scored above the true one, not a hit or a score."
        )
    return ranks < k


def _paired_hits(ranks_a: ArrayLike, ranks_b: ArrayLike, k: int, ndim: int) -> tuple[NDArray, NDArray]:
    a, b = _hits(ranks_a, k, ndim, "ranks_a"), _hits(ranks_b, k, ndim, "ranks_b")
    if a.shape != b.shape:
        raise ValueError(
            f"ranks_b: got shape {b.shape} beside ranks_a {a.shape}, expected equal shapes. Keep the seeds both have, "
            "in the same order, on the same test images."
        )
    return a, b


def _per_seed(values: ArrayLike, name: str) -> NDArray[np.float64]:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"{name}: got {values.tolist()}, expected one finite number a seed. Drop failed runs.")
    return values


def _check_method(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise ValueError(f"method: got {method!r}, expected one of {', '.join(map(repr, allowed))}")


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level: got {level}, expected a number inside (0, 1), for example 0.95.")
    return level
