"""Transforms: Grain's, of one image, uint8 in and out."""

import io

import grain
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from jaxmoust.data.image import Encoded, decode_image, encode_png, to_channels
from jaxmoust.data.loading.transforms import RandomResizedCrop, Resize

quick = settings(max_examples=25, deadline=None)
sides = st.integers(1, 40)


def make_image(height, width, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encode(image, format="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()


@quick
@given(sides, sides, st.sampled_from([1, 3]))
def test_png_round_trip_is_exact(height, width, channels):
    image = make_image(height, width, channels)
    np.testing.assert_array_equal(decode_image(encode_png(image)), image)


@quick
@given(sides, sides, st.sampled_from([1, 3]), st.sampled_from([1, 3]), st.integers(1, 20))
def test_resize_gives_the_asked_size_and_channels(height, width, channels, out_channels, px):
    out = Resize(px, out_channels).map(make_image(height, width, channels))
    assert out.shape == (px, px, out_channels) and out.dtype == np.uint8


@quick
@given(st.integers(1, 20), st.sampled_from([1, 3]))
def test_resize_keeps_an_image_of_its_own_size(px, channels):
    image = make_image(px, px, channels)
    assert Resize(px, channels).keeps(image.shape)
    np.testing.assert_array_equal(Resize(px, channels).map(image), image)


def test_resize_cuts_the_central_square():
    image = np.zeros((4, 8, 1), np.uint8)
    image[:, 2:6] = 200
    assert np.all(Resize(4, 1).map(image) == 200)
    inner = np.zeros((8, 8, 1), np.uint8)
    inner[2:6, 2:6] = 200
    assert np.all(Resize(4, 1, crop_fraction=0.5).map(inner) == 200)


def test_resize_averages_where_it_shrinks():
    checkers = np.indices((8, 8)).sum(0, dtype=np.uint8)[..., None] % 2 * 200
    assert np.all(Resize(4, 1, filter="box").map(checkers) == 100)


@quick
@given(sides, sides, st.integers(0, 2**32))
def test_random_resized_crop_is_a_function_of_the_generator(height, width, seed):
    image, crop = make_image(height, width, 3), RandomResizedCrop(6, 1)
    one, two = (crop.random_map(image, np.random.default_rng(seed)) for _ in range(2))
    assert one.shape == (6, 6, 1) and one.dtype == np.uint8
    np.testing.assert_array_equal(one, two)


def test_random_resized_crop_reaches_every_part_and_keeps_to_its_area():
    """An image that says, in red and green, where each pixel was; the crop's corners say what was cut."""
    place = np.stack([*np.meshgrid(np.arange(100), np.arange(100), indexing="ij"), np.zeros((100, 100))], -1)
    crop, rng = RandomResizedCrop(2, 3, area=(0.25, 0.5), aspect=(0.5, 2.0), filter="box"), np.random.default_rng(0)
    cuts = np.stack([crop.random_map(place.astype(np.uint8), rng).astype(float) for _ in range(400)])
    # Box-filtered to 2 x 2 pixels, the two centres of an axis are half of its length apart.
    height, width = 2 * (cuts[:, 1, 0, 0] - cuts[:, 0, 0, 0]), 2 * (cuts[:, 0, 1, 1] - cuts[:, 0, 0, 1])
    area = height * width / 100**2
    # Pixel values are rounded, so each length is known to 2 pixels of about 50.
    assert 0.25 - 0.03 <= area.min() < 0.30 and 0.45 < area.max() <= 0.5 + 0.03
    assert np.abs(area.mean() - 0.375) < 3 * 0.25 / np.sqrt(12 * 400)  # three standard errors of a uniform mean
    ratio = width / height
    assert 0.5 - 0.05 <= ratio.min() < 0.6 and 1.7 < ratio.max() <= 2.0 + 0.15
    top = cuts[:, 0, 0, 0] - height / 4
    assert top.min() < 3 and (top + height).max() > 97


def test_random_resized_crop_of_a_sliver_falls_back_to_its_middle():
    image = np.zeros((2, 100, 1), np.uint8)
    image[:, 48:52] = 200
    crop = RandomResizedCrop(4, 1, area=(1.0, 1.0), aspect=(1.0, 1.0), filter="box")
    assert crop.random_map(image, np.random.default_rng(0)).min() == 200


@quick
@given(sides, sides, st.sampled_from(["L", "RGB", "P", "1", "CMYK"]), st.sampled_from([1, 3]), st.integers(1, 20))
def test_transforms_of_encoded_images_are_those_of_decoded_ones(height, width, mode, channels, px):
    """Whatever the file's mode, the channels of its set and those asked for, as long as nothing is reduced."""
    format = "TIFF" if mode == "CMYK" else "PNG"
    data = encode(Image.fromarray(make_image(height, width, 3)).convert(mode), format)
    for kept in (1, 3):
        encoded = Encoded(data, kept, "x")
        decoded = to_channels(decode_image(data), kept)
        np.testing.assert_array_equal(encoded.decode(), decoded)
        resize, crop = Resize(px, channels, crop_fraction=0.9), RandomResizedCrop(px, channels)
        np.testing.assert_array_equal(resize.map(encoded), resize.map(decoded))
        np.testing.assert_array_equal(Resize(height, channels).map(encoded), Resize(height, channels).map(decoded))
        one, two = (crop.random_map(image, np.random.default_rng(px)) for image in (encoded, decoded))
        np.testing.assert_array_equal(one, two)


def photographs():
    """Two photographs of 640 x 427 pixels as JPEG, finely and coarsely quantised, with full and halved colours."""
    for image in load_sample_images().images:
        for quality in (75, 95):
            for subsampling in (0, 2):
                buffer = io.BytesIO()
                Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
                yield Encoded(buffer.getvalue(), 3, "photograph")


@pytest.mark.parametrize("filter", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("px", [24, 64, 128])
def test_random_resized_crop_reduced_differs_from_the_whole_by_little(px, filter):
    """Means of 1.1 to 1.5 levels were measured, 3.7 in the worst image; the limits leave room for other decoders.

    They catch a rectangle that lies half a pixel of the smaller image off: that gives means of 2.7 to 3.6.
    """
    reduced, whole = (RandomResizedCrop(px, 3, filter=filter, reduce=reduce) for reduce in (True, False))
    means = []
    for seed, image in enumerate(photographs()):
        one, two = (crop.random_map(image, np.random.default_rng(seed)).astype(int) for crop in (reduced, whole))
        means.append(np.abs(one - two).mean())
    assert sum(mean > 0 for mean in means) >= 4  # a crop of fewer than 2 px a side is not reduced
    assert np.mean(means) < 2.6 and max(means) < 5


def test_random_resized_crop_reduces_no_more_than_the_crop_allows(monkeypatch):
    """The decoded rectangle has at least image_px pixels a side, and less than twice as many where 1/8 will do."""
    seen = []
    resize = Image.Image.resize

    def spy(self, size, filter, box):
        seen.append((self.size, box))
        return resize(self, size, filter, box)

    monkeypatch.setattr(Image.Image, "resize", spy)
    image = next(photographs())
    for px in (20, 40, 110, 300):
        for seed in range(20):
            RandomResizedCrop(px, 3).random_map(image, np.random.default_rng(seed))
            RandomResizedCrop(px, 3, reduce=False).random_map(image, np.random.default_rng(seed))
            ((width, _), box), (_, whole) = seen[-2:]
            shrink = {640: 1, 320: 2, 160: 4, 80: 8}[width]
            np.testing.assert_allclose(np.array(box) * shrink, whole)
            side, full = (min(b[2] - b[0], b[3] - b[1]) for b in (box, whole))
            assert side >= px or (shrink == 1 and full < px)
            assert side < 2 * px or shrink == 8
    assert {width for (width, _), _ in seen} == {640, 320, 160, 80}


@pytest.mark.parametrize("filter", ["nearest", "box"])
def test_random_resized_crop_does_not_reduce_for_filters_that_pick_pixels(filter):
    crops = [RandomResizedCrop(32, 3, filter=filter, reduce=reduce) for reduce in (True, False)]
    one, two = (crop.random_map(next(photographs()), np.random.default_rng(0)) for crop in crops)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("px", [8, 90])
def test_transforms_refuse_and_name_a_truncated_encoded_image(px):
    data = encode(Image.fromarray(make_image(90, 90, 3)), "JPEG")
    image, rng = Encoded(data[: len(data) // 2], 3, "cat.jpg"), np.random.default_rng(0)
    for apply in (Resize(px, 3).map, lambda image: RandomResizedCrop(px, 3).random_map(image, rng)):
        with pytest.raises(ValueError, match=r"unreadable image, cat\.jpg: .*truncated"):
            apply(image)


def test_transforms_run_in_a_grain_pipeline_on_images_and_on_dicts():
    data = [Encoded(encode_png(make_image(6, 8, 3, seed)), 3, f"image {seed}") for seed in range(3)]
    images = grain.MapDataset.source(data).map(Resize(4, 1))
    dicts = grain.MapDataset.source([{"image": d, "label": 1} for d in data]).map(Resize(4, 1))
    random = grain.MapDataset.source(data).seed(1).random_map(RandomResizedCrop(4, 3))
    for i in range(3):
        np.testing.assert_array_equal(images[i], dicts[i]["image"])
        assert dicts[i]["label"] == 1 and random[i].shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Resize(0, 1), "image_px=0, expected a whole number from 1"),
        (lambda: Resize(8, 2), "channels=2, expected 1"),
        (lambda: Resize(8, 1, "sinc"), "filter='sinc', expected nearest"),
        (lambda: Resize(8, 1, crop_fraction=0.0), "crop_fraction=0"),
        (lambda: RandomResizedCrop(8, 1, area=(0.5, 0.2)), r"area=\(0.5, 0.2\), expected"),
        (lambda: RandomResizedCrop(8, 1, aspect=(0.0, 1.0)), r"aspect=\(0.0, 1.0\), expected"),
    ],
)
def test_transforms_refuse_settings_out_of_range(make, said):
    with pytest.raises(ValueError, match=f"Got {said}"):
        make()
