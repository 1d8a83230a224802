"""What is held out: a part of each class, whole groups, a function of labels, keys and groups."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data.splits.held_out import held_out


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=12, max_size=60),
    st.sampled_from([0.1, 0.2, 0.5]),
)
def test_held_out_divides_every_class_and_no_group(rows, fraction):
    labels, groups = np.array(rows).T
    try:
        out = held_out(labels, fraction, (1, 2, 3), groups)
    except ValueError as error:
        assert "in one group, or in groups that no division leaves whole" in str(error)
        return
    assert not set(groups[out]) & set(groups[~out])
    np.testing.assert_array_equal(out, held_out(labels, fraction, (1, 2, 3), groups))
    for c in np.unique(labels):
        of_class = labels == c
        assert (out & of_class).any() and (~out & of_class).any()


def test_held_out_of_single_images_takes_the_fraction_of_each_class():
    labels = np.repeat([0, 1, 2], [10, 5, 2])
    out = held_out(labels, 0.2, (1, 2, 3))
    assert np.bincount(labels[out]).tolist() == [2, 1, 1]
    np.testing.assert_array_equal(out, held_out(labels, 0.2, (1, 2, 3), np.arange(labels.size)))
    assert (out != held_out(labels, 0.2, (4, 5, 6))).any()


def test_held_out_comes_as_close_to_the_fraction_as_whole_groups_do():
    labels, groups = np.repeat([0, 1], 50), np.arange(100) // 5
    assert np.bincount(labels[held_out(labels, 0.2, (1, 2), groups)]).tolist() == [10, 10]


def test_held_out_holds_the_smallest_group_where_none_is_as_small_as_the_fraction():
    labels, groups = np.tile([0, 1, 2], 10), np.arange(30) // 15
    out = held_out(labels, 0.2, (1, 2, 3), groups)
    assert np.bincount(labels[out]).tolist() == [5, 5, 5]


def test_held_out_refuses_a_group_that_is_everything():
    with pytest.raises(ValueError, match="class number 0 lies in one group"):
        held_out(np.repeat([0, 1], 5), 0.2, (1, 2), np.zeros(10, np.int64))
