"""Labels of files by folder, by table and by CIFAKE's names: every image one class, or refused by name."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data.sources.labels import (
    CIFAR10_CLASSES,
    by_cifake_name,
    by_dataset_json,
    by_folder,
    by_listed_classes,
    by_table,
    refuse_chunks,
)

NAMES = ("cat/0.png", "cat/1.JPG", "dog/0.png", "notes.txt", "dog/readme.md")


def pairs(found):
    return {name: found.class_names[label] for name, label in zip(found.names, found.labels, strict=True)}


# ---- by folder


@pytest.mark.parametrize("prefix", ["", "generated/", "a/b/"])
def test_by_folder_takes_the_folder_for_the_class_wherever_the_classes_lie(prefix):
    found = by_folder([prefix + name for name in NAMES], "set")
    assert {k.removeprefix(prefix): v for k, v in pairs(found).items()} == {
        "cat/0.png": "cat",
        "cat/1.JPG": "cat",
        "dog/0.png": "dog",
    }
    assert found.class_names == ("cat", "dog")
    assert set(found.passed_over) == {prefix + "notes.txt", prefix + "dog/readme.md"}


def test_by_folder_with_a_split_takes_its_classes_only():
    names = [f"{split}/{name}" for split in ("train", "test") for name in NAMES[:3]]
    found = by_folder(names, "set", "test")
    assert found.names == tuple(names[3:]) and found.passed_over == tuple(names[:3])


def test_by_folder_with_classes_orders_them_so_and_passes_over_the_rest():
    found = by_folder([*NAMES, "cow/0.png"], "set", classes=("dog", "cow"))
    assert found.class_names == ("dog", "cow")
    assert pairs(found) == {"dog/0.png": "dog", "cow/0.png": "cow"}
    assert "cat/0.png" in found.passed_over


@pytest.mark.parametrize(
    ("names", "fields", "said"),
    [
        (["a.txt"], {}, "no image in set"),
        (NAMES, {"split": "train"}, "no image in set, split 'train'"),
        (["0.png", *NAMES], {}, r"images without a class in set \('0\.png'\).*--labels"),
        ([f"{i}.png" for i in range(7)], {}, r"'0\.png'.* and 2 more"),
        (["train/cat/0.png", "test/cat/0.png"], {}, r"several places of set \('test', 'train'\).*--split"),
        (["train/REAL/0.png", "test/FAKE/0.png"], {}, "--source=cifake_fake"),
        (NAMES, {"classes": ("cat", "cow")}, "'cow', expected the 2 classes of set"),
    ],
)
def test_by_folder_refuses_images_whose_class_is_not_told(names, fields, said):
    with pytest.raises(ValueError, match=f"(?s)Got .*{said}"):
        by_folder(names, "set", **fields)


# ---- chunk folders


@pytest.mark.parametrize(
    ("counts", "is_asked"),
    [
        ({"00000": 8, "00001": 8, "00002": 8}, True),
        ({"000000": 1000, "001000": 1000, "002000": 24}, True),  # the last chunk is what is left
        ({"00000": 8, "00001": 7, "00002": 8}, False),
        ({"00000": 8}, False),
        ({"0": 8, "1": 8}, False),  # digits have such classes
        ({"998": 8, "1000": 8}, False),
        ({"n0000": 8, "n0001": 8}, False),
    ],
)
def test_refuse_chunks_asks_about_equal_folders_of_long_numbers(counts, is_asked):
    if is_asked:
        with pytest.raises(ValueError, match=r"pieces of one set .*--labels=FILE.csv.*--classes or data.classes"):
            refuse_chunks(counts, "set")
    else:
        refuse_chunks(counts, "set")


def test_by_folder_takes_chunks_for_classes_only_where_they_are_listed():
    names = [f"{i:05d}/{j}.png" for i in range(2) for j in range(3)]
    with pytest.raises(ValueError, match="'00000', '00001' in set, named and filled as the pieces of one set"):
        by_folder(names, "set")
    assert by_folder(names, "set", classes=("00000", "00001")).labels == (0, 0, 0, 1, 1, 1)


def test_by_dataset_json_reads_the_number_of_each_file():
    content = {"labels": [["00000/b.png", 10], ["00000/a.png", 2], ["00001/c.png", 2]]}
    files = by_dataset_json(content, "set")
    assert files == {"2": ["00000/a.png", "00001/c.png"], "10": ["00000/b.png"]} and list(files) == ["2", "10"]
    found = by_listed_classes(["00000/a.png", "00000/b.png", "00001/c.png", "d.png"], "set", files)
    assert pairs(found) == {"00000/a.png": "2", "00001/c.png": "2", "00000/b.png": "10"}
    assert found.passed_over == ("d.png",)
    with pytest.raises(ValueError, match=r"dataset.json of set with 00001/c.png, which are not there"):
        by_listed_classes(["00000/a.png", "00000/b.png"], "set", files)


@pytest.mark.parametrize("content", [None, [], {}, {"labels": 3}, {"labels": "cat"}, {"images": []}])
def test_by_dataset_json_leaves_files_of_another_kind_alone(content):
    assert by_dataset_json(content, "set") == {}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, "no labels, expected"),
        ([], "no labels, expected"),
        ([["a.png", 0], ["b.png", [0, 1]]], r"the label \['b.png', \[0, 1\]\]"),
        ([["a.png", -1]], r"\['a.png', -1\]"),
        ([["a.png", True]], r"\['a.png', True\]"),
        ([["a.png"]], r"\['a.png'\]"),
        (["a.png"], "'a.png'"),
        ([["../a.png", 0]], r"\['\.\./a.png', 0\]"),
        ([["a.png", 0], ["a.png", 1]], "a.png more than once"),
    ],
)
def test_by_dataset_json_refuses_what_is_no_file_with_a_number(labels, said):
    with pytest.raises(ValueError, match=f"Got dataset.json of set with (the label )?{said}"):
        by_dataset_json({"labels": labels}, "set")


# ---- by table


def test_by_table_reads_classes_and_prompts():
    table = '\ufefffile,label,prompt\r\ndog/0.png,bee,"a bee, flying"\r\n\r\ncat/0.png,ant,\r\n'
    found = by_table(NAMES, "set", table.encode())
    assert pairs(found) == {"dog/0.png": "bee", "cat/0.png": "ant"}
    assert found.prompts == ("a bee, flying", "")
    assert found.passed_over == ("cat/1.JPG", "notes.txt", "dog/readme.md")


def test_by_table_names_are_relative_to_the_tables_own_folder():
    assert by_table(["in/a.png"], "set", b"label,file\nx,a.png\n", "in").names == ("in/a.png",)


def test_by_table_with_classes_orders_them_so_and_passes_over_other_rows():
    table = "file,label\ncat/0.png,x\ncat/1.JPG,y\ndog/0.png,z\n"
    found = by_table(NAMES, "set", table.encode(), classes=("z", "x"))
    assert found.class_names == ("z", "x") and pairs(found) == {"cat/0.png": "x", "dog/0.png": "z"}
    assert found.prompts == ()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip), max_size=6)
)
def test_by_table_gives_back_any_label_that_csv_can_write(labels):
    labels = ["x", *labels]
    names = [f"{i}.png" for i in range(len(labels))]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("file", "label"), *zip(names, labels, strict=True)])
    assert pairs(by_table(names, "set", text.getvalue().encode())) == {
        name: label.strip() for name, label in zip(names, labels, strict=True)
    }


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "no CSV"),
        (
            "file,text\ncat/0.png,x\n",
            r"columns \['file', 'text'\], expected file, label and, .*file_name.*target",
        ),
        ("cat/0.png,x\ncat/1.JPG,y\n", r"columns \['cat_0_png', 'x'\]"),
        ("file,label,label\ncat/0.png,x,x\n", r"'label', 'label'"),
        ("PK\3\4x", "a spreadsheet"),
        ("file,label\ncat/0.png,\0\n", "no text"),
        ('{"file": "cat/0.png", "label": "x"}\n{"file"', "no JSON lines"),
        ("file,label\n", "without a row"),
        ("file,label\ncat/0.png,\n", r"lack a file or a label.* \(lines 2\)"),
        ("file,label\n,x\n", r"\(lines 2\)"),
        ("file,label\ncat/0.png\n", r"\(lines 2\)"),
        ("file,label\ncat/0.png,  \n", r"\(lines 2\)"),
        ("file,label\ncat/0.png,x,y\n", "no CSV: .* line 2, saw 3"),
        ('file,label\n"cat/0.png,x\n', "no CSV"),
        ("file,label\n../cat/0.png,x\n", r"files outside of it \('\.\./cat/0\.png in line 2'\)"),
        ("file,label\n/etc/passwd.png,x\n", "files outside of it"),
        ("file,label\ncat/0.png,x\ncat/0.png,x\n", r"files twice .*line 3"),
        ("file,label\ncat/9.png,x\n", r"files that are not there \('cat/9\.png in line 2'\)"),
        ("file,label\nnotes.txt,x\n", "files that are no images"),
    ],
)
def test_by_table_refuses_a_table_that_does_not_fit_its_files(table, said):
    with pytest.raises(ValueError, match=f"(?s)Got a table for set .*{said}"):
        by_table(NAMES, "set", table.encode())


ROWS = [("cat/0.png", "é"), ("cat/1.JPG", "b"), ("dog/0.png", "é")]


def written(header="file,label", row="{},{}", head="", tail="", encoding="utf-8"):
    """A table of ROWS as somebody writes it."""
    lines = [header, *(row.format(file, label, i) for i, (file, label) in enumerate(ROWS))]
    return (head + "\n".join(lines) + "\n" + tail).encode(encoding)


@pytest.mark.parametrize(
    "table",
    [
        written(head="\ufeff"),
        written(header="file;label", row="{};{}"),
        written(header="file\tlabel", row="{}\t{}"),
        written(header="file, label", row="{}, {}"),
        written(encoding="cp1252"),
        written(encoding="utf-16"),
        written(head="sep=,\n"),
        written(head="# made by hand\n"),
        written(header=",file,label", row="{2},{0},{1}"),
        written(header="file,label,score,seed", row="{},{},0.5,{}"),
        written(header="File,Label"),
        written(header="filename,class"),
        written(header="file_name,target"),
        written(header="Image Path,category"),
        written(row="./{},{}"),
        written(header="file,label", row="/data/set/{},{}"),
        written(row="{},{},"),
        written(header="file,label,", row="{},{},"),
        written(tail=",\n,\n"),
        written(header="label,file,text", row='{1},{0},"a, b"'),
        b"\r\n".join(written().splitlines()),
        "\n".join(f'{{"file_name": "{file}", "label": "{label}", "n": 1}}' for file, label in ROWS).encode(),
        written().replace(b"/", b"\\"),
    ],
    ids=lambda table: repr(table[:24]),
)
def test_by_table_reads_tables_as_people_write_them(table):
    assert pairs(by_table(NAMES, "/data/set", table)) == dict(ROWS)


def test_by_table_keeps_further_columns_and_says_the_line():
    table = written(head="sep=;\n", header="file;label;Patient ID;seed", row="{};{};p{};7")
    found = by_table(NAMES, "set", table, classes=("é",))
    assert found.columns == {"patient_id": ("p0", "p2"), "seed": ("7", "7")}
    with pytest.raises(ValueError, match=r"'cat/9.png in line 4'"):
        by_table(NAMES, "set", table.replace(b"cat/1.JPG", b"cat/9.png"))


def test_by_table_refuses_classes_that_it_does_not_name():
    with pytest.raises(ValueError, match="'z', expected the 1 classes"):
        by_table(NAMES, "set", b"file,label\ncat/0.png,x\n", classes=("z",))


# ---- CIFAKE


def test_by_cifake_name_reads_the_class_from_the_name():
    names = ["train/FAKE/0.jpg", *(f"train/FAKE/{n} ({n}).jpg" for n in range(2, 11)), "train/FAKE/1234 (10).jpg"]
    found = by_cifake_name(["archive/" + name for name in names], "set", "train", "FAKE")
    assert [found.class_names[label] for label in found.labels] == [*CIFAR10_CLASSES, "truck"]


def test_by_cifake_name_takes_the_asked_part_only():
    names = [f"{split}/{part}/7 (3).jpg" for split in ("train", "test") for part in ("REAL", "FAKE")]
    assert by_cifake_name(names, "set", "test", "REAL").names == ("test/REAL/7 (3).jpg",)


@pytest.mark.parametrize(
    "name", ["0 (0).jpg", "0 (11).jpg", "0(2).jpg", "0 (2) copy.jpg", "cat.jpg", "(2).jpg", "0 ().jpg"]
)
def test_by_cifake_name_refuses_names_that_do_not_tell_the_class(name):
    with pytest.raises(ValueError, match="do not tell their class"):
        by_cifake_name([f"train/FAKE/{name}"], "set", "train", "FAKE")


def test_by_cifake_name_refuses_another_set():
    with pytest.raises(ValueError, match="no image in train/FAKE of set"):
        by_cifake_name(NAMES, "set", "train", "FAKE")
