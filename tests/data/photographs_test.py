"""Folders of photographs as people have them: right pixels or a plain word, and nothing passed over in silence."""

import logging
import os

import numpy as np
import photographs
import pytest
from PIL import Image

from jaxmoust.data.image import formats
from jaxmoust.data.sources.image_folder import Rules, image_folder, open_folder


def opened(root, **rules):
    """The folder, its training and its test images."""
    folder = open_folder(str(root), ("train", "test"), rules=Rules(**rules))
    return folder, folder.source("train"), folder.source("test")


def read(root, **rules):
    """The first cat, wherever the split has put it."""
    for source in opened(root, **rules)[1:]:
        for i, name in enumerate(source.records.members.names):
            if name.startswith("cat/0."):
                return source.read(i)
    raise AssertionError("the first cat is gone")


@pytest.fixture
def root(tmp_path):
    return photographs.write(tmp_path / "set")


CAT = photographs.pixels(1, 0)
LOSSY = {"lying", "avif", "heic", "cmyk"}


@pytest.mark.parametrize(
    "kind",
    ["lying", "lying_png", "avif", "heic", "animated", "cmyk", "nearly_opaque", "sixteen_bits", "sixteen_bits_tiff"],
)
def test_folder_reads_the_photograph_that_was_taken(root, kind):
    if kind == "heic" and "HEIF" not in formats():
        pytest.skip("HEIC is read by an extra that is not installed")
    getattr(photographs, kind)(root)
    image = read(root)
    expected = CAT
    if kind.startswith("sixteen"):
        expected = np.asarray(Image.fromarray(CAT).convert("L"))[..., None].repeat(3, axis=-1)
    assert image.shape == expected.shape
    difference = np.abs(image.astype(int) - expected)
    # A picture on its side differs by 70 in the mean; compression at so few pixels by some.
    assert difference.mean() <= 12 if kind in LOSSY else difference[1:].max() == 0


@pytest.mark.parametrize("kind", [photographs.transparent, photographs.transparent_palette])
def test_folder_lays_transparent_pixels_on_the_background_and_says_so_once(root, kind, caplog):
    kind(root)
    with caplog.at_level(logging.WARNING):
        white = read(root)
    assert sum("Images with transparent pixels, laid on white (data.background): 1." in m for m in caplog.messages) == 1
    changed = (white != read(root, background="#ff0000")).any(axis=-1)
    assert changed.any() and (white[changed] == 255).all()
    assert image_folder(str(root), "all").digest != image_folder(str(root), "all", rules=Rules("#ff0000")).digest


def test_folder_scales_floats_by_a_range_and_says_what_was_scaled(root):
    photographs.floats(root)
    expected = np.asarray(Image.fromarray(CAT).convert("L"))
    np.testing.assert_array_equal(read(root, value_range="0,1")[..., 0], expected)
    (note,) = opened(root, value_range="0,1")[0].notes
    assert note == "Images of more than 8 bits, scaled by 0,1 (data.value_range): 1."


def test_folder_lists_all_that_cannot_be_read_at_once_or_goes_on_without_it(root, caplog):
    for i, kind in enumerate(photographs.BAD):
        photographs.write(root)
        kind(root)
        (bad,) = (file for file in (root / "cat").iterdir() if file.name in ("0.jpg", "0.tif"))
        bad.rename(root / "cat" / f"bad{i}{bad.suffix}")
    photographs.write(root)
    with pytest.raises(ValueError, match=r"Got 6 unreadable images in .*data\.on_bad='skip'") as refused:
        opened(root)
    for i, reason in enumerate(("truncated", "truncated", "none of", "none of", "a folder", "lie from 0.")):
        assert any(f"bad{i}." in part and reason in part.lower() for part in str(refused.value).split("'cat/")), reason
    with caplog.at_level(logging.WARNING):
        folder, train, test = opened(root, on_bad="skip")
    assert len(train) + len(test) == 12 and train.num_skipped == test.num_skipped == 6
    assert sum(name.startswith("cat/bad") for name in folder.skipped) == 6
    assert any("Left out (data.on_bad='skip'): 6, cat/bad0.jpg (image file is truncated" in m for m in caplog.messages)


