"""One source: checked at birth, addressed by content."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data import source as source_module
from jaxmoust.data.source import digest_files, from_arrays


def make_images(num, px=4, channels=1):
    return np.random.default_rng(num).integers(0, 256, (num, px, px, channels), dtype=np.uint8)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=9))
def test_source_reads_one_by_one_what_it_reads_at_once(keys):
    source = from_arrays(make_images(7), np.arange(7))
    one_by_one = [source.read(i) for i in keys]
    np.testing.assert_array_equal(source.images(keys), np.reshape(one_by_one, (-1, 4, 4, 1)))


def test_source_subset_keeps_images_with_their_labels():
    source = from_arrays(make_images(7), np.arange(7) % 3)
    part = source.subset(np.array([5, 0, 5]), "part")
    np.testing.assert_array_equal(part.images([0, 1, 2]), source.images([5, 0, 5]))
    assert part.labels.tolist() == [2, 0, 2]
    assert part.name == "part" and part.class_names == source.class_names


def test_source_digest_is_that_of_the_content():
    images, labels = make_images(7), np.arange(7) % 3
    source = from_arrays(images, labels, name="a")
    assert from_arrays(images.copy(), labels.astype(np.int64), name="b").digest == source.digest
    changed = images.copy()
    changed[6, 3, 3, 0] ^= 1
    others = [
        from_arrays(changed, labels),
        from_arrays(images, labels[::-1]),
        from_arrays(images, labels, ["x", "y", "z"]),
        source.subset(np.arange(6)),
        source.subset(np.arange(7)[::-1]),
    ]
    assert len({source.digest, *(other.digest for other in others)}) == 6


def test_source_images_cannot_be_written_to():
    images = make_images(3)
    source = from_arrays(images, np.arange(3))
    with pytest.raises(ValueError, match="read-only"):
        source.read(0)[...] = 0
    images[0] = 1  # the caller's own array stays the caller's


def test_source_repr_holds_no_array_and_no_address():
    text = repr(from_arrays(make_images(3), np.arange(3), name="small"))
    assert text.startswith("Source('small', num_images=3, num_classes=3, shape=(4, 4, 1), digest=")
    assert "0x" not in text and "array" not in text


def test_source_takes_grey_images_without_a_channel():
    assert from_arrays(make_images(3)[..., 0], np.arange(3)).shape == (4, 4, 1)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (np.zeros((2, 4, 4, 1), np.float32), [0, 1], r"float32.*expected uint8"),
        (np.zeros((2, 4, 4, 2), np.uint8), [0, 1], r"\(2, 4, 4, 2\).*C 1 or 3"),
        (np.zeros((2, 0, 4, 1), np.uint8), [0, 1], r"\(2, 0, 4, 1\)"),
        (np.zeros((4, 4), np.uint8), [0], r"\(4, 4\)"),
        (np.zeros((0, 4, 4, 1), np.uint8), np.zeros(0, int), r"no image.*at least one"),
        (np.zeros((2, 4, 4, 1), np.uint8), [0], r"labels of shape \(1,\).*2 images"),
        (np.zeros((2, 4, 4, 1), np.uint8), [0.0, 1.0], r"float64.*one integer an image"),
        (np.zeros((2, 4, 4, 1), np.uint8), [0, 3], r"label 3 at image 1 .*expected 0 to 2"),
        (np.zeros((2, 4, 4, 1), np.uint8), [-1, 0], r"label -1 at image 0 .*expected 0 to 2"),
    ],
)
def test_from_arrays_refuses_what_is_not_labelled_images(images, labels, said):
    with pytest.raises(ValueError, match=f"(?s)Got .*{said}"):
        from_arrays(images, np.array(labels), ("a", "b", "c"))


def test_source_refuses_repeated_classes():
    with pytest.raises(ValueError, match="unique"):
        from_arrays(make_images(2), np.arange(2), ("a", "a"))


def test_source_subset_refuses_indices_that_it_does_not_have():
    source = from_arrays(make_images(3), np.arange(3))
    for keys in ([3], [-1]):
        with pytest.raises(ValueError, match="expected 0 to 2"):
            source.subset(np.array(keys))


def test_source_refuses_a_batch_of_images_that_differ_in_size():
    source = dataclasses.replace(from_arrays(make_images(3), np.arange(3)), shape=None)
    with pytest.raises(ValueError, match="read them one by one"):
        source.images([0, 1])


def test_digest_files_says_when_it_did_not_read_everything(tmp_path, monkeypatch):
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_bytes(bytes(100))
    whole = digest_files(files)
    files[1].write_bytes(bytes(50) + b"x" + bytes(49))
    assert digest_files(files) != whole and not whole.startswith("ends-")
    monkeypatch.setattr(source_module, "_FULL_DIGEST_BYTES", 150)
    assert digest_files(files).startswith("ends-")
