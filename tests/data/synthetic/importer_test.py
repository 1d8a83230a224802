"""Imports: images made elsewhere become a synthetic set, each with its class, or nothing is written."""

import io
import json
import stat
import zipfile

import hostile
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxmoust.data.synthetic import importer
from jaxmoust.data.synthetic.importer import import_images
from jaxmoust.data.synthetic.store import open_synthetic
from jaxmoust.runtime.lock import lease


def png(value, size=(4, 4), mode="L"):
    buffer = io.BytesIO()
    Image.new(mode, size, value).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def write_zip(path, files):
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path.with_suffix(".zip")


VALUES = {"cat/0.png": 1, "cat/1.png": 2, "cat/2.png": 3, "dog/0.png": 4, "cow/0.png": 5, "cow/1.png": 6}
FILES = {name: png(value) for name, value in VALUES.items()}
OTHERS = {"notes.txt": b"words", "cat/readme.md": b"x"}
writers = pytest.mark.parametrize("write", [write_folder, write_zip])


def pairs(path):
    """(class, value) of every image of the set, and its prompt."""
    rows = tfds.builder_from_directory(str(path)).as_data_source("train")
    names = open_synthetic(path).class_names
    return sorted((names[row["label"]], int(row["image"][0, 0, 0]), row["prompt"].decode()) for row in rows)


def provenance(path):
    return json.loads((path / "provenance.json").read_text())


@writers
def test_import_images_keeps_every_image_with_its_class_and_lists_the_rest(tmp_path, write):
    origin = write(tmp_path / "made", FILES | OTHERS)
    done = import_images(origin, tmp_path / "out", shard_images=4)
    assert pairs(tmp_path / "out") == sorted((name.split("/")[0], value, "") for name, value in VALUES.items())
    assert (done.num_images, done.class_names) == (6, ("cat", "cow", "dog"))
    assert set(done.passed_over) == set(OTHERS)
    source = open_synthetic(tmp_path / "out")
    assert source.name == "set_made" and source.class_counts().tolist() == [3, 2, 1]


def test_import_images_of_a_folder_and_of_its_archive_are_one_set(tmp_path):
    for write in (write_folder, write_zip):
        import_images(write(tmp_path / "made", FILES), tmp_path / write.__name__)
    first, second = (open_synthetic(tmp_path / write.__name__) for write in (write_folder, write_zip))
    np.testing.assert_array_equal(first.images(range(6)), second.images(range(6)))
    imported = [provenance(tmp_path / w.__name__)["spec"]["created_by"]["imported"] for w in (write_folder, write_zip)]
    assert imported[0] == imported[1]


def test_import_images_again_changes_nothing_and_completes_what_is_missing(tmp_path):
    origin, out = write_folder(tmp_path / "made", FILES), tmp_path / "out"
    import_images(origin, out, shard_images=4)
    digest = open_synthetic(out).digest
    next(out.glob("*array_record-00001*")).unlink()
    import_images(origin, out, shard_images=4)
    assert open_synthetic(out).digest == digest


def test_import_images_after_one_that_was_killed_leaves_nothing_half_written(tmp_path):
    """Killed with the lock and before the folder was a set, or in the middle of one of its last files."""
    origin, out = write_folder(tmp_path / "made", FILES), tmp_path / "out"
    out.mkdir()
    for left in (".lock", ".spec.json.0123.tmp"):
        (out / left).write_bytes(b"{")
    import_images(origin, out)
    (out / ".label.labels.txt.4567.tmp").write_bytes(b"c")
    import_images(origin, out)
    assert not [file for file in out.iterdir() if file.name.startswith(".")] and len(open_synthetic(out)) == 6


def test_import_images_into_a_folder_where_another_process_works_is_refused(tmp_path):
    origin, out = write_folder(tmp_path / "made", FILES), tmp_path / "out"
    with lease(out / ".lock"), pytest.raises(ValueError, match="in use by another process"):
        import_images(origin, out)
    assert list(out.iterdir()) == []


@writers
def test_import_images_by_a_table_keeps_classes_and_prompts(tmp_path, write):
    table = 'file,label,prompt\ncat/0.png,ant,"an ant, small"\ncow/1.png,bee,a bee\ndog/0.png,ant,\n'
    origin = write(tmp_path / "made", FILES | OTHERS | {"labels.csv": table.encode()})
    done = import_images(origin, tmp_path / "out", table="labels.csv", shard_images=2)
    assert pairs(tmp_path / "out") == [("ant", 1, "an ant, small"), ("ant", 4, ""), ("bee", 6, "a bee")]
    assert set(done.passed_over) == {*OTHERS, "labels.csv", "cat/1.png", "cat/2.png", "cow/0.png"}


