"""Samplers that follow numbers given for each image: weighted draws, and easy images before hard ones."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxmoust.data.checks import check_choice
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.base import Sampler, ShareSampler, check_range, checked_shares
from jaxmoust.data.samplers.permutation import fold, make_key, shuffled
from jaxmoust.data.samplers.quota import stage_overlaps, stage_slices
from jaxmoust.data.samplers.schedules import Pacing

_STRIDE = 64  # entries of the table of weights that one entry of its index stands for


@dataclass(frozen=True, eq=False, repr=False)
class Weighted(Sampler):
    """Draws image i with probability w_i / sum(w), every draw independent of the others (with replacement).

    One table of cumulative weights is made on construction (8 bytes an image); a draw is a search in it. An image of
    weight 0 is never drawn.

    Args:
        pool: the images.
        weights: finite numbers >= 0, not all 0. By image: [N] over the pool's keys, or {source: a number for each of
            its images, or numbers [images of that source]}, every source named. By class: {class name: a number for
            each of its images}, every class named. Held by image.
        by: "image" or "class".
        shares: source name -> share, as in `Share`: each source's weights are scaled to sum to its share, so that
            weights compare the images of one source only. None: as given.
        seed: 0 <= seed < 2^63.
    Raises: ValueError: weights that do not fit, are negative, NaN, infinite or all 0, or a bad seed.
    """

    pool: Pool
    weights: Mapping[str, float | np.ndarray] | np.ndarray
    by: str = "image"
    shares: Mapping[str, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the fields and adds the weights up."""
        check_choice("by", self.by, ("image", "class"))
        shares = None if self.shares is None else checked_shares(self.pool, self.shares)
        self._set(shares=shares, weights=self._by_image(), by="image")
        _ = self._cumulative  # refuses what it cannot add up

    def _by_image(self) -> np.ndarray:
        """The weight of each key as given: [N], read-only."""
        names = self.pool.class_names if self.by == "class" else self.pool.source_names
        if isinstance(self.weights, Mapping) or self.by == "class":
            weighted = sorted(self.weights) if isinstance(self.weights, Mapping) else f"no name ({type(self.weights)})"
            if weighted != sorted(names):
                allowed = f"one for each {'class' if self.by == 'class' else 'source'} of the pool, {sorted(names)}"
                raise ValueError(f"Got weights for {weighted}, expected {allowed}: Name each (0: never drawn).")
        weights: Any = self.weights
        if self.by == "class":
            by_class = np.array([weights[name] for name in names], np.float64)
            empty = by_class.astype(bool) & (self.pool.counts().sum(0) == 0)
            if empty.any():
                missing = [name for name, is_empty in zip(names, empty, strict=True) if is_empty]
                raise ValueError(f"Got weights for {missing}, of which no source holds an image. Set them to 0.")
            weights = by_class[self.pool.labels]
            weights.setflags(write=False)  # it is nobody else's: no copy is needed
        by_image = self.pool.spread(weights, "weights")
        low = self.pool.drawable(by_image).min()
        if not low >= 0:  # NaN is not
            what = "NaN" if np.isnan(low) else f"a weight of {low}"
            raise ValueError(f"Got {what} among the weights, expected numbers from 0. Correct the scores.")
        return by_image

    @cached_property
    def _weights(self) -> np.ndarray:
        """The weight of each key, scaled to the shares if there are any: [N]."""
        weights = np.asarray(self.weights)
        if self.shares is None:
            return weights
        scaled = np.zeros(weights.size)
        for s, (name, share) in enumerate(self.shares.items()):
            keys = self.pool.at(np.arange(*self.pool.bounds[s : s + 2]))
            if not share:
                continue
            total = np.cumsum(weights[keys], dtype=np.float64)[-1]  # adds in one order on every machine
            if not 0 < total < np.inf:
                raise ValueError(
                    f"Got weights of {name!r} that sum to {total}, expected a finite sum above 0 "
                    f"for a share of {share}. Weigh some of its images, or give it no share."
                )
            scaled[keys] = weights[keys] * (share / total)
        return scaled

    @cached_property
    def _cumulative(self) -> np.ndarray:
        weights = self.pool.drawable(self._weights)
        cumulative, total = np.empty(weights.size), 0.0
        with np.errstate(over="ignore"):
            for start in range(0, weights.size, 1 << 20):  # no second array of doubles is made on the way
                part = cumulative[start : start + (1 << 20)]
                np.cumsum(weights[start : start + (1 << 20)], dtype=np.float64, out=part)
                part += total
                total = part[-1]
        if not 0 < cumulative[-1] < np.inf:
            raise ValueError(
                f"Got weights that sum to {cumulative[-1]}, expected a finite sum above 0. Give at least one image a "
                f"weight, and none an infinite one."
            )
        # To a sum of 0.5 to 1, by a power of two, which rounds nothing: the smallest of sums is as good as any.
        return np.ldexp(cumulative, -math.frexp(cumulative[-1])[1], out=cumulative)

    def __repr__(self) -> str:
        """Names the pool, a digest of the weights, the shares and the seed."""
        digest = _digest(self._weights)
        return f"Weighted(pool={self.pool!r}, weights={digest!r}, shares={self.shares!r}, seed={self.seed!r})"

    def _draw(self, position: np.ndarray) -> np.ndarray:
        total = self._cumulative[-1]
        bits = fold(make_key(self.seed, 8), position) >> np.uint64(11)
        drawn = np.minimum(bits * (2.0**-53 * total), np.nextafter(total, 0))
        order = np.argsort(drawn)  # in ascending order, neighbours find the table's pages in the cache
        keys = np.empty(position.size, np.int64)
        keys[order] = self.pool.at(self._search(drawn[order]))
        return keys

    def _search(self, drawn: np.ndarray) -> np.ndarray:
        """The first place whose cumulative weight is above each number: in every 64th entry, then among 64.

        Three times as fast as `np.searchsorted` on a table that no cache holds.
        """
        cumulative = self._cumulative
        place = np.searchsorted(self._landmarks, drawn, side="right") * _STRIDE
        step = _STRIDE // 2
        while step:
            last = np.minimum(place + step - 1, cumulative.size - 1)
            place += step * (cumulative[last] <= drawn)
            step //= 2
        return place

    @cached_property
    def _landmarks(self) -> np.ndarray:
        return np.ascontiguousarray(self._cumulative[_STRIDE - 1 :: _STRIDE])

    def expected(self, start: int, stop: int) -> np.ndarray:
        """The expected number of draws per source and class: float64 [S, K]."""
        check_range(start, stop)
        return (stop - start) * self._parts

    @cached_property
    def _parts(self) -> np.ndarray:
        """The part of the weight that each source and class has: float64 [S, K]."""
        cell, shape = self.pool.cell(self.pool.at(np.arange(self.pool.num_kept))), self.pool.counts().shape
        mass = np.bincount(cell, self.pool.drawable(self._weights), shape[0] * shape[1])
        return (mass / mass.sum()).reshape(shape)


