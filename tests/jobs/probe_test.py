"""A probe as a run: what it draws, whose features it stands on, what it leaves, and what it refuses; adapters, too."""

import csv
import json
import shutil

import jax
import numpy as np
import photographs
import pytest
from tiny_backbone import write_backbone

from jaxmoust.data.loading.transforms import Resize
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.jobs.measure import Measure
from jaxmoust.jobs.parts import probe
from jaxmoust.jobs.parts.configure import as_config
from jaxmoust.jobs.parts.job import do
from jaxmoust.jobs.train import Train
from jaxmoust.models.classifiers.headed import loaded
from jaxmoust.runtime.checkpoint import restore_tree

DATA = {"source": "digits", "n_base": 60}


def config_of(backbone, learn="probe", **sections):
    changes = {
        "data": DATA,
        "augment": {"flip": False, "crop_px": 0},
        "probe": {"folds": 2},
        "eval": {"batch_size": 256},
    }
    merged = {name: {**changes.get(name, {}), **sections.get(name, {})} for name in (*changes, *sections)}
    return as_config(f"configs/classifier/backbone.py:quick,{learn},backbone={backbone}", merged)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("probe")


@pytest.fixture(scope="module")
def backbone(work):
    return write_backbone(work / "backbone")


@pytest.fixture(scope="module")
def features(work, backbone):
    """Features of all training images and of the test images, of two views."""
    folders = []
    for part in ("train", "test"):
        fields = {"data": {"source": "digits", "image_px": 8}, "part": part, "views": 2 if part == "train" else 1}
        fields |= {"augment": {"flip": False, "crop_px": 1}, "eval": {"batch_size": 256}}
        folders.append(str(work / part))
        do(as_config(f"configs/features.py:{backbone}", fields), work / part)
    return tuple(folders)


@pytest.fixture(scope="module")
def run(work, backbone):
    config = config_of(backbone)
    return config, work / "run", do(config, work / "run").result


def test_probe_leaves_a_head_and_a_result_as_every_training_does(run):
    _, folder, result = run
    assert (result["n_base"], result["n"], result["share"], result["steps"]) == (60, 797, 0.0, 4)
    assert 10 < result["knn_top1"] < 100 and result["l2"] == float(
        min(result["l2_losses"], key=result["l2_losses"].get)
    )
    tree, _ = restore_tree(folder / "checkpoints")
    assert list(tree["params"]) == ["head"]  # the backbone lies where it lies, once
    assert (folder / "draws.json").exists() and np.load(folder / "ranks.npy").shape == (797,)


def test_probe_is_evaluated_from_its_head_and_its_backbone(run, tmp_path):
    _, folder, result = run
    found = do(
        as_config("configs/evaluate.py", {"checkpoint": str(folder), "eval": {"batch_size": 256}}), tmp_path / "e"
    )
    assert found.result["loss"] == pytest.approx(result["loss"], rel=1e-5)  # logits of another batch's rounding


