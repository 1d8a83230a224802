"""Base sets: which images of a training split a study starts from, balanced or deliberately imbalanced.

Everything here is a function of the labels and a seed, and reads no image. One order of each class stands behind
every base set of a seed, and a base set takes a beginning of each, so that sets of one seed lie inside one another.
"""

import numpy as np

from jaxmoust.data.checks import check_choice, check_number
from jaxmoust.data.samplers.permutation import make_key, shuffled

# What `imbalance` may be; "" leaves the classes as they are.
IMBALANCES = ("", "step", "exponential")


def base_set(
    labels: np.ndarray,
    n_base: int = 0,
    n_per_class: int = 0,
    seed: int = 0,
    imbalance: str = "",
    imbalance_ratio: float = 0.0,
) -> np.ndarray:
    """Chooses a base set by its size, or by its size in each class, and then cuts classes down if asked to.

    Sets of one seed are nested: a smaller one is part of every larger one, and a cut one part of the uncut one of
    the same size and of one cut by a smaller ratio. The ratio is exact where the uncut classes are equally large
    (and divisible); where they are not, it is that of the fractions that are kept of them.

    Args:
        labels: integers [N].
        n_base: number of images before any cut; 0 and no n_per_class is all of them.
        n_per_class: number of images of each class before any cut, instead of n_base; 0 is off.
        seed: 0 and up.
        imbalance: "", "step" or "exponential"; see `kept_fractions`.
        imbalance_ratio: largest class over smallest, 1 and up; 0 where nothing is cut.
    Returns: int64 [n] indices into labels.
    Raises: ValueError: both sizes given, a size out of range, an unknown imbalance, a ratio below 1 or without an
        imbalance, fewer than two classes to cut, or a class that would be left with no image.
    """
    labels = np.asarray(labels)
    if n_base and n_per_class:
        raise ValueError(f"Got n_base={n_base} and n_per_class={n_per_class}, expected one. Set the other to 0.")
    _check_imbalance(imbalance, imbalance_ratio)
    keys = per_class_keys(labels, n_per_class, seed) if n_per_class else base_keys(labels, n_base or labels.size, seed)
    return cut_classes(labels, keys, imbalance, imbalance_ratio) if imbalance else keys


def base_keys(labels: np.ndarray, n_base: int, seed: int) -> np.ndarray:
    """Chooses a base subset, stratified and nested: a prefix of one order that depends on the seed alone.

    Each class is shuffled by itself; the j-th image of a class of n_c images takes rank j / n_c, and images
    are ordered by rank. The first K images hold each class once, every prefix holds the classes in proportion
    (equally, where classes are equally large), and a smaller subset is part of every larger one.

    Args:
        labels: integers [N].
        n_base: number of images, from the number of classes present to N.
        seed: 0 and up.
    Returns: int64 [n_base] indices into labels.
    Raises: ValueError: n_base out of range.
    """
    labels = np.asarray(labels)
    by_class, which, place, counts = _in_class_order(labels, seed)
    if not counts.size <= n_base <= labels.size:
        allowed = f"{counts.size} (the classes) to {labels.size} (the images)"
        raise ValueError(f"Got n_base={n_base}, expected {allowed}. Choose another size or a larger source.")
    return _by_rank(by_class, place / counts[which], which, seed)[:n_base]


def per_class_keys(labels: np.ndarray, n_per_class: int, seed: int) -> np.ndarray:
    """Chooses the same number of images of each class; of equal classes, the same ones as `base_keys` of that total.

    Args:
        labels: integers [N].
        n_per_class: 1 to the number of images of the smallest class present.
        seed: 0 and up.
    Returns: int64 [K * n_per_class] indices into labels, a class after the other and again from the first.
    Raises: ValueError: n_per_class out of range.
    """
    labels = np.asarray(labels)
    by_class, which, place, counts = _in_class_order(labels, seed)
    if not 1 <= n_per_class <= counts.min():
        raise ValueError(
            f"Got n_per_class={n_per_class}, expected 1 to {counts.min()}, the images of the smallest class "
            f"(label {np.unique(labels)[counts.argmin()]}). Choose a smaller number, or n_base, which keeps the "
            f"classes in proportion."
        )
    return _by_rank(by_class, place, which, seed)[: counts.size * n_per_class]


