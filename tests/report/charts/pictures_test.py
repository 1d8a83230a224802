"""Laws of the pictures: small images keep their pixels, pairs say their classes, shades follow the numbers."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from jaxmoust.report.charts import pictures


@pytest.mark.parametrize(("shape", "crisp"), [((5, 8, 8, 1), True), ((9, 32, 32, 3), True), ((2, 224, 100, 3), False)])
def test_image_sheet_keeps_the_pixels_of_small_images_and_reduces_large_ones(shape, crisp):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    sheet = pictures.image_sheet(images, columns=4)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["uri"].split(",")[1]))))
    assert (picture.shape[1], picture.shape[0]) == (sheet["width"], sheet["height"])
    assert (sheet["count"], sheet["crisp"]) == (shape[0], crisp)
    if crisp:
        np.testing.assert_array_equal(picture[: shape[1], : shape[2], :-1], images[0])
    else:
        assert picture.shape[0] == pictures.THUMB_PX


@pytest.mark.parametrize(
    "images", [np.zeros((1, 8, 8, 1)), np.zeros((8, 8, 1), np.uint8), np.zeros((1, 8, 8, 2), np.uint8)]
)
def test_image_sheet_refuses_what_is_not_pixels(images):
    with pytest.raises(ValueError, match=r"gallery images: got .* expected uint8"):
        pictures.image_sheet(images)


def test_image_sheet_of_few_images_is_as_wide_as_that_of_many():
    images = np.zeros((8, 10, 10, 1), np.uint8)
    few, many = pictures.image_sheet(images[:2]), pictures.image_sheet(images)
    assert (few["width"], few["height"]) == (many["width"], many["height"]) and (few["count"], many["count"]) == (2, 8)


def test_gallery_shows_each_pair_with_its_ratio_and_its_classes_where_they_differ():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
    markup = pictures.pairs_gallery(images, images, [0.0, 0.52], [("3", "3"), ("4", "<9>")])
    assert markup.count("<img") == markup.count("data:image/png") == 2
    assert "0.52</span> 4 | &lt;9&gt;" in markup and "<9>" not in markup
    assert 'alt="a synthetic 3 and the nearest training image, a 3; ratio 0.00"' in markup


def test_shades_are_darkest_where_accuracy_is_lowest_and_nothing_is_known_is_none():
    assert pictures.shades({"a": [50.0, 100.0], "b": [75.0, float("nan")]}, 0.6) == {"a": [0.6, 0.0], "b": [0.3, 0.0]}
    assert pictures.shades({"a": [50.0]}) == {"a": [0.0]} and pictures.shades({}) == {}
