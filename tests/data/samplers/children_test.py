"""Real images and their children (what holds of all samplers: base_test)."""

import numpy as np
import pytest

from jaxmoust.build import make_sampler
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.children import Children
from jaxmoust.data.source import Lineage, from_arrays

PARENTS = np.array([0, 0, 1, 3, 3, 3, 5])  # of a set of seven; the real images 2 and 4 have none


def pool_of():
    return Pool.from_labels({"real": np.arange(6) % 3, "sd": PARENTS % 3, "other": np.array([2, 1])})


def family():
    return {"sd": Lineage("d", PARENTS), "other": Lineage("d", np.array([2, 1]))}


def parent_of(sampler, keys):
    parents = np.concatenate([np.arange(6), *(of.parents for of in sampler.parents.values())])
    return parents[keys]


def test_children_draws_are_the_golden_ones():
    sampler = Children(pool_of(), family(), 0.5, seed=3)
    expected = ([3, 13, 7, 5, 4, 8, 3, 5, 13, 1, 7, 4], [4, 0, 4, 6, 14, 9, 12, 2, 14, 10, 4, 5])
    assert sampler.keys(0, 12).tolist() == expected[0]
    assert sampler.keys(10**12, 10**12 + 12).tolist() == expected[1]
    assert [sampler[i].record_key for i in range(12)] == expected[0]


def test_children_of_each_epoch_are_of_each_real_image_once():
    sampler = Children(pool_of(), family(), 0.7, seed=1)
    for epoch in (0, 1, 10**9):
        drawn = parent_of(sampler, sampler.keys(epoch * 6, epoch * 6 + 6))
        np.testing.assert_array_equal(np.sort(drawn), np.arange(6))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_children_come_with_their_probability_and_alike(p):
    sampler, num = Children(pool_of(), family(), p, seed=0), 60_000
    share = np.bincount(sampler.keys(0, num), minlength=15) * 6 / num
    # 10,000 visits of a parent: three times the deviation of a share of one half, and a little.
    np.testing.assert_allclose(share[[0, 1, 3]], 1 - p, atol=0.02)
    np.testing.assert_allclose(share[4], 1.0, atol=1e-9)  # has no child
    np.testing.assert_allclose(share[[6, 7]], p / 2, atol=0.02)
    np.testing.assert_allclose(share[[9, 10, 11]], p / 3, atol=0.02)
    np.testing.assert_allclose(share[[8, 14]], p / 2, atol=0.02)  # of two sets
    drawn = np.bincount(sampler.pool.cell(sampler.keys(0, num)), minlength=9).reshape(3, 3)
    np.testing.assert_allclose(sampler.expected(0, num), drawn, atol=0.02 * num)
    assert sampler.expected(0, num).sum() == pytest.approx(num)


def test_children_that_filters_dropped_are_never_drawn():
    mask = np.ones(15, bool)
    mask[[6, 9, 10, 11]] = False
    sampler = Children(pool_of().keep(mask), family(), 1.0, seed=0)
    assert set(sampler.keys(0, 3000).tolist()) == {3, 4, 7, 8, 12, 13, 14}  # 3 has lost all of its children


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"p": 1.5}, "p=1.5|p 1.5|0 <= p <= 1"),
        ({"p": -0.1}, "0 <= p <= 1"),
        ({"parents": {"sd": Lineage("d", PARENTS)}}, r"no parents of \['other'\]"),
        ({"parents": {**family(), "sd": Lineage("d", PARENTS + 1)}}, "parents in another data set"),
        ({"parents": {**family(), "sd": Lineage("d", PARENTS[:3])}}, "parents in another data set"),
        ({"seed": -1}, "seed"),
    ],
)
def test_children_that_cannot_be_drawn_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        Children(**{"pool": pool_of(), "parents": family(), **wrong})


def test_parents_among_other_images_are_refused_and_those_of_the_base_set_drawn():
    images = np.zeros((6, 2, 2, 1), np.uint8)
    real = from_arrays(images, np.arange(6) % 3, name="real")
    test = from_arrays(images + 1, np.arange(6) % 3)
    made = from_arrays(images, np.arange(6) % 3, name="sd")

    def sampler(of):
        given = {**made.__dict__, "lineage": Lineage(of.digest, np.arange(6)), "groups": None}
        pool = Pool.from_sources([real, type(made)(**given).subset(np.array([3, 1]))])
        return make_sampler({"name": "children", "p": 1.0}, pool, 0, 6)

    assert sorted(sampler(real).keys(0, 6).tolist()) == [0, 2, 4, 5, 6, 7]
    with pytest.raises(ValueError, match="may be test images"):
        sampler(test)
    with pytest.raises(ValueError, match="no parents"):
        make_sampler({"name": "children", "p": 1.0}, Pool.from_sources([real]), 0, 6)
