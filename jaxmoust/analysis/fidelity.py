"""How close a set of images is to another, by features: FID, KID, precision and recall, density and coverage, CMMD.

All of them compare feature matrices [N, F] of one extractor and are only comparable within it. Which extractor that
is, and what an image is, is not known here. Every one of them depends on how many images there are (FID most: its bias
falls as 1 / N), so a figure means something beside its floor: the same of real images that were held out.
"""

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from jaxmoust.analysis.nearest_neighbours import Features, centred, check_features, nearest_others, tiles

NEAREST_MANIFOLD = 3  # k of precision and recall
NEAREST_DENSITY = 5  # k of density and coverage
_ROWS = 4096


def measure(real: ArrayLike, fake: ArrayLike, seed: int = 0) -> dict[str, float]:
    """Measures everything: fid, kid, kid_std, precision, recall, density, coverage, cmmd.

    Args:
        real, fake: features [N, F] and [M, F], more than 5 each. seed: of KID's subsets.
    Raises: ValueError: as the functions below.
    """
    real, fake = _pair(real, fake, NEAREST_DENSITY + 1)
    mean, std = kid(real, fake, seed=seed)
    return {"fid": fid(real, fake), "kid": mean, "kid_std": std, **prdc(real, fake), "cmmd": cmmd(real, fake)}


def fid(real: ArrayLike, fake: ArrayLike) -> float:
    """The Fréchet distance of two Gaussians: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    With C = R'R, the trace of the root is the sum of the singular values of R1 R2'. R is the symmetric eigenvalues'
    root, or, where there are no more images than features and C is singular, the centred features themselves: no
    root of a product that is not symmetric is taken, so no complex number can arise.

    Args: real, fake: features [N, F] and [M, F]; N and M at least 2.
    Raises: ValueError: fewer images, NaN, another F.
    Source: Heusel et al. 2017 (1706.08500), Eq. 6; covariances over N - 1, as the published code has them.
    """
    real, fake = _pair(real, fake, 2)
    means, roots = zip(*(_moments(x) for x in (real, fake)), strict=True)
    shared = scipy.linalg.svdvals(roots[0] @ roots[1].T).sum()
    spread = sum(np.square(root).sum() for root in roots)
    return float(np.square(means[0] - means[1]).sum() + max(spread - 2 * shared, 0.0))


def kid(
    real: ArrayLike, fake: ArrayLike, subset_size: int = 1000, num_subsets: int = 100, seed: int = 0
) -> tuple[float, float]:
    """The kernel distance: mean and standard deviation over random subsets of the unbiased MMD^2.

    The kernel is (x.y / F + 1)^3. A subset is drawn without replacement from each set; subsets overlap, so the
    standard deviation is that of one subset's estimate, not of the mean. Where both sets are no larger than a subset
    there is only one subset to draw, and the deviation is 0.

    Args:
        real, fake: features [N, F] and [M, F]; N and M at least 2.
        subset_size: images of each set in a subset; at most as many as the smaller set has.
    Raises: ValueError: fewer images, NaN, another F, a size or a number that is not positive.
    Source: Binkowski et al. 2018 (1801.01401), section 4; Gretton et al. 2012, Eq. 3 for the unbiased estimate.
    """
    real, fake = _pair(real, fake, 2)
    if subset_size < 2 or num_subsets < 1:
        raise ValueError(
            f"subset_size, num_subsets: got {subset_size}, {num_subsets}, expected whole numbers from 2 and from 1."
        )
    rng, size = np.random.default_rng(seed), min(subset_size, len(real), len(fake))
    if size == len(real) == len(fake):
        num_subsets = 1
    estimates = []
    for _ in range(num_subsets):
        x, y = (s[rng.choice(len(s), size, replace=False)].astype(np.float64) for s in (real, fake))
        xx, yy, xy = (_cube(a @ b.T / a.shape[1] + 1) for a, b in ((x, x), (y, y), (x, y)))
        others = sum(k.sum() - np.trace(k) for k in (xx, yy)) / (size * (size - 1))
        estimates.append(others - 2 * xy.mean())
    return float(np.mean(estimates)), float(np.std(estimates))