def test_photographs_of_odd_sizes_are_evaluated_and_predicted_as_the_backbones_file_says(backbone, tmp_path, cli):
    """Resized to 11 px, of which the middle 8 are cut out: by a training, by `evaluate` and by `predict`."""
    photographs.write(tmp_path / "photos", "train")
    photographs.write(tmp_path / "photos", "test", first=9)
    own = shutil.copytree(backbone, tmp_path / "backbone")
    said = {"size": {"shortest_edge": 11}, "crop_size": 8, "do_center_crop": True, "resample": 2}
    (own / "preprocessor_config.json").write_text(json.dumps({**said, "image_mean": [0.4] * 3, "image_std": [0.3] * 3}))
    data = {"source": "folder", "path": str(tmp_path / "photos"), "n_base": 0, "image_px": 20}
    job = Train(config_of(own, data=data))
    job.check()
    job.open()
    _, test, _ = job.features.read(job.machine)
    how = loaded(str(own)).preprocessing
    assert (how.resize_px, how.image_px, how.squash, how.interpolation) == (11, 8, False, "bilinear")
    assert job.contents()["preprocessing"]  # a run of before that was recorded is another run
    seen = np.stack([how(photographs.pixels(c, i)) for c in range(3) for i in (10, 11, 12, 9)])
    expected = loaded(str(own)).features(loaded(str(own)).variables, seen / np.float32(255))
    np.testing.assert_allclose(test, expected, atol=1e-4)  # features of order 1 after two float32 blocks
    result = do(job.config, tmp_path / "run").result
    assert result["preprocessing"]["resize_px"] == 11 and tuple(result["image_shape"]) == (20, 20, 3)
    evaluated = do(as_config("configs/evaluate.py", {"checkpoint": str(tmp_path / "run")}), tmp_path / "e").result
    assert evaluated["loss"] == pytest.approx(result["loss"], rel=1e-5)
    line = "predict --checkpoint={run} --path={test} --output={out}"
    assert cli(line, run=tmp_path / "run", test=tmp_path / "photos" / "test", out=tmp_path / "out.csv").code == 0
    with open(tmp_path / "out.csv") as file:
        rows = list(csv.DictReader(file))
    named, sure = (np.load(tmp_path / "run" / f"{name}.npy") for name in ("predicted", "confidence"))
    assert [row["label"] for row in rows] == [photographs.CLASSES[k] for k in named]
    np.testing.assert_allclose([float(row["probability"]) for row in rows], sure, atol=1e-3)  # kept in half precision


def test_measure_prepares_images_from_the_size_of_the_study(backbone, work):
    """Real and synthetic images alike: to 12 px first, then as the extractor's file says."""
    spec = synthetic.SyntheticSpec("looked_at", tuple("0123456789"), (8, 8, 1), 20, 20, 0, "planted")
    images = np.random.default_rng(1).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    synthetic.write_shard(work / "looked_at", spec, 0, images)
    synthetic.finish(work / "looked_at", spec)
    extractor = {"name": "vit", "path": str(backbone)}
    given = {"set": str(work / "looked_at"), "extractor": extractor, "data": {**DATA, "image_px": 12}}
    job = Measure(as_config("configs/measure/digits.py", given))
    job.check()
    job.open()
    how, first = loaded(str(backbone)).preprocessing, Resize(12, 1)
    assert job.extractor.preprocessing == how and job.extractor.name.startswith("vit-")
    for name, of in (("synthetic", images), ("heldout", [job.real.test.read(i) for i in range(20)])):
        seen = next(iter(job.streams[name]))["image"]
        expected = np.stack([how(np.repeat(first.map(image), 3, axis=-1)) for image in of])
        np.testing.assert_array_equal(seen[:20], expected)


def test_sets_that_the_preprocessing_enlarges_are_named_where_real_images_are_larger(
    backbone, planted, tmp_path, caplog
):
    photographs.write(tmp_path / "photos", "train")
    photographs.write(tmp_path / "photos", "test", first=9)
    own = shutil.copytree(backbone, tmp_path / "backbone")
    said = {"size": {"shortest_edge": 11}, "crop_size": 8, "do_center_crop": True, "resample": 2}
    (own / "preprocessor_config.json").write_text(json.dumps({**said, "image_mean": [0.4] * 3, "image_std": [0.3] * 3}))
    spec = synthetic.SyntheticSpec("small", photographs.CLASSES, (8, 8, 3), 3, 3, 0, "planted")
    synthetic.write_shard(tmp_path / "small", spec, 0, np.zeros((3, 8, 8, 3), np.uint8))
    synthetic.finish(tmp_path / "small", spec)
    data = {"source": "folder", "path": str(tmp_path / "photos"), "n_base": 0, "image_px": 20}
    how = {"sampler": {"name": "share", "shares": {"real": 0.5, "small": 0.5}}}
    Train(config_of(own, data={**data, "synthetic": (str(tmp_path / "small"),)}, **how)).check()
    assert "The images of small, 8 px, are enlarged to 11 px for the backbone" in caplog.text
    assert "Write them with data.image_px=11." in caplog.text
    caplog.clear()
    alike = {
        "data": {**DATA, "synthetic": (planted,)},
        "sampler": {"name": "share", "shares": {"real": 0.5, "planted": 0.5}},
    }
    Train(config_of(own, **alike)).check()  # real ones are of 8 px, too
    assert "enlarged" not in caplog.text


