"""The order of draws: pure functions of a position.

A sampler answers "which image is the i-th draw?" for any i >= 0 at the same cost, so that starting, seeking
and resuming take no time and no state but the position itself. `sampler[i]` is what Grain's DataLoader asks
for; `sampler.keys(start, stop)` is the same for a whole batch. Samplers know labels and sources, never images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol, runtime_checkable

import grain
import numpy as np

from jaxmoust.data.permutation import make_key, shuffled
from jaxmoust.data.pool import Pool

_MAX_DENOMINATOR = 2**31 - 1  # position % denominator * numerator stays below 2^62
_BLOCK = 256  # draws computed at once for the scalar face
_CHUNK = 1 << 15  # draws worked on at a time: the temporaries stay in the cache
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
    return np.random.Generator(np.random.Philox(key=np.array([seed, position], np.uint64)))


def _check_seed(seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise ValueError(f"Got the seed {seed!r}, allowed is an integer from 0 to 2^63 - 1: choose another.")


def _check_range(start: int, stop: int) -> None:
    if not 0 <= start <= stop < 2**63:
        raise ValueError(f"Got draws {start} to {stop}, allowed is 0 <= start <= stop < 2^63: correct the range.")


class _Draws:
    """The scalar face, shared by every sampler: what `keys` says of one position.

    The block of draws around the last one asked for is kept, so that a walk through the draws (by Grain's
    DataLoader, say) pays for numpy's overhead once a block. It is a cache: it changes no answer.
    """

    def __getitem__(self, i: int) -> grain.RecordMetadata:
        """The i-th draw: its key in the pool and a generator of its own, keyed by (seed, i)."""
        i = int(i)
        if i < 0:
            raise IndexError(f"Got draw {i}, allowed are 0 and up: a sampler has no end to count from.")
        start, keys = self.__dict__.get("_block", (0, ()))
        if not start <= i < start + len(keys):
            start = i - i % _BLOCK
            keys = self.keys(start, min(start + _BLOCK, 2**63 - 1)).tolist()
            self.__dict__["_block"] = (start, keys)  # one assignment: threads see the old or the new
        return grain.RecordMetadata(index=i, record_key=keys[i - start], rng=draw_rng(self.seed, i))


@dataclass(frozen=True)
class Random(_Draws):
    """Draws each image of the pool exactly once an epoch, in a new order each epoch.

    The study's own way of mixing (concatenate, shuffle): a source's share is its share of the images.

    Attributes:
        pool: the images.
        seed: 0 <= seed < 2^63.
    """

    pool: Pool
    seed: int

    def __post_init__(self) -> None:
        """Raises: ValueError: a seed that is not an integer in range."""
        _check_seed(self.seed)

    def keys(self, start: int, stop: int) -> np.ndarray:
        """The draws start <= i < stop: int64 [stop - start]."""
        _check_range(start, stop)
        return shuffled(np.arange(start, stop), len(self.pool), make_key(self.seed, 0))

    def expected(self, start: int, stop: int) -> np.ndarray:
        """The expected number of draws per source and class: float64 [S, K]."""
        return (stop - start) * self.pool.counts() / len(self.pool)


@dataclass(frozen=True)
class Share(_Draws):
    """Draws a fixed share from each source, evenly spread, whatever the sources' sizes.

    In every prefix of n draws the count of each of the S sources is within S of n times its share. Each
    source walks through permutations of its own, so that its images come equally often, up to one.

    The sources are split off one at a time: of the first m draws that fall to sources k, k + 1, ..., source k
    takes floor(m * r_k + phase_k), r_k being its share of what is left. Each split is off by less than one
    draw, hence the bound. r_k is held as the nearest fraction with a denominator below 2^31 and the rest is
    integer arithmetic, hence no drift at any position: 0.5 stays 1/2 and 0.333333333333 is taken for 1/3.

    Attributes:
        pool: the images.
        shares: source name -> share >= 0; they sum to 1. A source of share 0 is never drawn; every source of
            the pool must be named, so that none is forgotten in silence.
        seed: 0 <= seed < 2^63.
    """

    pool: Pool
    shares: Mapping[str, float]
    seed: int
    # Per split: source, numerator and denominator of its share of what is left, and phase.
    _splits: tuple[tuple[int, int, int, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises: ValueError: shares that do not fit the pool or do not sum to 1, or a bad seed."""
        _check_seed(self.seed)
        shares = {name: float(share) for name, share in dict(self.shares).items()}
        if set(shares) != set(self.pool.source_names):
            raise ValueError(
                f"Got shares for {sorted(shares)}, allowed is one for each of the pool's sources "
                f"{sorted(self.pool.source_names)}: name each of them (0 means never drawn)."
            )
        if not all(0.0 <= share <= 1.0 for share in shares.values()):  # refuses NaN too
            raise ValueError(f"Got shares {shares}, allowed are numbers from 0 to 1: correct them.")
        if abs(sum(shares.values()) - 1.0) > _SHARE_TOLERANCE:
            raise ValueError(
                f"Got shares {shares} that sum to {sum(shares.values())!r}, allowed is a sum of 1 (to within "
                f"{_SHARE_TOLERANCE}): divide each by the sum."
            )
        object.__setattr__(self, "shares", {name: shares[name] for name in self.pool.source_names})
        object.__setattr__(self, "_splits", self._make_splits())

    def __hash__(self) -> int:
        """Follows the fields (a dict has no hash of its own)."""
        return hash((self.pool, tuple(self.shares.items()), self.seed))

    def _make_splits(self) -> tuple[tuple[int, int, int, int], ...]:
        exact = {s: Fraction(share) for s, share in enumerate(self.shares.values()) if share > 0}
        left, splits = sum(exact.values()), []
        for s, share in exact.items():
            # A third comes as a float; the nearest fraction of a 31-bit denominator is 1/3 again.
            part = (share / left).limit_denominator(_MAX_DENOMINATOR)
            phase = make_key(self.seed, 1, s) % part.denominator
            splits.append((s, part.numerator, part.denominator, phase))
            left -= share
        return tuple(splits)

    def keys(self, start: int, stop: int) -> np.ndarray:
        """The draws start <= i < stop: int64 [stop - start]."""
        _check_range(start, stop)
        keys = np.empty(stop - start, np.int64)
        for first in range(start, stop, _CHUNK):
            last = min(first + _CHUNK, stop)
            keys[first - start : last - start] = self._keys(np.arange(first, last))
        return keys

    def _keys(self, position: np.ndarray) -> np.ndarray:
        keys = np.empty(position.size, np.int64)
        which, num_before = np.arange(position.size), position.astype(np.uint64)
        for s, numerator, denominator, phase in self._splits:
            rank, next_rank = (_quota(m, numerator, denominator, phase) for m in (num_before, num_before + 1))
            taken = next_rank > rank
            if taken.any():
                low, high = (int(offset) for offset in self.pool.offsets[s : s + 2])
                place = shuffled(rank[taken].astype(np.int64), high - low, make_key(self.seed, 2, s))
                keys[which[taken]] = low + place
            which, num_before = which[~taken], (num_before - rank)[~taken]
        return keys

    def expected(self, start: int, stop: int) -> np.ndarray:
        """The expected number of draws per source and class: float64 [S, K]."""
        counts = self.pool.counts()
        shares = np.array(list(self.shares.values()))
        return (stop - start) * shares[:, None] * counts / counts.sum(1, keepdims=True)


def _quota(num_draws: np.ndarray, numerator: int, denominator: int, phase: int) -> np.ndarray:
    """floor((num_draws * numerator + phase) / denominator), exact for uint64 [n] below 2^63."""
    d = np.uint64(denominator)
    periods = num_draws // d
    rest = num_draws - periods * d
    return periods * np.uint64(numerator) + (rest * np.uint64(numerator) + np.uint64(phase)) // d
