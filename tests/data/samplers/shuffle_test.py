"""Every image once an epoch, each epoch in an order of its own (what holds of all samplers: base_test)."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sampler_pools import make_pool, quick, seeds, sizes

from jaxmoust.data.samplers.shuffle import Random


@quick
@given(sizes=sizes, seed=seeds, epoch=st.integers(0, 2**50))
def test_random_each_epoch_is_a_permutation(sizes, seed, epoch):
    sampler = Random(make_pool(sizes), seed)
    num = len(sampler.pool)
    keys = sampler.keys(epoch * num, (epoch + 1) * num)
    np.testing.assert_array_equal(np.sort(keys), np.arange(num))


@quick
@given(size=st.integers(20, 5000), seed=seeds, epoch=st.integers(0, 2**40))
def test_random_each_epoch_has_an_order_of_its_own(size, seed, epoch):
    """Two orders of 20 images agree once in 10^18."""
    sampler = Random(make_pool([size]), seed)
    orders = [sampler.keys(e * size, (e + 1) * size) for e in (epoch, epoch + 1)]
    other = Random(make_pool([size]), seed ^ 1).keys(epoch * size, (epoch + 1) * size)
    assert not np.array_equal(*orders) and not np.array_equal(orders[0], other)


@quick
@given(sizes=sizes, seed=seeds, epoch=st.integers(0, 2**40), data=st.data())
def test_random_of_a_filtered_pool_is_a_permutation_of_what_is_left(sizes, seed, epoch, data):
    num = sum(sizes)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=num, max_size=num).filter(any)))
    left = int(mask.sum())
    keys = Random(make_pool(sizes).keep(mask), seed).keys(epoch * left, (epoch + 1) * left)
    np.testing.assert_array_equal(np.sort(keys), np.flatnonzero(mask))
