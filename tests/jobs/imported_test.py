"""Laws of jobs/imported.py: images that something else made become arms of a study, or are refused before it starts."""

import csv
import json
import shutil

import numpy as np
import photographs
import pytest
import tensorflow_datasets as tfds
from command_line import assert_refused, contents, write_images
from PIL import Image

from jaxmoust.config import read_config
from jaxmoust.data.loading.transforms import Resize
from jaxmoust.data.sources import registry as sources
from jaxmoust.data.synthetic.store import open_synthetic, read_labelled, read_spec
from jaxmoust.jobs.study import Study, complete

EXPERIMENT = """import ml_collections
from jaxmoust.config import read_config

def get_config(arg=""):
    config = read_config("experiments/quickstart.py:quick")
    config.update(generators={{}}, domains={{}}, measures={{}}, seeds=(0,), name="outside")
    config["sets"] = dict(mine=dict({fields}))
    shares = dict(name="share", shares=dict(real=0.5, mine=0.5))
    mine = dict(name="mixed", title="Mixed", sets=("mine",), sampler=shares)
    config["arms"] = (*(arm for arm in config["arms"] if arm["name"] == "real"), mine)
    return ml_collections.ConfigDict(config)
"""


@pytest.fixture
def study(cli, tmp_path):
    """Runs a study of real digits with and without one set of other images; returns the outcome."""

    def run(words="", **fields):
        text = EXPERIMENT.format(fields=", ".join(f"{name}={value!r}" for name, value in fields.items()))
        (tmp_path / "experiment.py").write_text(text)
        line = f"study --config={{e}} --workdir={{w}} --store={{s}} {words}"
        return cli(line, e=tmp_path / "experiment.py", w=tmp_path / "study", s=tmp_path / "store")

    return run


@pytest.fixture
def mine(tmp_path):
    """Pictures of three sizes and in colour, of two of the ten classes, one of them in another format."""
    folder, rng = tmp_path / "my pictures", np.random.default_rng(0)
    for name, size, suffix in (("3", (8, 8), "png"), ("3", (31, 12), "jpg"), ("7", (20, 20), "png")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(4):
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"of {size[0]}, {i}.{suffix}")
    return folder


def test_study_of_a_folder_of_other_sizes_and_of_some_classes_is_an_arm_without_a_generator(study, mine, tmp_path):
    outcome = study(path=str(mine))
    assert outcome.code == 0, outcome.err
    (folder,) = (tmp_path / "store").glob("sample-*")
    images, names = open_synthetic(folder), read_labelled(folder).names
    assert images.class_names == tuple("0123456789")
    assert images.class_counts().tolist() == [0, 0, 0, 8, 0, 0, 0, 4, 0, 0]
    assert sorted(names) == sorted(str(p.relative_to(mine)) for p in mine.rglob("*.*"))
    for key, name in enumerate(names):
        assert name.startswith(images.class_names[images.labels[key]])
        with Image.open(mine / name) as image:
            np.testing.assert_array_equal(images.read(key), Resize(8, 1).map(np.asarray(image)))
    (row,) = [row for row in csv.DictReader((tmp_path / "study" / "results.csv").open()) if row["arm"] == "mixed"]
    assert (row["generator"], row["n_synthetic"], row["share"], row["fine_tuning"]) == ("mine", "12", "0.5", "none")
    page = (tmp_path / "study" / "report" / "index.html").read_text()
    assert "12 images, imported" in page and "Most confident mistakes: Mixed" in page
    files = [json.loads(path.read_text()) for path in (tmp_path / "store").glob("sample-*/config.json")]
    assert [one["task"] for one in files] == ["imported"]  # no stage of a generator


def test_study_names_its_imported_stages_by_the_images_wherever_these_lie(study, mine, tmp_path):
    moved = shutil.copytree(mine, tmp_path / "moved")
    planned = study("--dry-run", path=str(mine)).out
    assert "import mine" in planned and "fit " not in planned

    def stages(path):
        raw = read_config(str(tmp_path / "experiment.py"))
        raw["sets"]["mine"]["path"] = str(path)
        return [one.name for one in Study(complete(raw, {}), tmp_path / "store").experiment.sets.values()]

    names = stages(mine)
    assert stages(moved) == names
    Image.new("RGB", (8, 8)).save(moved / "7" / "another.png")
    assert stages(moved) != names


def test_imported_set_of_cifakes_layout_takes_its_generated_half(cli, tmp_path):
    for part in ("REAL", "FAKE"):
        folder = tmp_path / "cifake" / "train" / part
        folder.mkdir(parents=True)
        for number, value in (("0", 10), ("0 (4)", 40)):
            Image.new("RGB", (32, 32), (value + (part == "FAKE"),) * 3).save(folder / f"{number}.png")
    names = tmp_path / "names.txt"
    for split in ("train", "test"):
        for i, name in enumerate(("airplane", "cat", "dog")):
            path = tmp_path / "real" / split / name / "0.png"
            path.parent.mkdir(parents=True)
            Image.new("L", (16, 16), 100 + i + 10 * (split == "test")).save(path)
    names.write_text("airplane\n")
    line = (
        "sample --config=configs/sample/imported.py --workdir={w} --config.source=cifake_fake --config.split=train "
        "--config.path={p} --config.data.source=folder --config.data.path={real} --config.classes=airplane,cat"
    )
    given = {"w": tmp_path / "set", "p": tmp_path / "cifake", "real": tmp_path / "real"}
    outcome = cli(line, **given)
    assert outcome.code == 0, outcome.err
    rows = list(tfds.builder_from_directory(str(tmp_path / "set")).as_data_source("train"))
    assert [(row["label"], row["image"][0, 0, 0], row["file"].decode()) for row in rows] == [
        (0, 11, "train/FAKE/0.png"),
        (1, 41, "train/FAKE/0 (4).png"),
    ]
    assert rows[0]["image"].shape == (16, 16, 1) and rows[0]["generator"] == b"stable-diffusion-v1-4 (CIFAKE)"
    given["w"] = tmp_path / "all"
    assert_refused(cli(line.replace(" --config.classes=airplane,cat", ""), **given), "'automobile'", "classes=")


