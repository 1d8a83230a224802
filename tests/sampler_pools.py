"""Pools, shares and counts of draws: what the tests of several samplers share."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from jaxmoust.data.pool import Pool

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**63 - 1)
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=5)
starts = st.one_of(st.integers(0, 500), st.integers(2**40, 2**60))


def make_pool(sizes, num_classes=3):
    return Pool.from_labels(
        {f"s{i}": np.arange(size) % num_classes for i, size in enumerate(sizes)}, list("abc")[:num_classes]
    )


def sources_of(sampler, start, stop):
    """How many draws of each source: int [S]."""
    drawn = sampler.pool.source(sampler.keys(start, stop))
    return np.bincount(drawn, minlength=len(sampler.pool.source_names))


def assert_without_replacement(sampler, num_draws):
    """Each source is walked in whole permutations of what filters left of it."""
    keys = sampler.keys(0, num_draws)
    for s, size in enumerate(np.diff(sampler.pool.bounds)):
        drawn = keys[sampler.pool.source(keys) == s]
        for start in range(0, drawn.size, size or 1):
            walk = drawn[start : start + size]
            assert np.unique(walk).size == walk.size


@st.composite
def shares_of(draw, num_sources):
    weights = draw(st.lists(st.integers(0, 20), min_size=num_sources, max_size=num_sources).filter(sum))
    return {f"s{i}": weight / sum(weights) for i, weight in enumerate(weights)}
