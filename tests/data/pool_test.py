"""The pool: one numbering of several sources, and filters that keep it."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data.pool import Pool
from jaxmoust.data.source import from_arrays

quick = settings(max_examples=25, deadline=None)
labels_of_sources = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=30), min_size=1, max_size=4)


def make_source(name, labels, class_names=("a", "b", "c")):
    labels = np.array(labels)
    return from_arrays(np.zeros((labels.size, 2, 2, 1), np.uint8), labels, class_names, name)


@quick
@given(labels_of_sources)
def test_pool_keys_know_their_source_and_class(parts):
    pool = Pool.from_labels({str(s): np.array(part) for s, part in enumerate(parts)}, list("abcde"))
    keys = np.arange(len(pool))
    np.testing.assert_array_equal(pool.source(keys), np.repeat(np.arange(len(parts)), [len(p) for p in parts]))
    np.testing.assert_array_equal(pool.label(keys), np.concatenate(parts))


@quick
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


@quick
@given(labels_of_sources)
def test_pool_lists_the_keys_of_each_class_and_source(parts):
    pool = Pool.from_labels({str(s): np.array(part) for s, part in enumerate(parts)}, list("abcde"))
    keys, bounds = pool.by_class
    for c in range(5):
        for s in range(len(parts)):
            mine = np.flatnonzero((pool.labels == c) & (pool.source(np.arange(len(pool))) == s))
            np.testing.assert_array_equal(keys[bounds[c, s] : bounds[c, s + 1]], mine)
    assert bounds[-1, -1] == len(pool) and bounds[0, 0] == 0


@quick
@given(labels_of_sources)
def test_pool_numbers_each_source_and_class(parts):
    pool = Pool.from_labels({str(s): np.array(part) for s, part in enumerate(parts)}, list("abcde"))
    keys = np.arange(len(pool))
    cells = pool.cell(keys)
    np.testing.assert_array_equal(np.divmod(cells, 5), (pool.source(keys), pool.label(keys)))
    np.testing.assert_array_equal(np.bincount(cells, minlength=pool.counts().size), pool.counts().ravel())


def test_pool_counts_are_a_copy():
    pool = Pool.from_labels({"a": np.array([0, 1])})
    pool.counts()[:] = 9
    assert pool.counts().tolist() == [[1, 1]]


def test_pool_holds_what_nobody_can_write_to():
    labels = np.array([0, 1, 2])
    pool = Pool.from_labels({"a": labels})
    digest = pool.digest
    labels[0] = 2
    assert pool.labels[0] == 0 and pool.digest == digest
    for array in (pool.labels, pool.offsets, pool.keep(np.array([True, False, True])).kept):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_pool_pickled_leaves_behind_what_it_worked_out():
    fresh, used = (Pool.from_labels({"a": np.arange(500) % 7}) for _ in range(2))
    _ = used.by_class, used.counts(), used.digest, used.bounds
    assert len(pickle.dumps(used)) == len(pickle.dumps(fresh))
    assert pickle.loads(pickle.dumps(used)) == fresh


def test_pool_repr_names_sources_and_content_but_no_address():
    text = repr(Pool.from_sources([make_source("real", [0, 1, 2]), make_source("edm", [2, 2])]))
    assert "'real': 3" in text and "'edm': 2" in text and "digest=" in text and "0x" not in text


def test_pool_refuses_classes_that_differ_between_sources():
    other = make_source("edm", [0, 1], ("a", "c", "b"))
    with pytest.raises(ValueError, match=r"(?s)'edm'.*\['a', 'c', 'b'\].*'real'.*same classes"):
        Pool.from_sources([make_source("real", [0]), other])


def test_pool_refuses_two_sources_of_one_name():
    source = make_source("real", [0])
    with pytest.raises(ValueError, match="Rename one"):
        Pool.from_sources([source, source])
    assert len(Pool.from_sources([source, dataclasses.replace(source, name="again")])) == 2


@pytest.mark.parametrize("empty", [{}, {"a": np.zeros(0, np.int32)}])
def test_pool_refuses_to_be_empty(empty):
    with pytest.raises(ValueError, match=r"Got .* expected"):
        Pool.from_labels(empty)


def test_pool_refuses_no_sources():
    with pytest.raises(ValueError, match="at least one"):
        Pool.from_sources([])


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_pool_refuses_labels_outside_the_classes(labels):
    with pytest.raises(ValueError, match="expected 0 to 2"):
        Pool.from_labels({"a": np.array(labels)}, ("a", "b", "c"))


def test_pool_refuses_labels_that_are_not_integers():
    with pytest.raises(ValueError, match="float64"):
        Pool.from_labels({"a": np.array([0.0, 1.0])})


# Filters


@st.composite
def pools_and_masks(draw):
    parts = draw(labels_of_sources)
    pool = Pool.from_labels({str(s): np.array(part) for s, part in enumerate(parts)}, list("abcde"))
    mask = draw(st.lists(st.booleans(), min_size=len(pool), max_size=len(pool)).filter(any))
    return pool, np.array(mask)


@quick
@given(pools_and_masks())
def test_pool_kept_keys_keep_their_meaning(given_):
    pool, mask = given_
    left, keys = pool.keep(mask), np.arange(len(pool))
    assert len(left) == len(pool) and left.num_kept == mask.sum()
    np.testing.assert_array_equal(left.at(np.arange(left.num_kept)), np.flatnonzero(mask))
    np.testing.assert_array_equal(left.source(keys), pool.source(keys))
    np.testing.assert_array_equal(left.label(keys), pool.label(keys))
    counts = [
        np.bincount(pool.label(keys[mask & (pool.source(keys) == s)]), minlength=5)
        for s in range(len(pool.source_names))
    ]
    np.testing.assert_array_equal(left.counts(), counts)
    np.testing.assert_array_equal(np.diff(left.bounds), left.counts().sum(1))


@quick
@given(pools_and_masks())
def test_pool_kept_keys_are_listed_by_class_and_source(given_):
    pool, mask = given_
    keys, bounds = pool.keep(mask).by_class
    for c in range(5):
        for s in range(len(pool.source_names)):
            mine = np.flatnonzero(mask & (pool.labels == c) & (pool.source(np.arange(len(pool))) == s))
            np.testing.assert_array_equal(keys[bounds[c, s] : bounds[c, s + 1]], mine)


@quick
@given(pools_and_masks(), st.randoms())
def test_pool_kept_twice_is_kept_by_both(given_, random):
    pool, mask = given_
    other = np.array([random.random() < 0.5 for _ in range(len(pool))])
    if not np.any(mask & other):
        return
    assert pool.keep(mask).keep(other) == pool.keep(other).keep(mask) == pool.keep(mask & other)


def test_pool_kept_whole_is_the_same_pool():
    pool = Pool.from_labels({"a": np.arange(5), "b": np.arange(3)})
    assert pool.keep(np.ones(8, bool)) == pool and hash(pool.keep(np.ones(8, bool))) == hash(pool)
    assert pool.drop_lowest(np.arange(8), 0.0) == pool


def test_pools_that_keep_something_else_differ():
    pool = Pool.from_labels({"a": np.arange(5), "b": np.arange(3)})
    pools = [pool, *(pool.keep(np.arange(8) != k) for k in range(8))]
    assert len({repr(p) for p in pools}) == len(set(pools)) == 9


def test_pool_of_sources_still_reads_the_images_a_filter_dropped():
    """Keys go on to mean the same image, so that Grain's random access holds over all of them."""
    pool = Pool.from_sources([make_source("real", [0, 1, 2]), make_source("edm", [2, 2])]).keep(np.arange(5) > 2)
    assert [int(pool[key]["label"]) for key in range(len(pool))] == [0, 1, 2, 2, 2]
    assert [int(pool[key]["source"]) for key in range(len(pool))] == [0, 0, 0, 1, 1]


