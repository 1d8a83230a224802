"""What every sampler is: the face that Grain and the loader see, and the walk that most samplers share.

A sampler answers "which image is the i-th draw?" for any i >= 0 at the same cost, so that seeking and resuming
take no time and no state but the position itself. Starting takes none either, but where a sampler must know the
pool's images one by one: their classes (by_class.py), weights or scores (by_score.py). `sampler[i]` is what Grain's
DataLoader asks for; `sampler.keys(start, stop)` is the same for a whole batch. Samplers know labels and sources,
never images.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import grain
import numpy as np
from numpy.random.bit_generator import ISeedSequence

from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.permutation import make_key, shuffled
from jaxmoust.data.samplers.quota import Quota, StagedQuota

CHUNK = 1 << 16  # draws worked on at a time: the temporaries stay in the cache
_LAST = 2**63 - 1  # positions are below it
_BLOCK = 256  # draws computed at once for the scalar face
_LEAST_SHARE = 1e-9  # quotas are fractions with denominators below 2^31
_SHARE_TOLERANCE = 1e-6  # ten shares written with seven digits may miss 1 by this much


@runtime_checkable
class Sampler(Protocol):
    """What the loader needs of a sampler."""

    pool: Pool
    seed: int

    def __getitem__(self, i: int) -> grain.RecordMetadata:
        """The i-th draw."""

    def keys(self, start: int, stop: int) -> np.ndarray:
        """The draws start <= i < stop: int64 [stop - start]."""

    def expected(self, start: int, stop: int) -> np.ndarray:
        """The expected number of draws per source and class: float64 [S, K]."""


def draw_rng(seed: int, position: int) -> np.random.Generator:
    """The generator of one draw, keyed by the pair (seed, position): no two pairs share a stream."""
    return np.random.Generator(np.random.Philox(_Key(seed, position)))


class _Key(ISeedSequence):
    """Gives Philox its key, as Philox(key=...) does; that one asks the system for entropy first, which is slow."""

    def __init__(self, *words: int) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: type = np.uint32) -> np.ndarray:
        """The key."""
        return np.array(self._words, np.uint64)


def check_seed(seed: int) -> int:
    """Returns the seed as a plain integer, which is the same in every repr.

    Raises: ValueError: not an integer in [0, 2^63).
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise ValueError(f"Got the seed {seed!r}, allowed is an integer from 0 to 2^63 - 1: choose another.")
    return int(seed)


def check_range(start: int, stop: int) -> None:
    """Raises: ValueError: not a range of positions."""
    if not 0 <= start <= stop <= _LAST:
        raise ValueError(f"Got draws {start} to {stop}, allowed is 0 <= start <= stop < 2^63: correct the range.")


class Draws:
    """The scalar face, shared by every sampler: what `keys` says of one position.

    A sampler is a frozen dataclass; pickled, it is its fields, and what it worked out from them stays behind.

    The block of draws around the last one asked for is kept, so that a walk through the draws (by Grain's
    DataLoader, say) pays for numpy's overhead once a block. It is a cache: it changes no answer.
    """

    def __getitem__(self, i: int) -> grain.RecordMetadata:
        """The i-th draw: its key in the pool and a generator of its own, keyed by (seed, i)."""
        i = operator.index(i)
        if not 0 <= i < _LAST:
            raise IndexError(f"Got draw {i}, allowed are 0 to 2^63 - 2: a sampler has no end to count from.")
        start, keys = self.__dict__.get("_block", (0, ()))
        if not start <= i < start + len(keys):
            start = i - i % _BLOCK
            keys = self.keys(start, min(start + _BLOCK, _LAST)).tolist()
            self.__dict__["_block"] = (start, keys)  # one assignment: threads see the old or the new
        return grain.RecordMetadata(index=i, record_key=keys[i - start], rng=draw_rng(self.seed, i))

    def _hold(self, **values: Any) -> None:
        """Sets fields at birth, in the one form that their repr and hash are made of."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


class QuotaDraws(Draws, ABC):
    """Samplers that first choose a group, evenly spread, and then an image of it.

    A quota says which group takes a draw and how many it had before; that rank is the position in the group's own
    endless walk through permutations, so that images are drawn without replacement. A group is a source of the pool
    or, where no shares are given, all of them together (group 0).
    """

    pool: Pool
    seed: int

    @property
    @abstractmethod
    def _quota(self) -> Quota | StagedQuota:
        """Which group takes which draw."""

    @abstractmethod
    def _within(self, group: int, rank: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The keys that a group gives for its own rank-th draws [n], which are the draws position [n]."""

    def keys(self, start: int, stop: int) -> np.ndarray:
        """The draws start <= i < stop: int64 [stop - start]."""
        check_range(start, stop)
        keys = np.empty(stop - start, np.int64)
        for first in range(start, stop, CHUNK):
            position = np.arange(first, min(first + CHUNK, stop))
            group, rank = self._quota.locate(position)
            part = keys[first - start : first - start + position.size]
            for g in self._quota.groups:
                mine = slice(None) if self._quota.groups.size == 1 else np.flatnonzero(group == g)
                if part[mine].size:
                    part[mine] = self._within(int(g), rank[mine], position[mine])
        return keys

    def walk(self, source: int, rank: np.ndarray) -> np.ndarray:
        """The rank-th draws of a source's own permutations."""
        low, high = (int(bound) for bound in self.pool.bounds[source : source + 2])
        return self.pool.at(low + shuffled(rank, high - low, make_key(self.seed, 2, source)))


def checked_shares(pool: Pool, shares: Mapping[str, float], where: str = "") -> dict[str, float]:
    """Returns shares in the pool's order of sources.

    Raises: ValueError: shares that do not name the pool's sources, are no shares, do not sum to 1, or ask for a
        source that filters left empty.
    """
    if not isinstance(shares, Mapping) or not all(isinstance(share, Real) for share in shares.values()):
        raise ValueError(f"Got shares {shares!r}{where}, allowed is a number for each source: give {{source: share}}.")
    shares = {name: float(share) for name, share in shares.items()}
    if set(shares) != set(pool.source_names):
        raise ValueError(
            f"Got shares{where} for {sorted(shares)}, allowed is one for each of the pool's sources "
            f"{sorted(pool.source_names)}: name each of them (0 means never drawn)."
        )
    if not all(share == 0.0 or _LEAST_SHARE <= share <= 1.0 for share in shares.values()):  # refuses NaN too
        raise ValueError(
            f"Got shares {shares}{where}, allowed are numbers from 0 to 1, of which none but 0 is below "
            f"{_LEAST_SHARE}: correct them."
        )
    if abs(sum(shares.values()) - 1.0) > _SHARE_TOLERANCE:
        raise ValueError(
            f"Got shares {shares}{where} that sum to {sum(shares.values())!r}, allowed is a sum of 1 (to within "
            f"{_SHARE_TOLERANCE}): divide each by the sum."
        )
    sizes = dict(zip(pool.source_names, np.diff(pool.bounds), strict=True))
    if empty := [name for name, share in shares.items() if share > 0 and not sizes[name]]:
        raise ValueError(f"Got shares{where} of {empty}, of which filters left no image: loosen the filter or set 0.")
    return {name: shares[name] for name in pool.source_names}


def proportions(pool: Pool) -> np.ndarray:
    """The part of each class in each source: float64 [S, K]; zeros for an empty source."""
    counts = pool.counts()
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)
