"""Samplers by score: weighted draws follow their weights exactly; easy images come first, evenly among themselves."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.schedules import Pacing
from jaxmoust.data.samplers.score_based import EasyToHard, Weighted

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**63 - 1)
starts = st.one_of(st.integers(0, 500), st.integers(2**40, 2**60))
# Tests of a distribution are at one fixed seed, and fail a right one once in 10^4 seeds.
FALSE_ALARM = 1e-4


def make_pool(sizes, num_classes=3):
    return Pool.from_labels(
        {f"s{i}": np.arange(size) % num_classes for i, size in enumerate(sizes)}, list("abc")[:num_classes]
    )


def p_value(counts, weights):
    """How likely counts as uneven as these are under the law p_i = w_i / sum(w): all together, or the worst of them.

    Chi-square sees many small errors, the binomial tail of the worst count a single one.
    """
    counts, weights = np.asarray(counts), np.asarray(weights, np.float64)
    assert not counts[weights == 0].any()
    counts, parts = counts[weights > 0], weights[weights > 0] / weights.sum()
    num = counts.sum()
    tails = np.minimum(stats.binom.cdf(counts, num, parts), stats.binom.sf(counts - 1, num, parts))
    return min(1.0, 2 * min(stats.chisquare(counts, parts * num).pvalue, 2 * tails.min() * counts.size))


def counts_of(sampler, num_draws, start=0):
    return np.bincount(sampler.keys(start, start + num_draws), minlength=len(sampler.pool))


# Weighted


@pytest.mark.parametrize("start", [0, 2**40 + 12345])
@pytest.mark.parametrize("size", [2, 63, 64, 65, 200, 1000])
def test_weighted_draws_follow_their_weights(size, start):
    """Around 64, the stride of the index of the table."""
    weights = 0.02 + np.random.default_rng(size).random(size) ** 2
    sampler = Weighted(make_pool([size]), weights, seed=11)
    assert p_value(counts_of(sampler, 400_000, start), weights) > FALSE_ALARM


@pytest.mark.parametrize("at", [0, 63, 64, 127, 199])
def test_weighted_wrong_weight_would_be_noticed(at):
    """The power of the tests around: one weight of 200 that is off by a quarter is found out."""
    weights = 1.0 + np.random.default_rng(0).random(200)
    counts = counts_of(Weighted(make_pool([200]), weights, seed=11), 400_000)
    weights[at] *= 1.25
    assert p_value(counts, weights) < FALSE_ALARM


def test_weighted_draws_are_independent_of_each_other():
    """Pairs of neighbours, of draws 256 (a block of the scalar face) and 32768 (a chunk of work) apart."""
    weights = np.arange(1.0, 9.0)
    keys = Weighted(make_pool([8]), weights, seed=5).keys(0, 400_000)
    for lag in (1, 2, 256, 32768):
        pairs = np.bincount(keys[:-lag] * 8 + keys[lag:], minlength=64)
        assert p_value(pairs, np.outer(weights, weights).ravel()) > FALSE_ALARM


def test_weighted_draws_of_seeds_are_independent_of_each_other():
    pool, weights = make_pool([8]), np.arange(1.0, 9.0)
    one, two = (Weighted(pool, weights, seed=seed).keys(0, 400_000) for seed in (7, 8))
    assert p_value(np.bincount(one * 8 + two, minlength=64), np.outer(weights, weights).ravel()) > FALSE_ALARM


@quick
@given(
    weights=st.lists(st.just(0.0) | st.floats(1e-3, 1.0), min_size=1, max_size=300).filter(sum),
    seed=seeds,
    start=starts,
)
def test_weighted_never_draws_a_weight_of_zero(weights, seed, start):
    sampler = Weighted(make_pool([len(weights)]), np.array(weights), seed=seed)
    assert np.array(weights)[sampler.keys(start, start + 2000)].all()


@pytest.mark.parametrize("size", [1, 2, 64, 65, 130])
def test_weighted_one_weight_takes_all_draws_wherever_it_stands(size):
    for only in range(size):
        sampler = Weighted(make_pool([size]), np.eye(size)[only], seed=only)
        assert set(sampler.keys(0, 200).tolist()) == {only}


@quick
@given(weights=st.lists(st.just(0.0) | st.floats(1e-3, 1.0), min_size=1, max_size=300).filter(sum))
def test_weighted_search_ends_above_what_is_drawn(weights):
    """As numpy's, at the very steps of the table too, which a draw meets once in 2^53: there begin weights of 0."""
    sampler = Weighted(make_pool([len(weights)]), np.array(weights))
    table = sampler._cumulative
    drawn = np.unique([0.0, *table, *np.nextafter(table, 0), *np.nextafter(table, 1)])
    drawn = drawn[drawn < table[-1]]
    place = sampler._search(drawn)
    np.testing.assert_array_equal(place, np.searchsorted(table, drawn, side="right"))
    assert np.array(weights)[place].all()


