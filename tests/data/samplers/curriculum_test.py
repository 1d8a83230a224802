"""Shares that change over training: what this sampler promises (what holds of all samplers: base_test)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampler_pools import assert_without_replacement, make_pool, quick, seeds, shares_of, sizes, sources_of

from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.curriculum import Curriculum
from jaxmoust.data.samplers.schedules import Ramp, fractions, levels


@st.composite
def stages_of(draw, num_sources):
    return draw(st.lists(st.tuples(st.integers(1, 120), shares_of(num_sources)), min_size=1, max_size=6))


@quick
@given(data=st.data(), sizes=sizes, seed=seeds)
def test_curriculum_every_part_of_a_stage_follows_its_shares(data, sizes, seed):
    """Within one draw a stage and source: fewer than ceil(log2 S) from the share, in every prefix of a stage."""
    stages = data.draw(stages_of(len(sizes)))
    sampler = Curriculum(make_pool(sizes), stages, seed)
    source = sampler.pool.source(sampler.keys(0, sum(n for n, _ in stages) + 200))
    start, bound = 0, math.ceil(math.log2(len(sizes)))
    for k, (length, shares) in enumerate(stages):
        stop = source.size if k == len(stages) - 1 else start + length  # the last one stays
        drawn = np.eye(len(sizes))[source[start:stop]].cumsum(0)
        due = np.arange(1, stop - start + 1)[:, None] * np.array(list(shares.values()))
        assert np.all(np.abs(drawn - due) < bound + 1e-9)  # of the floats in `due`
        start = stop


@quick
@given(data=st.data(), sizes=sizes, seed=seeds)
def test_curriculum_walks_each_source_without_replacement_across_stages(data, sizes, seed):
    stages = data.draw(stages_of(len(sizes)))
    assert_without_replacement(Curriculum(make_pool(sizes), stages, seed), sum(n for n, _ in stages) + 200)


@quick
@given(
    seed=seeds,
    start=st.floats(0, 1),
    end=st.floats(0, 1),
    shape=st.sampled_from(["linear", "cosine", "steps"]),
    num_stages=st.integers(1, 40),
)
def test_curriculum_ramp_is_followed_within_one_draw_a_stage(seed, start, end, shape, num_stages):
    """Real and synthetic are the two halves of a tree: each stage, and each prefix of one, is off by less than one."""
    pool, num_draws = make_pool([30, 70]), 2000
    ramp = Ramp(num_draws, start, end, shape, num_stages, real="s0")
    made = pool.source(Curriculum(pool, ramp, seed).keys(0, num_draws + 300)) == 1
    edges = [*(first for first, _ in ramp.table()), made.size]
    for (first, share), stop in zip(ramp.table(), edges[1:], strict=True):
        drawn = np.cumsum(made[first:stop])
        assert np.all(np.abs(drawn - share * np.arange(1, stop - first + 1)) < 1 + 1e-9)  # of floats


@quick
@given(seed=seeds, start=st.floats(0, 1), end=st.floats(0, 1), shape=st.sampled_from(["linear", "cosine"]))
def test_curriculum_ramp_draws_the_integral_of_its_curve(seed, start, end, shape):
    pool, num_draws = make_pool([30, 70]), 4000
    sampler = Curriculum(pool, Ramp(num_draws, start, end, shape, 50, real="s0"), seed)
    drawn = np.cumsum(pool.source(sampler.keys(0, num_draws)) == 1)
    t = np.arange(1, num_draws + 1) / num_draws
    grown = t**2 / 2 if shape == "linear" else t / 2 - np.sin(np.pi * t) / (2 * np.pi)
    # One draw a stage; and half a stage of a curve that changes by at most pi / 2 / 50 from stage to stage.
    assert np.abs(drawn - num_draws * (start * t + (end - start) * grown)).max() < 50 + 2


@quick
@given(sizes=st.lists(st.integers(1, 90), min_size=3, max_size=6), seed=seeds)
def test_curriculum_ramp_shares_the_synthetic_part_by_images(sizes, seed):
    pool = make_pool(sizes)
    sampler = Curriculum(pool, Ramp(1, 0.5, 0.5, real="s1"), seed)
    made = np.array([s != 1 for s in range(len(sizes))])
    due = np.where(made, np.array(sizes) / np.array(sizes)[made].sum(), 1.0) * 0.5 * 5000
    assert np.abs(sources_of(sampler, 1, 5001) - due).max() <= 2 * math.ceil(math.log2(len(sizes)))


@pytest.mark.parametrize("first", ["s0", "s1"])
def test_curriculum_one_source_first_and_then_the_other(first):
    """Synthetic first, then real; and the other way round."""
    then = {"s0": "s1", "s1": "s0"}[first]
    sampler = Curriculum(make_pool([30, 70]), fractions(1000, [(0.6, {first: 1.0}), (0.4, {then: 1.0})]), 3)
    source = sampler.pool.source(sampler.keys(0, 3000))
    assert np.all(source[:600] == int(first[1])) and np.all(source[600:] == int(then[1]))


def test_curriculum_levels_come_one_after_the_other_and_then_real():
    pool = Pool.from_labels({"real": np.arange(50) % 3, "far": np.arange(20) % 3, "near": np.arange(30) % 3})
    sampler = Curriculum(pool, levels(300, ["far", "near"], 0.5), 3)
    assert pool.source(sampler.keys(0, 400)).tolist() == [1] * 75 + [2] * 75 + [0] * 250


@quick
@given(data=st.data(), sizes=sizes, seed=seeds, far=st.integers(2**40, 2**60))
def test_curriculum_keeps_the_shares_of_its_last_stage(data, sizes, seed, far):
    stages = data.draw(stages_of(len(sizes)))
    drawn = sources_of(Curriculum(make_pool(sizes), stages, seed), far, far + 300)
    due = 300 * np.array(list(stages[-1][1].values()))
    assert np.all(np.abs(drawn - due) <= 2 * math.ceil(math.log2(len(sizes))))
    assert not drawn[due == 0].any()


@quick
@given(seed=seeds)
def test_curriculum_made_by_its_short_ways_is_the_same(seed):
    pool = Pool.from_labels({"real": np.arange(50) % 3, "edm": np.arange(20) % 3})
    rows = [(0.25, {"edm": 1.0}), (0.75, {"real": 0.5, "edm": 0.5})]
    assert Curriculum.ramp(pool, 90, 0.1, 0.8, "steps", 3, seed=seed) == Curriculum(
        pool, Ramp(90, 0.1, 0.8, "steps", 3), seed
    )
    assert Curriculum.levels(pool, 90, ["edm"], seed=seed) == Curriculum(pool, levels(90, ["edm"]), seed)
    assert Curriculum.parts(pool, 90, rows, seed=seed) == Curriculum(pool, fractions(90, rows), seed)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ([], "Got a curriculum without a stage, expected at least one"),
        ([(0, {"s0": 1.0})], "Got the length of stage 0=0, expected a whole number from 1"),
        ([(5, {"s0": 1.0}), (-1, {"s1": 1.0})], "Got the length of stage 1=-1, expected a whole number from 1"),
        ([(0.5, {"s0": 1.0})], r"Got the length of stage 0=0\.5, expected a whole number from 1"),
        ([(2**61, {"s0": 1.0}), (2**61, {"s1": 1.0})], r"Got stages of 2\^62 draws and more .* expected .*. Shorten"),
        (
            [(5, {"s0": 1.0}), (5, {"s9": 1.0})],
            r"Got shares in stage 1 for \['s9'\], expected the pool's sources \['s0', 's1'\]. Name",
        ),
        ([(5, {"s0": 0.5, "s1": 0.6})], r"Got shares .* in stage 0 that sum to 1\.1, expected a sum of 1"),
        ([(5,)], r"Got the stages .*, expected pairs"),
        (None, r"Got the stages None, expected pairs"),
        (
            Ramp(9, 0.0, 1.0, real="real"),
            r"Got a ramp from 'real' in a pool of \{'s0': 3, 's1': 4\}, expected .*. Mix in",
        ),
    ],
)
def test_curriculum_refuses_a_schedule_that_does_not_fit(schedule, said):
    with pytest.raises(ValueError, match=said):
        Curriculum(make_pool([3, 4]), schedule, 0)


@pytest.mark.parametrize("pool", [make_pool([3]), make_pool([3, 4]).keep(np.arange(7) < 3)])
def test_curriculum_refuses_a_ramp_without_a_synthetic_image(pool):
    with pytest.raises(ValueError, match=r"Got a ramp from 's0' in a pool of .* none of them empty. Mix in"):
        Curriculum(pool, Ramp(9, 0.0, 1.0, real="s0"), 0)
