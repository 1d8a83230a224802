"""Which real images synthetic ones start from, how strongly they are changed, and what their labels then are."""

import numpy as np
import pytest

from jaxmoust.data.synthetic.spec import Descent, parents_of

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
