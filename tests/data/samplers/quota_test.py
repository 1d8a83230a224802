"""Quotas: exact shares in every window, close to them in every prefix, ranks that count what was drawn."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data.samplers.quota import Quota, StagedQuota, stage_slices

quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**63 - 1)
whole_weights = st.lists(st.integers(0, 50), min_size=1, max_size=11).filter(sum)
large_weights = st.lists(st.integers(0, 2**27), min_size=1, max_size=11).filter(sum)  # their sum is below 2^31
any_weights = st.lists(st.just(0.0) | st.floats(1e-3, 1.0), min_size=1, max_size=11).filter(sum)
anywhere = st.one_of(st.integers(0, 300), st.integers(2**31, 2**33), st.integers(2**40, 2**61))


def depth(num_groups):
    """ceil(log2 G): what no prefix may be further away from its share than."""
    return math.ceil(math.log2(num_groups))


@quick
@given(weights=whole_weights, seed=seeds, start=anywhere)
def test_quota_every_window_as_long_as_the_weights_sum_is_exact(weights, seed, start):
    group, _ = Quota(weights, seed).locate(np.arange(start, start + sum(weights)))
    assert np.bincount(group, minlength=len(weights)).tolist() == weights


@quick
@given(weights=whole_weights | large_weights, seed=seeds, num_draws=anywhere)
def test_quota_every_prefix_is_within_the_depth_of_its_share(weights, seed, num_draws):
    """In exact fractions, at positions past 2^60 too, where a sum of floats would have drifted by hundreds."""
    counts = Quota(weights, seed).count(np.int64(num_draws), np.arange(len(weights))).tolist()
    assert sum(counts) == num_draws
    for count, weight in zip(counts, weights, strict=True):
        off = abs(count - num_draws * Fraction(weight, sum(weights)))
        assert off == 0 or off < depth(np.count_nonzero(weights))


@quick
@given(weights=any_weights, seed=seeds, num_draws=st.integers(0, 2**31))
def test_quota_of_any_weights_every_prefix_is_within_twice_the_depth(weights, seed, num_draws):
    """A ratio is held as p/q, off by less than 1 / (2^31 q): by less than one more draw a node up to here."""
    counts = Quota(weights, seed).count(np.int64(num_draws), np.arange(len(weights)))
    due = num_draws * np.array(weights) / sum(weights)
    assert np.abs(counts - due).max() <= 2 * depth(max(2, np.count_nonzero(weights)))


@pytest.mark.parametrize("num_draws", [2**40, 2**40 + 1, 2**62])
def test_quota_of_thirds_given_as_floats_does_not_drift(num_draws):
    counts = Quota([1 / 3, 2 / 3], 5).count(np.int64(num_draws), np.arange(2)).tolist()
    assert abs(counts[0] - Fraction(num_draws, 3)) < 1
    assert sum(counts) == num_draws


@quick
@given(weights=whole_weights, seed=seeds)
def test_quota_rank_is_the_number_of_draws_the_group_had_before(weights, seed):
    group, rank = Quota(weights, seed).locate(np.arange(300))
    for g in range(len(weights)):
        np.testing.assert_array_equal(rank[group == g], np.arange(np.sum(group == g)))


@quick
@given(weights=whole_weights | large_weights, seed=seeds, position=anywhere)
def test_quota_count_grows_where_locate_says(weights, seed, position):
    quota, everyone = Quota(weights, seed), np.arange(len(weights))
    (group,), (rank,) = quota.locate(np.array([position]))
    before, after = (quota.count(np.int64(n), everyone) for n in (position, position + 1))
    np.testing.assert_array_equal(after - before, everyone == group)
    assert before[group] == rank


@quick
@given(weights=whole_weights, seed=seeds, data=st.data())
def test_quota_position_by_position_equals_at_once(weights, seed, data):
    """Small and large positions in one call: they take different paths of the arithmetic."""
    quota, positions = Quota(weights, seed), np.array(data.draw(st.lists(anywhere, min_size=1, max_size=6)))
    alone = [quota.locate(positions[i : i + 1]) for i in range(positions.size)]
    np.testing.assert_array_equal(quota.locate(positions), np.concatenate(alone, axis=1))


@quick
@given(weights=whole_weights, factor=st.integers(2, 10**6), seed=seeds)
def test_quota_only_the_ratios_of_weights_count(weights, factor, seed):
    scaled = Quota([weight * factor for weight in weights], seed).locate(np.arange(200))
    np.testing.assert_array_equal(scaled, Quota(weights, seed).locate(np.arange(200)))


@quick
@given(weights=any_weights, seed=seeds, start=anywhere)
def test_quota_group_of_weight_zero_takes_no_draw(weights, seed, start):
    quota = Quota(weights, seed)
    group, _ = quota.locate(np.arange(start, start + 200))
    assert np.array(weights)[group].all()
    empty = np.flatnonzero(np.array(weights) == 0)
    assert not quota.count(np.int64(start), empty).any()
    assert set(quota.groups.tolist()).isdisjoint(empty.tolist())


@pytest.mark.parametrize("weights", [[1, 2**40], [2**40, 1], [1e-12, 1.0], [5, 2**60, 3]])
def test_quota_no_weight_is_too_small_to_be_drawn(weights):
    """A ratio below 2^-31 is held as the least one, not as 0."""
    assert Quota(weights, 3).count(np.int64(2**33), np.arange(len(weights))).all()


def test_quota_groups_begin_at_a_phase_of_their_seed():
    """Equal phases would give every run the same source first."""
    firsts = [Quota([1, 1, 1, 1], seed).locate(np.arange(1))[0][0] for seed in range(400)]
    # A fair phase leaves 100 each with a deviation of 8.7; 5 of those are missed once in two million.
    assert np.abs(np.bincount(firsts, minlength=4) - 100).max() < 44


@quick
@given(weights=any_weights, seed=seeds, start=st.integers(0, 10**6), length=st.integers(0, 10**6))
def test_quota_expected_draws_are_the_exact_shares(weights, seed, start, length):
    expected = Quota(weights, seed).expected(start, start + length)
    np.testing.assert_allclose(expected, length * np.array(weights) / sum(weights), rtol=1e-12)  # a few roundings


def test_quota_of_a_thousand_groups_keeps_its_law():
    weights = np.random.default_rng(0).integers(1, 1000, 1000).tolist()
    group, _ = Quota(weights, 7).locate(np.arange(2**40, 2**40 + sum(weights)))
    assert np.bincount(group, minlength=1000).tolist() == weights


@st.composite
def stages(draw):
    num_groups = draw(st.integers(1, 6))
    row = st.lists(st.integers(0, 20), min_size=num_groups, max_size=num_groups).filter(sum)
    rows = draw(st.lists(row, min_size=1, max_size=6))
    lengths = draw(st.lists(st.integers(0, 90), min_size=len(rows) - 1, max_size=len(rows) - 1))
    return np.cumsum([0, *lengths]).tolist(), rows


@quick
@given(stages=stages(), seed=seeds)
def test_staged_quota_every_part_of_a_stage_follows_its_weights(stages, seed):
    starts, rows = stages
    group, _ = StagedQuota(starts, rows, seed).locate(np.arange(starts[-1] + 500))
    for start, stop, row in zip(starts, [*starts[1:], group.size], rows, strict=True):
        drawn = np.cumsum(np.eye(len(row), dtype=int)[group[start:stop]], axis=0)
        due = np.arange(1, stop - start + 1)[:, None] * np.array(row) / sum(row)
        assert np.all(np.abs(drawn - due) < depth(np.count_nonzero(row)) + 1e-9)  # of the floats in `due`


@quick
@given(stages=stages(), seed=seeds)
def test_staged_quota_rank_goes_on_from_stage_to_stage(stages, seed):
    starts, rows = stages
    group, rank = StagedQuota(starts, rows, seed).locate(np.arange(starts[-1] + 300))
    for g in range(len(rows[0])):
        np.testing.assert_array_equal(rank[group == g], np.arange(np.sum(group == g)))


@quick
@given(stages=stages(), seed=seeds, far=st.integers(2**40, 2**61))
def test_staged_quota_last_stage_has_no_end(stages, seed, far):
    starts, rows = stages
    group, _ = StagedQuota(starts, rows, seed).locate(np.arange(far, far + sum(rows[-1])))
    assert np.bincount(group, minlength=len(rows[-1])).tolist() == rows[-1]


@quick
@given(stages=stages(), seed=seeds, start=st.integers(0, 500), length=st.integers(0, 500))
def test_staged_quota_expected_draws_are_the_sum_over_positions(stages, seed, start, length):
    starts, rows = stages
    parts = np.array([np.array(row) / sum(row) for row in rows])
    stage = np.searchsorted(starts, np.arange(start, start + length), side="right") - 1
    expected = StagedQuota(starts, rows, seed).expected(start, start + length)
    np.testing.assert_allclose(expected, parts[stage].sum(0), rtol=1e-9, atol=1e-9)  # a float sum of 500


@quick
@given(
    starts=st.lists(st.integers(1, 60), max_size=6).map(lambda rest: np.array([0, *sorted(rest)])),
    position=st.lists(st.integers(0, 80), max_size=40).map(lambda p: np.array(sorted(p), np.int64)),
)
def test_stage_slices_give_each_position_its_stage_once(starts, position):
    """With gaps between positions, and stages of no length, which none is given to."""
    stage = np.full(position.size, -1)
    for k, part in stage_slices(starts, position):
        assert position[part].size and np.all(stage[part] == -1)
        stage[part] = k
    np.testing.assert_array_equal(stage, np.searchsorted(starts, position, side="right") - 1)


def test_staged_quota_errors_of_stages_do_not_add_up():
    """Stages of one draw each, half and half: with one phase for all, one group would take every draw."""
    group, _ = StagedQuota(range(400), [[1, 1]] * 400, 7).locate(np.arange(400))
    assert abs(np.sum(group) - 200) < 50  # five deviations of 400 fair coins
