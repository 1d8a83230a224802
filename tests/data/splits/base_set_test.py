"""Base sets: stratified, nested, and cut down by the published laws of class imbalance."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxmoust.data.splits.base_set import base_keys, base_set, cut_classes, kept_fractions, per_class_keys


@st.composite
def labels_and_seed(draw):
    counts = draw(st.lists(st.integers(1, 30), min_size=1, max_size=6))
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(draw(st.integers(0, 9))).permutation(labels), draw(st.integers(0, 2**63 - 1))


@settings(max_examples=25, deadline=None)
@given(labels_and_seed(), st.data())
def test_base_keys_smaller_sets_are_prefixes_of_larger_ones(case, data):
    labels, seed = case
    num = data.draw(st.integers(np.unique(labels).size, labels.size))
    everything = base_keys(labels, labels.size, seed)
    np.testing.assert_array_equal(np.sort(everything), np.arange(labels.size))
    np.testing.assert_array_equal(base_keys(labels, num, seed), everything[:num])


@settings(max_examples=25, deadline=None)
@given(labels_and_seed(), st.data())
def test_base_keys_hold_every_class_in_proportion(case, data):
    labels, seed = case
    counts = np.bincount(labels)
    num = data.draw(st.integers(counts.size, labels.size))
    drawn = np.bincount(labels[base_keys(labels, num, seed)], minlength=counts.size)
    assert drawn.min() >= 1
    # At rank t class c has ceil(t n_c) images, so num is within K of t N, and a class within K of its part.
    assert np.abs(drawn - num * counts / counts.sum()).max() <= counts.size


def test_base_keys_of_equal_classes_are_equal_up_to_one():
    labels = np.arange(1000) % 10
    for num in (10, 100, 500):
        assert np.bincount(labels[base_keys(labels, num, 1)]).tolist() == [num // 10] * 10
    assert np.ptp(np.bincount(labels[base_keys(labels, 105, 1)])) == 1


def test_base_keys_are_a_function_of_the_seed():
    labels = np.arange(100) % 10
    assert np.array_equal(base_keys(labels, 50, 1), base_keys(labels, 50, 1))
    assert not np.array_equal(base_keys(labels, 50, 1), base_keys(labels, 50, 2))


@pytest.mark.parametrize("n_base", [101, 9, 0, -1])
def test_base_keys_refuse_a_size_out_of_range(n_base):
    with pytest.raises(ValueError, match=f"Got n_base={n_base}, expected 10 .* to 100 "):
        base_keys(np.arange(100) % 10, n_base, 0)


# ---- by class


@settings(max_examples=25, deadline=None)
@given(labels_and_seed(), st.data())
def test_per_class_keys_hold_so_many_of_each_class_and_are_prefixes_of_larger_ones(case, data):
    labels, seed = case
    smallest = int(np.bincount(labels).min())
    num = data.draw(st.integers(1, smallest))
    keys = per_class_keys(labels, num, seed)
    assert np.unique(keys).size == keys.size
    assert np.bincount(labels[keys]).tolist() == [num] * (labels.max() + 1)
    np.testing.assert_array_equal(per_class_keys(labels, smallest, seed)[: keys.size], keys)


def test_per_class_keys_of_equal_classes_are_the_base_keys_of_their_total():
    labels = np.arange(1000) % 10
    np.testing.assert_array_equal(per_class_keys(labels, 20, 5), base_keys(labels, 200, 5))


@pytest.mark.parametrize("num", [-1, 0, 4])
def test_per_class_keys_refuse_more_than_the_smallest_class_holds(num):
    with pytest.raises(ValueError, match=rf"Got n_per_class={num}, expected 1 to 3, .*\(label 7\)"):
        per_class_keys(np.repeat([2, 7, 9], [5, 3, 9]), num, 0)


# ---- imbalance

KINDS = st.sampled_from(["step", "exponential"])
RATIOS = st.floats(1.0, 30.0)


@st.composite
def large_classes(draw):
    """Labels whose classes all survive a cut by the largest of RATIOS."""
    counts = draw(st.lists(st.integers(31, 90), min_size=2, max_size=6))
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(draw(st.integers(0, 9))).permutation(labels), draw(st.integers(0, 99))


@pytest.mark.parametrize(
    ("num_classes", "n_per_class", "ratio", "total", "counts"),
    [
        (10, 5000, 100, 12_406, [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]),
        (10, 5000, 50, 13_996, None),
        (10, 5000, 10, 20_431, None),
        (100, 500, 100, 10_847, None),
    ],
)
def test_exponential_imbalance_gives_the_published_long_tailed_cifar(num_classes, n_per_class, ratio, total, counts):
    """The sizes that papers on long-tailed CIFAR-10 and CIFAR-100 report for these ratios."""
    labels = np.arange(num_classes * n_per_class) % num_classes
    kept = np.bincount(labels[base_set(labels, imbalance="exponential", imbalance_ratio=ratio)])
    assert kept.sum() == total
    assert counts is None or kept.tolist() == counts


@pytest.mark.parametrize(("num_classes", "counts"), [(10, [100] * 5 + [20] * 5), (3, [100, 100, 20])])
def test_step_imbalance_cuts_the_later_half_of_the_classes(num_classes, counts):
    labels = np.arange(100 * num_classes) % num_classes
    for size in ({}, {"n_per_class": 100}, {"n_base": 100 * num_classes}):
        keys = base_set(labels, **size, imbalance="step", imbalance_ratio=5.0)
        assert np.bincount(labels[keys]).tolist() == counts


@settings(max_examples=25, deadline=None)
@given(large_classes(), KINDS, RATIOS)
def test_imbalanced_base_set_keeps_the_floor_of_its_fraction_of_each_class(case, kind, ratio):
    labels, seed = case
    keys = base_set(labels, seed=seed, imbalance=kind, imbalance_ratio=ratio)
    counts = np.bincount(labels)
    exact = counts * kept_fractions(counts.size, kind, ratio)
    kept = np.bincount(labels[keys])
    assert (kept <= exact + 1e-4).all() and (kept > exact - 1).all()
    assert kept[0] == counts[0] and kept[-1] == pytest.approx(counts[-1] / ratio, abs=1)


@settings(max_examples=25, deadline=None)
@given(large_classes(), KINDS, RATIOS, RATIOS, st.data())
def test_imbalanced_base_sets_are_nested(case, kind, ratio, other, data):
    labels, seed = case
    sizes = st.integers(31 * int(labels.max() + 1), labels.size)
    small, large = sorted((data.draw(sizes), data.draw(sizes)))
    low, high = sorted((ratio, other))

    def keys(n_base, **cut):
        return set(base_set(labels, n_base=n_base, seed=seed, **cut).tolist())

    assume(np.bincount(labels[base_keys(labels, small, seed)]).min() >= high)  # else a class is left empty: refused
    cut = keys(small, imbalance=kind, imbalance_ratio=high)
    assert cut <= keys(small)
    assert cut <= keys(small, imbalance=kind, imbalance_ratio=low)
    assert cut <= keys(large, imbalance=kind, imbalance_ratio=high)
    assert keys(small, imbalance=kind, imbalance_ratio=1.0) == keys(small)


def test_base_set_without_a_cut_is_the_base_keys():
    labels = np.arange(100) % 10
    np.testing.assert_array_equal(base_set(labels, n_base=30, seed=2), base_keys(labels, 30, 2))
    np.testing.assert_array_equal(base_set(labels, seed=2), base_keys(labels, 100, 2))
    np.testing.assert_array_equal(base_set(labels, n_per_class=3, seed=2), per_class_keys(labels, 3, 2))


def test_imbalance_counts_the_classes_that_are_there():
    labels = np.repeat([3, 5, 8, 9], 10)
    kept = np.bincount(labels[base_set(labels, imbalance="step", imbalance_ratio=2)], minlength=10)
    assert kept[[3, 5, 8, 9]].tolist() == [10, 10, 5, 5]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n_base": 20, "n_per_class": 2}, "n_base=20 and n_per_class=2, expected one. Set"),
        ({"n_base": -3}, "n_base=-3, expected 10"),
        ({"n_per_class": -3}, "n_per_class=-3, expected 1 to 10"),
        ({"imbalance": "linear", "imbalance_ratio": 2.0}, "imbalance='linear', expected '', step, exponential"),
        ({"imbalance": "step"}, "imbalance_ratio=0.0, expected 1 and up"),
        ({"imbalance": "step", "imbalance_ratio": 0.5}, "imbalance_ratio=0.5,.*1 and up"),
        ({"imbalance": "step", "imbalance_ratio": float("nan")}, "imbalance_ratio=nan,.*1 and up"),
        ({"imbalance": "step", "imbalance_ratio": float("inf")}, "imbalance_ratio=inf,.*1 and up"),
        ({"imbalance_ratio": 5.0}, "imbalance_ratio=5 without an imbalance"),
        ({"imbalance": "step", "imbalance_ratio": 11.0}, r"no image of label 5 \(it has 10\)"),
        ({"imbalance": "exponential", "imbalance_ratio": 11.0}, r"no image of label 9 \(it has 10\)"),
    ],
)
def test_base_set_refuses_what_leaves_no_such_set(fields, said):
    with pytest.raises(ValueError, match=f"(?s)Got .*{said}"):
        base_set(np.arange(100) % 10, **fields)


def test_cut_classes_refuses_a_single_class():
    with pytest.raises(ValueError, match="for 1 class, expected two and up"):
        cut_classes(np.zeros(9, int), np.arange(9), "step", 2.0)