@dataclass(frozen=True, eq=False, repr=False)
class EasyToHard(ShareSampler):
    """Draws from the easiest part of the images, a part that grows with progress until it is everything.

    The growth goes in stages; within a stage the images that are in come equally often, up to one. An image
    without a score is in from the beginning. The images are sorted once, on construction, which takes longer than any
    other sampler's start: seconds for ten million.

    Args:
        pool: the images.
        scores: higher is easier. Numbers [N] over the pool's keys, or {source: numbers}; see `Pool.spread`. A
            source that is not named, and NaN, has no score.
        pacing: how large the easiest part is when; of each source by itself if there are shares.
        shares: source name -> share, as in `Share`; None: the pool is taken as one set.
        per_class: the easiest part of each class, so that classes keep their proportions throughout.
        seed: 0 <= seed < 2^63.
    Raises: ValueError: scores that do not fit or say nothing, infinite scores, bad shares or seed.
    """

    pool: Pool
    scores: Mapping[str, float | np.ndarray] | np.ndarray
    pacing: Pacing
    shares: Mapping[str, float] | None = None
    per_class: bool = False
    seed: int = 0

    @classmethod
    def paced(
        cls,
        pool: Pool,
        scores: Mapping[str, float | np.ndarray] | np.ndarray,
        num_draws: int,
        start: float = 0.2,
        full_at: float = 0.8,
        shape: str = "linear",
        num_stages: int = 20,
        shares: Mapping[str, float] | None = None,
        per_class: bool = False,
        seed: int = 0,
    ) -> "EasyToHard":
        """The same in plain numbers; see `Pacing`.

        Args:
            pool: the images.
            scores: higher is easier: {source: numbers}, or numbers [N] over the pool's keys.
            num_draws: the length of training.
            start: the easiest part of the images that may be drawn at the beginning, above 0 to 1.
            full_at: when in training all images are in, above 0 to 1.
            shape: how the part grows: "linear", "root" (square-root competence) or "geometric" (equal factors).
            num_stages: how many stages the growth has.
            shares: source name -> share of the draws; None: the pool is taken as one set.
            per_class: rank the images of each class by themselves, so that the classes keep their proportions.
            seed: 0 <= seed < 2^63.
        """
        return cls(pool, scores, Pacing(num_draws, start, full_at, shape, num_stages), shares, per_class, seed)

    def __post_init__(self) -> None:
        """Checks the fields and sorts the images."""
        self._set(scores=self.pool.spread(self.scores, "scores"))
        if not isinstance(self.pacing, Pacing):
            raise ValueError(f"Got the pacing {self.pacing!r}, expected a Pacing. Give Pacing(num_draws, ...).")
        drawable = self.pool.drawable(np.asarray(self.scores))
        if np.isinf(drawable).any() or np.isnan(drawable).all():
            raise ValueError("Got infinite scores or none at all, expected finite numbers. Give {source: scores}.")
        _ = self._orders

    @cached_property
    def _orders(self) -> dict[int, tuple[np.ndarray, int]]:
        """Of each group, the keys from easy to hard, and how many of them come first for want of a score."""
        orders = {}
        for g in self._quota.groups.tolist():
            low, high = (0, self.pool.num_kept) if self.shares is None else self.pool.bounds[g : g + 2].tolist()
            keys = self.pool.at(np.arange(low, high))
            scores = np.asarray(self.scores)[keys]
            unscored = np.isnan(scores)
            hardness = np.where(unscored, -np.inf, -scores)
            if self.per_class:
                hardness = np.where(unscored, -np.inf, _rank_in_class(hardness, self.pool.labels[keys]))
            orders[g] = keys[np.argsort(hardness, kind="stable")], int(unscored.sum())
        return orders

    @cached_property
    def _stages(self) -> tuple[np.ndarray, dict[int, np.ndarray], dict[int, list[int]]]:
        """The stages' first positions; of each group, its draws before each, and how many images are in."""
        table = self.pacing.table()
        starts = np.array([start for start, _ in table], np.int64)
        before, sizes = {}, {}
        for g, (order, num_free) in self._orders.items():
            before[g] = self._quota.count(starts, g)
            scored = order.size - num_free
            # Parts are multiples of 2^-20: whole numbers, rounded up, at least one image.
            easy = [-(-int(part * (1 << 20)) * scored >> 20) for _, part in table]
            sizes[g] = [max(1, num_free + n) for n in easy]
        return starts, before, sizes

    def _within(self, group: int, rank: np.ndarray, position: np.ndarray) -> np.ndarray:
        starts, before, sizes = self._stages
        place = np.empty(rank.shape, np.int64)
        for k, part in stage_slices(starts, position):
            walk = make_key(self.seed, 9, group, k)
            place[part] = shuffled(rank[part] - before[group][k], sizes[group][k], walk)
        return self._orders[group][0][place]

    def expected(self, start: int, stop: int) -> np.ndarray:
        """The expected number of draws per source and class: float64 [S, K]."""
        check_range(start, stop)
        return np.tensordot(stage_overlaps(self._stages[0], start, stop), self._parts, 1)

    @cached_property
    def _parts(self) -> np.ndarray:
        """The part of a stage's draws that each source and class takes: float64 [stages, S, K]."""
        starts, _, sizes = self._stages
        num_cells = len(self.pool.source_names) * len(self.pool.class_names)
        parts = np.zeros((starts.size, num_cells))
        for g, (order, _) in self._orders.items():
            cell = self.pool.cell(order)
            for k, size in enumerate(sizes[g]):
                parts[k] += self._quota.parts[g] * np.bincount(cell[:size], minlength=num_cells) / size
        return parts.reshape(starts.size, -1, len(self.pool.class_names))

    def __repr__(self) -> str:
        """Names all fields; of the scores, a digest."""
        return (
            f"EasyToHard(pool={self.pool!r}, scores={_digest(np.asarray(self.scores))!r}, pacing={self.pacing!r}, "
            f"shares={self.shares!r}, per_class={self.per_class!r}, seed={self.seed!r})"
        )


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, "<f8").data).hexdigest()[:16]


def _rank_in_class(hardness: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Where each image stands in its class, from 0 (the easiest) to below 1; those of -inf do not count."""
    order = np.argsort(hardness, kind="stable")
    order = order[hardness[order] > -np.inf]
    order = order[np.argsort(label[order], kind="stable")]
    _, start, size = np.unique(label[order], return_index=True, return_counts=True)
    rank = np.zeros(hardness.size)
    rank[order] = (np.arange(order.size) - np.repeat(start, size)) / np.repeat(size, size)
    return rank
