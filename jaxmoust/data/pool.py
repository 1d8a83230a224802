"""The union of the sources that one classifier trains on.

A pool gives every image of every source one key in [0, N) and knows, without reading any image, which source
and class a key belongs to, and whether a filter let it through. It knows nothing about order (samplers) or
batches (loader).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from jaxmoust.data.checks import check_number
from jaxmoust.data.source import Soft, Source


@dataclass(frozen=True, eq=False)
class Pool:
    """The images of several sources under one numbering: the sources in order, each in its own order.

    Two pools are equal when they hold the same names, classes, labels and kept keys. Make one by
    `Pool.from_sources` or, where no image will be read, by `Pool.from_labels`. A filter (`keep`, `drop_lowest`)
    gives a pool over the same keys: a key goes on to mean the same image, and arrays over the keys (scores,
    weights) go on to fit; what was filtered out is never drawn.

    Attributes:
        source_names: S names, unique.
        class_names: K names, the same in every source.
        offsets: int64 [S + 1]; source s holds the keys offsets[s] <= key < offsets[s + 1].
        labels: [N] in [0, K), held once in the smallest unsigned integers that fit.
        sources: the S sources, or () for a pool made from labels.
        kept: the keys that may be drawn, ascending; None: all of them.
    """

    source_names: tuple[str, ...]
    class_names: tuple[str, ...]
    offsets: np.ndarray
    labels: np.ndarray
    sources: tuple[Source, ...] = field(default=(), repr=False)
    kept: np.ndarray | None = field(default=None, repr=False)

    @classmethod
    def from_sources(cls, sources: Sequence[Source]) -> "Pool":
        """Joins sources.

        Raises: ValueError: no source, two of one name, or sources whose classes differ.
        """
        sources = tuple(sources)
        if not sources:
            raise ValueError("Got no source, expected at least one. Give the pool its sources.")
        names = [source.name for source in sources]
        if len(set(names)) < len(names):
            raise ValueError(f"Got two sources of one name among {names}. Rename one, replace(source, name=...).")
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
            raise ValueError("Got no source, expected at least one. Give {name: labels}.")
        arrays = {name: np.asarray(values) for name, values in labels.items()}
        for name, values in arrays.items():
            if values.ndim != 1 or not values.size or not np.issubdtype(values.dtype, np.integer):
                raise ValueError(
                    f"Got labels of shape {values.shape} and type {values.dtype} for source {name!r}, "
                    f"expected a non-empty row of integers. Leave an empty source out of the pool."
                )
        if class_names is None:
            class_names = [str(c) for c in range(1 + max(int(values.max()) for values in arrays.values()))]
        for name, values in arrays.items():
            low, high = int(values.min()), int(values.max())
            if low < 0 or high >= len(class_names):
                raise ValueError(
                    f"Got labels from {low} to {high} in source {name!r}, expected 0 to {len(class_names) - 1} "
                    f"(the classes {list(class_names)}). Correct the labels."
                )
        small = np.min_scalar_type(max(len(class_names) - 1, 0))
        joined = np.concatenate([values.astype(small) for values in arrays.values()])
        offsets = np.cumsum([0, *(values.size for values in arrays.values())], dtype=np.int64)
        joined.setflags(write=False)
        offsets.setflags(write=False)
        return cls(tuple(arrays), tuple(class_names), offsets, joined)

    def __len__(self) -> int:
        """The number of keys, N; with `pool[key]`, what Grain calls a random-access data source."""
        return self.labels.size

    @property
    def num_kept(self) -> int:
        """The number of images that may be drawn: N less what filters dropped."""
        return self.labels.size if self.kept is None else self.kept.size

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what was worked out from them is worked out again by who unpickles a pool."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __getitem__(self, key: int) -> dict[str, Any]:
        """Reads one image, kept or not: image uint8 [H, W, C], label and source int32."""
        if not self.sources:
            raise ValueError("Got a pool made from labels, expected one with images. Use Pool.from_sources.")
        if not 0 <= key < len(self):
            raise IndexError(f"Got key {key}, expected 0 to {len(self) - 1}. A key is what a sampler gives.")
        (source,), (label,) = self.source(np.array([key])), self.label(np.array([key]))
        image = self.sources[source].read(int(key - self.offsets[source]))
        return {"image": image, "label": label, "source": source}

    def source(self, keys: np.ndarray) -> np.ndarray:
        """Says which source each key belongs to: int32, of the shape of keys."""
        return (np.searchsorted(self.offsets, keys, side="right") - 1).astype(np.int32)

    def label(self, keys: np.ndarray) -> np.ndarray:
        """Says which class each key belongs to: int32, of the shape of keys."""
        return self.labels[keys].astype(np.int32)

    @cached_property
    def soft(self) -> Soft | None:
        """The soft label of each key, [N]; None where all images are of their label alone."""
        if not any(source.soft for source in self.sources):
            return None
        none = [Soft(source.labels, np.zeros(len(source), np.float32)) for source in self.sources]
        parts = [source.soft or hard for source, hard in zip(self.sources, none, strict=True)]
        return Soft(np.concatenate([of.second for of in parts]), np.concatenate([of.weight for of in parts]))

    def cell(self, keys: np.ndarray) -> np.ndarray:
        """Numbers each key's source and class, source * K + class: int64, of the shape of keys."""
        return self.source(keys).astype(np.int64) * len(self.class_names) + self.labels[keys]

    @cached_property
    def bounds(self) -> np.ndarray:
        """Where each source begins among the keys that may be drawn: int64 [S + 1], last the number of them."""
        return self.offsets if self.kept is None else np.searchsorted(self.kept, self.offsets).astype(np.int64)

    def at(self, place: np.ndarray) -> np.ndarray:
        """The keys at places 0 <= place < num_kept among those that may be drawn: int64, of the shape of place."""
        return place if self.kept is None else self.kept[place]

    def drawable(self, values: np.ndarray) -> np.ndarray:
        """Of values for each key, [N, ...], those of the keys that may be drawn: [num_kept, ...]."""
        return values if self.kept is None else values[self.kept]

    def counts(self) -> np.ndarray:
        """Counts the images of each source and class that may be drawn: int64 [S, K]."""
        return self._counts.copy()

    @cached_property
    def _counts(self) -> np.ndarray:
        parts = np.split(self.drawable(self.labels), self.bounds[1:-1])
        return np.stack([np.bincount(part, minlength=len(self.class_names)) for part in parts]).astype(np.int64)

    @cached_property
    def by_class(self) -> tuple[np.ndarray, np.ndarray]:
        """Lists the keys that may be drawn by class, and by source within a class; made once a pool.

        Returns: (keys [num_kept], bounds int64 [K, S + 1]): images of class c and source s are
            keys[bounds[c, s] : bounds[c, s + 1]], ascending; those of class c in every source
            keys[bounds[c, 0] : bounds[c, S]].
        """
        order = np.argsort(self.drawable(self.labels), kind="stable")  # a radix sort up to 65,536 classes
        order = order.astype(np.int32) if self.labels.size < 2**31 else order
        starts = np.concatenate([[0], np.cumsum(self._counts.T)])  # sources are in order within a class
        num_sources, num_classes = self._counts.shape
        bounds = starts[np.arange(num_classes)[:, None] * num_sources + np.arange(num_sources + 1)]
        return self.at(order), bounds.astype(np.int64)

    def spread(self, values: Any, name: str) -> np.ndarray:
        """Turns values (scores, weights) into one for each key.

        Args:
            values: numbers [N], or {source: a number, or numbers [images of that source]}; a source that is not
                named gets NaN.
            name: what errors call them.
        Returns: [N], read-only (an array that is so already is not copied); float32 if it was given, else float64.
        Raises: ValueError: an unknown source, or an array of another length.
        """
        if not isinstance(values, Mapping):
            return self._numbers(values, self.labels.size, name)
        if unknown := sorted(set(values) - set(self.source_names)):
            known = list(self.source_names)
            raise ValueError(f"Got {name} for {unknown}, expected {known}. Name sources of the pool.")
        spread = np.full(self.labels.size, np.nan)
        for s, source in enumerate(self.source_names):
            if source in values:
                part = spread[self.offsets[s] : self.offsets[s + 1]]
                own = values[source]
                part[:] = own if np.ndim(own) == 0 else self._numbers(own, part.size, f"{name} of {source!r}")
        spread.setflags(write=False)
        return spread

    def _numbers(self, values: Any, size: int, name: str) -> np.ndarray:
        values = np.asarray(values)
        values = values if values.dtype == np.float32 else values.astype(np.float64, copy=False)
        values = values.copy() if values.flags.writeable else values  # what the caller writes later is his own
        if values.shape != (size,):
            raise ValueError(f"Got {name} of shape {values.shape}, expected ({size},), one number for each image.")
        values.setflags(write=False)
        return values

    def keep(self, mask: np.ndarray) -> "Pool":
        """Keeps the images for which mask [N] is true, of those that may be drawn; keys stay what they are.

        Raises: ValueError: a mask that is not one boolean for each key, or that leaves nothing.
        """
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != self.labels.shape:
            raise ValueError(
                f"Got a mask of shape {mask.shape} and type {mask.dtype}, expected one boolean for each of the "
                f"{self.labels.size} keys. Compare the scores of all keys."
            )
        kept = np.flatnonzero(mask) if self.kept is None else self.kept[mask[self.kept]]
        if not kept.size:
            raise ValueError("Got a filter that leaves no image, expected at least one. Loosen it.")
        kept.setflags(write=False)
        return replace(self, kept=None if kept.size == self.labels.size else kept)

    def drop_lowest(self, scores: Any, fraction: float, *, per_class: bool = False) -> "Pool":
        """Drops the lowest-scored part of each scored source; of equal scores the later keys go first.

        Args:
            scores: see `spread`; a source that is not named, and a single NaN, has no score and stays.
            fraction: 0 <= fraction < 1; floor(fraction * n) of n images are dropped, never all.
            per_class: take the part of each class of a source by itself, so that the classes keep their
                proportions.
        Raises: ValueError: scores that do not fit or are of no image, or a fraction out of range.
        """
        check_number("fraction", fraction, "a number 0 <= fraction < 1", lambda part: 0.0 <= part < 1.0)
        scores, scored = self._scores(scores)
        keys = self.at(np.flatnonzero(self.drawable(scored)))
        group = self.cell(keys) if per_class else self.source(keys)
        group = group.astype(np.min_scalar_type(int(group.max())))  # sorted by radix up to 65,536 groups
        backwards = keys[::-1]  # so that of equal scores the later key comes first
        order = keys.size - 1 - np.argsort(scores[backwards], kind="stable")
        order = order[np.argsort(group[order], kind="stable")]
        _, start, size = np.unique(group[order], return_index=True, return_counts=True)
        # 0.29 of 100 comes out a little below 29.
        dropped = np.minimum(np.floor(size * fraction * (1 + 1e-12)).astype(np.int64), size - 1)
        rank = np.arange(keys.size) - np.repeat(start, size)
        mask = np.ones(self.labels.size, bool)
        mask[keys[order[rank < np.repeat(dropped, size)]]] = False
        return self.keep(mask)

    def _scores(self, scores: Any) -> tuple[np.ndarray, np.ndarray]:
        """The score of each key, and whether it has one: [N], bool [N]; at least one that may be drawn has."""
        scores = self.spread(scores, "scores")
        scored = ~np.isnan(scores)
        if not self.drawable(scored).any():
            raise ValueError("Got no score of any image, expected at least one. Give {source: scores}.")
        return scores, scored

    def keep_above(self, scores: Any, threshold: float) -> "Pool":
        """Keeps of each scored source the images whose score is above a threshold.

        Args:
            scores: see `spread`; a source that is not named, and a single NaN, has no score and stays.
            threshold: finite; a score equal to it is dropped.
        Raises: ValueError: scores that do not fit or are of no image, a threshold that is not finite, or one that
            leaves a scored source without an image.
        """
        check_number("threshold", threshold, "a finite number")
        scores, scored = self._scores(scores)
        kept = self.keep(~scored | (scores > threshold))
        for s, (name, num_images) in enumerate(zip(self.source_names, kept.counts().sum(1), strict=True)):
            if not num_images:
                highest = np.nanmax(scores[self.offsets[s] : self.offsets[s + 1]])
                raise ValueError(
                    f"Got a threshold of {threshold:g}, above which no score of {name!r} lies (the highest is "
                    f"{highest:g}), expected one that leaves an image. Lower it."
                )
        return kept

    @cached_property
    def digest(self) -> str:
        """A content address of the names, classes, labels and kept keys (not of the images)."""
        header = repr((self.source_names, self.class_names, self.offsets.tolist(), str(self.labels.dtype)))
        kept = b"" if self.kept is None else self.kept.astype("<i8").tobytes()
        return hashlib.sha256(header.encode() + self.labels.tobytes() + kept).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        """Pools are equal when their digests are."""
        return self is other or (isinstance(other, Pool) and self.digest == other.digest)

    def __hash__(self) -> int:
        """Follows the digest."""
        return int(self.digest, 16)

    def __repr__(self) -> str:
        """Names every source with its size, the number of classes and the digest of the labels."""
        sizes = {n: int(s) for n, s in zip(self.source_names, np.diff(self.offsets), strict=True)}
        kept = "" if self.kept is None else f", kept={self.kept.size}"
        return f"Pool({sizes}{kept}, num_classes={len(self.class_names)}, digest={self.digest!r})"
