"""Laws of jobs/data_inspect.py: what is counted, shown and refused."""

import re

from command_line import assert_refused, contents, write_images
from PIL import Image


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
    assert_refused(refused, "'eleven'", "allowed are the 10 classes")


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
