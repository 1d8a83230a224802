"""Laws of analysis/memorisation.py: planted copies are found, and nothing is where nothing was planted."""

import numpy as np
import pytest

from jaxmoust.analysis.memorisation import SUSPICIOUS, memorisation
from jaxmoust.data.sources import registry as sources

SIDE = 8


def images(n: int, seed: int) -> np.ndarray:
    """Smooth random pictures [n, SIDE, SIDE]."""
    rng = np.random.RandomState(seed)
    return np.kron(rng.rand(n, SIDE // 2, SIDE // 2), np.ones((2, 2))) + 0.05 * rng.rand(n, SIDE, SIDE)


def flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).astype(np.float32)


def mirror(x: np.ndarray) -> np.ndarray:
    return x[:, :, ::-1]


TRAIN, NEW, HELDOUT = images(80, 0), images(300, 1), images(400, 2)


def test_memorisation_finds_planted_copies_and_names_what_they_copy():
    made, rng = NEW.copy(), np.random.RandomState(3)
    made[10], made[20] = TRAIN[5], TRAIN[7] + 0.01 * rng.rand(SIDE, SIDE)
    found = memorisation(flat(TRAIN), flat(made), flat(HELDOUT))
    assert found.ratio[10] == 0 and 0 < found.ratio[20] < 0.05
    assert list(found.closest(2)) == [10, 20] and list(found.nearest[[10, 20]]) == [5, 7]
    assert found.suspicious[[10, 20]].all()
    rest = np.delete(found.ratio, [10, 20])
    assert rest.min() > 0.3 and 0.9 < np.median(rest) < 1.1, "as far as held-out images are"


def test_memorisation_of_fresh_images_is_as_of_held_out_ones():
    summary = memorisation(flat(TRAIN), flat(NEW), flat(HELDOUT)).summary()
    # Binomial: 300 draws at 1 % have more than 4 % with a probability of 1e-4.
    assert summary["share_suspicious"] <= 0.04
    assert summary["share_expected"] == pytest.approx(SUSPICIOUS, abs=1 / 400)
    assert abs(summary["closer"] - 0.5) < 0.1 and summary["p"] > 0.001  # 2 standard errors are 0.044
    assert summary["heldout_quantiles"]["0.5"] == 1


def test_memorisation_of_a_set_of_copies_is_total():
    made = TRAIN[np.arange(300) % 80] + 0.001 * NEW
    found = memorisation(flat(TRAIN), flat(made), flat(HELDOUT))
    summary = found.summary()
    assert (summary["share_suspicious"], summary["closer"]) == (1, 1) and summary["p"] < 1e-10
    assert len(set(found.nearest[found.closest(80)])) == 80, "each training image once"


def test_memorisation_sees_mirrored_copies_only_when_asked_to():
    made = NEW.copy()
    made[33] = mirror(TRAIN)[9]
    plain = memorisation(flat(TRAIN), flat(made), flat(HELDOUT))
    flips = (flat(mirror(made)), flat(mirror(HELDOUT)))
    asked = memorisation(flat(TRAIN), flat(made), flat(HELDOUT), mirrored=flips)
    assert plain.ratio[33] > 0.3
    assert asked.ratio[33] == 0 and asked.nearest[33] == 9 and asked.closest(1)[0] == 33
    assert np.median(asked.heldout_ratio) == 1, "held-out images have the same two chances"


def test_memorisation_by_class_holds_each_class_against_its_own_held_out_images():
    """A class whose images are all alike is not suspicious for that, and a copy in a varied class is."""
    scale = np.where(np.arange(400) % 2, 1.0, 0.02)[:, None, None]  # class 0: a fiftieth of the variation

    def of(x):
        return flat(x * scale[: len(x)])

    made = NEW * scale[:300]
    made[1] = TRAIN[3] + 0.05 * NEW[1]  # of class 1: far nearer than its class, farther than all of class 0
    labels = np.arange(300) % 2, np.arange(400) % 2
    blind = memorisation(of(TRAIN), flat(made), of(HELDOUT))
    found = memorisation(of(TRAIN), flat(made), of(HELDOUT), labels)
    assert found.closest(1)[0] == 1 and blind.closest(1)[0] != 1
    per_class = found.summary(["alike", "varied", "absent"])["per_class"]
    assert [c["n"] for c in per_class] == [150, 150, 0]
    assert all(0.8 < c["median_ratio"] < 1.2 for c in per_class[:2])
    assert per_class[1]["lowest_ratio"] < 0.2 < per_class[0]["lowest_ratio"]


def test_memorisation_of_digits_tells_their_training_images_from_the_rest():
    """Real images: half of the held-out digits pass as original, the training digits themselves as copies."""
    train, test = sources.digits("train"), sources.digits("test")
    pixels, rest = flat(train.records[..., 0] / 255.0), flat(test.records[..., 0] / 255.0)
    fresh = memorisation(pixels, rest[::2], rest[1::2], (test.labels[::2], test.labels[1::2])).summary()
    copies = memorisation(pixels, pixels, rest, (train.labels, test.labels)).summary()
    assert fresh["share_suspicious"] < 0.04 and copies["share_suspicious"] == 1


def test_memorisation_of_a_class_with_few_held_out_images_takes_the_typical_distance_of_all():
    labels = np.where(np.arange(300) < 100, 1, 0), np.where(np.arange(400) < 4, 1, 0)
    found = memorisation(flat(TRAIN), flat(NEW), flat(HELDOUT), labels)
    blind = memorisation(flat(TRAIN), flat(NEW), flat(HELDOUT))
    np.testing.assert_array_equal(found.ratio[:100], blind.ratio[:100])
    assert (found.ratio[100:] != blind.ratio[100:]).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"synthetic": flat(NEW)[:, :9]}, "synthetic: got 9 features an image, expected 64"),
        ({"heldout": flat(HELDOUT)[:0]}, r"heldout: got features of shape \(0, 64\)"),
        ({"heldout": flat(TRAIN)}, "exact copies of training images"),
        ({"labels": (np.zeros(3, int), np.zeros(400, int))}, r"synthetic: got labels of shape \(3,\)"),
        ({"labels": (np.zeros(300, int), np.zeros(400))}, "heldout: got labels .* float64"),
        ({"mirrored": (flat(NEW)[:5], flat(HELDOUT))}, "synthetic: got 5 mirrored images for 300"),
    ],
)
def test_memorisation_refuses_what_has_no_answer(change, said):
    given = {"train": flat(TRAIN), "synthetic": flat(NEW), "heldout": flat(HELDOUT), **change}
    with pytest.raises(ValueError, match=said):
        memorisation(**given)
