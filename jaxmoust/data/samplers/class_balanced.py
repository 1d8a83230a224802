"""Samplers that set how often each class is drawn: by a power of its size, its effective number, or progressively."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from jaxmoust.data.checks import check_number, check_whole
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.base import ShareSampler, check_range
from jaxmoust.data.samplers.permutation import make_key, shuffled
from jaxmoust.data.samplers.quota import Quota, StagedQuota, stage_overlaps
from jaxmoust.data.samplers.schedules import equal_starts

_NUM_BLENDS = 100  # stages of Progressive
_BITS = 24  # significant bits of weights that are no whole numbers
_MAX_POWER = 10


class _ByClass(ShareSampler):
    """Samplers that choose a source (if shares are given), then a class, then an image, each evenly spread.

    Inside a class every image is drawn once before any is drawn again. The first draw needs the pool's index by class,
    which all samplers of the pool share (a radix sort of the labels, 4 bytes an image, held).
    """

    @abstractmethod
    def _weight(self, size: int) -> Fraction:
        """The weight of a class that has size >= 1 images."""

    def _check(self) -> None:
        self._set()
        drawn = self._sizes[self._quota.groups].sum(0)
        if missing := [name for name, n in zip(self.pool.class_names, drawn, strict=True) if not n]:
            raise ValueError(
                f"Got no image of the classes {missing} in the sources that are drawn from, expected at least one of "
                f"each class. Add images, or leave these classes out of class_names."
            )

    @cached_property
    def _sizes(self) -> np.ndarray:
        """The images of each class in each group: int64 [groups, K]."""
        counts = self.pool.counts()
        return counts.sum(0, keepdims=True) if self.shares is None else counts

    @cached_property
    def _quotas(self) -> dict[int, Quota]:
        """How each group shares out its draws between the classes."""
        sizes = {g: self._sizes[g].tolist() for g in self._quota.groups.tolist()}
        return {g: Quota([self._weight(n) if n else 0 for n in row], self.seed, 4, g) for g, row in sizes.items()}

    @cached_property
    def _walks(self) -> dict[int, np.ndarray]:
        """What the permutations of each class of each group are keyed by."""
        labels = range(len(self.pool.class_names))
        return {g: np.array([make_key(self.seed, 5, g, c) for c in labels], np.uint64) for g in self._quotas}

    def _pick(self, group: int, label: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """The keys of the rank-th draws [n] of classes label [n] in a group."""
        keys, bounds = self.pool.by_class
        place = shuffled(rank, self._sizes[group][label], self._walks[group][label])
        return keys[bounds[label, group] + place].astype(np.int64)

    def _within(self, group: int, rank: np.ndarray, position: np.ndarray) -> np.ndarray:
        label, class_rank = self._quotas[group].locate(rank)
        return self._pick(group, label, class_rank)

    def _class_draws(self, group: int, start: int, stop: int) -> np.ndarray:
        """The expected draws of each class that fall to a group: float64 [K]."""
        return (stop - start) * self._quota.parts[group] * self._quotas[group].parts

    def expected(self, start: int, stop: int) -> np.ndarray:
        """The expected number of draws per source and class: float64 [S, K]."""
        check_range(start, stop)
        counts, expected = self.pool.counts(), np.zeros(self.pool.counts().shape)
        for g in self._quotas:
            part = self._class_draws(g, start, stop)
            rows = slice(None) if self.shares is None else slice(g, g + 1)
            expected[rows] = part * counts[rows] / np.maximum(counts[rows].sum(0), 1)
        return expected


@dataclass(frozen=True, eq=False)
class ClassPower(_ByClass):
    """Draws class c with probability proportional to n_c^power, n_c being its number of images.

    Args:
        pool: the images.
        power: 1 draws images alike (instance-balanced), 0 classes alike, 0.5 in between (square-root); -10 to 10.
        shares: source name -> share, as in `Share`; n_c then counts inside a source, and a class that a source
            does not hold gets nothing from it. None: the pool is taken as one set.
        seed: 0 <= seed < 2^63.
    Raises: ValueError: a power out of range, a class without images, bad shares or seed.
    Source: Kang et al. 2020 (1910.09217), Eq. 1.
    """

    pool: Pool
    power: float = 0.5
    shares: Mapping[str, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the fields."""
        allowed = f"-{_MAX_POWER} to {_MAX_POWER}, such as 1, 0.5 or 0"
        power = check_number("power", self.power, allowed, lambda power: abs(power) <= _MAX_POWER)
        object.__setattr__(self, "power", power)
        self._check()

    def _weight(self, size: int) -> Fraction:
        return Fraction(int(size**self.power)) if self.power in (0, 1) else _rounded(size**self.power)