@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1e-30, 1e30, 1e300])
def test_weighted_only_the_ratios_of_weights_count(scale):
    """Powers of scores are soon as small as that."""
    weights = np.repeat([1.0, 2.0, 4.0, 1.0], 20)
    sampler = Weighted(make_pool([80]), weights * scale, seed=3)
    assert p_value(counts_of(sampler, 100_000), weights) > FALSE_ALARM


@pytest.mark.parametrize("exponent", [-1000, -40, 40, 900])
def test_weighted_powers_of_two_change_no_draw(exponent):
    weights = np.random.default_rng(2).random(80)
    scaled = Weighted(make_pool([80]), np.ldexp(weights, exponent), seed=3)
    np.testing.assert_array_equal(scaled.keys(0, 999), Weighted(make_pool([80]), weights, seed=3).keys(0, 999))


def test_weighted_by_source_gives_each_of_its_images_the_weight():
    sampler = Weighted(make_pool([30, 50, 20]), {"s0": 3, "s1": 1, "s2": 0}, seed=4)
    assert p_value(counts_of(sampler, 200_000), np.repeat([3.0, 1.0, 0.0], [30, 50, 20])) > FALSE_ALARM


def test_weighted_by_source_takes_numbers_and_arrays_side_by_side():
    """Density ratios of the synthetic images beside a plain 1 for the real ones."""
    ratios = np.random.default_rng(3).random(50)
    mixed = Weighted(make_pool([30, 50]), {"s1": ratios, "s0": 1}, seed=4)
    assert mixed == Weighted(make_pool([30, 50]), np.concatenate([np.ones(30), ratios]), seed=4)
    assert p_value(counts_of(mixed, 200_000), [*np.ones(30), *ratios]) > FALSE_ALARM


def test_weighted_by_class_gives_each_of_its_images_the_weight():
    pool = make_pool([31, 50])
    sampler = Weighted(pool, {"b": 2, "c": 0.5, "a": 0}, by="class", seed=4)
    weights = np.array([0, 2, 0.5])[pool.labels]
    assert p_value(counts_of(sampler, 200_000), weights) > FALSE_ALARM


def test_weighted_with_shares_compares_the_images_of_one_source_only():
    weights = np.random.default_rng(3).random(80)
    sampler = Weighted(make_pool([30, 50]), weights, shares={"s0": 0.25, "s1": 0.75}, seed=4)
    scaled = np.concatenate([0.25 * weights[:30] / weights[:30].sum(), 0.75 * weights[30:] / weights[30:].sum()])
    assert p_value(counts_of(sampler, 200_000), scaled) > FALSE_ALARM
    np.testing.assert_allclose(sampler.expected(0, 100).sum(1), [25, 75])


def test_weighted_of_a_filtered_pool_weighs_what_is_left():
    weights, pool = np.random.default_rng(3).random(80), make_pool([30, 50])
    left = pool.drop_lowest(weights, 0.5)
    counts = counts_of(Weighted(left, weights, seed=4), 200_000)
    assert p_value(counts, np.where(np.isin(np.arange(80), left.kept), weights, 0.0)) > FALSE_ALARM


def test_weighted_of_a_thousand_classes_draws_them_by_their_weights():
    pool = Pool.from_labels({"real": np.arange(3000) % 1000, "edm": np.arange(5000) % 500})
    weights = np.random.default_rng(5).random(1000)
    sampler = Weighted(pool, dict(zip(pool.class_names, weights, strict=True)), by="class", seed=6)
    drawn = np.bincount(pool.label(sampler.keys(0, 400_000)), minlength=1000)
    assert p_value(drawn, weights * pool.counts().sum(0)) > FALSE_ALARM
    mass = weights * pool.counts().sum(0)
    np.testing.assert_allclose(sampler.expected(0, 7).sum(0), 7 * mass / mass.sum())


@quick
@given(seed=seeds, start=starts)
def test_weighted_single_and_double_precision_draw_alike(seed, start):
    weights = np.random.default_rng(2).random(90).astype(np.float32)
    single, double = (Weighted(make_pool([90]), w, seed=seed) for w in (weights, weights.astype(np.float64)))
    np.testing.assert_array_equal(single.keys(start, start + 99), double.keys(start, start + 99))


