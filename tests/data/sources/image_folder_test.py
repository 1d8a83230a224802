"""Image folders: split, ordered and addressed by what is in them; a large one is read once."""

import json
import os
from pathlib import Path

import hostile
import numpy as np
import pytest
from PIL import Image

from jaxmoust.data.sources import scan as scans
from jaxmoust.data.sources import scan_cache
from jaxmoust.data.sources.image_folder import image_folder
from jaxmoust.data.sources.registry import open_source


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
        (spoil_mode, r"unreadable image, .*cat/1\.tif: its values, of floats, lie from 0 to 0"),
        (spoil_empty_class, r"no image in .*cat, expected at least one"),
        (spoil_single, r"one image in .*cat, expected two"),
        (spoil_everything, r"no class folder in .*expected one subfolder a class"),
        (spoil_split, r"\['cat', 'dog'\] in .*train but \['cat', 'cow'\] in .*test"),
        (lambda root: os.rename(root, root.with_name("moved")), r"path .*expected an existing folder"),
    ],
)
def test_image_folder_refuses_and_names_what_is_wrong(tmp_path, spoil, said):
    root = write_folder(tmp_path / "set", {"cat": 2, "dog": 2})
    spoil(Path(root))
    with pytest.raises(ValueError, match=f"(?s)Got .*{said}"):
        for split in ("train", "test"):
            image_folder(str(root), split)


def test_image_folder_names_a_truncated_file_before_it_is_read(tmp_path):
    write_folder(tmp_path, {"cat": 2, "dog": 2}, size=(60, 60))
    file = tmp_path / "dog" / "1.png"
    file.write_bytes(file.read_bytes()[:70])
    with pytest.raises(ValueError, match=r"unreadable image, .*dog/1\.png: image file is truncated"):
        image_folder(str(tmp_path), "all")


@pytest.mark.parametrize("fraction", [0.0, 1.0, float("nan")])
def test_image_folder_refuses_a_test_fraction_out_of_range(tmp_path, fraction):
    write_folder(tmp_path, {"cat": 2})
    with pytest.raises(ValueError, match="expected 0 < test_fraction < 1"):
        image_folder(str(tmp_path), "train", fraction)


# ---- the layouts of ImageNet


@pytest.mark.parametrize("name", ["test", "validation", "val"])
def test_image_folder_takes_the_held_out_images_from_a_folder_of_any_usual_name(tmp_path, name):
    write_folder(tmp_path / "train", {"n01": 3, "n02": 2})
    write_folder(tmp_path / name, {"n01": 1, "n02": 1}, mode="RGB")
    Image.new("RGB", (6, 5), (77, 0, 0)).save(tmp_path / name / "n02" / "0.JPEG")
    test = image_folder(str(tmp_path), "test")
    assert (len(image_folder(str(tmp_path), "train")), len(test)) == (5, 3)
    assert test.labels.tolist() == [0, 1, 1] and test.name.endswith("/test")


def test_image_folder_passes_over_a_test_folder_without_classes(tmp_path):
    """As ImageNet's, whose test images have no labels."""
    write_folder(tmp_path / "train", {"n01": 2})
    write_folder(tmp_path / "val", {"n01": 1})
    write_folder(tmp_path, {"test": 4})
    assert len(image_folder(str(tmp_path), "test")) == 1


def class_list(tmp_path, *names):
    path = tmp_path / "list.txt"
    path.write_text("\n".join(names))
    return str(path)


def test_image_folder_of_a_class_list_holds_these_classes_in_the_order_of_the_list(tmp_path):
    root = tmp_path / "set"
    write_folder(root / "train", {"a": 2, "b": 3, "c": 1})
    write_folder(root / "val", {"a": 1, "b": 1, "c": 1})
    chosen = class_list(tmp_path, "c", "a")
    whole, part = (image_folder(str(root), "train", classes=c) for c in ("", chosen))
    assert part.class_names == ("c", "a") and part.labels.tolist() == [0, 1, 1]
    assert values(part) == sorted(int(whole.read(i)[0, 0, 0]) for i in np.flatnonzero(whole.labels != 1))
    assert len(image_folder(str(root), "test", classes=chosen)) == 2
    assert open_source("folder", "train", str(root), chosen).digest == part.digest != whole.digest


def test_image_folder_class_list_does_not_move_images_between_train_and_test(tmp_path):
    root = write_folder(tmp_path / "set", {name: 10 for name in "abcd"})
    whole = image_folder(str(root), "test", 0.3)
    part = image_folder(str(root), "test", 0.3, classes=class_list(tmp_path, "d", "b"))
    expected = [int(whole.read(i)[0, 0, 0]) for i in np.flatnonzero(np.isin(whole.labels, [1, 3]))]
    assert values(part) == sorted(expected)


def test_image_folder_refuses_a_class_list_that_it_cannot_fill(tmp_path):
    root = write_folder(tmp_path / "set" / "train", {"a": 1, "b": 1}).parent
    write_folder(root / "val", {"a": 1})
    for names, said in (
        (["a", "x", "y"], r"'x', 'y', expected the 2 classes of .*'a', 'b'"),
        (["b"], r"\['b'\] in"),
    ):
        with pytest.raises(ValueError, match=f"(?s)Got .*{said}"):
            image_folder(str(root), "train", classes=class_list(tmp_path, *names))