scores_of = st.lists(st.integers(-3, 3), min_size=1, max_size=40)
fractions = st.floats(0, 1, exclude_max=True)


@quick
@given(scores=st.lists(scores_of, min_size=1, max_size=3), fraction=fractions)
def test_pool_drop_lowest_drops_the_part_of_each_source(scores, fraction):
    """Among equal scores the later keys go: what is left is what stands first in a stable sort from the best."""
    pool = Pool.from_labels({str(s): np.zeros(len(part), int) for s, part in enumerate(scores)})
    left = pool.drop_lowest(np.concatenate(scores), fraction)
    for s, part in enumerate(scores):
        num_left = len(part) - min(math.floor(fraction * len(part) + 1e-9), len(part) - 1)
        best = np.argsort(-np.array(part), kind="stable")[:num_left] + pool.offsets[s]
        kept = left.at(np.arange(left.bounds[s], left.bounds[s + 1]))
        np.testing.assert_array_equal(kept, np.sort(best))


@quick
@given(parts=labels_of_sources, fraction=fractions, seed=st.integers(0, 99))
def test_pool_drop_lowest_per_class_drops_the_part_of_each_class(parts, fraction, seed):
    pool = Pool.from_labels({str(s): np.array(part) for s, part in enumerate(parts)}, list("abcde"))
    scores = np.random.default_rng(seed).random(len(pool))
    left = pool.drop_lowest(scores, fraction, per_class=True)
    before = pool.counts()
    dropped = np.minimum(np.floor(before * fraction + 1e-9), np.maximum(before - 1, 0))
    np.testing.assert_array_equal(left.counts(), before - dropped)
    kept = np.isin(np.arange(len(pool)), left.at(np.arange(left.num_kept)))
    cell = pool.cell(np.arange(len(pool)))
    for c in np.unique(cell[~kept]):
        assert scores[kept & (cell == c)].min() > scores[~kept & (cell == c)].max()


@pytest.mark.parametrize(
    ("num", "fraction", "left"), [(100, 0.29, 71), (10, 0.2, 8), (5, 0.2, 4), (4, 0.2, 4), (7, 0.5, 4)]
)
def test_pool_drop_lowest_counts_as_the_fraction_is_written(num, fraction, left):
    """0.29 * 100 is 28.999999999999996 in floats."""
    pool = Pool.from_labels({"a": np.zeros(num, int)})
    assert pool.drop_lowest(np.arange(num), fraction).num_kept == left