def test_weighted_does_not_follow_what_is_written_to_the_array_later():
    weights, parts = np.ones(80), {"s0": 1.0, "s1": np.ones(50)}
    samplers = [Weighted(make_pool([30, 50]), given, seed=1) for given in (weights, parts)]
    weights[:], parts["s1"][:] = np.arange(80), 0.0
    for sampler in samplers:
        assert sampler == Weighted(make_pool([30, 50]), np.ones(80), seed=1)
        np.testing.assert_allclose(sampler.expected(0, 80), sampler.pool.counts())


@pytest.mark.parametrize(
    ("weights", "options", "said"),
    [
        (np.ones(6), {}, r"Got weights of shape \(6,\), expected \(7,\), one number for each image"),
        (np.ones((7, 1)), {}, r"Got weights of shape \(7, 1\), expected \(7,\)"),
        ({"s0": np.ones(3), "s1": np.ones(3)}, {}, r"Got weights of 's1' of shape \(3,\), expected \(4,\)"),
        ([1, 1, -1, 1, 1, 1, 1], {}, r"Got a weight of -1\.0 among the weights, expected numbers from 0"),
        ([1, 1, math.nan, 1, 1, 1, 1], {}, "Got NaN among the weights, expected numbers from 0"),
        ([1, 1, math.inf, 1, 1, 1, 1], {}, "Got .*inf.*, expected .* finite "),
        ([1e308] * 7, {}, "Got weights that sum to inf, expected a finite sum above 0. Give"),
        (np.zeros(7), {}, r"Got weights that sum to 0\.0, expected a finite sum above 0. Give"),
        ({"s0": 0, "s1": 0}, {}, r"Got weights that sum to 0\.0, expected a finite sum above 0. Give"),
        ({"s0": 1, "s1": -1}, {}, r"Got a weight of -1\.0 among the weights, expected numbers from 0"),
        ({"s0": 1, "s1": math.nan}, {}, "Got NaN among the weights, expected numbers from 0"),
        ({"s0": 1}, {}, r"Got weights for \['s0'\], expected one for each source .* \['s0', 's1'\]. Name each"),
        ({"s0": 1, "s1": 1, "s2": 1}, {}, r"Got weights for \['s0', 's1', 's2'\], expected .*. Name each"),
        ({"a": 1, "b": 1}, {"by": "class"}, r"Got weights for \['a', 'b'\], expected .* \['a', 'b', 'c'\]. Name each"),
        (np.ones(3), {"by": "class"}, r"Got weights for no name .*, expected .* \['a', 'b', 'c'\]. Name each"),
        ({"a": 1, "b": -1, "c": 1}, {"by": "class"}, r"Got a weight of -1\.0 .*expected numbers from 0"),
        ({"a": 0, "b": 0, "c": 0}, {"by": "class"}, r"Got weights that sum to 0\.0, expected"),
        (np.ones(7), {"by": "score"}, "Got by='score', expected image, class. Choose"),
        (np.ones(7), {"shares": {"s0": 0.5, "s1": 0.6}}, r"sum to 1\.1, expected a sum of 1 .*. Divide"),
        ({"s0": -1, "s1": 1}, {"shares": {"s0": 0.5, "s1": 0.5}}, r"Got a weight of -1\.0 .*, expected numbers fr"),
        (
            {"s0": 0, "s1": 1},
            {"shares": {"s0": 0.5, "s1": 0.5}},
            r"Got weights of 's0' that sum to 0\.0, expected a finite sum .* share of 0\.5. Weigh",
        ),
    ],
)
def test_weighted_refuses_weights_that_do_not_fit(weights, options, said):
    with pytest.raises(ValueError, match=said):
        Weighted(make_pool([3, 4]), weights, **options)


def test_weighted_refuses_a_weight_for_a_class_that_no_source_holds():
    pool = Pool.from_labels({"s0": np.array([0, 2])}, ("a", "b", "c"))
    with pytest.raises(ValueError, match=r"Got weights for \['b'\], of which no source holds an image. Set them to 0"):
        Weighted(pool, {"a": 1, "b": 1, "c": 1}, by="class")
    assert set(Weighted(pool, {"a": 1, "b": 0, "c": 1}, by="class").keys(0, 99).tolist()) == {0, 1}


# Easy to hard


