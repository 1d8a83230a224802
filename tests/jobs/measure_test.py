"""Laws of jobs/measure.py: every figure beside its floor, planted copies found, bad input refused before any work."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmoust.data.sources import registry as sources
from jaxmoust.data.splits.base_set import base_keys
from jaxmoust.data.synthetic.store import SyntheticSpec, finish, open_synthetic, shard_range, write_shard
from jaxmoust.jobs.parts.configure import as_config
from jaxmoust.jobs.parts.job import do
from jaxmoust.runtime.paths import read_json
from jaxmoust.train.predict import NonFiniteRows

METRICS = ("fid", "kid", "kid_std", "precision", "recall", "density", "coverage", "cmmd")


def make_config(quick_study, made: Path, **changes) -> dict:
    config = as_config("configs/measure/digits.py:quick")
    base = {"set": str(made), "extractor": {"path": str(quick_study.classifier)}, "data": {"n_base": 40}}
    return as_config(as_config(config, base), changes)


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> Path:
    """A set of 60 digits: 40 test digits, 10 training digits and 10 mirrored ones, in this order by index and class."""
    folder = tmp_path_factory.mktemp("copies") / "set"
    train, test = sources.digits("train"), sources.digits("test")
    base = train.subset(np.sort(base_keys(train.labels, 40, 0)))
    spec = SyntheticSpec(
        name="copies",
        class_names=train.class_names,
        shape=(8, 8, 1),
        num_images=60,
        shard_images=60,
        seed=0,
        generator="g",
    )
    images = []
    for label, index in zip(*shard_range(spec, 0), strict=True):
        source = test if index < 4 else base
        image = source.read(np.flatnonzero(source.labels == label)[index if index < 4 else index - 4])
        images.append(image[:, ::-1] if index == 5 else image)
    write_shard(folder, spec, 0, np.stack(images))
    finish(folder, spec)
    return folder


@pytest.fixture(scope="module")
def measured(quick_study, copies, tmp_path_factory) -> Path:
    """The planted set, measured by a classifier, flips included."""
    work = tmp_path_factory.mktemp("measured") / "work"
    do(make_config(quick_study, copies, flips=True, num_pairs=30), work)
    return work


def result(work: Path) -> dict:
    return json.loads((work / "result.json").read_text())


def test_measure_names_every_metric_by_its_extractor_beside_its_floor(measured):
    found = result(measured)
    name = found["extractor"]
    assert name.startswith("real_classifier-") and (found["n"], found["n_train"], found["n_test"]) == (60, 40, 100)
    for metric in METRICS:
        assert np.isfinite([found[f"{metric}[{name}]"], found[f"{metric}_floor[{name}]"]]).all()
    assert found[f"precision[{name}]"] > 0 and found["suspicious[pixels-8px]"] >= 20 / 60


def test_measure_finds_planted_copies_in_pixels_and_in_features(measured):
    pairs, name = np.load(measured / "pairs.npz"), result(measured)["extractor"]
    for space in ("pixels-8px", name):
        made, train, ratio = (pairs[f"{space}/{part}"] for part in ("synthetic", "train", "ratio"))
        copied = ratio < 1e-3
        # Each training image once: where a digit and its mirror image look the same to a network, one of two stays.
        assert 10 <= copied.sum() <= 20
        straight = (made == train).all(axis=(1, 2, 3))
        flipped = (made[:, :, ::-1] == train).all(axis=(1, 2, 3))
        assert (straight | flipped)[copied].all() and straight.any() and flipped.any()
    per_class = json.loads((measured / "memorisation.json").read_text())["pixels-8px"]["per_class"]
    assert [c["n"] for c in per_class] == [6] * 10
    assert all(c["lowest_ratio"] == 0 and c["share_suspicious"] >= 1 / 3 for c in per_class)
    assert sum(c["n_heldout"] for c in per_class) == 100
    assert sum(c["n_heldout"] * c["share_expected"] for c in per_class) == pytest.approx(1)  # one of a hundred


def test_measure_keeps_what_a_page_shows_with_the_training_image_that_is_nearest(quick_study, copies, tmp_path):
    do(make_config(quick_study, copies), tmp_path / "work")
    whole, shown = open_synthetic(copies), np.load(tmp_path / "work" / "shown.npz")
    first = np.concatenate([np.flatnonzero(whole.labels == k)[:8] for k in range(10)])
    synthetic, nearest = (shown[f"pixels-8px/{kind}"].astype(float) for kind in ("synthetic", "train"))
    np.testing.assert_array_equal(synthetic, np.stack([whole.read(int(i)) for i in first]))
    every = np.unique(nearest.reshape(len(nearest), -1), axis=0)
    mine = ((nearest - synthetic) ** 2).sum((1, 2, 3))
    others = ((synthetic.reshape(len(synthetic), 1, -1) - every[None]) ** 2).sum(-1).min(1)
    np.testing.assert_array_equal(mine, others)  # no image that another has beside it lies nearer


def test_measure_without_flips_finds_the_straight_copies_alone(quick_study, copies, tmp_path):
    do(make_config(quick_study, copies), tmp_path / "work")
    ratios = np.load(tmp_path / "work" / "ratios.npz")
    assert (ratios["pixels-8px/synthetic"] == 0).sum() == 10 and ratios["pixels-8px/synthetic"].shape == (60,)
    assert ratios["pixels-8px/heldout"].shape == (100,)


def written(folder: Path, class_names: tuple[str, ...], images: np.ndarray) -> Path:
    """A synthetic set of these images, a class after the other by turns."""
    spec = SyntheticSpec("made", class_names, images.shape[1:], len(images), len(images), seed=0, generator="g")
    write_shard(folder, spec, 0, images)
    finish(folder, spec)
    return folder


def test_measure_compares_as_many_synthetic_as_test_images(quick_study, tmp_path):
    train, test = sources.digits("train"), sources.digits("test")
    images = np.random.default_rng(0).integers(0, 256, (len(test) + 3, 8, 8, 1), np.uint8)
    made = written(tmp_path / "set", train.class_names, images)
    config = make_config(quick_study, made, num_images=0)
    found = do(config, tmp_path / "more").result
    name = found["extractor"]
    assert (found["n"], found["n_floor"]) == (len(test) + 3, len(test))
    assert found[f"fid[{name}]"] != found[f"fid_alike[{name}]"] == pytest.approx(found[f"fid[{name}]"], rel=0.1)
    fewer = do({**config, "num_images": 50}, tmp_path / "fewer").result
    assert fewer["n_floor"] == 50 and f"fid_alike[{name}]" not in fewer
    # FID falls with the number of images, and so does its floor: of 50 test images, not of all.
    assert fewer[f"fid_floor[{name}]"] > found[f"fid_floor[{name}]"]


def test_measure_says_that_images_were_resampled(quick_study, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 24, 16, 3), np.uint8)
    made = written(tmp_path / "set", sources.digits("train").class_names, images)
    found = do(make_config(quick_study, made), tmp_path / "work").result
    assert "24x16x3 and were brought to 8x8x1" in found["notes"]
    assert (found["image_shape"], found["own_shapes"]["synthetic"]) == ((8, 8, 1), (24, 16, 3))


def test_measure_tells_copies_of_what_the_generator_learnt_from_alone(quick_study, tmp_path):
    base = read_json(quick_study.made / "result.json")["data_digest"]
    n_base = read_json(quick_study.generator / "config.json")["data"]["n_base"]
    own = make_config(quick_study, quick_study.made, data={"n_base": n_base})
    found = do(own, tmp_path / "own").result
    assert found["data_digest"] == base and "suspicious[pixels-8px]" in found and not found["notes"]
    other = as_config(own, {"data": {"base_seed": 1}})
    found = do(other, tmp_path / "other").result
    assert "learnt from other images than these" in found["notes"] and f"fid[{found['extractor']}]" in found
    assert not any(name.startswith("suspicious") for name in found)
    assert not (tmp_path / "other" / "memorisation.json").exists()


def test_measure_by_a_network_that_says_nan_keeps_what_pixels_say(quick_study, copies, tmp_path, monkeypatch):
    def make_extract(extractor, machine):
        def extract(data, mirrored=False):
            raise NonFiniteRows("The extractor x says NaN")

        return extract

    monkeypatch.setattr("jaxmoust.train.features.make_extract", make_extract)
    with pytest.raises(NonFiniteRows, match=r"extractor x says NaN.*in pixels is in .*memorisation\.json"):
        do(make_config(quick_study, copies), tmp_path / "work")
    assert list(read_json(tmp_path / "work" / "memorisation.json")) == ["pixels-8px"]
    assert not (tmp_path / "work" / "result.json").exists()


def test_measure_draws_the_closest_pairs(measured):
    picture = np.asarray(Image.open(measured / "pairs.png").convert("L"))
    assert picture.shape[0] > 500 and picture.min() == 0 and picture.max() == 255


def test_quick_measure_runs_on_a_generators_set_and_prints_its_figures(cli, quick_study, tmp_path):
    line = "measure --config=configs/measure/digits.py:quick --config.set={made} --config.extractor.path={classifier}"
    outcome = cli(
        line + " --workdir={work}", made=quick_study.made, classifier=quick_study.classifier, work=tmp_path / "w"
    )
    assert outcome.code == 0, outcome.err
    assert "fid[real_classifier-" in outcome.out and "fid_floor[real_classifier-" in outcome.out


def test_measure_calls_a_classifier_of_synthetic_images_no_real_one(quick_study, copies, tmp_path):
    mixed = quick_study.stage("train", sampler="share", seed=0)
    config = as_config(make_config(quick_study, copies), {"extractor": {"path": str(mixed)}})
    assert do(config, tmp_path / "work").result["extractor"].startswith("classifier-")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"set": ""}, r"config\.extractor\.path or config\.set is empty"),
        ({"set": "no/such/set"}, "no/such/set"),
        ({"extractor": {"path": ""}}, r"config\.extractor\.path or config\.set is empty"),
        ({"extractor": {"name": "vgg"}}, r"config\.extractor\.name is 'vgg', expected one of classifier, vit"),
        ({"extractor": {"path": "no/such/run"}}, "holds no finished 'classify' run"),
        ({"extractor": {"name": "vit", "path": "no_such.npz"}}, r"no_such\.npz: no such file"),
        ({"extractor": {"name": "clip", "path": "no_such"}}, r"no_such has no config\.json"),
        ({"num_images": -1}, r"config\.num_images -1"),
        ({"num_pairs": 0}, r"config\.num_pairs 0"),
        ({"eval": {"batch_size": 30}}, r"eval\.batch_size 30"),
        ({"data": {"n_base": 4}}, "n_base=4"),
    ],
)
def test_measure_refuses_before_anything_is_written(quick_study, copies, tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        do(make_config(quick_study, copies, **changes), tmp_path / "work")
    assert not (tmp_path / "work").exists()
