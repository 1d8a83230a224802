"""Keyed permutations: each epoch a permutation, the same everywhere, at any position, without bias."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxmoust.data.samplers.permutation import fold, make_key, mix, shuffled

quick = settings(max_examples=25, deadline=None)
# Around the sizes where the method changes (4,096), where the network's halves do (powers of two), and tiny.
sizes = st.one_of(
    st.integers(1, 50),
    st.integers(4000, 4200),
    st.sampled_from([2**13 - 1, 2**13, 2**13 + 1, 9973]),
)


@quick
@given(size=sizes, key=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**40))
def test_shuffled_each_epoch_is_a_permutation(size, key, epoch):
    members = shuffled(np.arange(epoch * size, (epoch + 1) * size), size, key)
    np.testing.assert_array_equal(np.sort(members), np.arange(size))


@quick
@given(size=sizes, key=st.integers(0, 2**64 - 1), data=st.data())
def test_shuffled_position_by_position_equals_at_once(size, key, data):
    position = np.array(data.draw(st.lists(st.integers(0, 2**62 - 1), min_size=1, max_size=8)))
    alone = [shuffled(position[i : i + 1], size, key)[0] for i in range(position.size)]
    np.testing.assert_array_equal(shuffled(position, size, key), alone)


@quick
@given(
    rows=st.lists(
        st.tuples(sizes, st.integers(0, 60) | st.integers(0, 2**62 - 1), st.integers(0, 2**64 - 1)),
        min_size=1,
        max_size=9,
    ),
    one_key=st.booleans(),
)
def test_shuffled_several_sequences_at_once_equal_each_alone(rows, one_key):
    """Sets of many sizes, by the two methods, in one call; under a key each, or all under one."""
    size, position, key = (
        np.array(column, dtype) for column, dtype in zip(zip(*rows, strict=True), (int, int, np.uint64), strict=True)
    )
    key = key[:1] if one_key else key
    keys = np.broadcast_to(key, size.shape)
    alone = [shuffled(position[i : i + 1], size[i], keys[i])[0] for i in range(size.size)]
    np.testing.assert_array_equal(shuffled(position, size, key), alone)


@pytest.mark.parametrize("size", [3, 5000])
def test_shuffled_chunks_of_work_join(size):
    whole = shuffled(np.arange(40_000), size, make_key(4))
    for start in (16_383, 16_384, 16_385, 32_768):
        np.testing.assert_array_equal(shuffled(np.arange(start, 40_000), size, make_key(4)), whole[start:])
    sizes_, keys = np.full(40_000, size), np.full(40_000, make_key(4), np.uint64)
    np.testing.assert_array_equal(shuffled(np.arange(40_000), sizes_, keys), whole)


@pytest.mark.parametrize("size", [1, 2, 4095, 4096, 2**16, 2**16 + 1, 10**6, 2**21 - 1])
def test_shuffled_far_out_is_still_a_permutation(size):
    epoch = (2**62 // size) - 1
    members = shuffled(np.arange(epoch * size, (epoch + 1) * size), size, make_key(6))
    np.testing.assert_array_equal(np.bincount(members, minlength=size), 1)


@quick
@given(size=st.integers(2**40, 2**62 - 1), key=st.integers(0, 2**64 - 1), start=st.integers(0, 2**61))
def test_shuffled_of_a_huge_set_stays_in_it_and_repeats_none(size, key, start):
    members = shuffled(np.arange(start, start + 500), size, key)
    assert members.min() >= 0 and members.max() < size
    epoch = np.arange(start, start + 500) // size
    assert all(np.unique(members[epoch == e]).size == np.sum(epoch == e) for e in np.unique(epoch))


def test_shuffled_orders_differ_between_epochs_and_keys():
    two_epochs = shuffled(np.arange(2000), 1000, make_key(1))
    assert not np.array_equal(two_epochs[:1000], two_epochs[1000:])
    assert not np.array_equal(two_epochs[:1000], shuffled(np.arange(1000), 1000, make_key(2)))


def test_shuffled_every_order_of_a_few_members_is_equally_likely():
    epochs = shuffled(np.arange(24 * 500 * 4), 4, make_key(7)).reshape(-1, 4)
    orders = [tuple(order) for order in itertools.permutations(range(4))]
    counts = [np.sum((epochs == order).all(1)) for order in orders]
    # One fixed seed: the bound is what a fair shuffle misses once in a thousand.
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("size", [4100, 5000, 8191])
def test_shuffled_member_of_a_place_is_uniform_over_epochs(size):
    num_epochs = 4000
    for place in (0, 1, size // 2, size - 1):
        members = shuffled(np.arange(num_epochs) * size + place, size, make_key(11, size))
        counts = np.bincount(members * 20 // size, minlength=20)
        expected = np.bincount(np.arange(size) * 20 // size, minlength=20) * num_epochs / size
        assert stats.chisquare(counts, expected).pvalue > 1e-3  # as above


@pytest.mark.parametrize("size", [4100, 5000])
def test_shuffled_neighbours_are_not_related(size):
    members = shuffled(np.arange(40 * size), size, make_key(3)).reshape(40, size)
    gap = (np.diff(members, axis=1) % size).ravel()
    counts = np.bincount(gap * 20 // size, minlength=20)
    # Gaps of a random permutation are uniform on 1 .. size - 1.
    expected = np.bincount(np.arange(1, size) * 20 // size, minlength=20) * gap.size / (size - 1)
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_shuffled_golden_draws():
    """Changing one of these numbers changes every published run: do not, without a new major version."""
    assert make_key(1, 2, 3) == GOLDEN_KEY
    assert shuffled(np.arange(8), 10, make_key(5)).tolist() == GOLDEN_SORTED
    assert shuffled(np.arange(8), 50_000, make_key(5)).tolist() == GOLDEN_NETWORK
    far = shuffled(np.arange(2**45, 2**45 + 4), 14_080_000, make_key(5))
    assert far.tolist() == GOLDEN_FAR


def test_make_key_depends_on_every_word_and_its_place():
    keys = [make_key(*words) for words in [(1, 2), (2, 1), (1,), (1, 2, 0), (0, 1, 2), (3, 0), (0, 3)]]
    assert len(set(keys)) == len(keys)


def test_make_key_pairs_do_not_collide_like_sums():
    keys = {make_key(seed, index) for seed in range(40) for index in range(40)}
    assert len(keys) == 1600


def test_mix_is_the_published_finaliser():
    """The first output of splitmix64 from state 0, as published with the generator."""
    increment = np.array([0x9E3779B97F4A7C15], np.uint64)
    assert int(mix(increment)[0]) == 0xE220A8397B1DCDAF


def test_fold_gives_different_keys_for_different_data():
    assert np.unique(fold(make_key(1), np.arange(10_000))).size == 10_000


GOLDEN_KEY = 13426056267139454510
GOLDEN_SORTED = [0, 6, 8, 9, 2, 4, 7, 3]
GOLDEN_NETWORK = [46739, 8225, 938, 10140, 20993, 45266, 7217, 42451]
GOLDEN_FAR = [7984648, 10312143, 12508925, 9714891]
