"""Laws of jobs/data_inspect.py: what is counted, shown and refused."""

import json
import os
import re
import shutil

import photographs
from command_line import assert_refused, contents, write_images
from PIL import Image
from tiny_backbone import write_backbone

from jaxmoust.jobs.parts.inputs import Inputs


def test_inspect_refuses_what_it_cannot_show(cli, tmp_path):
    assert_refused(cli("data inspect --source=digits --split=bogus"), "'bogus'", "train, test")
    assert_refused(cli("data inspect --path={path}", path=tmp_path), str(tmp_path), "finished synthetic set")
    assert_refused(cli("data inspect --source=digits --picture={path}", path=tmp_path / "a" / "b.png"), "b.png")
    assert_refused(cli("data inspect --source=digits --picture={path}", path=tmp_path / "b.bogus"), ".bogus")
    assert contents(tmp_path) == {}


def test_inspect_of_a_class_list_shows_its_classes_in_their_order(cli, tmp_path):
    (tmp_path / "list.txt").write_text("7\n3\n")
    outcome = cli("data inspect --source=digits --classes={path}", path=tmp_path / "list.txt")
    assert re.findall(r"^  (\S+) +(\d+)$", outcome.out, re.MULTILINE) == [("7", "100"), ("3", "100")]
    (tmp_path / "list.txt").write_text("7\neleven\n")
    refused = cli("data inspect --source=digits --classes={path}", path=tmp_path / "list.txt")
    assert_refused(refused, "'eleven'", "expected the 10 classes")


def test_inspect_counts_the_classes_of_every_kind_of_set(cli, quick_study, tmp_path):
    write_images(tmp_path / "images", per_class=5, classes="012")
    folder = "--source=folder --path={path} --split=train"
    for line, shown in (
        ("--source=digits --split=test", "digits/test: 797 images, 8x8x1, 10 classes"),
        (folder, "images/train: 12 images, 8x8x1, 3 classes"),
        ("--path={made}", "edm: 40 images, 8x8x1, 10 classes"),
    ):
        picture = tmp_path / "sheet.png"
        outcome = cli(f"data inspect {line} --picture={picture}", path=tmp_path / "images", made=quick_study.made)
        assert outcome.code == 0
        assert shown in outcome.out and str(picture) in outcome.out
        counts = [int(n) for n in re.findall(r"^  \S+ +(\d+)$", outcome.out, re.MULTILINE)]
        assert sum(counts) == int(re.search(r": (\d+) images", outcome.out)[1])
        with Image.open(picture) as image:
            assert image.width > image.height / len(counts) > 8
        picture.unlink()


def test_inspect_check_counts_the_validation_rows_of_a_table(cli, tmp_path):
    root = photographs.write(tmp_path / "images")
    splits = ("train", "train", "valid", "test")
    rows = [f"{c}/{i}.png,{c},{split}" for c in photographs.CLASSES for i, split in enumerate(splits)]
    (root / "labels.csv").write_text("\n".join(["file,label,split", *rows]))
    outcome = cli("data inspect --check --source=folder --labels={path}/labels.csv --path={path}", path=root)
    assert outcome.code == 0 and "6 images to learn from\n3 images held out\n3 images to select on\n" in outcome.out
    assert re.findall(r"^  (\S+) +(\d+) +(\d+) +(\d+)$", outcome.out, re.MULTILINE)[1] == ("cat", "2", "1", "1")
    assert "Passed over" not in outcome.out


def test_inspect_check_says_all_and_what_a_study_would_refuse(cli, tmp_path):
    root = photographs.write(tmp_path / "images")
    photographs.others(root)
    photographs.lying(root)
    line = "data inspect --check --source=folder --path={path}"
    outcome = cli(line, path=root)
    assert outcome.code == 0 and "9 images to learn from\n3 images held out\n" in outcome.out
    assert re.findall(r"^  (\S+) +(\d+) +(\d+)$", outcome.out, re.MULTILINE)[1] == ("cat", "3", "1")
    for said in (
        "'cat/notes.txt'",
        "'best.png'",
        "'cat/old/9.png'",
        "turned upright, as their EXIF says: 1.",
        "Nothing that a",
    ):
        assert said in outcome.out
    (root / "dog" / "0.png").write_bytes(b"")
    (root / "dog" / "1.png").write_bytes(b"<html>")
    refused = cli(line, path=root)
    assert refused.code == 2 and "dog/0.png (it is none of" in refused.err and "dog/1.png (it is none of" in refused.err
    assert cli(f"{line} --on_bad=skip", path=root).code == 0
    alone = photographs.write(tmp_path / "alone")
    for name in ("bird", "dog"):
        shutil.rmtree(alone / name)
    assert "the class 'cat' alone" in cli(line, path=alone).err
    os.rename(alone / "cat", os.fsencode(alone) + b"/caf\xe9")
    assert_refused(cli(line, path=alone), "names of one line in UTF-8")


def test_inspect_check_decodes_sources_that_are_no_folders(cli):
    assert "1,000 images to learn from\n797 images held out\n" in cli("data inspect --check --source=digits").out


def test_inspect_names_what_looks_alike_to_a_backbone_and_a_study_keeps_it_on_one_side(cli, tmp_path):
    """A copy with painted sides, of which this network reads the middle alone; at a glance it is another picture."""
    backbone, root = write_backbone(tmp_path / "backbone"), tmp_path / "set"
    said = {"size": {"shortest_edge": 11}, "crop_size": 8, "do_center_crop": True, "resample": 2}
    said |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (backbone / "preprocessor_config.json").write_text(json.dumps(said))
    photographs.write(root, "train")
    photographs.write(root, "test", 2, first=10)
    copy = photographs.pixels(1, 2).copy()
    copy[:, :4] = copy[:, -4:] = 0
    Image.fromarray(copy).save(root / "test" / "cat" / "again.png")
    line = "data inspect --source=folder --path={root} --check --near_duplicates=together"
    assert "again.png" not in cli(line, root=root).out
    outcome = cli(line + " --near_duplicates_by={backbone}", root=root, backbone=backbone)
    assert outcome.code == 0, outcome.err
    assert "'train/cat/2.png' and 'test/cat/again.png'); the other one is left out." in outcome.out
    given = {"source": "folder", "path": str(root), "n_base": 0, "image_px": 8, "channels": 3}
    given |= {"near_duplicates": "together", "near_duplicates_by": str(backbone)}
    real = Inputs().real(given)
    files = [source.file(i) for source in (real.base, real.test) for i in range(len(source))]
    assert "test/cat/again.png" in files and "train/cat/2.png" not in files and len(real.test) == 7
    assert_refused(cli(line + " --near_duplicates_by=no/such/net", root=root), "no/such/net")
