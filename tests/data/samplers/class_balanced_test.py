"""Samplers by class: classes come in the proportions their formula says, and inside a class without replacement."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.class_balanced import ClassPower, EffectiveNumber, Progressive

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**63 - 1)
sizes_of_classes = st.lists(st.integers(1, 60), min_size=1, max_size=7)
starts = st.one_of(st.integers(0, 500), st.integers(2**40, 2**60))
makes = st.sampled_from(
    [
        lambda pool, shares, seed: ClassPower(pool, 0, shares, seed),
        lambda pool, shares, seed: ClassPower(pool, 0.5, shares, seed),
        lambda pool, shares, seed: ClassPower(pool, 1, shares, seed),
        lambda pool, shares, seed: EffectiveNumber(pool, 0.99, shares, seed),
        lambda pool, shares, seed: Progressive(pool, 300, shares, seed),
    ]
)


def labels_of(sizes):
    """Labels of sizes[c] images of each class c, the classes mixed."""
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))


def make_pool(*sources):
    """A pool of the sources s0, s1, ... of so many images a class."""
    num_classes = len(sources[0])
    return Pool.from_labels(
        {f"s{s}": labels_of(sizes) for s, sizes in enumerate(sources)}, [str(c) for c in range(num_classes)]
    )


def two_sources(draw):
    """Images a class of two sources; a class may be missing from either, but not from both."""
    num_classes = draw(st.integers(1, 6))
    rows = [draw(st.lists(st.integers(0, 30), min_size=num_classes, max_size=num_classes)) for _ in range(2)]
    rows[0] = [n or int(not other) for n, other in zip(*rows, strict=True)]
    return [row if sum(row) else [1] * num_classes for row in rows]


pairs_of_sources = st.composite(two_sources)()


def classes_of(sampler, start, stop):
    """Which class each draw shows, one-hot: [draws, K]."""
    return np.eye(len(sampler.pool.class_names), dtype=int)[sampler.pool.label(sampler.keys(start, stop))]


def assert_prefixes(drawn, parts, bound):
    """In every prefix each class has its part of the draws, to within a bound."""
    due = np.arange(1, len(drawn) + 1)[:, None] * np.asarray(parts)
    assert np.abs(drawn.cumsum(0) - due).max() < bound


def assert_without_replacement(keys, group):
    """In each group every image comes once before any comes again."""
    for g in np.unique(group):
        drawn = keys[group == g]
        _, first = np.unique(drawn, return_index=True)
        walk = drawn[: first.size]
        assert np.unique(walk).size == walk.size
        for start in range(0, drawn.size, walk.size):
            part = drawn[start : start + walk.size]
            assert np.unique(part).size == part.size


# The law of each


def assert_power_law(sizes, power, seed, start, bits=0.0):
    parts = np.array([n**power for n in sizes]) / sum(n**power for n in sizes)
    drawn = classes_of(ClassPower(make_pool(sizes), power, None, seed), start, start + 2000)
    # A window is the difference of two prefixes, each off by less than ceil(log2 K).
    bound = (2 if start else 1) * math.ceil(math.log2(len(sizes))) + 1e-6 + bits
    assert_prefixes(drawn, parts, bound)


@quick
@given(sizes=sizes_of_classes, power=st.sampled_from([0, 1, 0.5, 2, -1, 0.3]), seed=seeds, start=st.just(0) | starts)
def test_class_power_draws_classes_by_a_power_of_their_size(sizes, power, seed, start):
    assert_power_law(sizes, power, seed, start, bits=2000 * 2.0**-20)  # weights have 24 bits


@quick
@given(sizes=sizes_of_classes, seed=seeds, start=starts)
def test_class_power_zero_draws_each_class_once_in_every_window(sizes, seed, start):
    drawn = classes_of(ClassPower(make_pool(sizes), 0.0, None, seed), start, start + len(sizes))
    assert drawn.sum(0).tolist() == [1] * len(sizes)


@quick
@given(sizes=sizes_of_classes, seed=seeds, epoch=st.integers(0, 2**40))
def test_class_power_one_draws_each_image_once_in_an_epoch(sizes, seed, epoch):
    num = sum(sizes)
    keys = ClassPower(make_pool(sizes), 1.0, None, seed).keys(epoch * num, (epoch + 1) * num)
    np.testing.assert_array_equal(np.sort(keys), np.arange(num))


@pytest.mark.parametrize(
    "make", [lambda pool: ClassPower(pool, 1.0 + 1e-9), lambda pool: EffectiveNumber(pool, 0.0)], ids=["power", "beta"]
)
def test_rare_classes_keep_their_weight(make):
    """One image among a million is expected once in a million draws: rounding is relative to a class's own weight."""
    pool = make_pool([1_000_000, 1, 30])
    expected = make(pool).expected(0, 1_000_031)[0]
    np.testing.assert_allclose(expected, [1_000_000, 1, 30], rtol=1e-6)  # 24 bits, and 1e-9 of 14


