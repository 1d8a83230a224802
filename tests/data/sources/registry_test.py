"""The sources there are by name: digits, Fashion-MNIST, and the table; each refuses bad input by name."""

import gzip

import numpy as np
import pytest

from jaxmoust.data.sources import registry as sources
from jaxmoust.data.sources.image_folder import Rules
from jaxmoust.data.sources.registry import digits, fashion_mnist, open_source, open_splits, read_idx

# ---- digits


def test_digits_split_is_100_images_a_class_and_the_rest():
    train, test = digits("train"), digits("test")
    assert np.bincount(train.labels).tolist() == [100] * 10
    assert (len(train), len(test), train.shape) == (1000, 797, (8, 8, 1))
    together = np.concatenate([train.images(range(1000)), test.images(range(797))])
    from sklearn.datasets import load_digits

    everything = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, together)) == sorted(map(bytes, everything))


def test_digits_split_is_fixed():
    """Changing one of these changes every published run on digits."""
    assert digits("train").digest == GOLDEN_TRAIN
    assert digits("test").digest == GOLDEN_TEST


# ---- Fashion-MNIST


def write_idx(path, array):
    header = b"\x00\x00\x08" + bytes([array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    data = header + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture(params=["", ".gz"])
def idx_folder(tmp_path, request):
    for prefix, num in (("train", 30), ("t10k", 10)):
        images = np.random.default_rng(num).integers(0, 256, (num, 28, 28), dtype=np.uint8)
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte{request.param}", images)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte{request.param}", np.arange(num, dtype=np.uint8) % 10)
    return tmp_path


def test_fashion_mnist_reads_idx_files_gzipped_or_not(idx_folder):
    train, test = fashion_mnist("train", str(idx_folder)), open_source("fashion_mnist", "test", str(idx_folder))
    assert (len(train), len(test), train.shape) == (30, 10, (28, 28, 1))
    images = np.random.default_rng(30).integers(0, 256, (30, 28, 28, 1), dtype=np.uint8)
    np.testing.assert_array_equal(train.images(range(30)), images)
    assert train.labels.tolist() == list(range(10)) * 3 and train.class_names[9] == "Ankle boot"


def test_fashion_mnist_says_what_it_looked_for_and_the_remedy(tmp_path):
    said = r"(?s)t10k-images-idx3-ubyte\.gz or t10k-images-idx3-ubyte.*dataset-fashion-mnist"
    with pytest.raises(ValueError, match=said):
        fashion_mnist("test", str(tmp_path))


def test_fashion_mnist_names_a_broken_file(idx_folder):
    file = next(idx_folder.glob("train-images*"))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"train-images.*Fetch it again"):
        fashion_mnist("train", str(idx_folder))


def test_fashion_mnist_refuses_labels_of_another_length(idx_folder):
    file = next(idx_folder.glob("train-labels*"))
    write_idx(file, np.zeros(29, np.uint8))
    with pytest.raises(ValueError, match=r"\(30, 28, 28\) and labels \(29,\)"):
        fashion_mnist("train", str(idx_folder))


@pytest.mark.skipif(not sources._DEBIAN_FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_of_debian_is_the_published_set():
    train = fashion_mnist("train")
    assert (len(train), train.shape) == (60_000, (28, 28, 1))
    assert np.bincount(train.labels).tolist() == [6000] * 10
    # The mean that every framework normalises Fashion-MNIST by, to its four published digits.
    assert train.images(range(60_000)).mean() / 255 == pytest.approx(0.2860, abs=5e-5)


# ---- names


def test_open_source_refuses_an_unknown_name():
    with pytest.raises(ValueError, match=r"source 'digit', expected digits, .*folder, .* and tfds:NAME"):
        open_source("digit", "train")


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_open_source_refuses_an_unknown_split(name):
    with pytest.raises(ValueError, match=r"split='valid' of .*, expected train, test"):
        open_source(name, "valid")


def test_open_source_with_a_class_list_numbers_the_classes_as_it_lists_them(tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("7\n2\n")
    whole, part = digits("test"), open_source("digits", "test", classes=str(listed))
    keys = np.flatnonzero(np.isin(whole.labels, [2, 7]))
    np.testing.assert_array_equal(part.images(range(len(part))), whole.images(keys))
    assert part.labels.tolist() == [{7: 0, 2: 1}[label] for label in whole.labels[keys]]
    assert part.class_names == ("7", "2") and part.digest != whole.digest


GOLDEN_TRAIN = "e6f9f477e1743441966ca1c6bd26c87f"
GOLDEN_TEST = "e962cc9ba6fbc5169b8ccda07f9f1b87"


def test_open_source_refuses_a_path_for_images_that_are_built_in(tmp_path):
    with pytest.raises(ValueError, match=r"built in and reads none. Set data\.source=folder"):
        open_source("digits", "train", path=str(tmp_path))


@pytest.mark.parametrize("name", ["digits", "fashion_mnist", "medmnist", "cifake_real", "tfds:set", "hf:set"])
@pytest.mark.parametrize(("rule", "readers"), [("labels", "folder"), ("group", "folder or hf:NAME")])
def test_open_source_refuses_a_rule_that_it_does_not_read(name, rule, readers):
    if name.startswith("hf:") and "hf:" in readers:
        return
    with pytest.raises(
        ValueError, match=f"Got data.{rule} 'some' for source '{name}', which reads none; {readers} does"
    ):
        open_source(name, "train", rules=Rules(**{rule: "some"}))


def test_open_splits_keeps_copies_on_one_side_of_any_source_where_that_is_asked_for(idx_folder):
    """Of random images none look the same, so one of test is put among those to train on."""
    train, test = (read_idx(next(idx_folder.glob(f"{part}-images*"))).copy() for part in ("train", "t10k"))
    train[7] = test[3]
    write_idx(next(idx_folder.glob("train-images*")), train)
    parts = ("train", "test"), str(idx_folder)
    assert [len(source) for source in open_splits("fashion_mnist", *parts)] == [30, 10]
    together = open_splits("fashion_mnist", *parts, rules=Rules(near_duplicates="together"))
    assert [len(source) for source in together] == [29, 10]
    np.testing.assert_array_equal(together[0].images(range(29))[..., 0], np.delete(train, 7, axis=0))
