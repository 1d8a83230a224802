"""Samplers: permutations, exact shares, pure functions of a position (laws 5 and 7)."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers import Random, Sampler, Share, draw_rng

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**63 - 1)
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=5)
starts = st.one_of(st.integers(0, 500), st.integers(2**40, 2**60))


def make_pool(sizes, num_classes=3):
    return Pool.from_labels(
        {f"s{i}": np.arange(size) % num_classes for i, size in enumerate(sizes)}, list("abc")[:num_classes]
    )


@st.composite
def shares_of(draw, num_sources):
    weights = draw(st.lists(st.integers(0, 20), min_size=num_sources, max_size=num_sources).filter(sum))
    return {f"s{i}": weight / sum(weights) for i, weight in enumerate(weights)}


@st.composite
def samplers(draw):
    pool, seed = make_pool(draw(sizes)), draw(seeds)
    if draw(st.booleans()):
        return Random(pool, seed)
    return Share(pool, draw(shares_of(len(pool.source_names))), seed)


@quick
@given(sizes=sizes, seed=seeds, epoch=st.integers(0, 2**40))
def test_random_each_epoch_is_a_permutation(sizes, seed, epoch):
    sampler = Random(make_pool(sizes), seed)
    num = len(sampler.pool)
    keys = sampler.keys(epoch * num, (epoch + 1) * num)
    np.testing.assert_array_equal(np.sort(keys), np.arange(num))


@quick
@given(data=st.data(), sizes=sizes, seed=seeds, num_draws=st.integers(1, 400))
def test_share_every_prefix_is_within_the_number_of_sources(data, sizes, seed, num_draws):
    shares = data.draw(shares_of(len(sizes)))
    sampler = Share(make_pool(sizes), shares, seed)
    drawn = np.eye(len(sizes))[sampler.pool.source(sampler.keys(0, num_draws))].cumsum(0)
    due = np.arange(1, num_draws + 1)[:, None] * np.array(list(shares.values()))
    assert np.abs(drawn - due).max() < len(sizes)


@quick
@given(data=st.data(), sizes=sizes, seed=seeds, start=starts)
def test_share_every_window_anywhere_is_within_twice_the_number_of_sources(data, sizes, seed, start):
    """A window is the difference of two prefixes; this holds the bound where no prefix can be counted."""
    shares = data.draw(shares_of(len(sizes)))
    sampler = Share(make_pool(sizes), shares, seed)
    drawn = np.bincount(sampler.pool.source(sampler.keys(start, start + 300)), minlength=len(sizes))
    assert np.abs(drawn - 300 * np.array(list(shares.values()))).max() < 2 * len(sizes)


def test_share_of_simple_fractions_is_exact_in_every_period():
    sampler = Share(make_pool([7, 11, 5]), {"s0": 0.5, "s1": 1 / 3, "s2": 1 / 6}, 3)
    for start in (0, 600, 600 * 2**41):
        drawn = np.bincount(sampler.pool.source(sampler.keys(start, start + 600)))
        assert drawn.tolist() == [300, 200, 100]


@quick
@given(data=st.data(), sizes=sizes, seed=seeds)
def test_share_walks_each_source_without_replacement(data, sizes, seed):
    sampler = Share(make_pool(sizes), data.draw(shares_of(len(sizes))), seed)
    keys = sampler.keys(0, 400)
    for s, size in enumerate(sizes):
        drawn = keys[sampler.pool.source(keys) == s]
        for start in range(0, drawn.size - size + 1, size):
            np.testing.assert_array_equal(np.unique(drawn[start : start + size]).size, size)


def test_share_never_draws_a_source_of_share_zero():
    sampler = Share(make_pool([5, 5, 5]), {"s0": 0.25, "s1": 0, "s2": 0.75}, 1)
    assert not np.any(sampler.pool.source(sampler.keys(0, 5000)) == 1)


@quick
@given(sampler=samplers(), start=starts, num_draws=st.integers(0, 60))
def test_sampler_scalar_equals_vectorised(sampler, start, num_draws):
    keys = sampler.keys(start, start + num_draws)
    assert [sampler[start + i].record_key for i in range(num_draws)] == keys.tolist()


@quick
@given(sampler=samplers(), start=starts, cuts=st.lists(st.integers(0, 300), min_size=2, max_size=5))
def test_sampler_pieces_join_to_the_whole(sampler, start, cuts):
    cuts = sorted(cuts)
    pieces = [sampler.keys(start + a, start + b) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(pieces), sampler.keys(start + cuts[0], start + cuts[-1]))


def test_sampler_pieces_join_across_chunks_of_work():
    for sampler in (Random(make_pool([9, 5]), 1), Share(make_pool([9, 5]), {"s0": 0.3, "s1": 0.7}, 1)):
        whole = sampler.keys(0, 70_000)
        np.testing.assert_array_equal(whole[40_000:], sampler.keys(40_000, 70_000))


@quick
@given(sampler=samplers(), i=starts)
def test_sampler_draw_is_a_grain_record_with_a_generator_of_its_own(sampler, i):
    assert isinstance(sampler, Sampler)
    record = sampler[i]
    assert record.index == i and 0 <= record.record_key < len(sampler.pool)
    assert record.rng.integers(2**63) == sampler[i].rng.integers(2**63)


def test_sampler_generators_are_keyed_by_the_pair_not_the_sum():
    firsts = {int(draw_rng(seed, i).integers(2**63)) for seed in range(30) for i in range(30)}
    assert len(firsts) == 900


@quick
@given(sampler=samplers(), start=st.integers(0, 10_000))
def test_sampler_expected_draws_are_what_is_drawn(sampler, start):
    num = 3000
    keys = sampler.keys(start, start + num)
    drawn = np.zeros(sampler.pool.counts().shape)
    np.add.at(drawn, (sampler.pool.source(keys), sampler.pool.label(keys)), 1)
    expected = sampler.expected(start, start + num)
    assert expected.sum() == pytest.approx(num)  # rounding of a float sum
    # Every whole permutation of a source is drawn in its exact proportions, so only the unfinished ones at
    # both ends (at most 40 images a source, 200 of Random) and the S draws of the quota are left.
    assert np.abs(drawn - expected).max() <= 2 * len(sampler.pool) + 2 * len(sampler.pool.source_names)


def golden_samplers():
    pool = make_pool([100, 5000])
    return [Random(pool, 42), Share(pool, {"s0": 0.25, "s1": 0.75}, 42)]


def test_sampler_golden_draws():
    """Changing one of these numbers changes every published run: do not, without a new major version."""
    random, share = golden_samplers()
    assert random.keys(0, 6).tolist() == GOLDEN_RANDOM
    assert random.keys(2**41, 2**41 + 3).tolist() == GOLDEN_RANDOM_FAR
    assert share.keys(0, 6).tolist() == GOLDEN_SHARE
    assert share.keys(2**41, 2**41 + 3).tolist() == GOLDEN_SHARE_FAR
    # numpy promises that Philox's words never change; of its distributions it promises nothing.
    assert int(random[5].rng.bit_generator.random_raw()) == GOLDEN_WORD


def test_sampler_repr_and_draws_are_the_same_in_another_process():
    script = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import samplers_test as t\n"
        "print(json.dumps([[repr(s), s.keys(7, 20).tolist()] for s in t.golden_samplers()]))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "5", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    folder = str(Path(__file__).parent)
    out = subprocess.run([sys.executable, "-c", script, folder], env=env, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    here = [[repr(s), s.keys(7, 20).tolist()] for s in golden_samplers()]
    assert json.loads(out.stdout.splitlines()[-1]) == here


def test_sampler_repr_is_complete_and_free_of_addresses():
    random, share = golden_samplers()
    assert repr(share) == f"Share(pool={share.pool!r}, shares={{'s0': 0.25, 's1': 0.75}}, seed=42)"
    assert repr(random) == f"Random(pool={random.pool!r}, seed=42)"
    random[3]  # what was drawn before is not part of it
    assert "0x" not in repr(random) and repr(random) == repr(golden_samplers()[0])


def test_samplers_are_equal_when_their_draws_are():
    assert golden_samplers() == golden_samplers()
    assert Random(make_pool([3]), 1) != Random(make_pool([3]), 2)
    assert hash(golden_samplers()[1]) == hash(golden_samplers()[1])


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"s0": 0.5, "s1": 0.4}, r"sum to 0\.9.*divide"),
        ({"s0": 0.5, "other": 0.5}, r"\['other', 's0'\].*allowed.*\['s0', 's1'\]"),
        ({"s0": 1.0}, r"\['s0'\].*name each"),
        ({"s0": 1.5, "s1": -0.5}, r"from 0 to 1"),
        ({"s0": float("nan"), "s1": 0.5}, r"from 0 to 1"),
    ],
)
def test_share_refuses_shares_that_do_not_fit(shares, said):
    with pytest.raises(ValueError, match=f"(?s)Got .*{said}"):
        Share(make_pool([3, 4]), shares, 0)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "1", True])
def test_sampler_refuses_a_seed_out_of_range(seed):
    with pytest.raises(ValueError, match=r"Got the seed .* allowed is an integer"):
        Random(make_pool([3]), seed)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (4, 3)])
def test_sampler_refuses_draws_that_are_not_a_range(start, stop):
    for sampler in golden_samplers():
        with pytest.raises(ValueError, match="allowed is 0 <= start <= stop"):
            sampler.keys(start, stop)


def test_sampler_refuses_to_count_from_an_end():
    with pytest.raises(IndexError, match="no end"):
        golden_samplers()[0][-1]


GOLDEN_RANDOM = [3925, 4832, 1143, 3897, 1892, 439]
GOLDEN_RANDOM_FAR = [3497, 2415, 4417]
GOLDEN_SHARE = [4847, 14, 297, 3374, 1431, 3]
GOLDEN_SHARE_FAR = [4905, 55, 5002]
GOLDEN_WORD = 5531143619848960914
