"""The study's baseline: concatenate all images and shuffle them, anew each epoch."""

from dataclasses import dataclass

import numpy as np

from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.base import Sampler, check_range
from jaxmoust.data.samplers.permutation import make_key, shuffled


@dataclass(frozen=True, eq=False)
class Random(Sampler):
    """Draws each image of the pool exactly once an epoch, in a new order each epoch.

    The study's own way of mixing (concatenate, shuffle): a source's share is its share of the images.

    Args:
        pool: the images.
        seed: 0 <= seed < 2^63.
    Raises: ValueError: a seed that is not an integer in range.
    """

    pool: Pool
    seed: int

    def __post_init__(self) -> None:
        """Checks the seed."""
        self._set()

    def _draw(self, position: np.ndarray) -> np.ndarray:
        return self.pool.at(shuffled(position, self.pool.num_kept, make_key(self.seed, 0)))

    def expected(self, start: int, stop: int) -> np.ndarray:
        """The expected number of draws per source and class: float64 [S, K]."""
        check_range(start, stop)
        return (stop - start) * self.pool.counts() / self.pool.num_kept
