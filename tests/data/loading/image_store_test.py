"""Where images come from: memory, a map and the files give the same pixels; what is held, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxmoust.data.image import Encoded
from jaxmoust.data.loading import image_store as module
from jaxmoust.data.loading.image_store import open_images
from jaxmoust.data.loading.transforms import RandomResizedCrop, Resize
from jaxmoust.data.source import Source, from_arrays


class Files:
    """Encoded images in memory, that count how often each is read."""

    def __init__(self, data, channels=3):
        self.data, self.channels, self.reads = data, channels, 0

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.encoded(i).decode()

    def encoded(self, i):
        self.reads += 1
        return Encoded(self.data[i], self.channels, f"file {i}")


def encoded_source(sizes, name="files", format="PNG"):
    data = []
    for i, (height, width) in enumerate(sizes):
        pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format)
        data.append(buffer.getvalue())
    shape = (*sizes[0], 3) if len(set(sizes)) == 1 else None
    return Source(name, np.zeros(len(sizes), np.int32), ("a",), shape, Files(data), f"digest of {sizes}")


def array_source(num=9, px=6):
    pixels = np.random.default_rng(5).integers(0, 256, (num, px, px, 3), dtype=np.uint8)
    return from_arrays(pixels, np.zeros(num, np.int32), ["a"])


def some(images, num=64):
    rng = np.random.default_rng(0)
    source = rng.integers(0, len(images.sources), num)
    place = np.array([rng.integers(len(images.sources[s])) for s in source])
    return images.gather(source, place, 7, np.arange(num) + 100)


MIXED = [(6, 6), (9, 5), (4, 12)]
EQUAL = [(8, 9)] * 5


@pytest.mark.parametrize(
    ("sizes", "transform"),
    [(MIXED, Resize(6, 3)), (MIXED, Resize(5, 1)), (EQUAL, Resize(6, 3)), (EQUAL, RandomResizedCrop(4, 3))],
)
@pytest.mark.parametrize("num_threads", [0, 3])
def test_memory_map_and_files_give_the_same_pixels(tmp_path, sizes, transform, num_threads):
    sources = [array_source(), encoded_source(sizes)]
    shape = (transform.image_px, transform.image_px, transform.channels)
    ways = [
        open_images(sources, transform, shape, decoded=decoded, map_dir=folder, num_threads=num_threads)
        for decoded, folder in (("memory", ""), ("map", tmp_path), ("none", ""))
    ]
    one, two, three = (some(images) for images in ways)
    assert one.shape == (64, *shape) and one.dtype == np.uint8
    np.testing.assert_array_equal(two, one)
    np.testing.assert_array_equal(three, one)


def test_held_images_are_read_once_and_others_each_time():
    for decoded, reads in (("memory", 5), ("none", 64)):
        source = encoded_source(EQUAL)
        some(open_images([source], Resize(6, 3), (6, 6, 3), decoded=decoded))
        assert source.records.reads == reads


def test_arrays_that_are_as_they_should_be_are_used_where_they_are():
    source = array_source()
    for transform, px in ((Resize(6, 3), 6), (RandomResizedCrop(4, 3), 4)):
        images = open_images([source], transform, (px, px, 3), decoded="none")
        assert images.arrays[0] is source.records


def test_auto_holds_what_fits_into_memory_then_maps_if_it_may_and_else_reads(tmp_path, monkeypatch):
    def way(limit, map_dir="", transform=None, sizes=EQUAL):
        transform = transform or Resize(6, 3)
        monkeypatch.setattr(module, "MEMORY_BYTES", limit)
        shape = (transform.image_px, transform.image_px, 3)
        images = open_images([array_source(), encoded_source(sizes)], transform, shape, map_dir=map_dir)
        return "none" if images.arrays[1] is None else "map" if images.mapped else "memory"

    size = 5 * 6 * 6 * 3  # the array's own bytes take no new memory and do not count
    assert way(size) == way(size, tmp_path) == "memory"
    assert (way(size - 1), way(size - 1, tmp_path)) == ("none", "map")
    crop = RandomResizedCrop(6, 3)
    assert way(5 * 8 * 9 * 3, transform=crop) == "memory"  # images as they are, 8 x 9
    assert way(1 << 30, tmp_path, transform=crop, sizes=MIXED) == "none"


def test_random_transform_reads_a_large_jpeg_at_a_reduced_scale():
    """The photographs' law is in transforms_test; here, that the reader hands the file itself to the transform."""
    source = encoded_source([(256, 256)] * 2, format="JPEG")
    crop = RandomResizedCrop(8, 3, area=(0.9, 1.0))
    reduced, whole = (
        open_images([source], transform, (8, 8, 3), decoded="none").read(0, 1, 3, 4)
        for transform in (crop, RandomResizedCrop(8, 3, area=(0.9, 1.0), reduce=False))
    )
    assert not np.array_equal(reduced, whole)
    held = open_images([source], crop, (8, 8, 3), decoded="memory").read(0, 1, 3, 4)
    np.testing.assert_array_equal(held, whole)


@pytest.mark.parametrize("num_threads", [0, 2])
def test_an_unreadable_image_is_named_when_it_is_read(num_threads):
    source = encoded_source(EQUAL)
    source.records.data[3] = source.records.data[3][:60]
    for decoded in ("memory", "none"):
        with pytest.raises(ValueError, match="unreadable image, file 3"):
            some(open_images([source], Resize(6, 3), (6, 6, 3), decoded=decoded, num_threads=num_threads))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"decoded": "disk"}, "decoded='disk', expected auto, memory, map, none"),
        ({"decoded": "map"}, "decoded='map' with map_dir='', expected a folder"),
        ({"decoded": "memory", "map_dir": "maps"}, "decoded='memory' with map_dir='maps'"),
        ({"decoded": "none", "map_dir": "maps"}, "decoded='none' with map_dir='maps'"),
    ],
)
def test_open_images_refuses_ways_that_do_not_fit_together(options, said):
    with pytest.raises(ValueError, match=f"Got {said}"):
        open_images([encoded_source(EQUAL)], Resize(6, 3), (6, 6, 3), **options)


def test_open_images_refuses_to_hold_images_of_several_sizes_that_are_cut_at_random():
    with pytest.raises(ValueError, match=r"decoded='memory' for \['files'\], whose images differ in size"):
        open_images([encoded_source(MIXED)], RandomResizedCrop(4, 3), (4, 4, 3), decoded="memory")
