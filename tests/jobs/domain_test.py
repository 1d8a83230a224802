"""Laws of jobs/domain.py on planted sets: real digits under another name, and digits whose greys are turned round."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxmoust.data.sources import registry as sources
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.jobs.parts.configure import as_config
from jaxmoust.jobs.parts.job import do
from jaxmoust.jobs.parts.registry import BadInput

BASE = {"n_base": 100}


def write_set(folder: Path, images: np.ndarray, name: str) -> Path:
    """Writes a synthetic set of images that go round the ten digits."""
    spec = synthetic.SyntheticSpec(name, tuple("0123456789"), (8, 8, 1), len(images), len(images), 0, "planted")
    synthetic.write_shard(folder, spec, 0, images)
    synthetic.finish(folder, spec)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """Two sets of 120 digits, a classifier of real digits, and the domain gap of both sets."""
    root = tmp_path_factory.mktemp("domain")
    test = sources.digits("test")
    keys = np.stack([np.flatnonzero(test.labels == c)[:12] for c in range(10)]).T.ravel()
    write_set(root / "same", test.images(keys), "same")
    write_set(root / "apart", 255 - test.images(keys), "apart")
    judge = as_config("configs/classifier/digits_resnet.py:quick", {"data": BASE})
    do(judge, root / "judge")
    run(root, "same", root / "same_gap", classifier=str(root / "judge"))
    run(root, "apart", root / "apart" / "scores" / "density_ratio")
    return root


def make_config(root: Path, name: str, **changes: object) -> dict:
    config = as_config("configs/domain/digits.py:quick")
    config = as_config(config, {"set": str(root / name), "data": BASE, "train": {"num_steps": 60}})
    return as_config(config, {"optim": {"learning_rate": 1e-2}, **changes})


def run(root: Path, name: str, work: Path, **changes: object) -> dict:
    return do(make_config(root, name, **changes), work).result


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_domain_gap_of_real_images_under_another_name_is_none(folders):
    found = result(folders / "same_gap")
    assert found["n"] == 200 and (found["n_real"], found["n_synthetic"]) == (100, 120)
    assert found["auc_interval"][0] < 0.5 < found["auc_interval"][1]
    assert found["accuracy_interval"][0] < 50 < found["accuracy_interval"][1]
    assert 0.5 < found["mean"] < 2 and found["effective_size"] > 60  # the ratio is 1 of every image


def test_domain_gap_of_images_turned_round_is_complete_in_every_class(folders):
    found = result(folders / "apart" / "scores" / "density_ratio")
    assert found["auc"] > 0.99 and found["auc_interval"][0] > 0.9 and found["accuracy"] > 95
    assert min(found["per_class"]) >= 80 and len(found["per_class"]) == 10
    assert found["overlap"]["domain"] < 0.1 and found["mean"] < 0.2


def test_domain_pictures_hold_as_many_images_of_each_kind_in_both_planes(folders):
    with np.load(folders / "same_gap" / "features.npz") as features:
        is_real = features["is_real"]
        assert is_real.sum() == (~is_real).sum() == 50
        np.testing.assert_array_equal(*(np.sort(features["label"][kind]) for kind in (is_real, ~is_real)))
        for name in ("domain", "classifier"):
            assert features[name].shape == (100, 2) and np.isfinite(features[name]).all()
            assert 0 < features[f"{name}_shares"].sum() <= 1 + 1e-6
    assert set(result(folders / "same_gap")["overlap"]) == {"domain", "classifier"}


def test_domain_run_again_finds_its_result_and_classifiers(folders):
    work = folders / "apart" / "scores" / "density_ratio"
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    assert any("fold0/checkpoints" in str(path) for path in before)
    assert run(folders, "apart", work) == result(work)
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()} == before


def test_domain_interrupted_before_its_result_gives_the_same_from_its_classifiers(folders):
    work = folders / "same_gap"
    first, scores = result(work), np.load(work / "scores.npy")
    (work / "result.json").unlink()
    run(folders, "same", work, classifier=str(folders / "judge"))
    assert {**result(work), "seconds": 0} == {**first, "seconds": 0}
    np.testing.assert_array_equal(np.load(work / "scores.npy"), scores)


@pytest.mark.parametrize(("field", "value"), [("drop_lowest", 0.2), ("keep_above", "middle")])
def test_domain_scores_are_read_by_name_as_any_others(folders, tmp_path, field, value):
    scores = np.load(folders / "apart" / "scores" / "density_ratio" / "scores.npy")
    assert scores.shape == (120,) and scores.dtype == np.float32 and (scores > 0).all()
    middle = np.sort(scores.astype(np.float64))[59:61].mean()
    value = str(middle) if value == "middle" else value
    made = str(folders / "apart")
    config = as_config(f"configs/classifier/digits_resnet.py:quick,synthetic={made},share=0.5,name=apart")
    config = as_config(config, {"data": {**BASE, "scores": "density_ratio", "drop_per_class": False, field: value}})
    found = do(config, tmp_path / "work").result
    assert found["n_synthetic"] == (96 if field == "drop_lowest" else (scores > middle).sum())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"set": ""}, r"config\.set is empty"),
        ({"set": "no/such/folder"}, "provenance.json"),
        ({"real": "test"}, r"'test', expected one of base, unused"),
        ({"folds": 1}, r"config\.folds is 1"),
        ({"folds": 60}, "60 folds of 100 real images"),
        ({"real": "unused", "data": {"n_base": 0}}, "the base set is all there is"),
        ({"classifier": "no/such/folder"}, "jaxmoust train"),
    ],
)
def test_domain_refuses_before_anything_is_written(folders, tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        run(folders, "same", tmp_path / "work", **changes)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("section", "fields", "said"),
    [
        ("train", {"best_metric": "top1"}, "config.train has no field 'best_metric'"),
        ("model", {"separate_stats": True}, "tells the network which images are synthetic"),
    ],
)
def test_domain_refuses_what_would_let_the_classifier_know(folders, tmp_path, section, fields, said):
    config = make_config(folders, "same")
    with pytest.raises(ValueError, match=said):
        do(as_config(config, {section: fields}), tmp_path / "work")


def test_domain_refuses_a_second_classifier_that_knows_synthetic_images(folders, tmp_path):
    config = as_config(f"configs/classifier/digits_resnet.py:quick,synthetic={folders / 'same'},name=same")
    do(config, tmp_path / "mixed")
    with pytest.raises(BadInput, match="knows real images alone"):
        run(folders, "same", tmp_path / "work", classifier=str(tmp_path / "mixed"))


def test_domain_compares_with_real_images_outside_the_base_set_and_with_each_copy_once(folders, tmp_path):
    few = {"train": {"num_steps": 2}}
    outside = run(folders, "same", tmp_path / "unused", real="unused", **few)
    copied = run(folders, "same", tmp_path / "copied", data={**BASE, "copies": 3}, **few)
    assert (outside["n_real"], outside["n"]) == (900, 240)
    assert (copied["n_real"], copied["n"]) == (100, 200)
