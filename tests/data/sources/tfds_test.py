"""Any TFDS data set as a source: random access to a set that the test writes as TFDS lays it out."""

import io
import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from jaxmoust.data.sources import scan_cache
from jaxmoust.data.sources import tfds as tfds_sets
from jaxmoust.data.sources.registry import open_source
from jaxmoust.data.sources.tfds import prepare_tfds, tfds_source
from jaxmoust.data.sources.tfds_records import TfdsRecords

IMAGES = np.random.default_rng(1).integers(0, 256, (7, 6, 6, 3), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 1, 0, 2, 2])


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def write_set(folder, features, examples, splits, file_format=tfds.core.FileFormat.ARRAY_RECORD):
    """Writes what `download_and_prepare(file_format="array_record")` leaves, without TensorFlow."""
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(features)
    serializer = ExampleSerializer(features.get_serialized_info())
    infos, start = [], 0
    for split, lengths in splits.items():
        for shard, length in enumerate(lengths):
            name = f"toy-{split}.{file_format.file_suffix}-{shard:05d}-of-{len(lengths):05d}"
            writer = ArrayRecordWriter(str(folder / name), "group_size:1")
            for example in examples[start : start + length]:
                writer.write(serializer.serialize_example(features.encode_example(example)))
            writer.close()
            start += length
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=1))
    identity = tfds.core.dataset_info.DatasetIdentity(
        name="toy", version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name="toy"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features, description="toy")
    info.set_file_format(file_format)
    info.set_splits(tfds.core.splits.SplitDict(infos))
    info.write_to_directory(folder)
    return folder


def toy(folder, shape=(6, 6, 3), labels=LABELS, **more):
    features = {
        "picture": tfds.features.Image(shape=shape, encoding_format="png"),
        "kind": tfds.features.ClassLabel(names=["ant", "bee", "cow"]),
        "id": tfds.features.Text(),
    }
    examples = [
        {"picture": png(i), "kind": int(k), "id": f"{j}"} for j, (i, k) in enumerate(zip(IMAGES, labels, strict=True))
    ]
    return write_set(folder / "toy" / "1.0.0", features, examples, {"train": [3, 2], "test": [2]}, **more)


def test_tfds_source_by_name_reads_images_and_labels(tmp_path):
    toy(tmp_path)
    train, test = (open_source("tfds:toy", split, str(tmp_path)) for split in ("train", "test"))
    np.testing.assert_array_equal(train.images([4, 0, 3]), IMAGES[[4, 0, 3]])
    np.testing.assert_array_equal(test.images([0, 1]), IMAGES[5:])
    assert train.labels.tolist() == LABELS[:5].tolist() and train.class_names == ("ant", "bee", "cow")
    assert train.shape == (6, 6, 3)


def test_tfds_source_by_folder_and_part_of_a_split(tmp_path):
    source = tfds_source(str(toy(tmp_path)), "train[1:4]")
    np.testing.assert_array_equal(source.images(range(3)), IMAGES[1:4])


def test_tfds_source_of_images_of_any_size_has_no_shape(tmp_path):
    source = tfds_source(str(toy(tmp_path, shape=(None, None, 3))), "train")
    assert source.shape is None
    np.testing.assert_array_equal(source.read(2), IMAGES[2])


def test_tfds_source_can_be_sent_to_a_worker_process(tmp_path):
    source = pickle.loads(pickle.dumps(tfds_source(str(toy(tmp_path)), "train")))
    np.testing.assert_array_equal(source.read(1), IMAGES[1])


def test_tfds_source_digest_differs_between_splits_and_is_stable(tmp_path):
    folder = str(toy(tmp_path))
    digests = [tfds_source(folder, split).digest for split in ("train", "train", "test", "train[:4]", "train[1:]")]
    assert digests[0] == digests[1] and len(set(digests)) == 4


def test_tfds_source_brings_images_to_the_channels_that_the_set_announces(tmp_path):
    features = {
        "image": tfds.features.Image(shape=(6, 6, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=["ant"]),
    }
    folder = write_set(tmp_path / "toy", features, [{"image": png(IMAGES[0, ..., 0]), "label": 0}], {"train": [1]})
    np.testing.assert_array_equal(tfds_source(str(folder), "train").read(0), np.repeat(IMAGES[0, ..., :1], 3, -1))


def test_tfds_source_refuses_a_set_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)TFDS set 'toy', split 'train'.*prepare it"):
        tfds_source("toy", "train", str(tmp_path))


def test_tfds_source_refuses_a_split_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)split 'valid'.*cannot be read"):
        tfds_source(str(toy(tmp_path)), "valid")


def test_tfds_source_refuses_files_without_random_access(tmp_path):
    folder = toy(tmp_path, file_format=tfds.core.FileFormat.TFRECORD)
    with pytest.raises(ValueError, match=r"(?s)prepared as ArrayRecord.*file_format='array_record'"):
        tfds_source(str(folder), "train")


def test_tfds_source_refuses_a_set_without_one_class_label(tmp_path):
    features = {"image": tfds.features.Image(shape=(6, 6, 3), encoding_format="png")}
    folder = write_set(tmp_path / "toy", features, [{"image": png(i)} for i in IMAGES], {"train": [7]})
    with pytest.raises(ValueError, match="0 features of kind ClassLabel"):
        tfds_source(str(folder), "train")


