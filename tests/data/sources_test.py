"""The sources there are: digits, Fashion-MNIST, image folders; each refuses bad input by name."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmoust.data import sources
from jaxmoust.data.sources import digits, fashion_mnist, image_folder, open_source

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
    with pytest.raises(ValueError, match=r"train-images.*fetch it again|train-images.*Fetch it again"):
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


# ---- image folders


def write_folder(root, counts, size=(6, 5), mode="RGB"):
    value = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            value += 1
            Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(root / name / f"{i}.png")
    return root


def values(source):
    return sorted(int(source.read(i)[0, 0, 0]) for i in range(len(source)))


def test_image_folder_of_classes_is_split_without_overlap_or_loss(tmp_path):
    write_folder(tmp_path, {"cat": 10, "dog": 5})
    train, test, everything = (image_folder(str(tmp_path), split, 0.2) for split in ("train", "test", "all"))
    assert values(train) + values(test) != values(everything)  # not simply the first and the last
    assert sorted(values(train) + values(test)) == values(everything) == list(range(1, 16))
    assert np.bincount(test.labels).tolist() == [2, 1] and np.bincount(train.labels).tolist() == [8, 4]
    assert train.class_names == ("cat", "dog") and train.shape == (5, 6, 3)


def test_image_folder_split_is_a_function_of_the_seed(tmp_path):
    write_folder(tmp_path, {"cat": 20, "dog": 20})
    splits = [values(image_folder(str(tmp_path), "test", 0.25, seed)) for seed in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]


def test_image_folder_with_train_and_test_takes_them_as_they_are(tmp_path):
    write_folder(tmp_path / "train", {"cat": 3, "dog": 1}, mode="L")
    write_folder(tmp_path / "test", {"cat": 1, "dog": 1}, mode="L")
    train, test = (open_source("folder", split, str(tmp_path)) for split in ("train", "test"))
    assert (len(train), len(test)) == (4, 2) and train.shape == (5, 6, 1)
    assert train.labels.tolist() == [0, 0, 0, 1]


def test_image_folder_with_a_colour_image_reads_all_in_colour(tmp_path):
    write_folder(tmp_path, {"cat": 2}, mode="L")
    write_folder(tmp_path, {"dog": 2}, mode="RGB", size=(9, 9))
    source = image_folder(str(tmp_path), "all")
    assert source.shape is None
    assert [source.read(i).shape for i in range(4)] == [(5, 6, 3)] * 2 + [(9, 9, 3)] * 2


def test_image_folder_digest_follows_the_bytes(tmp_path):
    write_folder(tmp_path, {"cat": 2, "dog": 2})
    before = image_folder(str(tmp_path), "all").digest
    assert image_folder(str(tmp_path), "all").digest == before
    Image.new("RGB", (6, 5), (99, 0, 0)).save(tmp_path / "cat" / "0.png")
    assert image_folder(str(tmp_path), "all").digest != before


def spoil_nothing(root):
    (root / "cat" / ".DS_Store").write_bytes(b"x")
    (root / "cat" / "notes.txt").write_text("x")
    (root / ".cache").mkdir()


def test_image_folder_passes_over_what_is_no_image_by_its_name(tmp_path):
    write_folder(tmp_path, {"cat": 2, "dog": 2})
    spoil_nothing(tmp_path)
    assert len(image_folder(str(tmp_path), "all")) == 4


def spoil_unreadable(root):
    (root / "cat" / "1.png").write_bytes(b"no image")


def spoil_mode(root):
    Image.new("F", (6, 5)).save(root / "cat" / "1.tif")


def spoil_empty_class(root):
    for file in (root / "cat").iterdir():
        file.unlink()


def spoil_single(root):
    (root / "cat" / "1.png").unlink()


def spoil_everything(root):
    for folder in root.iterdir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def spoil_split(root):
    write_folder(root / "train", {"cat": 1, "dog": 1})
    write_folder(root / "test", {"cat": 1, "cow": 1})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_unreadable, r"unreadable image, .*cat/1\.png"),
        (spoil_mode, r"mode F, .*cat/1\.tif, allowed are"),
        (spoil_empty_class, r"no image in .*cat, allowed is at least one"),
        (spoil_single, r"one image in .*cat, allowed is two"),
        (spoil_everything, r"no class folder in .*allowed is one subfolder a class"),
        (spoil_split, r"\['cat', 'dog'\] in .*train but \['cat', 'cow'\] in .*test"),
        (lambda root: os.rename(root, root.with_name("moved")), r"path .*allowed is an existing folder"),
    ],
)
def test_image_folder_refuses_and_names_what_is_wrong(tmp_path, spoil, said):
    root = write_folder(tmp_path / "set", {"cat": 2, "dog": 2})
    spoil(Path(root))
    with pytest.raises(ValueError, match=f"(?s)Got .*{said}"):
        for split in ("train", "test"):
            image_folder(str(root), split)


def test_image_folder_names_a_truncated_file_when_it_is_read(tmp_path):
    write_folder(tmp_path, {"cat": 2, "dog": 2}, size=(60, 60))
    file = tmp_path / "dog" / "1.png"
    file.write_bytes(file.read_bytes()[:70])
    source = image_folder(str(tmp_path), "all")
    with pytest.raises(ValueError, match=r"unreadable image, .*dog/1\.png"):
        source.read(3)


def test_image_folder_refuses_an_image_of_another_shape_where_one_is_asked(tmp_path):
    write_folder(tmp_path, {"cat": 2})
    write_folder(tmp_path, {"dog": 2}, size=(7, 7))
    with pytest.raises(ValueError, match=r"\(7, 7, 3\), .*dog/0\.png, allowed is \(5, 6, 3\)"):
        image_folder(str(tmp_path), "all", shape=(5, 6, 3))


@pytest.mark.parametrize("fraction", [0.0, 1.0, float("nan")])
def test_image_folder_refuses_a_test_fraction_out_of_range(tmp_path, fraction):
    write_folder(tmp_path, {"cat": 2})
    with pytest.raises(ValueError, match="allowed is 0 < test_fraction < 1"):
        image_folder(str(tmp_path), "train", fraction)


# ---- names


def test_open_source_refuses_an_unknown_name():
    with pytest.raises(ValueError, match=r"source 'digit', allowed are digits, fashion_mnist, folder and tfds:NAME"):
        open_source("digit", "train")


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_open_source_refuses_an_unknown_split(name):
    with pytest.raises(ValueError, match=r"split 'valid' of .*, allowed are train, test"):
        open_source(name, "valid")


GOLDEN_TRAIN = "e6f9f477e1743441966ca1c6bd26c87f"
GOLDEN_TEST = "e962cc9ba6fbc5169b8ccda07f9f1b87"