def parts_of(pacing):
    """(first position, position after the last, how large the easiest part is), with some draws of the last one."""
    table = pacing.table()
    stops = [start for start, _ in table[1:]] + [table[-1][0] + 400]
    return [(start, stop, part) for (start, part), stop in zip(table, stops, strict=True)]


pacings = st.builds(
    Pacing,
    st.integers(1, 1500),
    st.floats(0.02, 1),
    st.floats(0.02, 1),
    st.sampled_from(["linear", "root", "geometric"]),
    st.integers(1, 8),
)


@quick
@given(size=st.integers(1, 90), pacing=pacings, seed=seeds)
def test_easy_to_hard_draws_evenly_from_the_easiest_part(size, pacing, seed):
    """Every image of the easiest part equally often, up to one; and no other."""
    scores = np.random.default_rng(size).random(size)
    sampler = EasyToHard(make_pool([size]), scores, pacing, seed=seed)
    easiest = np.argsort(-scores)
    for start, stop, part in parts_of(pacing):
        drawn = np.bincount(sampler.keys(start, stop), minlength=size)
        num_in = max(1, math.ceil(round(part * size, 6)))
        assert not drawn[easiest[num_in:]].any()
        assert np.ptp(drawn[easiest[:num_in]]) <= 1


@quick
@given(seed=seeds)
def test_easy_to_hard_each_stage_and_source_has_an_order_of_its_own(seed):
    """Two orders of 60 images agree once in 10^82."""
    pool, pacing = make_pool([60, 60]), Pacing(240, 1.0, 1.0, "linear", 2)
    sampler = EasyToHard(pool, np.tile(np.arange(60.0), 2), pacing, {"s0": 0.5, "s1": 0.5}, seed=seed)
    stages = [sampler.keys(start, start + 120) for start in (0, 120)]
    walks = [keys[pool.source(keys) == s] - 60 * s for keys in stages for s in (0, 1)]
    assert all(not np.array_equal(one, other) for one, other in itertools.combinations(walks, 2))


@quick
@given(size=st.integers(1, 90), pacing=pacings, seed=seeds, far=st.integers(2**40, 2**60))
def test_easy_to_hard_draws_everything_in_the_end(size, pacing, seed, far):
    sampler = EasyToHard(make_pool([size]), np.arange(float(size)), pacing, seed=seed)
    drawn = np.bincount(sampler.keys(far, far + 5 * size), minlength=size)
    assert drawn.min() >= 4 and drawn.max() <= 6 and drawn.sum() == 5 * size


@quick
@given(sizes=st.lists(st.integers(1, 40), min_size=2, max_size=4), pacing=pacings, seed=seeds)
def test_easy_to_hard_inside_shares_paces_each_source_by_itself(sizes, pacing, seed):
    pool = make_pool(sizes)
    scores = np.random.default_rng(sizes[0]).random(len(pool))
    sampler = EasyToHard(pool, scores, pacing, {f"s{s}": 1 / len(sizes) for s in range(len(sizes))}, seed=seed)
    for start, stop, part in parts_of(pacing):
        keys = sampler.keys(start, stop)
        for s, size in enumerate(sizes):
            first = pool.offsets[s]
            easiest = np.argsort(-scores[first : first + size]) + first
            drawn = np.bincount(keys, minlength=len(pool))
            num_in = max(1, math.ceil(round(part * size, 6)))
            assert not drawn[easiest[num_in:]].any()
            assert np.ptp(drawn[easiest[:num_in]]) <= 1
        due = (stop - start) / len(sizes)
        assert np.abs(np.bincount(pool.source(keys), minlength=len(sizes)) - due).max() < 2 * len(sizes)


@quick
@given(seed=seeds, pacing=pacings)
def test_easy_to_hard_images_without_a_score_are_in_from_the_beginning(seed, pacing):
    """Real images beside scored synthetic ones; and single NaN."""
    scores = np.arange(50.0)
    scores[[3, 7]] = np.nan
    sampler = EasyToHard(make_pool([30, 50]), {"s1": scores}, pacing, seed=seed)
    start, stop, part = parts_of(pacing)[0]
    drawn = np.bincount(sampler.keys(start, stop), minlength=80)
    easiest = [*range(30), 33, 37, *(30 + i for i in range(49, -1, -1) if i not in (3, 7))]
    num_in = 32 + math.ceil(round(part * 48, 6))
    assert not drawn[easiest[num_in:]].any()
    assert np.ptp(drawn[easiest[:num_in]]) <= 1