@quick
@given(sizes=sizes_of_classes, beta=st.sampled_from([0.0, 0.5, 0.9, 0.999, 0.999999]), seed=seeds)
def test_effective_number_draws_classes_by_images_over_their_effective_number(sizes, beta, seed):
    """The effective number of n images is 1 + beta + ... + beta^(n - 1), here summed as it stands."""
    weights = np.array([n / sum(beta**j for j in range(n)) for n in sizes])
    drawn = classes_of(EffectiveNumber(make_pool(sizes), beta, None, seed), 0, 2000)
    assert_prefixes(drawn, weights / weights.sum(), math.ceil(math.log2(len(sizes))) + 2000 * 2.0**-20 + 1e-6)


@pytest.mark.parametrize("beta", [0.99999999, 1 - 2.0**-53])
def test_effective_number_of_a_beta_close_to_one_is_close_to_class_balanced(beta):
    """Where 1 - beta^n loses all its digits."""
    expected = EffectiveNumber(make_pool([1000, 1, 30]), beta).expected(0, 3)[0]
    np.testing.assert_allclose(expected, 1, rtol=1e-4)  # the effective number is n (1 - (n - 1)(1 - beta) / 2)


@quick
@given(sizes=sizes_of_classes, num_draws=st.integers(500, 3000), seed=seeds)
def test_progressive_goes_from_instances_to_classes(sizes, num_draws, seed):
    drawn = classes_of(Progressive(make_pool(sizes), num_draws, None, seed), 0, num_draws).cumsum(0)
    n = np.arange(1, num_draws + 1)[:, None]
    part = n**2 / (2 * num_draws)  # the integral of t
    due = (n - part) * np.array(sizes) / sum(sizes) + part / len(sizes)
    # Each of 100 stages shares its draws between the two kinds to within one; half a stage of 1/100 of the way; quotas.
    bound = 100 * 0.5 + num_draws / 100 / 8 + 2 * math.ceil(math.log2(len(sizes) + 1)) + 2
    assert np.abs(drawn - due).max() < bound


@pytest.mark.parametrize(("start", "balanced"), [(0, 0.05), (50_000, 0.55), (90_000, 0.95), (100_000, 1.0)])
def test_progressive_mixes_by_progress(start, balanced):
    drawn = classes_of(Progressive(make_pool([90, 10]), 100_000, None, 3), start, start + 10_000).sum(0)
    due = 10_000 * ((1 - balanced) * np.array([0.9, 0.1]) + balanced * 0.5)
    assert np.abs(drawn - due).max() < 12  # ten stages: one draw each, and one of each quota


@quick
@given(sizes=sizes_of_classes, num_draws=st.integers(1, 300), seed=seeds, start=starts)
def test_progressive_is_class_balanced_for_good_after_its_length(sizes, num_draws, seed, start):
    sampler = Progressive(make_pool(sizes), num_draws, None, seed)
    drawn = classes_of(sampler, num_draws + start, num_draws + start + len(sizes))
    assert drawn.sum(0).tolist() == [1] * len(sizes)


# Of all of them


@quick
@given(sizes=sizes_of_classes, make=makes, seed=seeds)
def test_classes_are_walked_without_replacement(sizes, make, seed):
    """One walk through the class, of both kinds of draws of Progressive too."""
    sampler = make(make_pool(sizes), None, seed)
    keys = sampler.keys(0, 1500)
    label = sampler.pool.label(keys)
    assert_without_replacement(keys, label)
    for c, n in enumerate(sizes):
        assert np.sum(label == c) < n or np.unique(keys[label == c]).size == n  # all of it is walked


@quick
@given(sources=pairs_of_sources, make=makes, seed=seeds)
def test_classes_of_each_source_are_walked_without_replacement(sources, make, seed):
    sampler = make(make_pool(*sources), {"s0": 0.5, "s1": 0.5}, seed)
    keys = sampler.keys(0, 1500)
    assert_without_replacement(keys, sampler.pool.cell(keys))


@quick
@given(sources=pairs_of_sources, make=makes, seed=seeds, share=st.integers(1, 9))
def test_shares_are_kept_whatever_the_classes(sources, make, seed, share):
    """And a class that a source does not hold is not drawn from it."""
    sampler = make(make_pool(*sources), {"s0": share / 10, "s1": 1 - share / 10}, seed)
    keys = sampler.keys(0, 1000)
    source = sampler.pool.source(keys)
    assert np.abs(np.cumsum(source == 0) - np.arange(1, 1001) * share / 10).max() < 1 + 1e-6
    cells = np.bincount(sampler.pool.cell(keys), minlength=sampler.pool.counts().size)
    assert not cells[np.ravel(sources) == 0].any()


def test_shares_balance_the_classes_inside_each_source():
    """A class without synthetic images is drawn from the real ones alone."""
    sampler = ClassPower(make_pool([10, 20, 30], [40, 8, 0]), 0.0, {"s0": 0.5, "s1": 0.5}, 3)
    drawn = np.bincount(sampler.pool.cell(sampler.keys(0, 1200)), minlength=6).reshape(2, 3)
    assert drawn.tolist() == [[200, 200, 200], [300, 300, 0]]