@pytest.mark.parametrize("fraction", [0.999, 0.999999, 1 - 2.0**-53])
def test_pool_drop_lowest_never_empties_a_source(fraction):
    pool = Pool.from_labels({"a": np.zeros(10, int), "b": np.zeros(1, int)})
    assert pool.drop_lowest(np.arange(11), fraction).counts().tolist() == [[1], [1]]


def test_pool_drop_lowest_does_not_judge_what_has_no_score():
    """Real images beside scored synthetic ones; and single NaN."""
    pool = Pool.from_labels({"real": np.zeros(4, int), "edm": np.zeros(6, int)})
    left = pool.drop_lowest({"edm": [5, np.nan, 1, 2, 4, 3]}, 0.4)
    assert left.kept.tolist() == [0, 1, 2, 3, 4, 5, 8, 9]


def test_pool_keep_above_keeps_what_is_scored_above_and_what_is_not_judged():
    pool = Pool.from_labels({"real": np.zeros(2, int), "edm": np.zeros(5, int)})
    scores = {"edm": [0.5, np.nan, 0.1, 0.6, 0.4]}
    assert pool.keep_above(scores, 0.4).kept.tolist() == [0, 1, 2, 3, 5]
    assert pool.keep_above(scores, 0.4).keep_above(scores, 0.5).kept.tolist() == [0, 1, 3, 5]
    assert pool.keep_above(scores, -1.0) == pool


@pytest.mark.parametrize(
    ("scores", "threshold", "said"),
    [
        ({"edm": [0.5, 0.1]}, 0.5, r"no score of 'edm' lies \(the highest is 0\.5\)"),
        ({"edm": [0.5, 0.1]}, float("nan"), "finite number"),
        ({"edm": [0.5, 0.1]}, "1/C", "finite number"),
        ({}, 0.5, "no score of any image"),
    ],
)
def test_pool_keep_above_refuses_what_leaves_a_source_empty(scores, threshold, said):
    pool = Pool.from_labels({"real": np.zeros(2, int), "edm": np.zeros(2, int)})
    with pytest.raises(ValueError, match=said):
        pool.keep_above(scores, threshold)


def test_pool_drop_lowest_again_judges_what_is_left():
    pool = Pool.from_labels({"a": np.zeros(8, int)})
    twice = pool.drop_lowest(np.arange(8), 0.5).drop_lowest(np.arange(8), 0.5)
    assert twice.kept.tolist() == [6, 7]


@pytest.mark.parametrize(
    ("filter_", "said"),
    [
        (lambda p: p.keep(np.zeros(5, bool)), "Got a filter that leaves no image, expected at least one. Loosen"),
        (
            lambda p: p.keep(np.arange(5) < 2).keep(np.arange(5) > 2),
            "Got a filter that leaves no image, expected .*. Loosen",
        ),
        (
            lambda p: p.keep(np.ones(4, bool)),
            r"Got a mask of shape \(4,\) and type bool, expected one boolean .* 5 keys. C",
        ),
        (
            lambda p: p.keep(np.ones(5)),
            r"Got a mask of shape \(5,\) and type float64, expected one boolean .*. Compare",
        ),
        (lambda p: p.keep(np.array([0, 2])), "Got a mask of shape .* type int64, expected one boolean .*. Compare"),
        (
            lambda p: p.drop_lowest(np.ones(5), 1.0),
            r"Got fraction=1\.0, expected a number 0 <= fraction < 1",
        ),
        (
            lambda p: p.drop_lowest(np.ones(5), -0.1),
            r"Got fraction=-0\.1, expected a number 0 <= fraction < 1",
        ),
        (
            lambda p: p.drop_lowest(np.ones(5), np.nan),
            "Got fraction=nan, expected a number 0 <= fraction < 1",
        ),
        (lambda p: p.drop_lowest(np.ones(5), "0.2"), "Got fraction='0.2', expected a number 0 <= fraction < 1"),
        (
            lambda p: p.drop_lowest(np.ones(4), 0.2),
            r"Got scores of shape \(4,\), expected \(5,\), one number for each",
        ),
        (lambda p: p.drop_lowest({"b": [1, 2, 3]}, 0.2), r"Got scores of 'b' of shape \(3,\), expected \(2,\), one"),
        (lambda p: p.drop_lowest({"c": [1, 2]}, 0.2), r"Got scores for \['c'\], expected \['a', 'b'\]. Name"),
        (lambda p: p.drop_lowest({}, 0.2), "Got no score of any image, expected at least one. Give"),
        (lambda p: p.drop_lowest(np.full(5, np.nan), 0.2), "Got no score of any image, expected at least one. Give"),
    ],
)
def test_pool_refuses_a_filter_that_does_not_fit(filter_, said):
    with pytest.raises(ValueError, match=said):
        filter_(Pool.from_labels({"a": np.zeros(3, int), "b": np.zeros(2, int)}))
