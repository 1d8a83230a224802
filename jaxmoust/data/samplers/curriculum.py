"""Shares of the sources that change over training: a ramp of the synthetic share, levels, or stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxmoust.data.checks import check_whole
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers import schedules
from jaxmoust.data.samplers.base import QuotaSampler, checked_shares
from jaxmoust.data.samplers.quota import StagedQuota
from jaxmoust.data.samplers.schedules import Ramp, Stage
from jaxmoust.data.source import REAL


@dataclass(frozen=True, eq=False)
class Curriculum(QuotaSampler):
    """Draws shares of the sources that change over training; each source goes on with its own permutations.

    Within one draw per stage and doubling of the sources, every stage has its shares exactly; after the last
    stage its shares stay.

    Args:
        pool: the images.
        schedule: stages (draws >= 1, {source: share}) in order, a source that a stage does not name having
            share 0 there; or a `Ramp` of the synthetic share. See `schedules.levels` and `schedules.fractions`.
        seed: 0 <= seed < 2^63.
    Raises: ValueError: no stage, one of no length, shares that do not fit the pool, or a bad seed.
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
        real: str = REAL,
        seed: int = 0,
    ) -> "Curriculum":
        """A synthetic share from start to end; see `Ramp`.

        Args:
            pool: the images.
            num_draws: the length of training.
            start: the synthetic share at the beginning, 0 to 1.
            end: the synthetic share at the end, 0 to 1.
            shape: "linear", "cosine" (slow at both ends) or "steps" (equal plateaus from start to end).
            num_stages: how many stages the ramp is cut into; of "steps", how many plateaus.
            real: the source that is not synthetic.
            seed: 0 <= seed < 2^63.
        """
        return cls(pool, Ramp(num_draws, start, end, shape, num_stages, real), seed)

    @classmethod
    def levels(
        cls,
        pool: Pool,
        num_draws: int,
        order: Sequence[str],
        real_part: float = 0.5,
        real: str = REAL,
        seed: int = 0,
    ) -> "Curriculum":
        """One synthetic source after the other, then real images only; see `schedules.levels`.

        Args:
            pool: the images.
            num_draws: the length of training.
            order: the synthetic sources, one a level, from the one that comes first.
            real_part: the part of training, at its end, that is real; 0 to below 1.
            real: the real source.
            seed: 0 <= seed < 2^63.
        """
        return cls(pool, schedules.levels(num_draws, order, real_part, real), seed)

    @classmethod
    def parts(
        cls, pool: Pool, num_draws: int, stages: Sequence[tuple[float, Mapping[str, float]]], seed: int = 0
    ) -> "Curriculum":
        """Stages given as parts of training; see `schedules.fractions`.

        Args:
            pool: the images.
            num_draws: the length of training.
            stages: (part of training, {source: share}) of each, in order; the parts sum to 1.
            seed: 0 <= seed < 2^63.
        """
        return cls(pool, schedules.fractions(num_draws, stages), seed)

    def __post_init__(self) -> None:
        """Checks the stages and fills in the sources that they do not name."""
        self._set()
        if isinstance(self.schedule, Ramp):
            self._ramp_weights(self.schedule, 0.5)
            return
        stages = []
        for k, (num_draws, shares) in enumerate(schedules.pairs(self.schedule)):
            num_draws = check_whole(f"the length of stage {k}", num_draws)
            if isinstance(shares, Mapping):
                if unknown := sorted(set(shares) - set(self.pool.source_names)):
                    raise ValueError(
                        f"Got shares in stage {k} for {unknown}, expected the pool's sources "
                        f"{list(self.pool.source_names)}. Name some of them."
                    )
                shares = {**dict.fromkeys(self.pool.source_names, 0.0), **shares}
            stages.append((num_draws, checked_shares(self.pool, shares, f" in stage {k}")))
        if not stages:
            raise ValueError("Got a curriculum without a stage, expected at least one: (draws, {source: share}).")
        if sum(num_draws for num_draws, _ in stages) >= 2**62:
            raise ValueError("Got stages of 2^62 draws and more together, expected fewer. Shorten them.")
        self._set(schedule=tuple(stages))

    def _ramp_weights(self, ramp: Ramp, share: float) -> list[float]:
        """Shares out the synthetic share in proportion to the synthetic sources' images."""
        sizes = np.diff(self.pool.bounds)
        if ramp.real not in self.pool.source_names or len(sizes) < 2 or not sizes.all():
            images = dict(zip(self.pool.source_names, sizes.tolist(), strict=True))
            raise ValueError(
                f"Got a ramp from {ramp.real!r} in a pool of {images}, "
                f"expected a pool with that source and at least one more, none of them empty. Mix in a synthetic set."
            )
        synthetic = np.array([name != ramp.real for name in self.pool.source_names])
        return np.where(synthetic, share * sizes / sizes[synthetic].sum(), 1.0 - share).tolist()

    @cached_property
    def _quota(self) -> StagedQuota:
        if isinstance(self.schedule, Ramp):
            starts, shares = zip(*self.schedule.table(), strict=True)
            return StagedQuota(starts, [self._ramp_weights(self.schedule, share) for share in shares], self.seed, 3)
        starts = np.cumsum([0] + [num_draws for num_draws, _ in self.schedule[:-1]]).tolist()
        return StagedQuota(starts, [list(shares.values()) for _, shares in self.schedule], self.seed, 3)
