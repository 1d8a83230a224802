"""The samplers: in which order, and how often, the images of a pool are drawn.

Every one is a pure function of a position (see draws.py): `Random`, the study's baseline; `Share`, a fixed share of
each source; `ClassPower`, `EffectiveNumber` and `Progressive`, the balance of the classes (by_class.py); `Weighted` and
`EasyToHard`, by scores (by_score.py); `Curriculum`, shares that change over training (schedules.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers import schedules
from jaxmoust.data.samplers.base import (
    Draws,
    QuotaDraws,
    Sampler,
    check_range,
    check_seed,
    checked_shares,
    draw_rng,
    proportions,
)
from jaxmoust.data.samplers.class_balanced import ClassPower, EffectiveNumber, Progressive
from jaxmoust.data.samplers.permutation import make_key, shuffled
from jaxmoust.data.samplers.quota import Quota, StagedQuota
from jaxmoust.data.samplers.schedules import Pacing, Ramp, Stage, check_length
from jaxmoust.data.samplers.score_based import EasyToHard, Weighted

__all__ = [
    "ClassPower",
    "Curriculum",
    "EasyToHard",
    "EffectiveNumber",
    "Pacing",
    "Progressive",
    "Ramp",
    "Random",
    "Sampler",
    "Share",
    "Weighted",
    "draw_rng",
]


@dataclass(frozen=True)
class Random(Draws):
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
        self._hold(seed=check_seed(self.seed))

    def keys(self, start: int, stop: int) -> np.ndarray:
        """The draws start <= i < stop: int64 [stop - start]."""
        check_range(start, stop)
        return self.pool.at(shuffled(np.arange(start, stop), self.pool.num_kept, make_key(self.seed, 0)))

    def expected(self, start: int, stop: int) -> np.ndarray:
        """The expected number of draws per source and class: float64 [S, K]."""
        check_range(start, stop)
        return (stop - start) * self.pool.counts() / self.pool.num_kept


@dataclass(frozen=True)
class Share(QuotaDraws):
    """Draws a fixed share from each source, evenly spread, whatever the sources' sizes.

    In every prefix of n draws the count of each of the S sources is within S of n times its share. Each
    source walks through permutations of its own, so that its images come equally often, up to one.

    Attributes:
        pool: the images.
        shares: source name -> share >= 0; they sum to 1. A source of share 0 is never drawn; every source of
            the pool must be named, so that none is forgotten in silence.
        seed: 0 <= seed < 2^63.
    """

    pool: Pool
    shares: Mapping[str, float]
    seed: int

    def __post_init__(self) -> None:
        """Raises: ValueError: shares that do not fit the pool or do not sum to 1, or a bad seed."""
        self._hold(seed=check_seed(self.seed), shares=checked_shares(self.pool, self.shares))

    def __hash__(self) -> int:
        """Follows the fields (a dict has no hash of its own)."""
        return hash((self.pool, tuple(self.shares.items()), self.seed))

    @cached_property
    def _quota(self) -> Quota:
        return Quota(list(self.shares.values()), self.seed, 1)

    def _within(self, group: int, rank: np.ndarray, position: np.ndarray) -> np.ndarray:
        return self.walk(group, rank)

    def expected(self, start: int, stop: int) -> np.ndarray:
        """The expected number of draws per source and class: float64 [S, K]."""
        check_range(start, stop)
        return self._quota.expected(start, stop)[:, None] * proportions(self.pool)


@dataclass(frozen=True)
class Curriculum(QuotaDraws):
    """Draws shares of the sources that change over training; each source goes on with its own permutations.

    Within one draw per stage and doubling of the sources, every stage has its shares exactly; after the last
    stage its shares stay.

    Attributes:
        pool: the images.
        schedule: stages (draws >= 1, {source: share}) in order, a source that a stage does not name having
            share 0 there; or a `Ramp` of the synthetic share. See `schedules.levels` and `schedules.fractions`.
        seed: 0 <= seed < 2^63.
    """

    pool: Pool
    schedule: Ramp | Sequence[Stage]
    seed: int

    @classmethod
    def ramp(
        cls,
        pool: Pool,
        num_draws: int,
        start: float,
        end: float,
        shape: str = "linear",
        num_stages: int = 100,
        real: str = "real",
        seed: int = 0,
    ) -> "Curriculum":
        """A synthetic share from start to end; see `Ramp`."""
        return cls(pool, Ramp(num_draws, start, end, shape, num_stages, real), seed)

    @classmethod
    def levels(
        cls,
        pool: Pool,
        num_draws: int,
        order: Sequence[str],
        real_part: float = 0.5,
        real: str = "real",
        seed: int = 0,
    ) -> "Curriculum":
        """One synthetic source after the other, then real images only; see `schedules.levels`."""
        return cls(pool, schedules.levels(num_draws, order, real_part, real), seed)

    @classmethod
    def parts(
        cls, pool: Pool, num_draws: int, stages: Sequence[tuple[float, Mapping[str, float]]], seed: int = 0
    ) -> "Curriculum":
        """Stages given as parts of training: (part, {source: share}); see `schedules.fractions`."""
        return cls(pool, schedules.fractions(num_draws, stages), seed)

    def __post_init__(self) -> None:
        """Raises: ValueError: no stage, one of no length, shares that do not fit the pool, or a bad seed."""
        self._hold(seed=check_seed(self.seed))
        if isinstance(self.schedule, Ramp):
            self._ramp_weights(0.5)
            return
        stages = schedules.pairs(self.schedule)
        if not stages:
            raise ValueError("Got a curriculum without a stage, allowed is at least one: (draws, {source: share}).")
        checked = []
        for k, (num_draws, shares) in enumerate(stages):
            num_draws = check_length(f"the length of stage {k}", num_draws)
            if unknown := sorted(set(shares) - set(self.pool.source_names)) if isinstance(shares, Mapping) else []:
                raise ValueError(
                    f"Got shares in stage {k} for {unknown}, allowed are the pool's sources "
                    f"{list(self.pool.source_names)}: name some of them."
                )
            full = {**dict.fromkeys(self.pool.source_names, 0.0), **shares} if isinstance(shares, Mapping) else shares
            checked.append((num_draws, checked_shares(self.pool, full, f" in stage {k}")))
        if sum(n for n, _ in checked) >= 2**62:
            raise ValueError("Got stages of 2^62 draws and more together, allowed are fewer: shorten them.")
        self._hold(schedule=tuple(checked))

    def __hash__(self) -> int:
        """Follows the fields (a dict has no hash of its own)."""
        return hash((self.pool, repr(self.schedule), self.seed))

    def _ramp_weights(self, share: float) -> list[float]:
        """Shares out the synthetic share in proportion to the synthetic sources' images."""
        ramp, sizes = self.schedule, np.diff(self.pool.bounds)
        if ramp.real not in self.pool.source_names or len(sizes) < 2 or not sizes.all():
            held = dict(zip(self.pool.source_names, sizes.tolist(), strict=True))
            raise ValueError(
                f"Got a ramp from {ramp.real!r} in a pool of {held}, "
                f"allowed is a pool with that source and at least one more, none of them empty: mix in a synthetic set."
            )
        made = np.array([name != ramp.real for name in self.pool.source_names])
        return np.where(made, share * sizes / sizes[made].sum(), 1.0 - share).tolist()

    @cached_property
    def _quota(self) -> StagedQuota:
        if isinstance(self.schedule, Ramp):
            table = self.schedule.table()
            weights = [self._ramp_weights(share) for _, share in table]
            return StagedQuota([start for start, _ in table], weights, self.seed, 3)
        starts = np.cumsum([0] + [num_draws for num_draws, _ in self.schedule[:-1]])
        return StagedQuota(starts, [list(shares.values()) for _, shares in self.schedule], self.seed, 3)

    def _within(self, group: int, rank: np.ndarray, position: np.ndarray) -> np.ndarray:
        return self.walk(group, rank)

    def expected(self, start: int, stop: int) -> np.ndarray:
        """The expected number of draws per source and class: float64 [S, K]."""
        check_range(start, stop)
        return self._quota.expected(start, stop)[:, None] * proportions(self.pool)