def test_import_images_takes_a_table_from_elsewhere_on_the_disk(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label\ncat/0.png,x\n")
    origin = write_zip(tmp_path / "made", FILES)
    import_images(origin, tmp_path / "out", table=str(tmp_path / "labels.csv"))
    assert pairs(tmp_path / "out") == [("x", 1, "")]


def test_import_images_with_a_class_list_numbers_the_classes_as_it_lists_them(tmp_path):
    (tmp_path / "list.txt").write_text("dog\ncat\n")
    import_images(write_zip(tmp_path / "made", FILES), tmp_path / "out", classes=str(tmp_path / "list.txt"))
    assert open_synthetic(tmp_path / "out").class_names == ("dog", "cat")


def test_import_images_of_one_split(tmp_path):
    files = {
        f"{split}/{name}": png(value + add)
        for split, add in (("train", 0), ("test", 9))
        for name, value in VALUES.items()
    }
    import_images(write_zip(tmp_path / "made", files), tmp_path / "out", split="test")
    assert [value for _, value, _ in pairs(tmp_path / "out")] == [10, 11, 12, 14, 15, 13]


def test_import_images_of_cifake_records_what_is_known_of_it(tmp_path):
    files = {
        f"{split}/{part}/0{c}.png": png(7, (32, 32))
        for split in ("train", "test")
        for part in ("REAL", "FAKE")
        for c in ("", " (2)", " (10)")
    }
    origin = write_zip(tmp_path / "cifake", files)
    import_images(origin, tmp_path / "out", source="cifake_fake", split="train")
    source = open_synthetic(tmp_path / "out")
    assert [source.class_names[label] for label in source.labels] == ["airplane", "automobile", "truck"]
    made = provenance(tmp_path / "out")
    assert made["generator"].startswith("stable-diffusion-v1-4") and source.name == "cifake_fake"
    assert made["spec"]["created_by"]["unknown"] == ["guidance", "seed", "steps"]
    assert made["spec"]["created_by"]["from"] == "cifake.zip"


def test_import_images_of_another_source_holds_its_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3), dtype=np.uint8)
    arrays = {f"{part}_images": images for part in ("train", "val", "test")}
    arrays |= {f"{part}_labels": (np.arange(8) % 4)[:, None] for part in ("train", "val", "test")}
    np.savez(tmp_path / "octmnist.npz", **arrays)
    import_images(tmp_path / "octmnist.npz", tmp_path / "out", source="medmnist", split="val")
    source = open_synthetic(tmp_path / "out")
    np.testing.assert_array_equal(source.images(range(8)), images)
    assert source.class_names[0] == "choroidal neovascularization"
    assert provenance(tmp_path / "out")["spec"]["created_by"]["split"] == "val"


def test_import_images_records_what_is_given_and_names_what_is_not(tmp_path):
    given = {"generator": "mine", "seed": 3, "guidance": 2.0, "name": "mine"}
    import_images(write_folder(tmp_path / "made", FILES), tmp_path / "out", **given)
    spec = provenance(tmp_path / "out")["spec"]
    assert {name: spec[name] for name in given} == given
    assert spec["created_by"]["unknown"] == ["steps"]


