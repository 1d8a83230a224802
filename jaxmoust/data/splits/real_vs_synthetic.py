"""Real and synthetic images as the two classes of a classifier, split into folds for cross-fitting.

A classifier that answers "real or synthetic?" must not have trained on the image, and must not be able to answer by its
class: so every image is held out once, and as many of each kind from every class are counted. Knows no classifier.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from jaxmoust.data.pool import Pool
from jaxmoust.data.source import REAL, Source, digest_bytes
from jaxmoust.data.splits.folds import fold_of, matched

# The classes, in the order of their labels: the logit of "real" less that of "synthetic" is the second less the first.
SYNTHETIC = "synthetic"
KINDS = (SYNTHETIC, REAL)


@dataclass(frozen=True)
class RealVsSynthetic:
    """Images of both kinds; make it by `split_folds`.

    Attributes:
        sources: kind -> its images, with the labels of what they show; "real" first.
        pool: the same images in this order, labelled by their kind.
        folds: kind -> the fold of each image, int64 [n].
        counted: kind -> whether an image is one of as many of each kind, fold by fold and class by class: bool [n].
        num_folds: K.
    """

    sources: Mapping[str, Source]
    pool: Pool
    folds: Mapping[str, np.ndarray]
    counted: Mapping[str, np.ndarray]
    num_folds: int

    def heldout(self, fold: int, only_counted: bool = False) -> dict[str, Source]:
        """The images of a fold, by kind; all of them, or those that count."""
        masks = {kind: (of == fold) & (self.counted[kind] | (not only_counted)) for kind, of in self.folds.items()}
        return {kind: source.subset(np.flatnonzero(masks[kind])) for kind, source in self.sources.items()}

    def training_pool(self, fold: int) -> Pool:
        """The pool without a fold: what its classifier is trained on."""
        return self.pool.keep(np.concatenate([self.folds[kind] for kind in self.sources]) != fold)


def split_folds(real: Source, synthetic: Source, num_folds: int, seed: int) -> RealVsSynthetic:
    """Splits the images of both kinds into folds, each class alike.

    Args:
        real: the real images.
        synthetic: the synthetic ones, of the same classes.
        num_folds: 2 and up.
        seed: 0 and up, of the split.
    Raises: ValueError: sources of other classes, fewer than two images of a kind in a fold, or a fold in which no
        class has an image of both kinds.
    """
    pool = Pool.from_sources([_of_kind(real, REAL), _of_kind(synthetic, SYNTHETIC)])
    if real.class_names != synthetic.class_names:
        raise ValueError(
            f"Got real images of the classes {list(real.class_names)} and synthetic ones of "
            f"{list(synthetic.class_names)}, expected the same in the same order. Rebuild the one that is wrong."
        )
    sources = {REAL: real, SYNTHETIC: synthetic}
    for kind, source in sources.items():
        if len(source) < 2 * num_folds or num_folds < 2:
            raise ValueError(
                f"Got {num_folds} folds of {len(source)} {kind} images, expected two folds and up with two images "
                "of each kind in every one. Take fewer folds or more images."
            )
    folds = {kind: fold_of(source.labels, num_folds, seed) for kind, source in sources.items()}
    cells = {kind: folds[kind] * len(real.class_names) + source.labels for kind, source in sources.items()}
    keys = dict(zip(sources, matched(*cells.values()), strict=True))
    if empty := sorted(set(range(num_folds)) - set(folds[REAL][keys[REAL]].tolist())):
        raise ValueError(
            f"Got {num_folds} folds, of which in {empty} no class has an image of both kinds, expected one such "
            "class in each. Take fewer folds, more images, or sets of the same classes."
        )
    counted = {kind: np.isin(np.arange(len(source)), keys[kind]) for kind, source in sources.items()}
    return RealVsSynthetic(sources, pool, folds, counted, num_folds)


def _of_kind(source: Source, kind: str) -> Source:
    """The same images, labelled by their kind instead of what they show."""
    digest = digest_bytes(b"kind", kind.encode(), source.digest.encode())
    labels = np.full(len(source), KINDS.index(kind), np.int32)
    return replace(source, name=kind, labels=labels, class_names=KINDS, digest=digest)