def test_folder_that_skips_is_the_folder_without_what_was_bad(root):
    clean = [source.digest for source in opened(root)[1:]]
    (root / "dog" / "8.jpg").write_bytes(b"")
    assert [source.digest for source in opened(root, on_bad="skip")[1:]] == clean


@pytest.mark.parametrize("kind", [photographs.system_files, photographs.link_to_itself])
def test_folder_passes_over_what_systems_leave(root, kind):
    before = opened(root)[1]
    kind(root)
    folder, train, _ = opened(root)
    assert train.digest == before.digest and train.class_names == photographs.CLASSES
    said = ["Passed over, links to the folder itself: 1 ('again')."] if kind is photographs.link_to_itself else []
    assert list(folder.notes) == said


def test_folder_counts_and_names_what_it_passes_over(root, monkeypatch):
    monkeypatch.setattr("jaxmoust.data.sources.labels.suffixes", lambda: (".png", ".jpg"))
    photographs.others(root)
    photographs.unread_kind(root)
    assert sorted(opened(root)[0].notes) == [
        "Passed over, files that an extra reads (pip install 'jaxmoust[heic]'): 1 ('cat/9.heic').",
        "Passed over, files that are no images by their suffix: 1 ('cat/notes.txt').",
        "Passed over, images beside the class folders: 1 ('best.png').",
        "Passed over, images in folders inside the class folders: 1 ('cat/old/9.png').",
    ]


def test_folder_warns_of_class_names_that_differ_in_case_or_unicode_alone(root):
    photographs.alike_names(root)
    notes = " ".join(opened(root)[0].notes)
    assert "['Cat', 'cat'] differ in case" in notes and "['cafe\u0301', 'caf\u00e9'] differ" in notes


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (photographs.empty_classes, r"no image in .*set/cow, .*set/emu, .*on_bad='skip'"),
        (
            photographs.deeper,
            r"no image in .*animals.* Images lie deeper, in 'animals/bird', .*such as .*set/animals\.",
        ),
        (photographs.flat, r"no class folder in .*12 images lie in it directly.*data\.labels=FILE\.csv"),
        (photographs.one_image, r"one image in .*cat, expected two.*on_bad='skip'.*data\.classes"),
    ],
)
def test_folder_of_another_layout_is_told_what_it_looks_like(root, kind, said):
    kind(root)
    with pytest.raises(ValueError, match=f"Got {said}"):
        opened(root)


@pytest.mark.parametrize("kind", [photographs.empty_classes, photographs.one_image])
def test_folder_that_skips_leaves_out_classes_that_are_too_small(root, kind):
    kind(root)
    folder, train, _ = opened(root, on_bad="skip")
    left = {photographs.empty_classes: photographs.CLASSES, photographs.one_image: ("bird", "dog")}[kind]
    assert train.class_names == left and any("class c" in name for name in folder.skipped)


@pytest.mark.parametrize(
    ("train", "test"),
    [("Train", "Test"), ("Training", "Testing"), ("train", "valid"), ("TRAIN", "val"), ("training", "Validation")],
)
def test_folder_knows_splits_by_any_usual_name(tmp_path, train, test):
    photographs.write(tmp_path, train)
    photographs.write(tmp_path, test, 2, first=10)
    _, learnt, held = opened(tmp_path)
    assert (len(learnt), len(held)) == (12, 6)
    assert all(name.startswith(f"{test}/") for name in held.records.members.names)


def test_folder_with_a_validation_split_beside_test_serves_it(tmp_path):
    for number, split in enumerate(("train", "valid", "test")):
        photographs.write(tmp_path, split, 2, first=10 * number)
    folder = open_folder(str(tmp_path), ("train", "validation", "test"))
    assert [len(folder.source(split)) for split in ("train", "validation", "test")] == [6, 6, 6]
    assert folder.source("validation").records.members.names[0].startswith("valid/")
    with pytest.raises(ValueError, match=r"\['Test', 'test'\].*expected one of a name"):
        photographs.write(tmp_path, "Test")
        opened(tmp_path)


