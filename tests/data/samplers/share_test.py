"""Fixed shares: what this sampler promises (what holds of all samplers: base_test)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampler_pools import assert_without_replacement, make_pool, quick, seeds, shares_of, sizes, sources_of, starts

from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.share import Share


@quick
@given(data=st.data(), sizes=sizes, seed=seeds, num_draws=st.integers(1, 400))
def test_share_every_prefix_is_within_the_number_of_sources(data, sizes, seed, num_draws):
    shares = data.draw(shares_of(len(sizes)))
    sampler = Share(make_pool(sizes), shares, seed)
    drawn = np.eye(len(sizes))[sampler.pool.source(sampler.keys(0, num_draws))].cumsum(0)
    due = np.arange(1, num_draws + 1)[:, None] * np.array(list(shares.values()))
    assert np.abs(drawn - due).max() < len(sizes)


@quick
@given(data=st.data(), sizes=sizes, seed=seeds, start=starts)
def test_share_every_window_anywhere_is_within_twice_the_number_of_sources(data, sizes, seed, start):
    """A window is the difference of two prefixes; this holds the bound where no prefix can be counted."""
    shares = data.draw(shares_of(len(sizes)))
    drawn = sources_of(Share(make_pool(sizes), shares, seed), start, start + 300)
    assert np.abs(drawn - 300 * np.array(list(shares.values()))).max() < 2 * len(sizes)


@quick
@given(seed=seeds, start=starts | st.sampled_from([2**32 - 300, 2**40, 2**62]))
def test_share_of_simple_fractions_is_exact_in_every_window(seed, start):
    """However far out, and given as floats: so no prefix has drifted either, a third of 2^40 draws included."""
    sampler = Share(make_pool([7, 11, 5]), {"s0": 0.5, "s1": 1 / 3, "s2": 1 / 6}, seed)
    assert sources_of(sampler, start, start + 600).tolist() == [300, 200, 100]


@quick
@given(weights=st.lists(st.integers(0, 30), min_size=10, max_size=10).filter(sum), seed=seeds, start=starts)
def test_share_of_ten_sources_is_exact_in_every_window(weights, seed, start):
    pool = make_pool([1, 2, 3, 5, 7, 11, 13, 17, 19, 23])
    sampler = Share(pool, {f"s{i}": weight / sum(weights) for i, weight in enumerate(weights)}, seed)
    assert sources_of(sampler, start, start + sum(weights)).tolist() == weights


@quick
@given(data=st.data(), sizes=sizes, seed=seeds)
def test_share_walks_each_source_without_replacement(data, sizes, seed):
    assert_without_replacement(Share(make_pool(sizes), data.draw(shares_of(len(sizes))), seed), 400)


@quick
@given(data=st.data(), sizes=st.lists(st.integers(4, 40), min_size=1, max_size=5), seed=seeds)
def test_share_walks_what_a_filter_left_of_each_source_without_replacement(data, sizes, seed):
    pool = make_pool(sizes).drop_lowest(np.arange(sum(sizes)) % 7, 0.5)
    assert_without_replacement(Share(pool, data.draw(shares_of(len(sizes))), seed), 400)


@quick
@given(seed=seeds, start=starts)
def test_share_never_draws_a_source_of_share_zero(seed, start):
    sampler = Share(make_pool([5, 5, 5]), {"s0": 0.25, "s1": 0, "s2": 0.75}, seed)
    assert sources_of(sampler, start, start + 2000)[1] == 0


@quick
@given(data=st.data(), sizes=sizes, seed=seeds)
def test_share_does_not_depend_on_the_order_it_is_named_in(data, sizes, seed):
    shares, pool = data.draw(shares_of(len(sizes))), make_pool(sizes)
    backwards = Share(pool, dict(reversed(shares.items())), seed)
    assert backwards == Share(pool, shares, seed) and repr(backwards) == repr(Share(pool, shares, seed))


def test_share_of_a_class_without_synthetic_images_draws_the_real_ones():
    pool = Pool.from_labels({"real": np.arange(30) % 3, "edm": np.arange(20) % 2})
    sampler = Share(pool, {"real": 0.5, "edm": 0.5}, 4)
    keys = sampler.keys(0, 1200)  # 20 epochs of real, 30 of edm
    drawn = np.bincount(pool.cell(keys), minlength=6).reshape(2, 3)
    assert drawn.tolist() == [[200, 200, 200], [300, 300, 0]]


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"s0": 0.5, "s1": 0.4}, r"sum to 0\.9, expected a sum of 1 .*. Divide"),
        ({"s0": 0.0, "s1": 0.0}, r"sum to 0\.0, expected a sum of 1 .*. Divide"),
        ({"s0": 0.5, "other": 0.5}, r"\['other', 's0'\], expected .* \['s0', 's1'\]. Name each"),
        ({"s0": 1.0}, r"\['s0'\], expected .*. Name each"),
        ({}, r"\[\], expected .*. Name each"),
        ({"s0": 1.5, "s1": -0.5}, r"expected numbers from 0 to 1"),
        ({"s0": float("nan"), "s1": 0.5}, r"expected numbers from 0 to 1"),
        ({"s0": float("inf"), "s1": 0.5}, r"expected numbers from 0 to 1"),
        ({"s0": "half", "s1": 0.5}, r"expected a number for each source. Give"),
        ("s0=0.5,s1=0.5", r"expected a number for each source. Give"),
    ],
)
def test_share_refuses_shares_that_do_not_fit(shares, said):
    with pytest.raises(ValueError, match=f"(?s)Got .*{said}"):
        Share(make_pool([3, 4]), shares, 0)


def test_share_of_a_source_that_a_filter_emptied_is_refused():
    pool = make_pool([3, 4]).keep(np.arange(7) < 3)
    with pytest.raises(ValueError, match=r"Got shares of \['s1'\], of which filters left no image. Loosen"):
        Share(pool, {"s0": 0.5, "s1": 0.5}, 0)
    assert Share(pool, {"s0": 1.0, "s1": 0.0}, 0).keys(0, 9).max() < 3