def test_features_that_lie_there_give_the_same_probe_of_any_part_of_their_images(run, work, backbone, features):
    config, _, result = run
    given = do({**config, "probe": {**config["probe"], "features": features}}, work / "given").result
    assert given["loss"] == pytest.approx(result["loss"], rel=1e-4)
    assert given["l2"] == result["l2"] and given["data_digest"] == result["data_digest"]


def test_augmented_views_count_as_draws_do(work, backbone, features, monkeypatch):
    seen = []
    monkeypatch.setattr("jaxmoust.jobs.train.fit_linear", lambda rows, *given: seen.append(rows) or 1 / 0)
    given = {"probe": {"features": features, "views": 1}, "augment": {"crop_px": 1}}
    job = Train(config_of(backbone, **given, train={"batch_size": 60, "num_steps": 3}))
    job.check()
    job.open()
    with pytest.raises(ZeroDivisionError):
        job.run(None)
    (rows,) = seen
    assert rows.weight.sum() == 180 and len(np.unique(rows.image)) == 60
    assert np.bincount(rows.image, rows.weight).tolist() == [3] * 60  # three rounds of the shuffle
    assert 60 < rows.weight[rows.plain].sum() < 120
    left = np.load(f"{features[0]}/features.npy")
    places = job.features.places[rows.image]
    np.testing.assert_array_equal(rows.features, left[np.where(rows.plain, 0, 1), places])
    assert not np.array_equal(left[0], left[1])


def test_probe_sees_what_the_sampler_draws_of_a_set(work, backbone, monkeypatch):
    """Shares, weights of the kinds and copies of the base set become weights of images."""
    spec = synthetic.SyntheticSpec("made", tuple("0123456789"), (8, 8, 1), 20, 20, 0, "planted")
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    synthetic.write_shard(work / "made", spec, 0, images)
    synthetic.finish(work / "made", spec)
    data = {"synthetic": (str(work / "made"),), "copies": 2}
    how = {"sampler": {"name": "share", "shares": {"real": 0.75, "made": 0.25}}, "method": {"lambda_syn": 0.5}}
    job = Train(config_of(backbone, data={**DATA, **data}, **how, train={"batch_size": 80, "num_steps": 2}))
    job.check()
    shapes = [np.arange(60)[None, :, None], 60 + np.arange(20)[None, :, None]]
    rows = probe.rows_of(shapes, job.pool, job.sampler, job.num_draws, job.training.task)
    by_image = np.bincount(rows.image, rows.weight, minlength=80)
    assert by_image[:60].tolist() == [2.0] * 60 and by_image[60:].tolist() == [1.0] * 20
    assert rows.features[:, 0].tolist() == rows.image.tolist() and (rows.real == (rows.image < 60)).all()
    assert job.run is not None and do(job.config, work / "mixed").result["share"] == 0.25


@pytest.fixture(scope="module")
def planted(work):
    """A set of noise, two images of each class."""
    spec = synthetic.SyntheticSpec("planted", tuple("0123456789"), (8, 8, 1), 20, 20, 0, "planted")
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    synthetic.write_shard(work / "planted", spec, 0, images)
    synthetic.finish(work / "planted", spec)
    return str(work / "planted")


