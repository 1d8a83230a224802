"""The pool: one numbering of several sources."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data.pool import Pool
from jaxmoust.data.sources import from_arrays

labels_of_sources = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=30), min_size=1, max_size=4)


def make_source(name, labels, class_names=("a", "b", "c")):
    labels = np.array(labels)
    return from_arrays(np.zeros((labels.size, 2, 2, 1), np.uint8), labels, class_names, name)


@settings(max_examples=25, deadline=None)
@given(labels_of_sources)
def test_pool_keys_know_their_source_and_class(parts):
    pool = Pool.from_labels({str(s): np.array(part) for s, part in enumerate(parts)}, list("abcde"))
    keys = np.arange(len(pool))
    np.testing.assert_array_equal(pool.source(keys), np.repeat(np.arange(len(parts)), [len(p) for p in parts]))
    np.testing.assert_array_equal(pool.label(keys), np.concatenate(parts))


@settings(max_examples=25, deadline=None)
@given(labels_of_sources)
def test_pool_counts_every_image_once(parts):
    pool = Pool.from_labels({str(s): np.array(part) for s, part in enumerate(parts)}, list("abcde"))
    expected = [[part.count(c) for c in range(5)] for part in parts]
    np.testing.assert_array_equal(pool.counts(), expected)


def test_pool_from_sources_equals_pool_from_labels():
    sources = [make_source("real", [0, 1, 2]), make_source("edm", [2, 2])]
    pool = Pool.from_labels({"real": np.array([0, 1, 2]), "edm": np.array([2, 2])}, ("a", "b", "c"))
    assert Pool.from_sources(sources) == pool
    assert hash(Pool.from_sources(sources)) == hash(pool)
    assert pool != Pool.from_labels({"real": np.array([0, 1, 2]), "edm": np.array([2, 1])}, ("a", "b", "c"))


def test_pool_holds_labels_in_the_smallest_integers():
    assert Pool.from_labels({"a": np.arange(256)}).labels.dtype == np.uint8
    assert Pool.from_labels({"a": np.arange(257)}).labels.dtype == np.uint16


def test_pool_repr_names_sources_and_content_but_no_address():
    text = repr(Pool.from_sources([make_source("real", [0, 1, 2]), make_source("edm", [2, 2])]))
    assert "'real': 3" in text and "'edm': 2" in text and "digest=" in text and "0x" not in text


def test_pool_refuses_classes_that_differ_between_sources():
    other = make_source("edm", [0, 1], ("a", "c", "b"))
    with pytest.raises(ValueError, match=r"(?s)'edm'.*\['a', 'c', 'b'\].*'real'.*same classes"):
        Pool.from_sources([make_source("real", [0]), other])


def test_pool_refuses_two_sources_of_one_name():
    source = make_source("real", [0])
    with pytest.raises(ValueError, match="rename one"):
        Pool.from_sources([source, source])
    assert len(Pool.from_sources([source, dataclasses.replace(source, name="again")])) == 2


@pytest.mark.parametrize("empty", [{}, {"a": np.zeros(0, np.int32)}])
def test_pool_refuses_to_be_empty(empty):
    with pytest.raises(ValueError, match=r"Got .* allowed is"):
        Pool.from_labels(empty)


def test_pool_refuses_no_sources():
    with pytest.raises(ValueError, match="at least one"):
        Pool.from_sources([])


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_pool_refuses_labels_outside_the_classes(labels):
    with pytest.raises(ValueError, match="allowed are 0 to 2"):
        Pool.from_labels({"a": np.array(labels)}, ("a", "b", "c"))


def test_pool_refuses_labels_that_are_not_integers():
    with pytest.raises(ValueError, match="float64"):
        Pool.from_labels({"a": np.array([0.0, 1.0])})
