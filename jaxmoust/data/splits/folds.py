"""Which part of a set is held out when: folds for cross-fitting, and equal numbers of two kinds of image.

Pure functions of labels and a seed; nothing here reads an image.
"""

import numpy as np

from jaxmoust.data.samplers.permutation import make_key, shuffled


def fold_of(labels: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Splits the images of each class into folds at random: each fold gets as many of each class, up to one.

    Args:
        labels: integers [N].
        num_folds: K, 1 to N.
        seed: 0 and up.
    Returns: int64 [N] in [0, K); the folds' sizes differ by at most one.
    Raises: ValueError: K out of range.
    """
    labels = np.asarray(labels)
    if not 1 <= num_folds <= labels.size:
        raise ValueError(f"Got {num_folds} folds of {labels.size} images, expected 1 to {labels.size}. Take fewer.")
    order = shuffled(np.arange(labels.size), labels.size, make_key(seed, 10))
    order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(labels.size, np.int64)
    folds[order] = np.arange(labels.size) % num_folds
    return folds


def matched(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chooses as many items of two sets from every group that both have, the first ones of each.

    Args:
        a, b: integers [N], [M], the group of each item.
    Returns: (indices into a, indices into b): int64 [n] each, ascending; what no group shares is left out.
    """
    a, b = np.asarray(a), np.asarray(b)
    chosen_a, chosen_b = [], []
    for group in np.intersect1d(a, b):
        in_a, in_b = np.flatnonzero(a == group), np.flatnonzero(b == group)
        size = min(in_a.size, in_b.size)
        chosen_a.append(in_a[:size])
        chosen_b.append(in_b[:size])
    none = [np.empty(0, np.int64)]
    return np.sort(np.concatenate(none + chosen_a)), np.sort(np.concatenate(none + chosen_b))
