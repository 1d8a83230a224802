"""What every sampler is: the interface for Grain and the loader, and the sequence of permutations that most share.

A sampler answers "which image is the i-th draw?" for any i >= 0 at the same cost, so that seeking and resuming
take no time and no state but the position itself. Starting takes none either, but where a sampler must know the
pool's images one by one: their classes (class_balanced.py), weights or scores (score_based.py). `sampler[i]` is what
Grain's DataLoader asks for; `sampler.keys(start, stop)` is the same for a whole batch. Samplers know labels and
sources, never images.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from numbers import Real
from typing import Any, cast

import grain
import numpy as np
from numpy.random.bit_generator import ISeedSequence

from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.permutation import make_key, shuffled
from jaxmoust.data.samplers.quota import Quota, StagedQuota

_CHUNK = 1 << 16  # draws worked on at a time: the temporaries stay in the cache
_LAST = 2**63 - 1  # positions are below it
_BLOCK = 256  # draws computed at once for the scalar face
_LEAST_SHARE = 1e-9  # quotas are fractions with denominators below 2^31
_SHARE_TOLERANCE = 1e-6  # ten shares written with seven digits may miss 1 by this much


def draw_rng(seed: int, position: int) -> np.random.Generator:
    """The generator of one draw, keyed by the pair (seed, position): no two pairs share a stream."""
    return np.random.Generator(np.random.Philox(cast(np.random.SeedSequence, _Key(seed, position))))


class _Key(ISeedSequence):
    """Gives Philox its key, as Philox(key=...) does; that one asks the system for entropy first, which is slow."""

    def __init__(self, *words: int) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        """The key."""
        return np.array(self._words, np.uint64)


def check_range(start: int, stop: int) -> None:
    """Raises: ValueError: not a range of positions."""
    if not 0 <= start <= stop <= _LAST:
        raise ValueError(f"Got draws {start} to {stop}, expected 0 <= start <= stop < 2^63. Correct the range.")


class Sampler(ABC):
    """What the loader needs of a sampler; a subclass is a frozen dataclass that compares by its repr.

    Pickled, a sampler is its fields, and what it worked out from them (names that begin with _) stays behind.
    """

    pool: Pool
    seed: int

    @abstractmethod
    def _draw(self, position: np.ndarray) -> np.ndarray:
        """The keys of the draws at ascending positions int64 [n], as many as are worked on at a time."""

    def keys(self, start: int, stop: int) -> np.ndarray:
        """The draws start <= i < stop: int64 [stop - start]."""
        check_range(start, stop)
        keys = np.empty(stop - start, np.int64)
        for first in range(start, stop, _CHUNK):
            last = min(first + _CHUNK, stop)
            keys[first - start : last - start] = self._draw(np.arange(first, last))
        return keys

    @abstractmethod
    def expected(self, start: int, stop: int) -> np.ndarray:
        """The expected number of draws per source and class: float64 [S, K]."""

    def __getitem__(self, i: int) -> grain.RecordMetadata:
        """The i-th draw: its key in the pool and a generator of its own, keyed by (seed, i).

        The block of draws around the last one asked for is kept, so that iterating over the draws (by Grain's
        DataLoader, say) pays for numpy's overhead once a block. It is a cache: it changes no answer.
        """
        i = operator.index(i)
        if not 0 <= i < _LAST:
            raise IndexError(f"Got draw {i}, expected 0 to 2^63 - 2. A sampler has no end to count from.")
        start, keys = self.__dict__.get("_block", (0, ()))
        if not start <= i < start + len(keys):
            start = i - i % _BLOCK
            keys = self.keys(start, min(start + _BLOCK, _LAST)).tolist()
            self.__dict__["_block"] = (start, keys)  # one assignment: threads see the old or the new
        return grain.RecordMetadata(index=i, record_key=keys[i - start], rng=draw_rng(self.seed, i))

    def _set(self, **values: Any) -> None:
        """Sets fields on construction, in the one form that their repr and hash are made of; the seed always."""
        if isinstance(self.seed, bool) or not isinstance(self.seed, int | np.integer) or not 0 <= self.seed < 2**63:
            raise ValueError(f"Got the seed {self.seed!r}, expected an integer from 0 to 2^63 - 1. Choose another.")
        for name, value in {"seed": int(self.seed), **values}.items():
            object.__setattr__(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __eq__(self, other: object) -> bool:
        """Equal when all fields are: the repr is complete."""
        return self is other or (type(self) is type(other) and repr(self) == repr(other))

    def __hash__(self) -> int:
        """Follows the repr."""
        return hash(repr(self))


class QuotaSampler(Sampler):
    """Samplers that first choose a group, evenly spread, and then an image of it.

    A quota says which group takes a draw and how many it had before; that rank is the position in the group's own
    endless sequence of permutations, so that images are drawn without replacement. A group is a source of the pool
    or, where no shares are given, all of them together (group 0).
    """

    @property
    @abstractmethod
    def _quota(self) -> Quota | StagedQuota:
        """Which group takes which draw."""

    def _within(self, group: int, rank: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The keys that a group gives for its own rank-th draws [n], which are the draws position [n].

        Here: those of a source's own permutations.
        """
        low, high = self.pool.bounds[group : group + 2].tolist()
        return self.pool.at(low + shuffled(rank, high - low, make_key(self.seed, 2, group)))

    def _draw(self, position: np.ndarray) -> np.ndarray:
        group, rank = self._quota.locate(position)
        groups = self._quota.groups.tolist()
        if len(groups) == 1:
            return self._within(groups[0], rank, position)
        keys = np.empty(position.size, np.int64)
        for g in groups:
            mine = np.flatnonzero(group == g)
            if mine.size:
                keys[mine] = self._within(g, rank[mine], position[mine])
        return keys

    def expected(self, start: int, stop: int) -> np.ndarray:
        """The expected number of draws per source and class: float64 [S, K]."""
        check_range(start, stop)
        counts = self.pool.counts()  # an empty source takes no draw
        return self._quota.expected(start, stop)[:, None] * (counts / np.maximum(counts.sum(1, keepdims=True), 1))


