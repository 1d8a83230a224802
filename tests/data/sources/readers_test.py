"""Readers of other people's bytes, given bytes at random: what they say is a sentence, or right."""

import io
import zipfile

import hostile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxmoust.data.image import decode_image
from jaxmoust.data.sources.archive import open_members
from jaxmoust.data.sources.class_list import read_class_list
from jaxmoust.data.sources.labels import by_dataset_json, by_table
from jaxmoust.data.sources.medmnist import medmnist
from jaxmoust.data.sources.registry import read_idx
from jaxmoust.runtime.paths import parse_json, read_npz

NAMES = ("cat/0.png", "cat/1.png", "dog/0.png")
fuzzed = settings(max_examples=60, deadline=None)
# What is done to a whole file: bytes at a place put there, or cut out.
edits = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4), st.integers(0, 4)), min_size=1, max_size=4)


def edited(data, changes):
    for place, new, cut in changes:
        at = int(place * len(data))
        data = data[:at] + new + data[at + cut :]
    return data


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzzed") / "file"


def image_bytes(suffix):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(buffer, suffix)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
@settings(max_examples=25, deadline=None)
@given(edits)
def test_an_image_of_odd_bytes_decodes_or_is_refused_by_name(suffix, changes):
    try:
        image = decode_image(edited(image_bytes(suffix), changes), "odd.png")
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] in (1, 3)
    except ValueError as error:
        assert "odd.png" in str(error) and "object at 0x" not in str(error)


@fuzzed
@given(st.one_of(st.text().map(str.encode), st.binary()), st.booleans())
def test_a_table_of_odd_text_labels_files_that_are_there_or_is_refused(text, has_head):
    try:
        found = by_table(NAMES, "set", b"file,label\n" * has_head + text)
        assert set(found.names) <= set(NAMES) and len(found.names) == len(found.labels)
    except ValueError as error:
        assert str(error).startswith("Got ")


@fuzzed
@given(st.binary())
def test_a_class_list_of_odd_bytes_is_unique_names_or_refused(place, data):
    place.write_bytes(data)
    try:
        names = read_class_list(str(place))
        assert names and len(set(names)) == len(names) and all(name == name.strip() != "" for name in names)
    except ValueError as error:
        assert str(error).startswith(f"Got the class list {place}")


@fuzzed
@given(edits, st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
def test_an_archive_of_odd_bytes_gives_what_was_packed_or_is_refused(place, changes, how):
    buffer, packed = io.BytesIO(), {"cat/0.png": b"one" * 30, "dog/0.png": b"two" * 30}
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name, data in packed.items():
            archive.writestr(name, data)
    place.write_bytes(edited(buffer.getvalue(), changes))
    try:
        members = open_members(place)
        for name in members.names:
            assert members.read(name) in packed.values()  # a name has no check sum, what it holds has one
    except ValueError as error:
        assert str(error).startswith("Got ")


@fuzzed
@given(edits)
def test_a_npz_of_odd_bytes_holds_what_was_saved_or_is_refused(place, changes):
    hostile.npz(place)
    before = {name: array.tobytes() for name, array in read_npz(place).items()}
    place.write_bytes(edited(place.read_bytes(), changes))
    try:
        for array in read_npz(place).values():
            assert array.tobytes() in before.values()
        medmnist("train", str(place))
    except ValueError as error:
        assert str(error).startswith("Got ")


@fuzzed
@given(st.lists(st.integers(-2, 300), max_size=4), st.binary(max_size=100), st.booleans())
def test_an_idx_file_of_odd_sizes_is_as_large_as_it_says_or_refused(place, shape, data, packed):
    file = hostile.idx(place.with_suffix(".gz"), tuple(shape), 0)
    if not packed:
        file = place.with_suffix(".idx")
        file.write_bytes(b"\0\0\x08" + bytes([len(shape)]) + np.array(shape, ">i4").tobytes() + data)
    try:
        assert read_idx(file).shape == tuple(shape)
    except ValueError as error:
        assert str(error).startswith("Got ")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@fuzzed
@given(st.one_of(json_values, st.fixed_dictionaries({"labels": json_values})))
def test_labels_of_odd_json_are_files_with_numbers_or_refused(content):
    try:
        files = by_dataset_json(content, "set")
        assert all(int(c) >= 0 and of_class for c, of_class in files.items())
    except ValueError as error:
        assert str(error).startswith("Got dataset.json of set")


@fuzzed
@given(st.text())
def test_json_of_odd_text_is_refused_with_its_path(text):
    try:
        parse_json(text, "DIR/x.json")
    except ValueError as error:
        assert str(error).startswith("DIR/x.json is damaged")
