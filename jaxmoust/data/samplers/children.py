"""Real images, each now and then replaced by one of the synthetic images that were made from it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxmoust.data.checks import check_number
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.base import Sampler, check_range
from jaxmoust.data.samplers.permutation import fold, make_key, shuffled
from jaxmoust.data.source import Lineage


@dataclass(frozen=True, eq=False, repr=False)
class Children(Sampler):
    """Draws each real image once an epoch, and with probability p one of its own children in its place.

    The children of a real image are the synthetic images of all sets that were made from it, whatever their strength,
    each as likely as the others; a real image without any is drawn itself. Whether a draw is replaced, and by which
    child, is a hash of its position. The first draw sorts the children by their parents, once.

    Args:
        pool: the images; the first source is the real ones.
        parents: set -> what its images were made from; every set of the pool is named.
        p: probability of a child, 0 to 1.
        seed: 0 <= seed < 2^63.
    Raises: ValueError: a p out of range, a set without parents, parents in another data set, or a bad seed.
    Source: Trabucco et al. 2023 (2302.07944), Sec. 4 (DA-Fusion), whose alpha p is.
    """

    pool: Pool
    parents: Mapping[str, Lineage]
    p: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the fields."""
        p = check_number("p", self.p, "a probability, 0 <= p <= 1", lambda p: 0.0 <= p <= 1.0)
        real, sets = self.pool.source_names[0], self.pool.source_names[1:]
        if unknown := [name for name in sets if name not in self.parents] or (["any set"] if not sets else []):
            raise ValueError(
                f"Got no parents of {unknown}, expected those of every set. Mix sets that were sampled from real "
                "images (from_real=True), or choose another sampler."
            )
        num_real = int(self.pool.offsets[1])
        for name in sets:
            lineage, size = self.parents[name], int(np.diff(self.pool.offsets)[self.pool.source_names.index(name)])
            digest = self.pool.sources[0].digest if self.pool.sources else lineage.data
            of = np.asarray(lineage.parents)
            if lineage.data != digest or of.shape != (size,) or not (of.min() >= 0 and of.max() < num_real):
                raise ValueError(
                    f"Got the set {name!r}, whose images have parents in another data set ({lineage.data}) than "
                    f"{real!r} ({digest}, {num_real} images). They may be test images here. Sample the set from this "
                    "base set: the same source, n_base, base_seed and validation, and copies=1."
                )
        self._set(p=p, parents={name: self.parents[name] for name in sets})

    @cached_property
    def _family(self) -> tuple[np.ndarray, np.ndarray]:
        """The children's places in the pool, those of a parent together, and where each parent's begin.

        Returns: (uint32 [children], to be read by `Pool.at`; int64 [R + 1]).
        """
        low, high, num_real = int(self.pool.bounds[1]), self.pool.num_kept, int(self.pool.offsets[1])
        parents = np.concatenate([np.asarray(of.parents, np.int64) for of in self.parents.values()])
        if self.pool.kept is not None:
            parents = parents[self.pool.kept[low:] - num_real]
        starts = np.concatenate([[0], np.cumsum(np.bincount(parents, minlength=num_real))])
        both = parents << 32 | np.arange(low, high)  # numpy sorts words several times as fast as it sorts by them
        both.sort()
        return (both & 0xFFFFFFFF).astype(np.uint32), starts

    def _draw(self, position: np.ndarray) -> np.ndarray:
        keys = self.pool.at(shuffled(position, int(self.pool.bounds[1]), make_key(self.seed, 2, 0)))
        children, starts = self._family
        chance = (fold(make_key(self.seed, 10), position) >> np.uint64(11)) * 2.0**-53
        mine = np.flatnonzero(chance < self.p)
        count = starts[keys[mine] + 1] - starts[keys[mine]]
        if not count.all():  # of those without children the real image itself
            mine, count = mine[count > 0], count[count > 0]
        which = fold(make_key(self.seed, 11), position[mine]) >> np.uint64(32)
        child = (which * count.astype(np.uint64)) >> np.uint64(32)
        keys[mine] = self.pool.at(children[starts[keys[mine]] + child.astype(np.int64)].astype(np.int64))
        return keys

    def expected(self, start: int, stop: int) -> np.ndarray:
        """The expected number of draws per source and class: float64 [S, K]."""
        check_range(start, stop)
        return (stop - start) * self._parts

    @cached_property
    def _parts(self) -> np.ndarray:
        """The part of the draws that each source and class takes: float64 [S, K]."""
        children, starts = self._family
        real = self.pool.at(np.arange(int(self.pool.bounds[1])))
        count, drawn = np.diff(starts), np.zeros(int(self.pool.offsets[1]))
        drawn[real] = 1 / real.size
        passed_on = np.where(count > 0, self.p * drawn, 0.0)
        shares = np.repeat(passed_on / np.maximum(count, 1), count)
        mass, shape = np.concatenate([(drawn - passed_on)[real], shares]), self.pool.counts().shape
        cell = self.pool.cell(np.concatenate([real, self.pool.at(children)]))
        return np.bincount(cell, mass, shape[0] * shape[1]).reshape(shape)

    def __repr__(self) -> str:
        """Names the pool, a digest of the parents, p and the seed."""
        hasher = hashlib.sha256()
        for name, of in self.parents.items():
            hasher.update(repr((name, of.data)).encode() + np.ascontiguousarray(of.parents, "<i8").tobytes())
        digest = hasher.hexdigest()[:16]
        return f"Children(pool={self.pool!r}, parents={digest!r}, p={self.p!r}, seed={self.seed!r})"