@dataclass(frozen=True, eq=False)
class EffectiveNumber(_ByClass):
    """Draws class c in proportion to n_c (1 - beta) / (1 - beta^n_c): images weighted by 1 / effective number.

    Args:
        pool: the images.
        beta: 0 (images alike) up to, not including, 1 (which would draw classes alike).
        shares: source name -> share, as in `ClassPower`; None: the pool is taken as one set.
        seed: 0 <= seed < 2^63.
    Raises: ValueError: beta out of range, a class without images, bad shares or seed.
    Source: Cui et al. 2019 (1901.05555), Eq. 2 and section 4.
    """

    pool: Pool
    beta: float = 0.9999
    shares: Mapping[str, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the fields."""
        beta = check_number("beta", self.beta, "0 <= beta < 1, such as 0.9999", lambda beta: 0.0 <= beta < 1.0)
        object.__setattr__(self, "beta", beta)
        self._check()

    def _weight(self, size: int) -> Fraction:
        # expm1 keeps the digits of 1 - beta^n when beta is close to 1.
        log_beta = math.log(self.beta) if self.beta else -math.inf
        return _rounded(size * (1 - self.beta) / -math.expm1(size * log_beta))


@dataclass(frozen=True, eq=False)
class Progressive(_ByClass):
    """Goes from images drawn alike to classes drawn alike: (1 - t) p_instance + t p_balanced at progress t.

    The two kinds of draws are interleaved, and share one sequence of permutations of each class. After `num_draws`
    classes are drawn alike.

    Args:
        pool: the images.
        num_draws: the length of training; t grows in 100 equal steps.
        shares: source name -> share, as in `ClassPower`; None: the pool is taken as one set.
        seed: 0 <= seed < 2^63.
    Raises: ValueError: no length, a class without images, bad shares or seed.
    Source: Kang et al. 2020 (1910.09217), Eq. 3.
    """

    pool: Pool
    num_draws: int
    shares: Mapping[str, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the fields."""
        object.__setattr__(self, "num_draws", check_whole("num_draws", self.num_draws))
        self._check()

    def _weight(self, size: int) -> Fraction:
        return Fraction(size)

    @cached_property
    def _balanced(self) -> dict[int, Quota]:
        return {g: Quota([int(n > 0) for n in self._sizes[g]], self.seed, 6, g) for g in self._quotas}

    @cached_property
    def _blends(self) -> dict[int, StagedQuota]:
        """Which of a group's draws are instance-balanced (0) and which class-balanced (1)."""
        starts, weights = self._table
        return {g: StagedQuota(self._quota.count(starts, g), weights, self.seed, 7, g) for g in self._quotas}

    @cached_property
    def _table(self) -> tuple[np.ndarray, list[tuple[Fraction, Fraction]]]:
        """The first positions of the stages, and what is instance- and class-balanced in each."""
        starts = np.array([*equal_starts(self.num_draws, _NUM_BLENDS), self.num_draws])
        n = starts.size - 1
        times = [Fraction(2 * k + 1, 2 * n) for k in range(n)] + [Fraction(1)]
        return starts, [(1 - t, t) for t in times]

    def _within(self, group: int, rank: np.ndarray, position: np.ndarray) -> np.ndarray:
        kind, kind_rank = self._blends[group].locate(rank)
        label, class_rank = np.empty(rank.shape, np.int64), np.empty(rank.shape, np.int64)
        quotas = (self._quotas[group], self._balanced[group])
        for k, (mine, other) in enumerate((quotas, quotas[::-1])):
            which = np.flatnonzero(kind == k)
            label[which], own = mine.locate(kind_rank[which])
            class_rank[which] = own + other.count(rank[which] - kind_rank[which], label[which])
        return self._pick(group, label, class_rank)

    def _class_draws(self, group: int, start: int, stop: int) -> np.ndarray:
        starts, weights = self._table
        instance, balanced = self._quota.parts[group] * (stage_overlaps(starts, start, stop) @ np.array(weights, float))
        return instance * self._quotas[group].parts + balanced * self._balanced[group].parts


def _rounded(weight: float) -> Fraction:
    """Rounds to 24 significant bits, so that every machine computes with the same weight."""
    mantissa, exponent = math.frexp(weight)
    return Fraction(round(math.ldexp(mantissa, _BITS))) * Fraction(2) ** (exponent - _BITS)