def test_imported_set_of_small_images_says_that_they_are_enlarged_where_real_ones_are_not(cli, tmp_path, caplog):
    real, mine = (write_images(tmp_path / name, 4, size, "01") for name, size in (("real", 24), ("mine", 12)))
    line = "sample --config=configs/sample/imported.py --workdir={w} --config.path={p} --config.data.source=folder"
    line += " --config.data.path={real} --config.data.image_px="
    assert cli(f"{line}20", w=tmp_path / "a", p=mine, real=real).code == 0
    assert f"The images of {mine}, 12 px, are enlarged to 20 px (data.image_px), real ones are not" in caplog.text
    caplog.clear()
    for px in ("12", "30"):  # of 30 px are neither
        assert cli(f"{line}{px}", w=tmp_path / px, p=mine, real=real).code == 0
    assert "enlarged" not in caplog.text


def test_imported_set_of_a_set_keeps_what_made_its_images(cli, tmp_path):
    images = write_images(tmp_path / "generated", per_class=2, size_px=12, classes="01")
    (images / "t.csv").write_text("file,label,prompt\n0/00.png,4,a four\n1/01.png,2,a two\n")
    line = "data import --path={a} --labels=t.csv --generator=mine --seed=5 --guidance=2 --steps=9 --workdir={b}"
    assert cli(line, a=images, b=tmp_path / "set").code == 0
    line = "sample --config=configs/sample/imported.py --workdir={w} --config.path={p}"
    assert cli(line, w=tmp_path / "again", p=tmp_path / "set").code == 0
    spec, files = read_spec(tmp_path / "again"), read_labelled(tmp_path / "again")
    assert (spec.generator, spec.seed, spec.guidance, spec.steps) == ("mine", 5, 2.0, 9)
    assert (files.names, files.prompts) == (("1/01.png", "0/00.png"), ("a two", "a four"))
    assert spec.shape == (8, 8, 1) and spec.class_counts == (0, 0, 1, 0, 1, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "3").rename(f / "three"), ["'three'", "real images have not", "'0', '1'", "classes="]),
        (lambda f: [shutil.rmtree(f / name) for name in ("3", "7")], ["no image"]),
        (lambda f: (f / "7" / "bad.png").write_bytes(b"no image"), ["bad.png"]),
    ],
)
def test_imported_set_that_does_not_fit_is_refused_before_the_study_starts(study, mine, tmp_path, change, words):
    change(mine)
    before = contents(tmp_path)
    assert_refused(study(path=str(mine)), *words)
    assert contents(tmp_path).keys() - before.keys() == {"experiment.py"}


def test_imported_set_is_refused_with_a_generator_and_a_path_that_is_empty(study, mine):
    assert_refused(study(path=str(mine), generator="edm"), "config.sets.mine.generator", "Leave it empty")
    assert_refused(study(path=""), "config.path is empty")


def test_imported_set_with_a_test_image_is_refused_by_its_name(cli, mine, tmp_path):
    test = sources.digits("test")
    key = int(np.flatnonzero(test.labels == 7)[0])
    Image.fromarray(test.read(key)[..., 0]).save(mine / "7" / "leaked.png")
    line = "sample --config=configs/sample/imported.py --workdir={w} '--config.path={p}'"
    assert_refused(cli(line, w=tmp_path / "set", p=mine), "1 of the 13 images", "7/leaked.png", "Remove")
    assert not (tmp_path / "set").exists()


def test_imported_set_with_near_copies_of_test_images_is_said_or_refused(cli, tmp_path, caplog):
    """The copies are larger, brighter and compressed anew: none is a test image pixel by pixel."""
    photographs.write(tmp_path / "real" / "train")
    photographs.write(tmp_path / "real" / "test", first=10)
    photographs.write(tmp_path / "mine", first=20)
    for c, name in enumerate(photographs.CLASSES[:2]):
        pixels = np.clip(photographs.pixels(c, 10).astype(int) + 4, 0, 255).astype(np.uint8)
        copy = Image.fromarray(pixels).resize((48, 32), Image.Resampling.BICUBIC)
        copy.save(tmp_path / "mine" / name / "copy.jpg", quality=90)
    line = "sample --config=configs/sample/imported.py --workdir={w} --config.path={p} --config.data.source=folder "
    line += "--config.data.path={r} --config.data.image_px=16"
    given = {"w": tmp_path / "set", "p": tmp_path / "mine", "r": tmp_path / "real"}
    together = " --config.data.near_duplicates=together"
    assert_refused(cli(line + together, **given), "2 of the 14 images", "look the same as a test image", "copy.jpg")
    assert cli(line, **given).code == 0
    assert "2 of the 14 images" in caplog.text and f"{photographs.CLASSES[1]}/copy.jpg" in caplog.text
    assert_refused(
        cli(line + together, **given), "other data", "another folder"
    )  # is no set that this was not asked of
