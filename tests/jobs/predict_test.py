"""Laws of jobs/predict.py: new images are named as the test images were, and what cannot be read is said."""

import csv
import json
import shutil

import numpy as np
import pytest
from command_line import assert_refused, contents, write_images
from PIL import Image

from jaxmoust.data.sources import registry as sources
from jaxmoust.jobs.predict import csv_text


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_predict_names_test_images_as_their_run_did(cli, trained, tmp_path):
    """In sub-folders and in colour, which says nothing new of a grey picture."""
    test, keys = sources.digits("test"), [0, 5, 796]
    for key in keys:
        path = tmp_path / "new" / f"of {key % 2}" / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat(test.read(key), 3, axis=-1)).save(path)
    line = "predict --checkpoint={c} --path={p} --top=3 --output={o}"
    outcome = cli(line, c=trained, p=tmp_path / "new", o=tmp_path / "out.csv")
    assert outcome.code == 0 and outcome.out.startswith("3 images: "), outcome
    rows = {row["file"]: row for row in rows_of(tmp_path / "out.csv")}
    kept, names = np.load(trained / "probabilities.npy"), np.load(trained / "predicted.npy")
    sure = np.load(trained / "confidence.npy")
    for key in keys:
        row = rows[f"of {key % 2}/{key}.png"]
        assert list(row)[1:] == ["label", "probability", "label_2", "probability_2", "label_3", "probability_3"]
        assert row["label"] == str(names[key])
        assert float(row["probability"]) == pytest.approx(sure[key], abs=1e-3)  # kept in half precision
        for k in ("", "_2", "_3"):
            assert float(row[f"probability{k}"]) == pytest.approx(kept[key, int(row[f"label{k}"])], abs=1e-3)
    assert float(row["probability"]) >= float(row["probability_2"]) >= float(row["probability_3"])


def test_predict_lists_all_that_cannot_be_read_and_skips_it_where_asked(cli, trained, tmp_path):
    images = write_images(tmp_path / "new", per_class=2, size_px=13, classes="01")
    (images / "0" / "words.png").write_bytes(b"no image")
    (images / "1" / "cut.png").write_bytes((images / "1" / "00.png").read_bytes()[:60])
    before, output = contents(tmp_path), tmp_path / "out.csv"
    line = "predict --checkpoint={c} --path={p} --output={o}"
    outcome = cli(line, c=trained, p=images, o=output)
    assert_refused(outcome, "2 of 6 images", "words.png", "cut.png", "--on_bad=skip")
    assert contents(tmp_path) == before
    archive = shutil.make_archive(str(tmp_path / "new"), "zip", images)
    outcome = cli(line + " --on_bad=skip", c=trained, p=archive, o=output)
    assert outcome.code == 0 and "2 files skipped" in outcome.out and "cut.png" in outcome.out
    assert [row["file"] for row in rows_of(output)] == ["0/00.png", "0/01.png", "1/00.png", "1/01.png"]
    assert "passed over" not in outcome.out
    for name in ("notes.txt", "2.raw"):
        (images / name).write_bytes(b"no image")
    outcome = cli(line + " --on_bad=skip", c=trained, p=images, o=output)
    assert outcome.out.splitlines()[0] == "2 files passed over: 2.raw, notes.txt" and len(rows_of(output)) == 4
    for name in ("00.png", "01.png"):
        (images / "0" / name).write_bytes(b"no image")
    assert_refused(cli(line + " --on_bad=skip", c=trained, p=images / "0", o=output), "3 of 3")


def test_predict_refuses_what_names_nothing(cli, trained, tmp_path):
    line = "predict --checkpoint={c} --path={p} --output={o}"
    given = {"c": trained, "p": tmp_path / "empty", "o": tmp_path / "out.csv"}
    (tmp_path / "empty").mkdir()
    assert_refused(cli(line, **given), "no image", ".png")
    assert_refused(cli(line, **given | {"c": tmp_path / "empty"}), "holds no finished 'classify' run")
    assert_refused(cli(line + " --top=11", **given), "--top=11", "1 to 10")
    assert_refused(cli(line, **given | {"o": tmp_path / "none" / "out.csv"}), "--output=", "folder that exists")
    assert_refused(cli("predict --path={p}", p=tmp_path), "--checkpoint=DIR")
    nameless = shutil.copytree(trained, tmp_path / "nameless")
    result = json.loads((nameless / "result.json").read_text())
    (nameless / "result.json").write_text(json.dumps({k: v for k, v in result.items() if k != "class_names"}))
    (nameless / "digests.json").unlink()
    assert_refused(cli(line, **given | {"c": nameless}), "what its classes are called", "Train it again")


def test_table_shows_controls_of_names_and_what_is_no_text():
    table = csv_text(["\x1b[2J\udcff.png"], np.array([[0.25, 0.75]]), ("a", "\u202eb"), 1)
    assert table.splitlines()[1] == r"\x1b[2J\udcff.png,\u202eb,0.750000"