def test_folder_says_which_photographs_are_in_train_and_in_test_and_parts_them(tmp_path):
    photographs.write(tmp_path, "train")
    photographs.write(tmp_path, "test", 2, first=10)
    with Image.open(tmp_path / "train" / "cat" / "0.png") as image:
        image.resize((18, 12), Image.Resampling.BICUBIC).save(tmp_path / "test" / "cat" / "copy.jpg", quality=85)
    folder, train, test = opened(tmp_path)
    (note,) = folder.notes
    assert (
        "Images of test that look the same as one of another split: 1 ('train/cat/0.png' and 'test/cat/copy.jpg')"
        in note
    )
    assert (len(train), len(test)) == (12, 7)
    _, parted, test = opened(tmp_path, near_duplicates="together")
    assert (len(parted), len(test)) == (11, 7) and "train/cat/0.png" not in parted.records.members.names


def test_folder_says_which_photographs_are_in_two_classes_and_keeps_them_on_one_side(root):
    photographs.in_two_classes(root)
    assert (
        "Pairs of images that look the same and are of two classes: 1 ('cat/0.png' and 'dog/9.jpg')"
        in opened(root)[0].notes[0]
    )
    for seed in range(6):
        folder = open_folder(str(root), ("train", "test"), 0.3, seed, rules=Rules(near_duplicates="together"))
        sides = dict(zip(folder.names, folder.parts, strict=True))
        assert sides["cat/0.png"] == sides["dog/9.jpg"]
        assert {*folder.labels[folder.parts == "test"]} == {0, 1, 2} == {*folder.labels[folder.parts == "train"]}


@pytest.mark.parametrize("seed", range(6))
def test_folder_keeps_what_a_look_finds_on_one_side_and_says_so(root, seed):
    """As a public network's features find copies; here the first bird and the last dog."""
    seen = []

    def look(sources):
        seen.extend(len(source) for source in sources)
        return np.array([[0, 11]])

    given = (str(root), ("train", "test"), 0.3, seed, "")
    folder = open_folder(*given, Rules(near_duplicates="together"), look)
    sides = dict(zip(folder.names, folder.parts, strict=True))
    assert seen == [12] and sides["bird/0.png"] == sides["dog/3.png"]
    assert "of two classes: 1 ('bird/0.png' and 'dog/3.png')" in folder.notes[0]


# ---- a table of labels in the place of class folders


def tabled(root, columns="file,label,patient", rows=lambda c, name, i: f"{name},{c},p{i % 2}", at="labels.csv"):
    """The good folder, flat, with a table of labels."""
    photographs.flat(root)
    lines = [rows(c, f"{c}_{i}.png", i) for c in photographs.CLASSES for i in range(photographs.EACH)]
    (root / at).write_text("\n".join([columns, *lines]))
    return root


def test_folder_with_a_table_takes_classes_from_it_and_names_what_it_leaves(root):
    tabled(root)
    Image.fromarray(photographs.pixels(9, 9)).save(root / "more.png")
    for table in ("labels.csv", str(root / "labels.csv")):
        folder, train, test = opened(root, labels=table)
        assert train.class_names == photographs.CLASSES and (len(train), len(test)) == (9, 3)
        assert folder.notes == ("Passed over, images that the table does not name: 1 ('more.png').",)
    for i, name in enumerate(train.records.members.names):
        assert train.class_names[train.labels[i]] == name.split("_")[0]
        np.testing.assert_array_equal(train.read(i), photographs.pixels(int(train.labels[i]), int(name[-5])))


def test_folder_with_a_table_is_another_one_with_other_labels(root):
    tabled(root)
    before = opened(root, labels="labels.csv")[1].digest
    text = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(text.replace("cat_3.png,cat", "cat_3.png,dog"))
    assert opened(root, labels="labels.csv")[1].digest != before


