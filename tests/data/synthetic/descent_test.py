"""Which real images synthetic ones start from, how strongly they are changed, and what their labels then are."""

import numpy as np
import pytest

from jaxmoust.data.synthetic.spec import Descent, hardest, parents_of

BASE = np.array([2, 0, 1, 0, 2, 1, 0])
LABELS, INDICES = np.arange(60) % 3, np.arange(60) // 3


def test_one_strength_is_what_it_was():
    found = Descent((0.5,)).columns(BASE, LABELS, INDICES)
    assert found.keys() == {"parent", "strength"}
    np.testing.assert_array_equal(found["parent"], parents_of(BASE, LABELS, INDICES))
    assert set(found["strength"].tolist()) == {0.5}


def test_each_real_image_is_taken_with_every_strength_before_one_is_taken_again():
    found = Descent((0.25, 0.75)).columns(BASE, LABELS, INDICES)
    for c, count in enumerate(np.bincount(BASE)):
        mine = np.flatnonzero(c == LABELS)[: 2 * count]
        pairs = set(zip(found["parent"][mine].tolist(), found["strength"][mine].tolist(), strict=True))
        assert pairs == {(int(p), s) for p in np.flatnonzero(c == BASE) for s in (0.25, 0.75)}


def test_hardest_are_the_lowest_scores_of_each_class():
    scores = np.array([0.9, 0.5, 0.8, 0.1, 0.2, 0.7, 0.3])
    assert hardest(BASE, scores, 0.5).tolist() == [3, 4, 5, 6]  # of 3, 2 and 2 images: 2, 1 and 1
    assert hardest(BASE, scores, 0.01).tolist() == [3, 4, 5]
    assert hardest(BASE, scores, 1.0).tolist() == list(range(7))
    assert hardest(np.zeros(10, int), np.zeros(10), 0.3).tolist() == [0, 1, 2]  # 0.3 of 10 are three


@pytest.mark.parametrize("translate", [False, True])
def test_images_start_from_those_that_are_kept_as_from_a_base_set_of_no_others(translate):
    kept = np.array([0, 3, 4, 5, 6])
    whole = Descent((0.25, 0.75), translate=translate, seed=3, kept=kept).columns(BASE, LABELS, INDICES)
    alone = Descent((0.25, 0.75), translate=translate, seed=3).columns(BASE[kept], LABELS, INDICES)
    assert whole.pop("parent").tolist() == kept[alone.pop("parent")].tolist()
    assert all(whole[name].tolist() == column.tolist() for name, column in alone.items())


def test_translated_images_come_from_other_classes_and_their_labels_are_shared():
    descent = Descent((0.25, 1.0), translate=True, power=0.5, seed=3)
    found = descent.columns(BASE, LABELS, INDICES)
    assert (BASE[found["parent"]] == found["second"]).all() and (found["second"] != LABELS).all()
    np.testing.assert_allclose(found["second_weight"], np.where(found["strength"] == 0.25, 0.5, 0.0))
    for c in range(3):
        others = np.flatnonzero(c != BASE)
        first = found["parent"][c == LABELS][: others.size]
        assert sorted(first.tolist()) == others.tolist()  # each once before one comes again
    some = np.array([7, 40, 2])  # an image does not depend on what else is asked for
    assert descent.parents(BASE, LABELS[some], INDICES[some]).tolist() == found["parent"][some].tolist()
    other = Descent((0.25, 1.0), translate=True, seed=4).parents(BASE, LABELS, INDICES)
    assert (other != found["parent"]).any()
    assert (Descent((0.5,), translate=True).parents(np.zeros(4, int), np.zeros(2, int), np.arange(2)) == -1).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"strengths": (0.5, 0.5)}, "each once"),
        ({"strengths": (0.0,)}, "above 0"),
        ({"strengths": (1.5,)}, "up to 1"),
        ({"power": 0.0}, "label_power 0.0"),
    ],
)
def test_descent_that_makes_no_images_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        Descent(**wrong)