def test_import_images_keeps_a_shard_of_large_images_small(tmp_path, monkeypatch):
    monkeypatch.setattr(importer, "_SHARD_BYTES", 2 * 4 * 4)
    import_images(write_folder(tmp_path / "made", FILES), tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*array_record*"))) == 3


# ---- what is refused: nothing is written


def link():
    info = zipfile.ZipInfo("cat/9.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return {info: b"/etc/hostname"}


@pytest.mark.parametrize(
    ("more", "fields", "said"),
    [
        ({"../escape.png": png(1)}, {}, "lead out of the archive"),
        ({"/tmp/escape.png": png(1)}, {}, "lead out of the archive"),
        ({"cat/../../escape.png": png(1)}, {}, "lead out of the archive"),
        (link(), {}, "links or devices"),
        ({"cat/bomb.png": bytes(3 << 20)}, {}, "over a hundred times"),
        ({"bomb.txt": bytes(3 << 20)}, {}, "over a hundred times"),
        ({"cat/9.png": png(1)[:40]}, {}, r"unreadable image, cat/9\.png"),
        ({"cat/9.png": b"#!/bin/sh"}, {}, r"unreadable image, cat/9\.png"),
        ({"cat/9.png": png(1, (9, 9))}, {}, "different sizes"),
        ({"cat/9.png": png(3)[:45]}, {}, r"cat/9\.png.*: image file is truncated"),
        ({"stray.png": png(1)}, {}, r"without a class .*stray\.png"),
        ({"deep/cat/9.png": png(1)}, {}, "several places"),
        ({}, {"split": "train"}, "no image"),
        ({}, {"table": "none.csv"}, r"table none\.csv, which cannot be read"),
        ({"bad.csv": b"\xff"}, {"table": "bad.csv"}, r"a table for .* with the columns"),
        ({"t.csv": b"file,label\n../x.png,a\n"}, {"table": "t.csv"}, "files outside of it"),
        ({"t.csv": b"file,label\ncat/0.png,a\n"}, {"table": "t.csv", "split": "a"}, "a table and a split"),
        ({}, {"source": "cifake_fake", "split": "train"}, "no image in train/FAKE"),
        ({}, {"source": "cifake_fake", "table": "t.csv"}, "a folder or archive only"),
        ({}, {"source": "bogus"}, "source 'bogus', expected"),
        ({}, {"classes": "none.txt"}, r"class list none\.txt"),
        ({}, {"name": "Upper"}, "name='Upper'"),
    ],
)
def test_import_images_refused_writes_nothing(tmp_path, monkeypatch, more, fields, said):
    (tmp_path / "in").mkdir()
    origin = write_zip(tmp_path / "in" / "made", FILES | more)
    monkeypatch.chdir(tmp_path / "in")
    with pytest.raises(ValueError, match=f"(?s)Got .*{said}"):
        import_images(origin, tmp_path / "in" / "out", **fields)
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "made.zip"]


def test_import_images_into_a_folder_of_another_set_is_refused(tmp_path):
    import_images(write_folder(tmp_path / "made", FILES), tmp_path / "out")
    before = open_synthetic(tmp_path / "out").digest
    with pytest.raises(ValueError, match="another synthetic set"):
        import_images(write_folder(tmp_path / "made", {"cat/9.png": png(9)}), tmp_path / "out")
    assert open_synthetic(tmp_path / "out").digest == before


@pytest.mark.parametrize("packed", [False, True])
def test_import_images_of_nvlabs_takes_its_labels_and_not_its_chunks(tmp_path, packed):
    origin = hostile.chunks(tmp_path / "made")
    if packed:
        names = [path.relative_to(origin).as_posix() for path in origin.rglob("*") if path.is_file()]
        origin = write_zip(tmp_path / "made", {name: (origin / name).read_bytes() for name in names})
    done = import_images(origin, tmp_path / "out")
    assert (done.class_names, done.passed_over) == (("0", "1", "2"), ("dataset.json",))
    assert pairs(tmp_path / "out") == sorted((str(i % 3), i, "") for i in range(24))


def test_import_images_asks_about_chunk_folders(tmp_path):
    origin = hostile.chunks(tmp_path / "made")
    (origin / "dataset.json").unlink()
    with pytest.raises(ValueError, match="named and filled as the pieces of one set"):
        import_images(origin, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_soft_labels_of_a_table_stay_with_their_images(tmp_path):
    origin = write_folder(tmp_path / "made", FILES)
    soft = {"cat/0.png": "cat=0.75,dog=0.25", "cat/1.png": "", "dog/0.png": "cow=0.5,dog=.5", "cow/0.png": ""}
    rows = ["file,label,soft_label", *(f"{name},{name[:3]},'{text}'" for name, text in soft.items())]
    (tmp_path / "t.csv").write_text("\n".join(rows).replace("'", '"'))
    import_images(origin, tmp_path / "out", table=str(tmp_path / "t.csv"), shard_images=2)
    found = open_synthetic(tmp_path / "out")
    shares = np.zeros((4, 3))
    np.add.at(shares, (np.arange(4), found.labels), 1 - found.soft.weight)
    np.add.at(shares, (np.arange(4), found.soft.second), found.soft.weight)
    assert {int(found.read(i)[0, 0, 0]): shares[i].tolist() for i in range(4)} == {
        1: [0.75, 0, 0.25],
        2: [1, 0, 0],
        4: [0, 0.5, 0.5],
        5: [0, 1, 0],
    }
    again = import_images(tmp_path / "out", tmp_path / "again")  # a set's own soft labels, too
    assert again.num_images == 4
    np.testing.assert_array_equal(open_synthetic(tmp_path / "again").soft.weight, found.soft.weight)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cat=0.7,dog=0.2", r"do not sum to 1.*image 0: 0\.9"),
        ("cat=1.5,dog=-0.5", "below 0"),
        ("cat=0.4,dog=0.3,cow=0.3", "more than two classes"),
        ("cow=0.5,dog=0.5", "without the image's label"),
        ("cat=0.5,horse=0.5", "'cat=0.5,horse=0.5' of cat/0.png"),
        ("mostly cat", "expected classes with their shares"),
        ("cat=nan,dog=1", "do not sum to 1"),
    ],
)
def test_soft_labels_that_are_none_are_refused(tmp_path, text, said):
    origin = write_folder(tmp_path / "made", FILES)
    (tmp_path / "t.csv").write_text(f'file,label,soft_label\ncat/0.png,cat,"{text}"\ndog/0.png,dog,\ncow/0.png,cow,')
    with pytest.raises(ValueError, match=said):
        import_images(origin, tmp_path / "out", table=str(tmp_path / "t.csv"))
    assert not (tmp_path / "out").exists()