def prdc(real: ArrayLike, fake: ArrayLike) -> dict[str, float]:
    """Measures precision and recall (k = 3), density and coverage (k = 5) from balls around images.

    The ball of an image reaches to the k-th nearest other image of its own set. Precision is the part of the fakes in
    any real ball, recall of the real images in any fake ball; density is how many real balls a fake lies in, over k,
    in the mean (it may exceed 1); coverage is the part of the real balls with any fake in them. What lies on a border
    to the rounding of float32 may count as inside or outside, which matters for features of few values only.

    Distances are float32, computed tile by tile. 50,000 x 50,000 images of 512 features took 123 s and 0.6 GiB on two
    cores of an AMD EPYC that other work was using too (120 s of processor time).

    Args: real, fake: features [N, F] and [M, F]; N and M above 5.
    Raises: ValueError: fewer images, NaN, another F.
    Source: Kynkaanniemi et al. 2019 (1904.06991), Eq. 1 and 2; Naeem et al. 2020 (2002.09797), Eq. 4 to 6.
    """
    real, fake = centred(*_pair(real, fake, NEAREST_DENSITY + 1))
    of_real = nearest_others(real, NEAREST_DENSITY)
    of_fake = nearest_others(fake, NEAREST_MANIFOLD)[:, -1]
    tight, wide = of_real[:, NEAREST_MANIFOLD - 1], of_real[:, -1]
    precise, recalled, covered = np.zeros(len(fake), bool), np.zeros(len(real), bool), np.zeros(len(real), bool)
    inside = 0
    for rows, columns, tile in tiles(real, fake):
        inside_wide = np.flatnonzero(tile <= wide[rows, None])
        row, column = np.divmod(inside_wide, tile.shape[1])
        inside += len(row)
        covered[rows][row] = True
        # The narrower balls lie inside the wider ones.
        precise[columns][column[tile.reshape(-1)[inside_wide] <= tight[rows][row]]] = True
        recalled[rows] |= (tile <= of_fake[columns]).any(axis=1)
    return {
        "precision": float(precise.mean()),
        "recall": float(recalled.mean()),
        "density": inside / (NEAREST_DENSITY * len(fake)),
        "coverage": float(covered.mean()),
    }


def cmmd(real: ArrayLike, fake: ArrayLike, sigma: float = 10.0) -> float:
    """1000 times the squared MMD of features scaled to length 1, kernel exp(-|x - y|^2 / (2 sigma^2)).

    The biased estimate (all pairs, an image with itself too), as published. The kernel less 1 is what is added up: the
    ones cancel, and float32 would lose the figure beside them. 50,000 x 50,000 x 512: 64 s, 0.7 GiB on two cores.

    Args: real, fake: features [N, F] and [M, F], of CLIP for the published figure; a vector of 0 stays where it is.
    Raises: ValueError: NaN, another F, sigma not positive.
    Source: Jayasumana et al. 2024 (2401.09603), Eq. 4 and section 4; Gretton et al. 2012, Eq. 5.
    """
    if not sigma > 0:
        raise ValueError(f"sigma: got {sigma}, expected a number above 0; 10 is the published one.")
    real, fake = centred(*map(_of_length_1, _pair(real, fake, 1)))

    def kernel_sum(a: NDArray, b: NDArray, upper: bool = False) -> float:
        total = 0.0
        for rows, columns, tile in tiles(a, b, upper):
            tile *= -0.5 / sigma**2
            np.expm1(tile, out=tile)
            # Each pair of one set is met once above the diagonal, and counts twice.
            total += (2 if upper and rows.start != columns.start else 1) * tile.sum(dtype=np.float64)
        return total

    of_real, of_fake = kernel_sum(real, real, upper=True), kernel_sum(fake, fake, upper=True)
    n, m = len(real), len(fake)
    return float(1000 * (of_real / n**2 + of_fake / m**2 - 2 * kernel_sum(real, fake) / (n * m)))


def _of_length_1(x: Features) -> Features:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    length[length == 0] = 1
    return x / length


def _cube(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x * x * x  # a power of 3 goes through logarithms, ten times as slow


def _moments(x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean [F] and a root R of the covariance, C = R'R: [min(N, F), F]."""
    mean, num = x.mean(axis=0, dtype=np.float64), len(x)
    if num <= x.shape[1]:
        return mean, (x - mean) / np.sqrt(num - 1)  # a root as it stands, of a singular covariance
    covariance = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, num, _ROWS):
        rows = x[start : start + _ROWS] - mean
        covariance += rows.T @ rows
    values, vectors = scipy.linalg.eigh(covariance / (num - 1), check_finite=False)
    # What is below the rounding of the largest is 0 (a feature that never fires), and its root would not be small.
    values = np.where(values > values[-1] * len(values) * np.finfo(np.float64).eps, values, 0.0)
    return mean, np.sqrt(values)[:, None] * vectors.T


def _pair(real: ArrayLike, fake: ArrayLike, least: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    real = check_features(real, "real")
    fake = check_features(fake, "fake", real.shape[1])
    for name, x in (("real", real), ("fake", fake)):
        if len(x) < least:
            raise ValueError(f"{name}: got {len(x)} images, expected at least {least}. Take more, or leave this out.")
    return real, fake