def test_folder_never_divides_a_group(root):
    tabled(root)
    folder = open_folder(str(root), ("train", "test"), 0.5, rules=Rules(labels="labels.csv", group="Patient"))
    sides = {(name[-5] in "13", part) for name, part in zip(folder.names, folder.parts, strict=True)}
    assert len(sides) == 2 and {part for _, part in sides} == {"train", "test"}
    for group, said in (
        ("patent", r"'patent' is no column of labels.csv, which has patient"),
        ("all", "the class 'bird' lies in one group.*another column in data.group"),
    ):
        tabled_text = (root / "labels.csv").read_text().replace("patient\n", "patient,all\n").replace("p0\n", "p0,x\n")
        (root / "labels.csv").write_text(
            tabled_text.replace("p1\n", "p1,x\n").replace("p1", "p1,x").replace("x,x", "x")
        )
        with pytest.raises(ValueError, match=said):
            opened(root, labels="labels.csv", group=group)
    with pytest.raises(ValueError, match=r"data.group 'patient' is a column of a table"):
        opened(root, group="patient")


def test_folder_with_a_table_takes_its_splits(root):
    tabled(root, "file_name;class;Split;camera", lambda c, name, i: f"{name};{c};{['Train', 'test'][i % 2]};{i // 2}")
    _, train, test = opened(root, labels="labels.csv")
    assert {name[-5] for name in train.records.members.names} == {"0", "2"} and len(test) == 6
    with pytest.raises(ValueError, match=r"2 groups of data.group 'camera' in more than one split"):
        opened(root, labels="labels.csv", group="camera")


@pytest.mark.parametrize("held", ["val", "Validation", "valid"])
def test_folder_with_a_table_of_train_and_validation_holds_validation_out(root, held):
    """As folders of these names do: nothing is divided anew."""
    tabled(root, "file,label,split", lambda c, name, i: f"{name},{c},{['train', held][i == 1]}")
    folder, train, test = opened(root, labels="labels.csv")
    assert {name[-5] for name in test.records.members.names} == {"1"} and (len(train), len(test)) == (9, 3)
    assert folder.notes == ()


def test_folder_with_a_table_of_three_splits_serves_validation_where_it_is_asked_for(root):
    tabled(root, "file,label,split", lambda c, name, i: f"{name},{c},{['train', 'train', 'valid', 'test'][i]}")
    folder = open_folder(str(root), ("train", "test", "validation"), rules=Rules(labels="labels.csv"))
    numbers = {
        split: {name[-5] for name in folder.source(split).records.members.names}
        for split in ("train", "validation", "test")
    }
    assert numbers == {"train": {"0", "1"}, "validation": {"2"}, "test": {"3"}}
    (root / "cat_2.png").write_bytes(b"")  # of validation, which nobody asks for
    assert [len(source) for source in opened(root, labels="labels.csv")[1:]] == [6, 3]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("train", "holdout"), "'holdout', 'train' in the column split of labels.csv, expected train and test"),
        (("train", ""), "'', 'train' in"),
        (("train", "train"), "'train' in"),
        (("test", "valid"), "'test', 'valid' in"),
    ],
)
def test_folder_with_a_table_of_other_splits_is_refused(root, values, said):
    tabled(root, "file,label,split", lambda c, name, i: f"{name},{c},{values[i % 2]}")
    with pytest.raises(ValueError, match=f"Got the values {said}.*Correct the column, or remove it"):
        opened(root, labels="labels.csv")


@pytest.mark.parametrize("split", ["test", "train", "holdout"])
def test_folder_with_a_table_of_one_split_opens_as_a_whole(root, split):
    """As a test set of one's own that is evaluated on."""
    tabled(root, "file,label,split", lambda c, name, i: f"{name},{c},{split}")
    rules = Rules(labels="labels.csv")
    assert len(image_folder(str(root), "all", rules=rules)) == 12
    if split == "test":
        assert len(image_folder(str(root), "test", rules=rules)) == 12
    else:
        with pytest.raises(ValueError, match=f"Got the values '{split}'"):
            image_folder(str(root), "test", rules=rules)


def test_folder_with_a_table_whose_split_is_empty_is_divided(root):
    tabled(root, "file,label,split", lambda c, name, i: f"{name},{c},")
    assert [len(source) for source in opened(root, labels="labels.csv")[1:]] == [9, 3]