class ShareSampler(QuotaSampler):
    """Samplers whose groups are the sources, each with a fixed share; or one group of all images, without shares."""

    shares: Mapping[str, float] | None

    def _set(self, **values: Any) -> None:
        """Sets fields on construction; the seed and the shares, if there are any, always."""
        shares = None if self.shares is None else checked_shares(self.pool, self.shares)
        super()._set(shares=shares, **values)

    @cached_property
    def _quota(self) -> Quota:
        return Quota([1.0] if self.shares is None else list(self.shares.values()), self.seed, 1)


def checked_shares(pool: Pool, shares: Mapping[str, float], where: str = "") -> dict[str, float]:
    """Returns shares in the pool's order of sources.

    Raises: ValueError: shares that do not name the pool's sources, are no shares, do not sum to 1, or ask for a
        source that filters left empty.
    """
    if not isinstance(shares, Mapping) or not all(isinstance(share, Real) for share in shares.values()):
        raise ValueError(f"Got shares {shares!r}{where}, expected a number for each source. Give {{source: share}}.")
    shares = {name: float(share) for name, share in shares.items()}
    if set(shares) != set(pool.source_names):
        raise ValueError(
            f"Got shares{where} for {sorted(shares)}, expected one for each of the pool's sources "
            f"{sorted(pool.source_names)}. Name each of them (0 means never drawn)."
        )
    if not all(share == 0.0 or _LEAST_SHARE <= share <= 1.0 for share in shares.values()):  # refuses NaN too
        allowed = f"numbers from 0 to 1, of which none but 0 is below {_LEAST_SHARE}"
        raise ValueError(f"Got shares {shares}{where}, expected {allowed}.")
    if abs(sum(shares.values()) - 1.0) > _SHARE_TOLERANCE:
        total = f"{sum(shares.values())!r}, expected a sum of 1 (to within {_SHARE_TOLERANCE})."
        raise ValueError(f"Got shares {shares}{where} that sum to {total}. Divide each by the sum.")
    sizes = dict(zip(pool.source_names, np.diff(pool.bounds), strict=True))
    if empty := [name for name, share in shares.items() if share > 0 and not sizes[name]]:
        raise ValueError(f"Got shares{where} of {empty}, of which filters left no image. Loosen the filter or set 0.")
    return {name: shares[name] for name in pool.source_names}