# ---- large folders


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A folder that counts as large, whose files were left alone for long; and how often headers were read."""
    monkeypatch.setenv("JAXMOUST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(scan_cache, "REMEMBERED_FROM", 4)
    monkeypatch.setattr(scan_cache, "_TICK_NS", 0)
    calls, read = [], scans.scan
    monkeypatch.setattr(
        scans, "scan", lambda members, names, *rest: calls.append(len(names)) or read(members, names, *rest)
    )
    return write_folder(tmp_path / "set", {"cat": 4, "dog": 4}), calls


def test_image_folder_that_is_large_is_read_once(large):
    root, calls = large
    first, again = (image_folder(str(root), "all") for _ in range(2))
    assert calls == [8]
    assert (first.digest, first.shape, first.records) == (again.digest, again.shape, again.records)
    assert values(first) == values(again)


def test_image_folder_remembered_is_addressed_as_when_it_was_read(large, monkeypatch):
    root, _ = large
    image_folder(str(root), "all")
    remembered = image_folder(str(root), "all").digest
    monkeypatch.setattr(scan_cache, "REMEMBERED_FROM", 100)
    assert image_folder(str(root), "all").digest == remembered


def change_bytes(root):
    Image.new("RGB", (6, 5), (99, 0, 0)).save(root / "cat" / "0.png")


def change_size(root):
    Image.new("RGB", (9, 9)).save(root / "cat" / "0.png")


def change_names(root):
    (root / "cat" / "0.png").rename(root / "cat" / "9.png")


def change_files(root):
    (root / "cat" / "0.png").unlink()


@pytest.mark.parametrize("change", [change_bytes, change_size, change_names, change_files])
def test_image_folder_that_is_large_is_read_again_when_a_file_changes(large, change):
    root, calls = large
    before = image_folder(str(root), "all")
    change(root)
    after = image_folder(str(root), "all")
    assert len(calls) == 2 and after.digest != before.digest


def test_image_folder_just_written_is_not_remembered(large, monkeypatch):
    """A file that changes again within the clock's tick would look as it did."""
    root, calls = large
    monkeypatch.setattr(scan_cache, "_TICK_NS", 10**12)
    for _ in range(2):
        image_folder(str(root), "all")
    assert len(calls) == 2


def test_image_folder_names_a_link_to_nothing(tmp_path):
    root = write_folder(tmp_path / "set", {"cat": 2})
    (root / "cat" / "x.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(ValueError, match=r"unreadable image, .*x\.png"):
        image_folder(str(root), "all")


def test_image_folder_of_nvlabs_takes_its_labels_and_not_its_chunks(tmp_path):
    root = hostile.chunks(tmp_path / "set")
    source = image_folder(str(root), "all")
    assert source.class_names == ("0", "1", "2") and len(source) == 24
    assert all(int(source.read(i)[0, 0, 0]) % 3 == source.labels[i] for i in range(24))
    train, test = (image_folder(str(root), split) for split in ("train", "test"))
    assert sorted(values(train) + values(test)) == list(range(24)) and np.bincount(test.labels).tolist() == [2, 2, 2]


def test_image_folder_of_nvlabs_is_another_one_with_other_labels(tmp_path):
    """As many files in the same order, of which one belongs to another class."""
    digests = []
    for last in (0, 1):
        root = hostile.chunks(tmp_path / str(last) / "set", 9)
        rows = [[f"{i // 8:05d}/img{i:08d}.png", int(i >= 4 + last)] for i in range(9)]
        (root / "dataset.json").write_text(json.dumps({"labels": rows}))
        digests.append(image_folder(str(root), "all").digest)
    assert digests[0] != digests[1]


def test_image_folder_of_nvlabs_names_what_its_list_does_not(tmp_path, caplog):
    root = hostile.chunks(tmp_path / "set")
    Image.new("RGB", (6, 5)).save(root / "00000" / "more.png")
    (root / "notes.txt").write_text("x")
    assert len(image_folder(str(root), "all")) == 24
    assert "images that dataset.json does not name: 1 ('00000/more.png')" in caplog.text
    assert "files that are no images by their suffix: 1 ('notes.txt')" in caplog.text


def test_image_folder_asks_about_chunk_folders_and_takes_a_list_for_the_answer(tmp_path):
    root = hostile.chunks(tmp_path / "set")
    (root / "dataset.json").unlink()
    with pytest.raises(ValueError, match=r"'00000', '00001', '00002' in .*set, named and filled as the pieces of one"):
        image_folder(str(root), "train")
    (tmp_path / "list").write_text("00000\n00001\n00002\n")
    assert image_folder(str(root), "train", classes=str(tmp_path / "list")).class_names == ("00000", "00001", "00002")


def test_image_folder_of_nvlabs_says_what_it_lacks(tmp_path):
    root = hostile.chunks(tmp_path / "set", labels=False)
    with pytest.raises(ValueError, match=r"dataset.json of .*set with no labels"):
        image_folder(str(root), "train")
    root = hostile.chunks(tmp_path / "other")
    (root / "00001" / "img00000009.png").unlink()
    with pytest.raises(ValueError, match=r"unreadable image, .*00001/img00000009.png"):
        image_folder(str(root), "train")


@pytest.mark.parametrize("kind", hostile.SPECIAL, ids=lambda kind: kind.__name__)
def test_image_folder_refuses_what_is_no_plain_file(tmp_path, kind):
    write_folder(tmp_path, {"cat": 2, "dog": 2})
    kind(tmp_path / "dog" / "x.jpg")
    with pytest.raises(ValueError, match=r"dog/x\.jpg(, which is a|.* of 68,719,476,736 bytes)"):
        image_folder(str(tmp_path), "train")


def test_image_folder_refuses_a_class_whose_name_is_not_utf8(tmp_path):
    write_folder(tmp_path, {"cat": 2})
    write_folder(tmp_path, {os.fsdecode(b"caf\xe9"): 2})
    with pytest.raises(ValueError, match=r"class names \['caf\\udce9'\] in .*Rename the folders"):
        image_folder(str(tmp_path), "train")