def test_folder_with_a_table_that_lacks_a_class_in_a_split_names_it_or_skips_it(root):
    tabled(root, "file,label,split", lambda c, name, i: f"{name},{c},{['train', 'test'][i == 1 and c != 'cat']}")
    with pytest.raises(ValueError, match="without an image of 'cat' in test, expected each class in each split"):
        opened(root, labels="labels.csv")
    _, train, test = opened(root, labels="labels.csv", on_bad="skip")
    assert train.class_names == ("bird", "dog") and (len(train), len(test)) == (6, 2)


def test_folder_with_a_table_refuses_a_group_in_train_and_validation(root):
    tabled(
        root, "file,label,split,who", lambda c, name, i: f"{name},{c},{['train', 'val', 'test', 'test'][i]},{i // 2}"
    )
    rules = Rules(labels="labels.csv", group="who")
    with pytest.raises(ValueError, match=r"1 groups of data.group 'who' in more than one split"):
        open_folder(str(root), ("train", "validation", "test"), rules=rules)


def test_folder_with_a_table_names_every_file_that_it_leaves_but_those_in_use(root, tmp_path):
    tabled(root)
    Image.fromarray(photographs.pixels(9, 9)).save(root / "more.png")
    (root / "notes.txt").write_text("x")
    (root / "Thumbs.db").write_text("x")
    (root / "list.txt").write_text("cat\ndog\n")
    folder = open_folder(str(root), ("train",), classes=str(root / "list.txt"), rules=Rules(labels="labels.csv"))
    assert folder.notes == (
        "Passed over, files that are no images by their suffix: 1 ('notes.txt').",
        "Passed over, images that the table does not name, or of classes that are not used: 5 ('bird_0.png', "
        "'bird_1.png', 'bird_2.png', 'bird_3.png', 'more.png').",
    )


def test_folder_does_not_call_captions_passed_over(root):
    for file in (root / "cat").glob("*.png"):
        file.with_suffix(".txt").write_text("a cat")
    (root / "cat" / "notes.txt").write_text("x")
    assert opened(root, captions="files")[0].notes == (
        "Passed over, files that are no images by their suffix: 1 ('cat/notes.txt').",
    )
    assert "5 ('cat/0.txt'" in opened(root)[0].notes[0]


def test_folder_with_a_table_says_that_folders_of_splits_are_divided_anew(tmp_path):
    lines = ["file,label"]
    for split, first in (("train", 0), ("test", 10)):
        photographs.write(tmp_path, split, 2, first=first)
        lines += [f"{split}/{c}/{i}.png,{c}" for c in photographs.CLASSES for i in range(first, first + 2)]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    assert opened(tmp_path, labels="labels.csv")[0].notes == (
        "The table has no column split: images of 'test', 'train' are divided anew.",
    )


# ---- folders of splits, and what lies beside


def test_folder_of_splits_names_what_lies_beside_them_and_beside_their_classes(tmp_path):
    photographs.write(tmp_path, "Train")
    photographs.write(tmp_path, "training", 2, first=30)
    photographs.write(tmp_path, "TEST", 2, first=10)
    photographs.write(tmp_path, "unlabelled", 1, first=20)
    picture = Image.fromarray(photographs.pixels(9, 9))
    for name in ("stray.png", "TEST/stray.png", "Train/stray.png"):
        picture.save(tmp_path / name)
    for name in ("README.md", "TEST/labels.csv", "Thumbs.db"):
        (tmp_path / name).write_text("x")
    folder, train, test = opened(tmp_path)
    assert (len(train), len(test)) == (12, 6)
    assert folder.notes == (
        "Passed over, files that are no images by their suffix beside the class folders: 1 ('TEST/labels.csv').",
        "Passed over, files that are no images by their suffix beside the split folders: 1 ('README.md').",
        "Passed over, folders beside the split folders: 1 ('unlabelled').",
        "Passed over, images beside the class folders: 2 ('TEST/stray.png', 'Train/stray.png').",
        "Passed over, images beside the split folders: 1 ('stray.png').",
        "Passed over, split folders that are not used (of each split the first that holds class folders is): 1 "
        "('training').",
    )


