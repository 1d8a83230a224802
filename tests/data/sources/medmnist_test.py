"""MedMNIST files: each split by itself, class names as published, nothing unpickled and nothing believed."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxmoust.data.sources.medmnist import CLASS_NAMES, medmnist
from jaxmoust.data.sources.registry import open_source

SIZES = {"train": 16, "val": 8, "test": 9}


def arrays(px=6, channels=3, num_classes=8):
    rng = np.random.default_rng(px)
    made = {}
    for part, num in SIZES.items():
        shape = (num, px, px, channels) if channels == 3 else (num, px, px)
        made[f"{part}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        made[f"{part}_labels"] = (np.arange(num) % num_classes)[:, None].astype(np.uint8)
    return made


def write(path, **changes):
    np.savez_compressed(path, **{**arrays(), **changes})
    return str(path)


@pytest.mark.parametrize(("px", "channels"), [(28, 1), (64, 3)])
@pytest.mark.parametrize("split", SIZES)
def test_medmnist_holds_a_split_as_it_was_published(tmp_path, px, channels, split):
    made = arrays(px, channels)
    path = tmp_path / f"bloodmnist_{px}.npz"
    np.savez_compressed(path, **made)
    source = open_source("medmnist", split, str(path))
    expected = made[f"{split}_images"].reshape(-1, px, px, channels)
    np.testing.assert_array_equal(source.images(range(len(source))), expected)
    np.testing.assert_array_equal(source.labels, made[f"{split}_labels"][:, 0])
    assert source.shape == (px, px, channels) and source.class_names == CLASS_NAMES["bloodmnist"]
    assert source.name == f"bloodmnist_{px}/{split}"


def test_medmnist_train_does_not_hold_the_validation_images_unless_asked(tmp_path):
    path = write(tmp_path / "bloodmnist.npz")
    train, val, both = (medmnist(split, path) for split in ("train", "val", "train+val"))
    assert (len(train), len(val)) == (16, 8)
    joined = np.concatenate([train.images(range(16)), val.images(range(8))])
    np.testing.assert_array_equal(both.images(range(24)), joined)
    np.testing.assert_array_equal(both.labels, np.concatenate([train.labels, val.labels]))


def test_medmnist_table_has_the_published_numbers_of_classes():
    """Table 2 of the paper."""
    published = {"path": 9, "derma": 7, "oct": 4, "pneumonia": 2, "retina": 5, "breast": 2, "blood": 8, "tissue": 8}
    published |= {"organa": 11, "organc": 11, "organs": 11}
    assert {name.removesuffix("mnist"): len(names) for name, names in CLASS_NAMES.items()} == published


def test_medmnist_of_another_name_numbers_its_classes_alike_in_every_split(tmp_path):
    labels = np.zeros((9, 1), np.uint8)
    path = write(tmp_path / "mine.npz", test_labels=labels)
    assert medmnist("test", path).class_names == medmnist("train", path).class_names == tuple("01234567")


def pickled(tmp_path):
    made = arrays()
    made["train_labels"] = np.array([[0]] * 16, dtype=object)
    np.savez(tmp_path / "x.npz", **made)


def lying_header(tmp_path):
    """An array header that announces far more than follows."""
    write(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 20, 1 << 20, 6, 3)}
    )
    members["train_images.npy"] = header.getvalue() + bytes(100)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def pointers(tmp_path):
    """Bytes of the right number that would be read as addresses of objects."""
    made = arrays()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (16,)})
    np.savez(tmp_path / "x.npz", **{name: array for name, array in made.items() if name != "train_labels"})
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("train_labels.npy", header.getvalue() + bytes(8 * 16))


def bomb(tmp_path):
    write(tmp_path / "x.npz", train_images=np.zeros((16, 300, 300, 3), np.uint8))


def truncated(tmp_path):
    path = write(tmp_path / "x.npz")
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2])


def damaged(tmp_path):
    path = write(tmp_path / "x.npz")
    data = bytearray(Path(path).read_bytes())
    data[400] ^= 255
    Path(path).write_bytes(data)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (pickled, r"train_labels .*plain numbers.*Object arrays"),
        (pointers, r"train_labels .*plain numbers.*Object arrays"),
        (lying_header, r"train_images .*not as many plain numbers as its header announces"),
        (bomb, r"train_images .*packed at most 100 to 1"),
        (truncated, r"no whole \.npz file"),
        (damaged, r"x\.npz.*etch .* again"),
        (lambda p: write(p / "x.npz", train_labels=np.zeros((16, 14), np.uint8)), r"14 labels an image .*ChestMNIST"),
        (lambda p: write(p / "x.npz", train_labels=np.zeros((16, 1))), r"labels of shape \(16, 1\) and type float64"),
        (lambda p: write(p / "x.npz", train_labels=np.zeros((15, 1), int)), r"labels of shape \(15,\).*16 images"),
        (lambda p: write(p / "x.npz", train_images=np.zeros((16, 6, 6, 6), np.uint8)), r"\(16, 6, 6, 6\).*3D sets"),
        (lambda p: write(p / "x.npz", train_images=np.zeros((16, 6, 6))), r"float64"),
        (lambda p: np.savez(p / "x.npz", train_images=np.zeros(3)), r"without train_labels"),
        (lambda p: (p / "x.npz").write_bytes(b"no zip"), r"no whole \.npz file"),
        (lambda p: None, r"no file .*x\.npz"),
    ],
)
def test_medmnist_refuses_what_is_no_labelled_image_set(tmp_path, make, said):
    make(tmp_path)
    with pytest.raises(ValueError, match=f"(?s)Got .*{said}"):
        medmnist("train", str(tmp_path / "x.npz"))


def test_medmnist_refuses_labels_that_its_named_classes_do_not_have(tmp_path):
    path = write(tmp_path / "octmnist_28.npz")
    with pytest.raises(ValueError, match="expected 0 to 3"):
        medmnist("train", path)


def test_medmnist_refuses_a_split_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"split='valid' of medmnist, expected train, val, test, train\+val"):
        medmnist("valid", write(tmp_path / "x.npz"))


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("bloodmnist(1).npz", "bloodmnist"),
        ("BloodMNIST.npz", "bloodmnist"),
        ("my copy of bloodmnist_128px.npz", "bloodmnist"),
        ("organmnist_axial.npz", "organamnist"),
        ("organmnist_sagittal_28.npz", "organsmnist"),
    ],
)
def test_medmnist_classes_are_those_of_the_set_that_a_name_holds(tmp_path, name, known, recwarn):
    assert medmnist("train", write(tmp_path / name)).class_names == CLASS_NAMES[known]
    assert not recwarn.list


def test_medmnist_of_another_name_says_that_its_classes_are_unknown(tmp_path):
    with pytest.warns(UserWarning, match=r"8 classes of .*mine\.npz are called is not known, so they are 0 to 7"):
        medmnist("train", write(tmp_path / "mine.npz"))
