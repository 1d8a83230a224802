"""Laws of jobs/data_import.py: what is imported, mixed in, listed and refused."""

import json
import os
import re
import shutil
import zipfile

import photographs
from command_line import assert_refused, contents, write_images
from PIL import Image

from jaxmoust.data.image import Reading
from jaxmoust.data.synthetic.importer import open_images
from jaxmoust.data.synthetic.store import read_labelled


def test_train_on_an_imported_folder_mixes_half_of_it(cli, train_mixed, tmp_path):
    images = write_images(tmp_path / "generated")
    outcome = cli("data import --path={a} --workdir={b}", a=images, b=tmp_path / "set")
    assert outcome.code == 0 and "60 images" in outcome.out
    assert train_mixed(tmp_path / "set", name="set_generated").code == 0
    result = json.loads((tmp_path / "work" / "result.json").read_text())
    assert (result["n_synthetic"], result["share"], result["n"]) == (60, 0.5, 797)


def test_import_of_an_archive_with_a_table_lists_what_it_passed_over(cli, tmp_path):
    write_images(tmp_path / "generated", classes="01")
    (tmp_path / "generated" / "labels.csv").write_text("file,label\n0/00.png,zero\n1/03.png,one\n")
    archive = shutil.make_archive(str(tmp_path / "generated"), "zip", tmp_path / "generated")
    line = "data import --path={a} --labels=labels.csv --generator=mine --guidance=2 --workdir={b}"
    outcome = cli(line, a=archive, b=tmp_path / "set")
    assert outcome.code == 0 and "2 images of 2 classes" in outcome.out
    assert re.search(r"11 files passed over: 0/01\.png, .*labels\.csv", outcome.out)
    spec = json.loads((tmp_path / "set" / "provenance.json").read_text())["spec"]
    assert (spec["generator"], spec["guidance"], spec["class_counts"]) == ("mine", 2.0, [1, 1])
    assert spec["created_by"]["unknown"] == ["seed", "steps"]


def test_import_takes_files_and_classes_whose_names_steer_a_terminal_or_are_no_text(cli, tmp_path):
    images = write_images(tmp_path / "generated", classes="01")
    (images / "0").rename(images / "\x1b[2Jcat")
    os.rename(images / "1" / "00.png", os.fsencode(images / "1") + b"/\xff\x07.png")
    outcome = cli("data import --path={a} --workdir={b}", a=images, b=tmp_path / "set")
    assert outcome.code == 0 and not {"\x1b", "\x07", "\udcff"} & set(outcome.out + outcome.err)
    images = read_labelled(tmp_path / "set")
    assert r"1/\udcff\x07.png" in images.names and "\x1b[2Jcat" in images.class_names


def test_import_goes_on_without_what_cannot_be_read_where_that_is_asked_for_and_counts_it(cli, tmp_path):
    images = write_images(tmp_path / "generated", classes="01")
    (images / "0" / "00.png").write_bytes(b"<html>Access denied</html>")
    (images / "1" / "01.png").write_bytes(b"")
    line = "data import --path={a} --workdir={b}"
    assert_refused(cli(line, a=images, b=tmp_path / "set"), "2 unreadable images", "00.png", "01.png", "on_bad='skip'")
    outcome = cli(f"{line} --on_bad=skip", a=images, b=tmp_path / "set")
    assert outcome.code == 0 and "10 images of 2 classes" in outcome.out
    assert re.search(r"2 files left out \(--on_bad=skip\): 0/00\.png \(.+\), 1/01\.png \(", outcome.out)
    spec = json.loads((tmp_path / "set" / "provenance.json").read_text())["spec"]
    assert (spec["class_counts"], spec["created_by"]["num_skipped"]) == ([5, 5], 2)


def test_import_says_what_reading_changes_once(cli, tmp_path, caplog):
    """One image that is clear in every pixel, and one that lies on its side."""
    images, exif = write_images(tmp_path / "generated", size_px=8, classes="01"), Image.Exif()
    Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(images / "0" / "00.png")
    exif[photographs.ORIENTATION] = 6
    Image.new("RGB", (8, 8), (9, 9, 9)).save(images / "1" / "00.png", exif=exif)
    assert cli("data import --path={a} --workdir={b} --background=black", a=images, b=tmp_path / "set").code == 0
    assert caplog.text.count("transparent pixels, laid on black (data.background): 1.") == 1
    assert caplog.text.count("turned upright, as their EXIF says: 1.") == 1


def test_import_of_another_source_reads_transparent_images_as_asked(tmp_path):
    """CIFAKE's generated half, of which each image is clear in every pixel."""
    for c in range(1, 11):
        path = tmp_path / "cifake" / "train" / "FAKE" / f"0000{f' ({c})' if c > 1 else ''}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGBA", (32, 32), (9, 9, 9, 0)).save(path)
    for background, value in (("white", 255), ("black", 0)):
        images, _ = open_images(tmp_path / "cifake", "cifake_fake", reading=Reading(background))
        assert {int(images.read(i).mean()) for i in range(len(images))} == {value}


def test_import_refuses_a_hostile_archive(cli, tmp_path):
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w") as archive:
        archive.writestr("cat/../../../escaped.png", b"x")
    before = contents(tmp_path)
    outcome = cli("data import --path={a} --workdir={b}", a=tmp_path / "hostile.zip", b=tmp_path / "set")
    assert_refused(outcome, "lead out of the archive", "escaped.png")
    assert contents(tmp_path) == before