@quick
@given(seed=seeds, sizes=st.lists(st.integers(1, 40), min_size=3, max_size=3), pacing=pacings)
def test_easy_to_hard_per_class_keeps_the_classes_in_proportion(seed, sizes, pacing):
    """The easiest images of each class, to within one; though one class is easier than all of the others."""
    label = np.repeat(np.arange(3), sizes)
    scores = np.random.default_rng(0).random(label.size) - 10.0 * label
    pool = Pool.from_labels({"s0": label}, ("a", "b", "c"))
    sampler = EasyToHard(pool, scores, pacing, per_class=True, seed=seed)
    for start, stop, part in parts_of(pacing):
        drawn = np.bincount(sampler.keys(start, stop), minlength=label.size)
        for c, size in enumerate(sizes):
            easiest = np.flatnonzero(label == c)[np.argsort(-scores[label == c])]
            assert not drawn[easiest[math.ceil(part * size + 1) :]].any()
            if stop - start >= label.size:
                assert drawn[easiest[: math.floor(part * size - 1 + 1e-6)] if part * size >= 1 else []].all()


@quick
@given(seed=seeds, pacing=pacings)
def test_easy_to_hard_only_the_order_of_scores_counts(seed, pacing):
    scores = np.random.default_rng(1).permutation(60) / 7.0
    one, two = (EasyToHard(make_pool([60]), s, pacing, seed=seed) for s in (scores, np.exp(scores) - 1e4))
    np.testing.assert_array_equal(one.keys(0, 900), two.keys(0, 900))


def test_easy_to_hard_of_equal_scores_the_first_keys_come_first():
    sampler = EasyToHard(make_pool([20]), np.ones(20), Pacing(100, 0.25, 1.0, "linear", 3))
    assert set(sampler.keys(0, 33).tolist()) == set(range(5))


@quick
@given(seed=seeds, pacing=pacings)
def test_easy_to_hard_of_a_filtered_pool_paces_what_is_left(seed, pacing):
    scores = np.random.default_rng(1).random(60)
    left = make_pool([60]).keep(np.arange(60) % 3 != 0)
    alone = EasyToHard(make_pool([40]), scores[left.kept], pacing, seed=seed)
    drawn = EasyToHard(left, np.where(np.arange(60) % 3, scores, -np.inf), pacing, seed=seed).keys(0, 900)
    np.testing.assert_array_equal(drawn, left.kept[alone.keys(0, 900)])


def test_easy_to_hard_does_not_follow_what_is_written_to_the_array_later():
    scores = np.arange(20.0)
    sampler = EasyToHard(make_pool([20]), scores, Pacing(100))
    scores[:] = 0
    assert sampler == EasyToHard(make_pool([20]), np.arange(20.0), Pacing(100))


def test_easy_to_hard_in_plain_numbers_is_the_same():
    pool, scores = make_pool([20]), np.arange(20.0)
    assert EasyToHard.paced(pool, scores, 90, 0.1, 0.7, "root", 5, None, True, 3) == EasyToHard(
        pool, scores, Pacing(90, 0.1, 0.7, "root", 5), None, True, 3
    )


@pytest.mark.parametrize(
    ("scores", "options", "said"),
    [
        (np.ones(6), {}, r"Got scores of shape \(6,\), expected \(7,\), one number for each image"),
        ({"s1": np.ones(3)}, {}, r"Got scores of 's1' of shape \(3,\), expected \(4,\), one number"),
        ({"s2": np.ones(4)}, {}, r"Got scores for \['s2'\], expected \['s0', 's1'\]. Name"),
        (np.full(7, math.nan), {}, "Got infinite scores or none at all, expected finite numbers. Give"),
        ({}, {}, "Got infinite scores or none at all, expected finite numbers. Give"),
        ([1, 2, 3, 4, 5, 6, math.inf], {}, "Got infinite scores or none at all, expected finite numbers. Give"),
        (np.ones(7), {"shares": {"s0": 0.5, "s1": 0.6}}, r"sum to 1\.1, expected a sum of 1 .*. Divide"),
        (np.ones(7), {"shares": {"s0": 1.0}}, r"Got shares for \['s0'\], expected .*. Name each"),
        (np.ones(7), {"pacing": 0.5}, r"Got the pacing 0\.5, expected a Pacing. Give"),
    ],
)
def test_easy_to_hard_refuses_what_does_not_fit(scores, options, said):
    with pytest.raises(ValueError, match=said):
        EasyToHard(make_pool([3, 4]), scores, **{"pacing": Pacing(10), **options})
