"""Whether a generator copies: how near synthetic images come to training images, beside how near held-out ones come.

An image alone does not show it: digits of one class are near each other anyway. So distances to the nearest training
image are divided by what is typical of held-out real images of the same class; and how unusual a ratio is, is read off
the held-out images' own ratios. Images are vectors here: pixels, or features; some copies show in one of these only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from jaxmoust.analysis.nearest_neighbours import check_features, nearest

# A synthetic image is suspicious where it is nearer than all but this part of the held-out images.
SUSPICIOUS = 0.01
# A class's own typical distance wants so many held-out images; with fewer, that of all classes stands in.
MIN_PER_CLASS = 5
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Memorisation:
    """Distance ratios of N synthetic and M held-out images to their nearest training images.

    Args:
        ratio, heldout_ratio: [N], [M]; 0 is a copy, 1 as far as the median held-out image of the class.
        nearest: [N] the training image that is nearest.
        threshold: the ratio up to which a synthetic image is suspicious.
        labels, heldout_labels: [N], [M]; all 0 where classes are not distinguished.
    """

    ratio: NDArray[np.float64]
    heldout_ratio: NDArray[np.float64]
    nearest: NDArray[np.int64]
    threshold: float
    labels: NDArray[np.int32]
    heldout_labels: NDArray[np.int32]

    @property
    def suspicious(self) -> NDArray[np.bool_]:
        """Which synthetic images are: [N]."""
        return self.ratio <= self.threshold

    def closest(self, num_pairs: int) -> NDArray[np.int64]:
        """The synthetic images nearest to a training image, the nearest first, each training image once.

        A generator that copies one image a thousand times would else fill all places with it.
        """
        order = np.argsort(self.ratio, kind="stable")
        _, first = np.unique(self.nearest[order], return_index=True)
        return order[np.sort(first)[:num_pairs]]

    def summary(self, class_names: Sequence[str] = ()) -> dict:
        """Says it in numbers, and of each class where the classes' names are given.

        `share_suspicious` is compared with `share_expected`, what a generator that does not copy would have;
        `closer` is the probability that a synthetic image lies nearer to the training set than a held-out one, 0.5
        for a generator whose samples are distributed like held-out data, with the two-sided p of
        Mann and Whitney's test.
        Source of the latter: Meehan et al. 2020 (2004.05675), section 3.
        """
        test = scipy.stats.mannwhitneyu(self.heldout_ratio, self.ratio)
        figures = {
            "n": len(self.ratio),
            "n_heldout": len(self.heldout_ratio),
            "threshold": self.threshold,
            "share_suspicious": float(self.suspicious.mean()),
            "share_expected": float((self.heldout_ratio <= self.threshold).mean()),
            "closer": float(test.statistic / (len(self.ratio) * len(self.heldout_ratio))),
            "p": float(test.pvalue),
            "quantiles": {str(q): float(np.quantile(self.ratio, q)) for q in QUANTILES},
            "heldout_quantiles": {str(q): float(np.quantile(self.heldout_ratio, q)) for q in QUANTILES},
        }
        if class_names:
            figures["per_class"] = [self._of_class(k, name) for k, name in enumerate(class_names)]
        return figures

    def _of_class(self, k: int, name: str) -> dict:
        ratio, heldout = self.ratio[self.labels == k], self.heldout_ratio[self.heldout_labels == k]

        def figure(statistic: Callable, values: NDArray) -> float | None:
            return float(statistic(values)) if values.size else None

        return {
            "class": name,
            "n": len(ratio),
            "n_heldout": len(heldout),
            "share_expected": figure(np.mean, heldout <= self.threshold),
            "share_suspicious": figure(np.mean, ratio <= self.threshold),
            "median_ratio": figure(np.median, ratio),
            "lowest_ratio": figure(np.min, ratio),
        }


def memorisation(
    train: ArrayLike,
    synthetic: ArrayLike,
    heldout: ArrayLike,
    labels: tuple[ArrayLike, ArrayLike] | None = None,
    mirrored: tuple[ArrayLike, ArrayLike] | None = None,
) -> Memorisation:
    """Compares how near synthetic and held-out images come to the training images.

    Args:
        train [T, F], synthetic [N, F], heldout [M, F]: vectors of one kind; the training images are those that the
            generator was trained on, and no held-out image is among them.
        labels: classes of the synthetic and of the held-out images, each compared with the typical distance of its
            class; any class of training image may be the nearest.
        mirrored: the synthetic and the held-out images flipped, to find flipped copies too; both, so that the
            held-out images have the same two chances.
    Raises: ValueError: no image, NaN, another F or number of labels; held-out images that are training images.
    """
    train = check_features(train, "train")
    mirrored_synthetic, mirrored_heldout = mirrored or (None, None)
    distance, index = _to_nearest(synthetic, mirrored_synthetic, train, "synthetic")
    of_heldout, _ = _to_nearest(heldout, mirrored_heldout, train, "heldout")
    if not np.median(of_heldout) > 0:
        raise ValueError(
            "heldout: half of its images are exact copies of training images, expected images that the generator "
            "has not seen. Take another split, or remove the duplicates."
        )
    own, heldout_own = labels or (np.zeros(len(distance), np.int32), np.zeros(len(of_heldout), np.int32))
    own, heldout_own = _labels(own, len(distance), "synthetic"), _labels(heldout_own, len(of_heldout), "heldout")
    typical = _typical(of_heldout, heldout_own, max(own.max(), heldout_own.max()) + 1)
    heldout_ratio = of_heldout / typical[heldout_own]
    threshold = float(np.quantile(heldout_ratio, SUSPICIOUS))
    return Memorisation(distance / typical[own], heldout_ratio, index, threshold, own, heldout_own)


def _to_nearest(
    images: ArrayLike, mirrored: ArrayLike | None, train: NDArray[np.float32], name: str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distance to, and index of, the nearest training image of each image or of its mirrored self."""
    distance, index = nearest(check_features(images, name, train.shape[1]), train)
    if mirrored is None:
        return distance, index
    mirrored = check_features(mirrored, f"{name}, mirrored", train.shape[1])
    if len(mirrored) != len(distance):
        raise ValueError(f"{name}: got {len(mirrored)} mirrored images for {len(distance)}, expected one for each.")
    flipped, flipped_index = nearest(mirrored, train)
    return np.minimum(distance, flipped), np.where(flipped < distance, flipped_index, index)


def _typical(of_heldout: NDArray[np.float64], labels: NDArray, num_classes: int) -> NDArray[np.float64]:
    """The median distance of each class's held-out images: [num_classes]; of all where a class has too few, or 0."""
    of_each = [of_heldout[labels == k] for k in range(num_classes)]
    medians = np.array([np.median(some) if len(some) >= MIN_PER_CLASS else 0.0 for some in of_each])
    return np.where(medians > 0, medians, np.median(of_heldout))


def _labels(labels: ArrayLike, num: int, name: str) -> NDArray[np.int32]:
    labels = np.asarray(labels)
    if labels.shape != (num,) or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError(f"{name}: got labels of shape {labels.shape}, {labels.dtype}, expected {num} integers from 0.")
    return labels.astype(np.int32)