@pytest.mark.parametrize("learn", ["lora", "full"])
def test_samplers_shares_weights_and_filters_count_in_a_training_as_in_a_probe(learn, backbone, planted, monkeypatch):
    """What a probe weighs an image by is how often a training draws it, times its kind's weight in the loss."""
    monkeypatch.setattr("jaxmoust.jobs.train._read_scores", lambda *given: np.arange(20.0))
    data = {"synthetic": (planted,), "copies": 2, "scores": "by_hand", "drop_lowest": 0.5}
    how = {"sampler": {"name": "share", "shares": {"real": 0.75, "planted": 0.25}}, "train": {"batch_size": 80}}
    how["train"] |= {"num_steps": 2, "best_metric": "", "eval_steps": 0}
    method = {"lambda_syn": 0.5} | ({"rank": 2} if learn == "lora" else {})
    jobs = [Train(config_of(backbone, of, data={**DATA, **data}, method=method, **how)) for of in ("probe", learn)]
    for job in jobs:
        job.check()
    shapes = [np.arange(60)[None, :, None], 60 + np.arange(20)[None, :, None]]
    rows = probe.rows_of(shapes, jobs[0].pool, jobs[0].sampler, jobs[0].num_draws, jobs[0].training.task)
    job, task, drawn = jobs[1], jobs[1].training.task, np.zeros(80)
    job.open()
    stream = job.stream_from(0)
    for _ in range(2):
        batch = next(stream)
        mine = batch["source"] > 0
        np.add.at(drawn, np.where(mine, 60 + batch["index"], batch["index"] % 60), np.where(mine, 0.5, 1.0))
    assert np.bincount(rows.image, rows.weight, minlength=80).tolist() == drawn.tolist()
    assert drawn[60:70].tolist() == [0.0] * 10 and drawn[70:].sum() == 20.0  # filtered; a quarter, of half the weight
    params, stats = task.init(jax.random.key(0))
    given, keys = (params, stats, task.frozen(job.class_shares, job.base)), jax.random.split(jax.random.key(1), 80)
    loss = jax.jit(task.loss)
    losses = [float(loss(*given, {**batch, "source": 0 * batch["source"] + kind}, keys)[0]) for kind in (0, 1)]
    assert losses[1] == pytest.approx(losses[0] / 2, rel=1e-5)


def test_image_of_a_soft_label_is_a_weighted_row_of_each_of_its_classes(work, backbone):
    created_by = {"soft": 0.5}
    spec = synthetic.SyntheticSpec("soft", tuple("0123456789"), (8, 8, 1), 20, 20, 0, "planted", created_by=created_by)
    columns = {"second": (np.arange(20) + 1) % 10, "second_weight": np.linspace(0, 1, 20, dtype=np.float32)}
    synthetic.write_shard(work / "soft", spec, 0, np.zeros((20, 8, 8, 1), np.uint8), columns=columns)
    synthetic.finish(work / "soft", spec, columns=columns)
    data = {**DATA, "synthetic": (str(work / "soft"),)}
    how = {"sampler": {"name": "share", "shares": {"real": 0.5, "soft": 0.5}}}
    job = Train(config_of(backbone, data=data, **how, train={"batch_size": 40, "num_steps": 2}))
    job.check()
    shapes = [np.arange(60)[None, :, None], 60 + np.arange(20)[None, :, None]]
    rows = probe.rows_of(shapes, job.pool, job.sampler, job.num_draws, job.training.task)
    mine, expected = rows.image >= 60, np.zeros((20, 10))
    found = np.zeros((20, 10))
    np.add.at(found, (rows.image[mine] - 60, rows.label[mine]), rows.weight[mine])
    np.add.at(expected, (np.arange(20), np.arange(20) % 10), 2 * (1 - columns["second_weight"]))
    np.add.at(expected, (np.arange(20), columns["second"]), 2 * columns["second_weight"])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"logit_adjustment 1 with a set of soft labels"):
        Train(config_of(backbone, data=data, **how, method={"logit_adjustment": 1.0})).check()


