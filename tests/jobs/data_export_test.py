"""Laws of jobs/data_export.py: what leaves is what there was, under the names it had, with what made it."""

import csv
import json

import numpy as np
import pytest
from command_line import assert_refused, contents, write_images
from PIL import Image

from jaxmoust.data import exporter
from jaxmoust.data.source import from_arrays
from jaxmoust.data.sources import registry as sources
from jaxmoust.data.synthetic.store import open_synthetic


@pytest.fixture
def made(cli, tmp_path):
    """An imported set of four images, two of them with prompts."""
    images = write_images(tmp_path / "generated", per_class=2, classes="01")
    (images / "t.csv").write_text("file,label,prompt\n0/00.png,a/b,one\n0/01.png,A_B,\n1/00.png,A_B,two\n1/01.png,c,\n")
    line = "data import --path={a} --labels=t.csv --generator=mine --seed=5 --guidance=2 --workdir={b}"
    assert cli(line, a=images, b=tmp_path / "set").code == 0
    return tmp_path / "set"


def rows_of(path):
    with open(path / "metadata.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_export_of_a_set_says_what_made_each_image_in_folders_that_every_system_can_name(cli, made, tmp_path):
    out = tmp_path / "out"
    outcome = cli("data export --path={p} --workdir={o}", p=made, o=out)
    assert outcome.code == 0 and "4 images of 3 classes" in outcome.out, outcome
    rows = {row["file"]: row for row in rows_of(out)}
    assert {row["file_name"] for row in rows.values()} == {str(p.relative_to(out)) for p in out.rglob("*.png")}
    # A_B comes first in the order of classes; a/b would be the same folder to some systems.
    assert {file: row["file_name"] for file, row in rows.items()} == {
        "0/00.png": "a_b_2/00.png",
        "0/01.png": "A_B/01.png",
        "1/00.png": "A_B/00.png",
        "1/01.png": "c/01.png",
    }
    first = rows["1/00.png"]
    assert [first[k] for k in ("label", "prompt", "generator", "seed", "guidance", "index")] == [
        *("A_B", "two", "mine", "5", "2.0", "1")
    ]
    assert "steps" not in first  # of which nothing was said when it was imported
    images = open_synthetic(made)
    for key, file in enumerate(exporter.describe_set(made)["file"]):
        with Image.open(out / rows[file]["file_name"]) as image:
            np.testing.assert_array_equal(np.asarray(image), images.read(key)[..., 0])


def test_export_of_a_folder_keeps_bytes_and_is_the_same_source_again(cli, tmp_path):
    images = write_images(tmp_path / "images", per_class=5, classes="012")
    Image.new("RGB", (9, 7), (1, 2, 3)).save(images / "2" / "photo.jpg", quality=80)
    out = tmp_path / "deep" / "out"
    line = "data export --source=folder --path={p} --split=train --workdir={o}"
    assert cli(line, p=images, o=out).code == 0
    exported = {name: data for name, data in contents(out).items() if "." in name and name != "metadata.csv"}
    assert len(exported) == 13 and exported.items() <= contents(images).items()
    assert sources.open_source("folder", "train", str(out)).class_names == ("0", "1", "2")
    assert [path.name for path in out.parent.iterdir()] == ["out"]  # nothing is left beside it


def test_export_of_images_in_memory_numbers_them(tmp_path):
    exporter.export_folder(from_arrays(np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1), [1, 0, 1]), {}, tmp_path)
    assert [row["file_name"] for row in rows_of(tmp_path)] == ["1/00000.png", "0/00000.png", "1/00001.png"]


def test_export_as_parquet_says_what_its_columns_are_as_datasets_reads_them(cli, made, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    outcome = cli("data export --path={p} --format=parquet --workdir={o}", p=made, o=tmp_path / "out")
    assert outcome.code == 0, outcome.err
    table = pq.read_table(tmp_path / "out" / "train.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == table.column_names and features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": ["A_B", "a/b", "c"], "_type": "ClassLabel"}
    rows, images = table.to_pylist(), open_synthetic(made)
    assert [row["label"] for row in rows] == images.labels.tolist()
    assert [row["image"]["bytes"] for row in rows] == [images.encoded(i).data for i in range(4)]
    assert (rows[0]["prompt"], rows[0]["guidance"], rows[0]["seed"]) == ("", 2.0, 5)


def test_export_refuses_a_folder_that_is_not_empty_and_what_is_no_set(cli, made, tmp_path):
    before = contents(tmp_path)
    assert_refused(cli("data export --path={p} --workdir={p}", p=made), str(made), "not empty", "another one")
    assert_refused(cli("data export --path={p} --workdir={o}", p=tmp_path, o=tmp_path / "o"), "finished synthetic set")
    assert_refused(cli("data export --path={p}", p=made), "--workdir=DIR")
    assert contents(tmp_path) == before


def test_export_that_fails_leaves_nothing(cli, tmp_path):
    images = write_images(tmp_path / "images", per_class=5, classes="01")
    source = sources.open_source("folder", "train", str(images))
    (images / source.file(len(source) - 1)).unlink()
    with pytest.raises((ValueError, OSError)):
        exporter.export_folder(source, {}, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]