def test_prepare_tfds_leaves_a_prepared_set_as_it_is(tmp_path):
    folder = toy(tmp_path)
    before = sorted((file.name, file.stat().st_mtime_ns) for file in folder.iterdir())
    assert prepare_tfds("toy", str(tmp_path)) == folder
    assert sorted((file.name, file.stat().st_mtime_ns) for file in folder.iterdir()) == before


def test_prepare_tfds_refuses_a_name_that_tfds_does_not_know(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)TFDS set 'no_such_set'.*TensorFlow installed"):
        prepare_tfds("no_such_set", str(tmp_path))


def test_tfds_source_with_a_class_list_holds_these_classes(tmp_path):
    toy(tmp_path)
    (tmp_path / "list.txt").write_text("cow\nant\n")
    source = open_source("tfds:toy", "train", str(tmp_path), str(tmp_path / "list.txt"))
    assert source.class_names == ("cow", "ant") and source.labels.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(source.images(range(3)), IMAGES[[0, 1, 4]])


# ---- labels of large sets


@pytest.fixture(params=["by all bytes", "by ends and times"])
def large(request, tmp_path, monkeypatch):
    """A set that counts as large, left alone for long; and how often its labels were read from the records."""
    monkeypatch.setenv("JAXMOUST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tfds_sets, "_REMEMBERED_FROM", 2)
    monkeypatch.setattr(scan_cache, "_TICK_NS", 0)
    if request.param != "by all bytes":
        monkeypatch.setattr("jaxmoust.data.source._FULL_DIGEST_BYTES", 10)
    calls, read = [], TfdsRecords.column
    monkeypatch.setattr(TfdsRecords, "column", lambda *args: calls.append(1) or read(*args))
    return toy(tmp_path), calls


def test_tfds_source_reads_the_labels_of_a_large_set_once(large):
    folder, calls = large
    first, again = (tfds_source(str(folder), "train") for _ in range(2))
    assert calls == [1]
    assert first.labels.tolist() == again.labels.tolist() == LABELS[:5].tolist() and first.digest == again.digest


def test_tfds_source_remembers_the_labels_of_each_split_apart(large):
    folder, _ = large
    for _ in range(2):
        for split, part in (
            ("train", slice(5)),
            ("test", slice(5, 7)),
            ("train[:2]", slice(2)),
            ("train[1:3]", slice(1, 3)),
        ):
            assert tfds_source(str(folder), split).labels.tolist() == LABELS[part].tolist()


def test_tfds_source_remembered_is_addressed_as_when_it_was_read(large, monkeypatch):
    folder, _ = large
    tfds_source(str(folder), "train")
    remembered = tfds_source(str(folder), "train").digest
    monkeypatch.setattr(tfds_sets, "_REMEMBERED_FROM", 100)
    assert tfds_source(str(folder), "train").digest == remembered


def test_tfds_source_reads_the_labels_again_when_the_set_was_written_anew(large, tmp_path, monkeypatch):
    """Same names, same sizes, other labels."""
    folder, calls = large
    tfds_source(str(folder), "train")
    folder.rename(tmp_path / "old")
    other = 2 - LABELS
    folder.parent.rmdir()
    toy(tmp_path, labels=other)
    assert tfds_source(str(folder), "train").labels.tolist() == other[:5].tolist() and len(calls) == 2


def test_tfds_source_names_where_a_record_is_damaged(tmp_path):
    folder = toy(tmp_path)
    file = next(folder.glob("toy-train*00000-of*"))
    data = bytearray(file.read_bytes())
    data[data.index(b"picture")] ^= 255
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"unreadable record, one of 0 to 4 of toy/1\.0\.0, split train"):
        tfds_source(str(folder), "train")


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory):
    folder = toy(tmp_path_factory.mktemp("fuzzed"))
    return folder, {file.name: file.read_bytes() for file in folder.iterdir()}


def test_tfds_source_of_a_shard_that_was_cut_is_refused_by_name(tmp_path):
    """The reader gives empty records for it, and no error."""
    folder = toy(tmp_path)
    (shard,) = folder.glob("toy-train.array_record-00000-*")
    for part in (0.5, 0.9, 0.1):
        shard.write_bytes(shard.read_bytes()[: int(part * shard.stat().st_size)])
        with pytest.raises(ValueError, match=r"Got (an unreadable record|the TFDS set)"):
            tfds_source(str(folder), "train")


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_tfds_source_of_a_damaged_file_is_refused_by_name_or_the_same(toy_folder, data):
    """A record carries a check sum; what TFDS's own files say is theirs, and no traceback."""
    folder, before = toy_folder
    name = data.draw(st.sampled_from(sorted(before)))
    file, whole = folder / name, before[name]
    at, kind = data.draw(st.floats(0, 1, exclude_max=True)), data.draw(st.sampled_from(["flip", "cut", "empty"]))
    place, changed = int(at * len(whole)), bytearray(whole)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes({"flip": changed, "cut": whole[:place], "empty": b""}[kind])
    try:
        source = tfds_source(str(folder), "train")
        images = [source.read(i) for i in range(len(source))]
        assert file.suffix in (".json", ".txt") or all(map(np.array_equal, images, IMAGES))
    except ValueError as error:
        assert str(error).startswith("Got ") and str(folder.parent.parent) in str(error)
    finally:
        file.write_bytes(whole)