@quick
@given(sources=pairs_of_sources, make=makes, seed=seeds)
def test_without_shares_the_pool_is_one_set(sources, make, seed):
    """Inside a class the images of every source are alike: one epoch of the class holds each once."""
    pool = make_pool(*sources)
    one = Pool.from_labels({"s": pool.labels}, pool.class_names)
    np.testing.assert_array_equal(make(pool, None, seed).keys(0, 500), make(one, None, seed).keys(0, 500))


@quick
@given(sizes=st.lists(st.integers(4, 60), min_size=1, max_size=5), make=makes, seed=seeds)
def test_a_filter_changes_the_sizes_that_classes_count_by(sizes, make, seed):
    """Drawing from a filtered pool is drawing from the pool that holds nothing else."""
    pool = make_pool(sizes)
    left = pool.drop_lowest(np.arange(len(pool)) % 11, 0.3)
    if not left.counts().sum(0).all():
        return
    alone = Pool.from_labels({"s0": pool.labels[left.kept]}, pool.class_names)
    drawn = make(left, None, seed).keys(0, 800)
    np.testing.assert_array_equal(drawn, left.kept[make(alone, None, seed).keys(0, 800)])


@pytest.mark.parametrize(
    "make", [lambda p: ClassPower(p, 0.5), lambda p: EffectiveNumber(p), lambda p: Progressive(p, 10**6)]
)
def test_a_thousand_classes_are_as_good_as_three(make):
    sizes = np.random.default_rng(1).integers(1, 30, 1000).tolist()
    sampler = make(make_pool(sizes))
    keys = sampler.keys(0, 60_000)
    drawn = np.bincount(sampler.pool.label(keys), minlength=1000)
    # ceil(log2 1000) of a prefix; of Progressive two such quotas and the draws between them.
    assert np.abs(drawn - sampler.expected(0, 60_000)[0]).max() < 2 * 10 + 1
    assert_without_replacement(keys, sampler.pool.label(keys))
    assert sampler[2**50].record_key == sampler.keys(2**50, 2**50 + 1)[0]


# Bad input


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: ClassPower(p, math.nan), "Got power=nan, expected -10 to 10, such as"),
        (lambda p: ClassPower(p, math.inf), "Got power=inf, expected -10 to 10"),
        (lambda p: ClassPower(p, "root"), "Got power='root', expected -10 to 10"),
        (lambda p: ClassPower(p, True), "Got power=True, expected -10 to 10"),
        (lambda p: ClassPower(p, 400), r"Got power=400, expected -10 to 10"),
        (lambda p: ClassPower(p, -400), r"Got power=-400, expected -10 to 10"),
        (lambda p: EffectiveNumber(p, 1.0), r"Got beta=1\.0, expected 0 <= beta < 1, such as 0\.9999"),
        (lambda p: EffectiveNumber(p, -0.1), r"Got beta=-0\.1, expected 0 <= beta < 1, such as 0\.9999"),
        (lambda p: EffectiveNumber(p, math.nan), "Got beta=nan, expected 0 <= beta < 1, such as 0.9999"),
        (lambda p: Progressive(p, 0), "Got num_draws=0, expected a whole number from 1"),
        (lambda p: Progressive(p, 1.5), r"Got num_draws=1\.5, expected a whole number from 1"),
        (lambda p: ClassPower(p, 1, {"s0": 0.5, "s1": 0.6}), r"sum to 1\.1, expected a sum of 1 .*. Divide"),
        (lambda p: Progressive(p, 9, {"s0": 1.0}), r"Got shares for \['s0'\], expected .*. Name each"),
        (lambda p: EffectiveNumber(p, 0.9, {"s0": 1.5, "s1": -0.5}), "expected numbers from 0 to 1"),
    ],
)
def test_by_class_refuses_what_is_no_setting(make, said):
    with pytest.raises(ValueError, match=said):
        make(make_pool([3, 4], [1, 1]))


@pytest.mark.parametrize(
    "make",
    [
        lambda pool, shares=None: ClassPower(pool, 0, shares),
        lambda pool, shares=None: EffectiveNumber(pool, 0.99, shares),
        lambda pool, shares=None: Progressive(pool, 9, shares),
    ],
)
def test_by_class_refuses_a_class_that_no_source_holds(make):
    said = r"Got no image of the classes \['1'\] in the sources that are drawn from, expected at least one .*. Add"
    with pytest.raises(ValueError, match=said):
        make(make_pool([3, 0, 2]))
    with pytest.raises(ValueError, match=said):
        make(make_pool([3, 1, 2]).keep(make_pool([3, 1, 2]).labels != 1))
    with pytest.raises(ValueError, match=said):
        make(make_pool([3, 1, 2], [3, 0, 2]), {"s0": 0.0, "s1": 1.0})