def test_folder_of_a_class_list_does_not_look_into_folders_that_it_may_not_list(root, monkeypatch):
    (root / "secret").mkdir()
    (root.parent / "list.txt").write_text("cat\ndog\n")
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "secret":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert len(image_folder(str(root), "all", classes=str(root.parent / "list.txt"))) == 8


def test_folder_that_holds_system_files_alone_is_no_class_and_named(root, tmp_path):
    before = opened(root)[1].digest
    (root / "Thumbs").mkdir()
    (root / "Thumbs" / "Thumbs.db").write_text("x")
    folder, train, _ = opened(root)
    assert train.class_names == photographs.CLASSES and train.digest == before
    assert folder.notes == ("Passed over, folders that hold system files alone: 1 ('Thumbs').",)
    photographs.write(tmp_path / "two", "train")
    photographs.write(tmp_path / "two", "test", 2, first=10)
    (root / "Thumbs").rename(tmp_path / "two" / "train" / "Thumbs")
    folder, train, _ = opened(tmp_path / "two")
    assert train.class_names == photographs.CLASSES
    assert folder.notes == ("Passed over, folders that hold system files alone: 1 ('train/Thumbs').",)


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (("train/images", "test/images"), r"move them up into .*/set/test, .*/set/train\."),
        (("images/train", "images/test"), r"give the folder that holds them, such as .*/set/images\."),
        (("train",), r"give the folder that holds them, such as .*/set/train\."),
        (("holdout", "train"), r"give the folder that holds them, such as .*/set/train\."),
    ],
)
def test_folder_of_classes_that_lie_deeper_is_told_the_right_folder(tmp_path, places, said):
    for number, place in enumerate(places):
        photographs.write(tmp_path / "set" / place, first=10 * number)
    with pytest.raises(ValueError, match=f"Images lie deeper, .*if these are the classes, {said}"):
        opened(tmp_path / "set")


# ---- copies in a validation set


def with_copies(root):
    """Train, validation and test folders: two cats of train are held out, too, one in each, and a dog in both of these.

    All birds of train lie there twice.
    """
    for number, split in enumerate(("train", "val", "test")):
        photographs.write(root, split, 6 if split == "train" else 2, first=10 * number)
    for before, after in (
        ("train/cat/0", "test/cat/x"),
        ("train/cat/1", "val/cat/x"),
        ("test/dog/20", "val/dog/x"),
        *((f"train/bird/{i}", f"train/bird/x{i}") for i in range(6)),
    ):
        (root / f"{after}.png").write_bytes((root / f"{before}.png").read_bytes())
    return root


def test_folder_says_which_photographs_are_in_train_and_in_validation_and_parts_them(tmp_path):
    with_copies(tmp_path)
    splits = ("train", "test", "validation")
    folder = open_folder(str(tmp_path), splits)
    assert [note.partition(" data.")[0] for note in folder.notes] == [
        "Images of test that look the same as one of another split: 2 ('test/dog/20.png' and 'val/dog/x.png', "
        "'train/cat/0.png' and 'test/cat/x.png').",
        "Images of validation that look the same as one of train: 1 ('train/cat/1.png' and 'val/cat/x.png').",
    ]
    assert [len(folder.source(split)) for split in splits] == [24, 7, 8]
    folder = open_folder(str(tmp_path), splits, rules=Rules(near_duplicates="together"))
    assert [len(folder.source(split)) for split in splits] == [22, 7, 7]
    assert not {"train/cat/0.png", "train/cat/1.png", "val/dog/x.png"} & {*folder.names}


def test_folder_that_parts_copies_refuses_to_lose_a_class(tmp_path):
    photographs.write(tmp_path, "train", 1)
    photographs.write(tmp_path, "test", 2, first=10)
    (tmp_path / "test" / "cat" / "x.png").write_bytes((tmp_path / "train" / "cat" / "0.png").read_bytes())
    with pytest.raises(ValueError, match=r"Got images of 'cat' in train of .* all look the same as one of another"):
        opened(tmp_path, near_duplicates="together")