REFUSED = {
    "blending": ({"augment": {"mixup": 0.2}}, r"augment\.mixup 0\.2 with method\.learn 'probe'"),
    "a best checkpoint": ({"train": {"eval_steps": 2}}, r"train\.eval_steps 2"),
    "no backbone": ({"model": {"weights": ""}}, r"model\.weights is empty"),
    "no such backbone": ({"model": {"weights": "no/such/folder"}}, "no/such/folder"),
    "nothing learnt": (
        {"model": {"name": "vit", "width": 16, "depth": 1, "num_heads": 2, "patch_px": 4}},
        "knows nothing",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_probe_refuses(case, backbone):
    sections, said = REFUSED[case]
    with pytest.raises(ValueError, match=said):
        Train(config_of(backbone, **sections)).check()


def test_features_of_others_are_refused(backbone, work, features):
    train, test = features
    other = write_backbone(work / "other", depth=1)

    def refused(said, of=backbone, features=(train, test), **sections):
        with pytest.raises(ValueError, match=said):
            Train(config_of(of, probe={"features": features}, **sections)).check()

    refused("names 1 for 0 synthetic sets", features=(train,))
    refused("features of other images", features=(test, train))
    refused("features by another network .* model, its weights differ", of=other)
    Train(config_of(backbone, probe={"features": (train, test)}, data={**DATA, "image_px": 12})).check()
    refused("the preprocessing of images differ", data={**DATA, "test_crop": 0.5})
    older = shutil.copytree(test, work / "older")
    result = json.loads((older / "result.json").read_text())
    (older / "result.json").write_text(json.dumps({k: v for k, v in result.items() if k != "preprocessing"}))
    (older / "digests.json").unlink()
    refused("older: .* the preprocessing of images differ", features=(train, str(older)))
    refused("has 2 views of each image, the run asks for 5", augment={"crop_px": 1})
    refused("augment differ", augment={"crop_px": 2})


def test_adapters_learn_and_leave_no_more_than_they_are(backbone, work, tmp_path):
    config = config_of(backbone, "lora", method={"rank": 2}, train={"num_steps": 3}, optim={"learning_rate": 0.02})
    result = do(config, work / "lora").result
    tree, _ = restore_tree(work / "lora" / "checkpoints")
    lora = tree["params"]["lora"]["backbone"]["blocks"]
    assert set(tree["params"]) == {"head", "lora"} and set(lora) == {"qkv", "proj", "mlp0", "mlp1"}
    assert lora["qkv"]["A"].shape == (2, 16, 2) and np.abs(lora["qkv"]["B"]).max() > 0
    found = do(
        as_config("configs/evaluate.py", {"checkpoint": str(work / "lora"), "eval": {"batch_size": 256}}),
        tmp_path / "e",
    )
    assert found.result["loss"] == pytest.approx(result["loss"], rel=1e-5)
    with pytest.raises(ValueError, match=r"method\.rank 17: expected 1 to 16"):
        Train(config_of(backbone, "lora", method={"rank": 17})).check()


def test_validation_images_choose_the_strength_and_are_neither_learnt_from_nor_tested_on(backbone, work):
    config = config_of(backbone, data={**DATA, "validation": 0.1}, probe={"folds": 50})
    result = do(config, work / "validated").result
    assert (result["n_base"], result["n"], result["n_validation"]) == (60, 797, 100)
    assert result["l2"] == float(min(result["l2_losses"], key=result["l2_losses"].get))


def test_fewer_photographs_than_folds_are_refused_before_anything_is_computed(backbone):
    Train(config_of(backbone, data={**DATA, "n_base": 20}, probe={"folds": 20})).check()
    with pytest.raises(ValueError, match=r"probe\.folds 3: of 10 images 0 can be held out.*probe\.l2"):
        Train(config_of(backbone, data={**DATA, "n_base": 10}, probe={"folds": 3})).check()
    Train(config_of(backbone, data={**DATA, "n_base": 10}, probe={"folds": 3, "l2": 1e-3})).check()
    Train(config_of(backbone, data={**DATA, "n_base": 10, "validation": 0.1}, probe={"folds": 3})).check()
