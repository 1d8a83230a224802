"""The same photograph twice: found whatever became of it, and other photographs are not taken for it."""

import io

import numpy as np
import photographs
import pytest
from PIL import Image

from jaxmoust.data import near_duplicates as module
from jaxmoust.data.near_duplicates import joined, near_by_features, near_duplicates


def thumb(image):
    return np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX))


def picture(i):
    return Image.fromarray(photographs.pixels(0, i, 64, 96))


def compressed(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


CHANGES = [
    lambda image: image,
    lambda image: compressed(image, 30),
    lambda image: image.resize((48, 32), Image.Resampling.BICUBIC),
    lambda image: compressed(image.resize((192, 128)), 70),
    lambda image: image.point(lambda value: min(255, int(value * 1.1) + 6)),
    lambda image: image.convert("L"),
]


def test_near_duplicates_finds_copies_and_nothing_else():
    originals = [thumb(picture(i)) for i in range(60)]
    assert near_duplicates(np.stack(originals)).size == 0
    for change in CHANGES:
        copies = [thumb(change(picture(i))) for i in range(0, 60, 4)]
        pairs = near_duplicates(np.stack([*originals, *copies]))
        assert sorted(map(tuple, pairs.tolist())) == [(i, 60 + i // 4) for i in range(0, 60, 4)]


def test_near_duplicates_takes_no_plain_pictures_for_copies():
    plain = np.stack([np.full((8, 9), value, np.uint8) for value in (0, 0, 9, 255)])
    assert near_duplicates(plain).shape == (0, 2)
    assert near_duplicates(plain[:0]).shape == (0, 2)


def test_near_duplicates_of_a_film_are_too_many_to_compare(monkeypatch):
    monkeypatch.setattr(module, "MOST_PAIRS", 100)
    with pytest.raises(ValueError, match="200 pairs of them may look the same"):
        near_duplicates(np.repeat(thumb(picture(0))[None], 20, axis=0))


def test_joined_makes_one_group_of_all_that_is_linked():
    pairs = np.array([[0, 3], [3, 5]])
    groups = joined(pairs, np.arange(6))
    assert groups[0] == groups[3] == groups[5] and len(set(groups)) == 4
    groups = joined(pairs[:1], np.array([0, 0, 1, 1, 2, 2]))
    assert len(set(groups[:4])) == 1 and len(set(groups)) == 2


def test_features_that_are_near_are_told_by_how_near_images_usually_are():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 16))
    features[50] = 3 * features[4] + 0.05 * rng.normal(size=16)  # another length is no other direction
    features[51] = features[7]
    for scale in (1.0, 0.05):  # a network to which all images look much alike
        moved = rng.normal(size=16) + scale * features
        moved[51] = moved[7]
        moved[50] = moved[4] + 0.05 * scale * rng.normal(size=16)
        assert near_by_features(moved).tolist() == [[4, 50], [7, 51]]
    assert near_by_features(features).tolist() == [[4, 50], [7, 51]]
    assert near_by_features(features[:1]).shape == (0, 2)
    assert near_by_features(np.concatenate([features[:2]] * 2)).tolist() == [[0, 2], [1, 3]]
