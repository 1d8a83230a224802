"""Proportional allocation: draws shared out between groups in exact proportion, evenly spread, at any position.

A quota answers two questions in closed form: which group takes the m-th draw, and how many draws that group had
before it. The second lets each group go through its own images without replacement and without a memory. All is exact
integer arithmetic: no drift at any position, the same on every machine. Knows no images.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np

from jaxmoust.data.samplers.permutation import make_key

_U = np.uint64
_MAX_DENOMINATOR = 2**31 - 1  # m % denominator * numerator stays below 2^62


class Quota:
    """Shares out draws between G groups by fixed weights.

    The groups are the leaves of a binary tree. Of the first m draws that reach a node, its left half takes
    floor(m * r + phase), r being its part of the node's weight. Each node is off by less than one draw, so the
    count of a group is within ceil(log2 G) of its share in every prefix. r is held as the nearest fraction with
    a denominator below 2^31 (0.5 stays 1/2 and 0.333333333333 is taken for 1/3), and never as 0 or 1 where both
    halves have weight: parts that are such fractions are kept to at any position, others up to 2^31 draws.
    """

    def __init__(self, weights: Sequence[float | Fraction], *words: int) -> None:
        """Builds the tree.

        Args:
            weights: G finite numbers >= 0, not all 0; only their ratios count. A group of weight 0 takes no draw.
            words: what the phases are keyed by.
        """
        exact = [Fraction(weight) for weight in weights]
        common = math.lcm(*(weight.denominator for weight in exact))
        whole = [weight.numerator * (common // weight.denominator) for weight in exact]
        self.parts = np.array([weight / sum(whole) for weight in whole])
        self.groups = np.flatnonzero([weight > 0 for weight in whole])
        self._leaf = np.full(len(whole), -1, np.int64)
        self._leaf[self.groups] = np.arange(self.groups.size)
        self._depth = (self.groups.size - 1).bit_length()
        below = [whole[g] for g in self.groups] + [0] * (2**self._depth - self.groups.size)
        self._levels: list[tuple[np.ndarray, ...]] = []
        for level in reversed(range(self._depth)):
            above = [left + right for left, right in zip(below[::2], below[1::2], strict=True)]
            ratios = [_ratio(left, both) for left, both in zip(below[::2], above, strict=True)]
            first = 2**level - 1  # nodes are numbered level by level
            phases = [make_key(*words, first + i) % ratio[1] for i, ratio in enumerate(ratios)]
            columns = (*zip(*ratios, strict=True), phases)
            self._levels.insert(0, tuple(np.array(column, _U) for column in columns))
            below = above

    def locate(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Says who takes each draw.

        Args:
            position: int64 [n] >= 0.
        Returns: (group int64 [n], rank int64 [n]: how many draws the group had before).
        """
        rank, node = position.astype(_U), np.zeros(position.shape, np.int64)
        for level in self._levels:
            left, taken = _split(rank, *_at(level, node))
            rank = np.where(taken, left, rank - left)
            node = 2 * node + ~taken
        return self.groups[node], rank.astype(np.int64)

    def count(self, num_draws: np.ndarray | int, group: np.ndarray | int) -> np.ndarray:
        """How many of the first num_draws draws each group takes: int64, of the shape both broadcast to."""
        leaf = self._leaf[np.broadcast_to(group, np.broadcast_shapes(np.shape(num_draws), np.shape(group)))]
        rank = np.broadcast_to(num_draws, leaf.shape).astype(_U)
        for i, level in enumerate(self._levels):
            left, _ = _split(rank, *_at(level, leaf >> (self._depth - i)))
            rank = np.where((leaf >> (self._depth - i - 1)) & 1, rank - left, left)
        return np.where(leaf < 0, 0, rank.astype(np.int64))

    def expected(self, start: int, stop: int) -> np.ndarray:
        """The exact shares of the draws start <= i < stop: float64 [G]."""
        return (stop - start) * self.parts


