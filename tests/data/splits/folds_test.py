"""Folds and matched sets: disjoint, complete, and the same share of every class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data.splits.folds import fold_of, matched

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


@settings(max_examples=40, deadline=None)
@given(LABELS, st.integers(1, 5), st.integers(0, 2**63 - 1))
def test_folds_hold_as_many_of_every_class_up_to_one(labels, num_folds, seed):
    num_folds = min(num_folds, labels.size)
    folds = fold_of(labels, num_folds, seed)
    np.testing.assert_array_equal(folds, fold_of(labels, num_folds, seed))
    for kept in (np.ones(labels.size, bool), *(labels == c for c in np.unique(labels))):
        assert np.ptp(np.bincount(folds[kept], minlength=num_folds)) <= 1


def test_folds_of_another_seed_are_others():
    labels = np.zeros(100, int)
    assert (fold_of(labels, 2, 0) != fold_of(labels, 2, 1)).any()


@pytest.mark.parametrize("num_folds", [0, 4])
def test_folds_out_of_range_are_refused(num_folds):
    with pytest.raises(ValueError, match=r"expected 1 to 3"):
        fold_of(np.zeros(3, int), num_folds, 0)


@settings(max_examples=40, deadline=None)
@given(LABELS, LABELS)
def test_matched_takes_as_many_of_each_group_from_both_and_no_more_could_be(a, b):
    in_a, in_b = matched(a, b)
    counts = [np.bincount(part, minlength=5) for part in (a, b)]
    for labels, keys in ((a, in_a), (b, in_b)):
        assert (np.diff(keys) > 0).all()
        np.testing.assert_array_equal(np.bincount(labels[keys], minlength=5), np.minimum(*counts))
