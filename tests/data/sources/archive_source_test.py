"""Encoded images as a source: each checked when it is opened; CIFAKE's two halves."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from jaxmoust.data.image import AS_IT_IS
from jaxmoust.data.sources.archive import open_members
from jaxmoust.data.sources.archive_source import readable_source
from jaxmoust.data.sources.image_folder import Rules
from jaxmoust.data.sources.labels import CIFAR10_CLASSES, by_folder
from jaxmoust.data.sources.registry import open_source


def png(value, size=(6, 5), mode="RGB", form="PNG"):
    buffer = io.BytesIO()
    Image.new(mode, size, (value, 0, 0) if mode == "RGB" else value).save(buffer, form)
    return buffer.getvalue()


def write_folder(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def opened(path):
    members = open_members(path)
    return readable_source(members, by_folder(members.names, str(path)), "set", AS_IT_IS)[0]


FILES = {f"set/{name}/{i}.png": png(10 * c + i) for c, name in enumerate(("cat", "dog")) for i in range(70)}


def test_readable_source_of_a_folder_and_of_an_archive_is_the_same(tmp_path):
    folder, archive = opened(write_folder(tmp_path / "a", FILES)), opened(write_zip(tmp_path / "a.zip", FILES))
    assert folder.digest == archive.digest and folder.shape == (5, 6, 3)
    np.testing.assert_array_equal(folder.images(range(140)), archive.images(range(140)))
    expected = [10 * int(name.startswith("set/dog")) + int(name.split("/")[-1][:-4]) for name in sorted(FILES)]
    assert [int(archive.read(i)[0, 0, 0]) for i in range(140)] == expected


def test_readable_source_can_be_sent_to_a_worker_process(tmp_path):
    source = opened(write_zip(tmp_path / "a.zip", FILES))
    source.read(0)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(75), source.read(75))


def test_readable_source_digest_follows_bytes_names_and_classes(tmp_path):
    changed = {**FILES, "set/dog/3.png": png(99)}
    renamed = {name.replace("dog", "cow"): data for name, data in FILES.items()}
    sets = [opened(write_folder(tmp_path / f"{i}", files)) for i, files in enumerate((FILES, changed, renamed))]
    assert len({source.digest for source in sets}) == 3


def test_readable_source_with_a_colour_image_reads_all_in_colour(tmp_path):
    source = opened(write_folder(tmp_path / "a", {"cat/0.png": png(7, mode="L"), "cat/1.png": png(8, size=(2, 2))}))
    assert source.shape is None
    assert [source.read(i).shape for i in range(2)] == [(5, 6, 3), (2, 2, 3)]


@pytest.mark.parametrize("data", [b"", b"no image", png(3, (60, 60))[:70]])
@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_readable_source_names_an_image_that_does_not_decode(tmp_path, write, data):
    with pytest.raises(ValueError, match=r"unreadable image, .*set/dog/x\.png"):
        opened(write(tmp_path / "a", {**FILES, "set/dog/x.png": data}))


# ---- CIFAKE


@pytest.fixture(params=[write_folder, write_zip])
def cifake(request, tmp_path):
    """As published: the class in the file's name, and the same names in every part. Red is class, split and part."""
    files, value = {}, 0
    for split, num in (("train", 3), ("test", 2)):
        for part in ("REAL", "FAKE"):
            for c in range(1, 11):
                for i in range(num):
                    value += 1
                    name = f"{i:04}.jpg" if c == 1 else f"{i:04} ({c}).jpg"
                    files[f"{split}/{part}/{name}"] = png(value, (32, 32), form="PNG")
    return str(request.param(tmp_path / "cifake", files))


@pytest.mark.parametrize(("name", "first"), [("cifake_real", 0), ("cifake_fake", 30)])
def test_cifake_holds_one_half_with_the_classes_of_cifar10(cifake, name, first):
    source = open_source(name, "train", cifake)
    assert source.class_names == CIFAR10_CLASSES and source.shape == (32, 32, 3)
    assert source.class_counts().tolist() == [3] * 10 and source.name == f"{name}/train"
    for i, label in enumerate(source.labels):  # values count up by class, three images each
        assert (int(source.read(i)[0, 0, 0]) - first - 1) // 3 == label


def test_cifake_test_is_the_other_folder(cifake):
    assert len(open_source("cifake_real", "test", cifake)) == 20


def test_cifake_refuses_another_set_and_another_split(tmp_path, cifake):
    with pytest.raises(ValueError, match="no image in train/REAL"):
        open_source("cifake_real", "train", str(write_folder(tmp_path / "a", FILES)))
    with pytest.raises(ValueError, match="split='val' of cifake, expected train, test"):
        open_source("cifake_real", "val", cifake)


def test_cifake_reads_transparent_images_as_asked_and_goes_on_without_bad_ones(tmp_path, caplog):
    files = {f"train/REAL/{i:04} ({c}).jpg": png(c, (32, 32)) for c in range(2, 11) for i in range(2)}
    files |= {"train/REAL/0000.jpg": png((9, 9, 9, 0), (32, 32), "RGBA"), "train/REAL/0001.jpg": b"no image"}
    path = str(write_folder(tmp_path / "cifake", files))
    with pytest.raises(ValueError, match=r"unreadable image, .*0001\.jpg.*data.on_bad='skip'"):
        open_source("cifake_real", "train", path)
    source = open_source("cifake_real", "train", path, rules=Rules(background="black", on_bad="skip"))
    assert (
        len(source) == 19
        and source.num_skipped == 1
        and [source.read(i).max() for i in np.flatnonzero(source.labels == 0)] == [0]
    )
    assert "transparent pixels, laid on black (data.background): 1." in caplog.text
    assert "Left out (on_bad='skip'): 1, train/REAL/0001.jpg (" in caplog.text
