"""The union of the sources that one classifier trains on.

A pool gives every image of every source one key in [0, N) and knows, without reading any image, which source
and class a key belongs to. It knows nothing about order (samplers) or batches (loader).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from jaxmoust.data.source import Source


@dataclass(frozen=True, eq=False)
class Pool:
    """The images of several sources under one numbering: the sources in order, each in its own order.

    Two pools are equal when they hold the same names, classes and labels. Make one by `Pool.from_sources` or,
    where no image will be read, by `Pool.from_labels`.

    Attributes:
        source_names: S names, unique.
        class_names: K names, the same in every source.
        offsets: int64 [S + 1]; source s holds the keys offsets[s] <= key < offsets[s + 1].
        labels: [N] in [0, K), held once in the smallest unsigned integers that fit.
        sources: the S sources, or () for a pool made from labels.
    """

    source_names: tuple[str, ...]
    class_names: tuple[str, ...]
    offsets: np.ndarray
    labels: np.ndarray
    sources: tuple[Source, ...] = field(default=(), repr=False)

    @classmethod
    def from_sources(cls, sources: Sequence[Source]) -> "Pool":
        """Joins sources.

        Raises: ValueError: no source, two of one name, or sources whose classes differ.
        """
        sources = tuple(sources)
        if not sources:
            raise ValueError("Got no source, allowed is at least one: give the pool its sources.")
        names = [source.name for source in sources]
        if len(set(names)) < len(names):
            raise ValueError(
                f"Got two sources of one name among {names}: rename one with dataclasses.replace(source, name=...)."
            )
        for source in sources[1:]:
            if source.class_names != sources[0].class_names:
                raise ValueError(
                    f"Got source {source.name!r} with the classes {list(source.class_names)}, but source "
                    f"{names[0]!r} has {list(sources[0].class_names)}: sources of one pool must have the same "
                    f"classes in the same order. Rebuild the one that is wrong."
                )
        pool = cls.from_labels({s.name: s.labels for s in sources}, sources[0].class_names)
        return cls(pool.source_names, pool.class_names, pool.offsets, pool.labels, sources)

    @classmethod
    def from_labels(cls, labels: Mapping[str, np.ndarray], class_names: Sequence[str] | None = None) -> "Pool":
        """Joins label arrays, for work that needs the order of draws but no image.

        Args:
            labels: source name -> integer labels [n], n >= 1.
            class_names: K names; by default "0", "1", ... up to the largest label.
        Raises: ValueError: no source, an empty source, or a label outside the classes.
        """
        if not labels:
            raise ValueError("Got no source, allowed is at least one: give {name: labels}.")
        arrays = {name: np.asarray(values) for name, values in labels.items()}
        for name, values in arrays.items():
            if values.ndim != 1 or not values.size or not np.issubdtype(values.dtype, np.integer):
                raise ValueError(
                    f"Got labels of shape {values.shape} and type {values.dtype} for source {name!r}, allowed "
                    f"is a non-empty row of integers: leave an empty source out of the pool."
                )
        if class_names is None:
            class_names = [str(c) for c in range(1 + max(int(values.max()) for values in arrays.values()))]
        for name, values in arrays.items():
            low, high = int(values.min()), int(values.max())
            if low < 0 or high >= len(class_names):
                raise ValueError(
                    f"Got labels from {low} to {high} in source {name!r}, allowed are 0 to "
                    f"{len(class_names) - 1} (the classes {list(class_names)}): correct the labels."
                )
        small = np.min_scalar_type(max(len(class_names) - 1, 0))
        joined = np.concatenate([values.astype(small) for values in arrays.values()])
        offsets = np.cumsum([0, *(values.size for values in arrays.values())], dtype=np.int64)
        joined.setflags(write=False)
        offsets.setflags(write=False)
        return cls(tuple(arrays), tuple(class_names), offsets, joined)

    def __len__(self) -> int:
        """The number of images, N."""
        return self.labels.size

    def source(self, keys: np.ndarray) -> np.ndarray:
        """Says which source each key belongs to: int32, of the shape of keys."""
        return (np.searchsorted(self.offsets, keys, side="right") - 1).astype(np.int32)

    def label(self, keys: np.ndarray) -> np.ndarray:
        """Says which class each key belongs to: int32, of the shape of keys."""
        return self.labels[keys].astype(np.int32)

    def counts(self) -> np.ndarray:
        """Counts the images of each source and class: int64 [S, K]."""
        parts = [self.labels[a:b] for a, b in zip(self.offsets[:-1], self.offsets[1:], strict=True)]
        return np.stack([np.bincount(part, minlength=len(self.class_names)) for part in parts])

    @cached_property
    def digest(self) -> str:
        """A content address of the names, classes and labels (not of the images)."""
        header = repr((self.source_names, self.class_names, self.offsets.tolist(), str(self.labels.dtype)))
        return hashlib.sha256(header.encode() + self.labels.tobytes()).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        """Pools are equal when their digests are."""
        return isinstance(other, Pool) and self.digest == other.digest

    def __hash__(self) -> int:
        """Follows the digest."""
        return int(self.digest, 16)

    def __repr__(self) -> str:
        """Names every source with its size, the number of classes and the digest of the labels."""
        sizes = {n: int(s) for n, s in zip(self.source_names, np.diff(self.offsets), strict=True)}
        return f"Pool({sizes}, num_classes={len(self.class_names)}, digest={self.digest!r})"