class StagedQuota:
    """Shares out draws by weights that change from stage to stage; the last stage has no end.

    Within a stage it is a `Quota`, so that each stage follows its weights to within ceil(log2 G) draws; what a
    group took before a stage stands in a table.
    """

    def __init__(
        self, starts: Sequence[int] | np.ndarray, weights: Sequence[Sequence[float | Fraction]], *words: int
    ) -> None:
        """Builds a tree for each stage.

        Args:
            starts: the first position of each stage, ascending from 0.
            weights: for each stage as in `Quota`.
            words: what the phases are keyed by.
        """
        self.starts = np.array(starts, np.int64)
        self._quotas = [Quota(row, *words, k) for k, row in enumerate(weights)]
        everyone = np.arange(len(weights[0]))
        lengths = np.diff(self.starts)
        taken = [quota.count(n, everyone) for quota, n in zip(self._quotas, lengths, strict=False)]
        self._before = np.cumsum([np.zeros(everyone.size, np.int64), *taken], axis=0)
        self.groups = np.unique(np.concatenate([quota.groups for quota in self._quotas]))

    def locate(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Quota.locate`, for positions in ascending order."""
        group, rank = np.empty(position.shape, np.int64), np.empty(position.shape, np.int64)
        for k, part in stage_slices(self.starts, position):
            group[part], here = self._quotas[k].locate(position[part] - self.starts[k])
            rank[part] = here + self._before[k, group[part]]
        return group, rank

    def expected(self, start: int, stop: int) -> np.ndarray:
        """The exact shares of the draws start <= i < stop: float64 [G]."""
        return stage_overlaps(self.starts, start, stop) @ np.array([quota.parts for quota in self._quotas])


def stage_slices(starts: np.ndarray, position: np.ndarray) -> list[tuple[int, slice]]:
    """Cuts ascending positions at the starts of stages: (stage, slice of position) for each stage that is met."""
    if not position.size:
        return []
    first, last = (int(np.searchsorted(starts, p, side="right")) - 1 for p in (position[0], position[-1]))
    cuts = [0, *np.searchsorted(position, starts[first + 1 : last + 1]).tolist(), position.size]
    return [(first + i, slice(a, b)) for i, (a, b) in enumerate(pairwise(cuts)) if b > a]


def stage_overlaps(starts: np.ndarray, start: int, stop: int) -> np.ndarray:
    """How many of the positions start <= i < stop each stage holds, the last one being endless: float64 [stages]."""
    edges = [*starts.tolist(), max(stop, int(starts[-1]))]
    return np.array([max(0, min(b, stop) - max(a, start)) for a, b in pairwise(edges)], np.float64)


def _ratio(left: int, both: int) -> tuple[int, int]:
    """The fraction left / both in lowest terms, or the nearest one of a denominator that is small enough."""
    if not both:
        return 1, 1
    common = math.gcd(left, both)
    if both // common <= _MAX_DENOMINATOR:
        return left // common, both // common
    ratio = Fraction(left, both).limit_denominator(_MAX_DENOMINATOR)
    if ratio in (0, 1) and 0 < left < both:
        ratio = abs(ratio - Fraction(1, _MAX_DENOMINATOR))
    return ratio.numerator, ratio.denominator


def _at(level: tuple[np.ndarray, ...], node: np.ndarray) -> tuple[np.ndarray, ...]:
    return level if level[0].size == 1 else tuple(column[node] for column in level)


def _split(
    num_draws: np.ndarray, numerator: np.ndarray, denominator: np.ndarray, phase: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (floor((m * numerator + phase) / denominator), whether m + 1 makes it one more), m = num_draws.

    Exact for m below 2^63 with numerator <= denominator < 2^31 and phase < denominator.
    """
    if num_draws.size and int(num_draws.max()) < 2**32:
        value = num_draws * numerator + phase
        left = value // denominator
        rest = value - left * denominator
    else:
        periods = num_draws // denominator
        value = (num_draws - periods * denominator) * numerator + phase
        more = value // denominator
        left, rest = periods * numerator + more, value - more * denominator
    return left, rest + numerator >= denominator
