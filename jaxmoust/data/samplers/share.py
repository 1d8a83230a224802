"""A fixed share of each source in every batch, whatever the sources' sizes."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.base import ShareSampler, checked_shares


@dataclass(frozen=True, eq=False)
class Share(ShareSampler):
    """Draws a fixed share from each source, evenly spread, whatever the sources' sizes.

    In every prefix of n draws the count of each of the S sources is within S of n times its share. Each
    source goes through permutations of its own, so that its images come equally often, up to one.

    Args:
        pool: the images.
        shares: source name -> share >= 0; they sum to 1. A source of share 0 is never drawn; every source of
            the pool must be named, so that none is forgotten in silence.
        seed: 0 <= seed < 2^63.
    Raises: ValueError: shares that do not fit the pool or do not sum to 1, or a bad seed.
    """

    pool: Pool
    shares: Mapping[str, float]
    seed: int

    def __post_init__(self) -> None:
        """Checks the shares, which must be given, and brings them into the pool's order."""
        checked_shares(self.pool, self.shares)
        self._set()