def kept_fractions(num_classes: int, imbalance: str, ratio: float) -> np.ndarray:
    """Says which fraction of each class an imbalance keeps, in the order of the classes: float64 [K] in [1/ratio, 1].

    "step" cuts the later half of the classes (of an odd number, the one in the middle stays whole) to 1/ratio.
    "exponential" keeps ratio^(-c / (K - 1)) of class c: 1 of the first, 1/ratio of the last.

    Source: step: Buda, Maki and Mazurowski 2018 (1710.05381), section 3.2, with half of the classes in the
    minority as in Cao et al. 2019 (1906.07413); exponential: Cui et al. 2019 (1901.05555), section 5.1.
    """
    c = np.arange(num_classes)
    if imbalance == "step":
        return np.where(c < num_classes - num_classes // 2, 1.0, 1.0 / ratio)
    return ratio ** (-c / (num_classes - 1))


def cut_classes(labels: np.ndarray, keys: np.ndarray, imbalance: str, ratio: float) -> np.ndarray:
    """Keeps the first floor(fraction * n_c) of the n_c keys of each class; see `kept_fractions`.

    Args:
        labels: integers [N].
        keys: int64 [n] indices into labels, of two classes or more.
        imbalance: "step" or "exponential".
        ratio: 1 and up.
    Returns: a part of keys, in their order.
    Raises: ValueError: an unknown imbalance, a ratio below 1, fewer than two classes, or a class left with no image.
    """
    _check_imbalance(imbalance, ratio)
    mine = np.asarray(labels)[keys]
    classes, which, counts = np.unique(mine, return_inverse=True, return_counts=True)
    if classes.size < 2:
        raise ValueError(f"Got imbalance={imbalance!r} for {classes.size} class, expected two and up. Leave it out.")
    # To the nearest ten-thousandth of an image, so that a hundredth of 5,000 is 50 and not 49.
    kept = np.floor(np.round(counts * kept_fractions(classes.size, imbalance, ratio), 4)).astype(np.int64)
    if not kept.all():
        c = int(np.argmin(kept))
        raise ValueError(
            f"Got imbalance={imbalance!r} with imbalance_ratio={ratio:g}, which leaves no image of label {classes[c]} "
            f"(it has {counts[c]}), expected at least one image of each class. Choose a smaller ratio or a larger "
            f"base set."
        )
    order = np.argsort(which, kind="stable")
    place = np.empty(keys.size, np.int64)
    place[order] = _places(counts)
    return keys[place < kept[which]]


def _check_imbalance(imbalance: str, ratio: float) -> None:
    check_choice("imbalance", imbalance, IMBALANCES)
    if not imbalance and ratio != 0.0:
        remedy = "set imbalance to 'step' or 'exponential', or leave the ratio out"
        raise ValueError(f"Got imbalance_ratio={ratio:g} without an imbalance, expected 0: {remedy}.")
    if imbalance:
        check_number("imbalance_ratio", ratio, "1 and up (largest class over smallest)", lambda ratio: ratio >= 1.0)


def _in_class_order(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shuffles each class by itself.

    Returns: (keys int64 [N], class after class; the number of the class of each, [N]; its place within the class,
        [N]; the images of each class, [K]); classes count those present, ascending.
    """
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = shuffled(np.arange(labels.size), labels.size, make_key(seed, 3))
    by_class = order[np.argsort(inverse[order], kind="stable")]
    return by_class, inverse[by_class], _places(counts), counts


def _places(counts: np.ndarray) -> np.ndarray:
    """Counts up from 0 within each group, one group after the other: int64 [sum(counts)]."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _by_rank(by_class: np.ndarray, rank: np.ndarray, which: np.ndarray, seed: int) -> np.ndarray:
    """Orders keys by rank; equal ranks follow one order of the classes that the seed gives: int64 [N]."""
    num_classes = int(which[-1]) + 1
    tie = shuffled(np.arange(num_classes), num_classes, make_key(seed, 4))[which]
    return by_class[np.lexsort((tie, rank))].astype(np.int64)
