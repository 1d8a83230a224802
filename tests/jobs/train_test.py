"""What a run keeps of its test images; and one that begins as another, so that what the other saw counts as seen."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import photographs
import pytest
from command_line import RESNET, assert_refused, contents, write_images
from PIL import Image

from jaxmoust.analysis.metrics import METRICS, read_contributions
from jaxmoust.core.tree import named_leaves
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.jobs.parts import classifier
from jaxmoust.jobs.parts.configure import as_config
from jaxmoust.jobs.parts.job import do
from jaxmoust.jobs.parts.registry import BadInput, job_of
from jaxmoust.jobs.train import Train, count_draws
from jaxmoust.runtime.checkpoint import restore_tree
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.parallel import Machine
from jaxmoust.train.loop import Evaluation

QUICK = "configs/classifier/digits_resnet.py:quick"
ADJUSTED = {"data": {"imbalance": "step", "imbalance_ratio": 5.0}, "method": {"logit_adjustment": 1.0}}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run that keeps everything: (its folder, its result)."""
    work = tmp_path_factory.mktemp("kept") / "run"
    return work, do(as_config(QUICK, {**ADJUSTED, "eval": {"keep": "probabilities"}}), work).result


def test_metrics_of_a_run_are_the_means_of_what_it_keeps(kept):
    work, result = kept
    labels = as_job(QUICK).real.test.labels
    assert np.load(work / "probabilities.npy").dtype == np.float16
    for name in METRICS:
        # Probabilities are kept in 11 bits, in which images tie or change their bin.
        near = {"abs": 0.2} if METRICS[name].needs == "probabilities" else {"rel": 1e-6}
        assert read_contributions(work, name, labels, 10).mean() == pytest.approx(result[name], **near), name
    assert np.mean(result["auroc_per_class"]) == pytest.approx(result["auroc"])
    assert min(result["per_class"]) == pytest.approx(result["worst_class"])


def test_evaluation_keeps_what_training_kept(kept, tmp_path):
    def found(name, **settings):
        fields = {"checkpoint": str(kept[0]), "eval": {"keep": "probabilities", **settings}}
        return do(as_config("configs/evaluate.py", fields), tmp_path / name).result

    alike, other, odd = found("alike"), found("other", batch_size=64), found("odd", batch_size=52)
    assert {name: alike[name] for name in METRICS} == {name: kept[1][name] for name in METRICS}
    for name in METRICS:
        assert other[name] == pytest.approx(kept[1][name], rel=1e-5), name
        # In devices' shares of so few images rounding orders pairs anew, and this curve counts each pair.
        assert odd[name] == pytest.approx(kept[1][name], rel=1e-5) or name == "auprc", name
    trained, same, near = (np.load(f / "probabilities.npy") for f in (kept[0], tmp_path / "alike", tmp_path / "odd"))
    np.testing.assert_array_equal(same, trained)
    np.testing.assert_allclose(near, trained, atol=1e-3)  # float16 of roundings by batch size


def as_job(config, changes=None):
    job = Train(as_config(config, changes or {}))
    job.check()
    return job


def test_classes_are_adjusted_by_what_is_drawn():
    """Ten rounds of the shuffle: every image as often as any other, as draws.json counts."""
    job = as_job(QUICK, {**ADJUSTED, "train": {"num_steps": 75, "batch_size": 8}})
    counts = np.sum(count_draws(job.sampler, 75, 8)["counts"], axis=(0, 1))
    assert counts.max() == 5 * counts.min() and counts.sum() == 600
    np.testing.assert_allclose(job.class_shares, counts / 600, rtol=1e-6)
    balanced = as_job(QUICK, {**ADJUSTED, "sampler": {"name": "class_power", "power": 0.0}})
    np.testing.assert_allclose(balanced.class_shares, 0.1, rtol=1e-6)


def test_run_on_a_folder_selects_on_the_validation_split_and_counts_what_it_left_out(tmp_path):
    """The best checkpoint is chosen without the test images, which the result is of; a broken file is in the record."""
    root = photographs.write(tmp_path / "images", each=8)
    (root / "cat" / "broken.jpg").write_bytes(b"")
    data = {"source": "folder", "path": str(root), "image_px": 8, "channels": 1, "n_base": 0, "validation": 0.25}
    train = {"eval_steps": 2, "best_metric": "loss", "num_steps": 4}
    config = as_config(QUICK, {"data": {**data, "on_bad": "skip"}, "train": train})
    result = do(config, tmp_path / "run").result
    assert (result["n_base"], result["n_validation"], result["n"], result["n_skipped"]) == (12, 6, 6, 1)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    seen = [row["eval_loss"] for row in rows if "eval_loss" in row]
    assert len(seen) == 2 and result["loss"] not in seen
    contents = json.loads((tmp_path / "run" / "contents.json").read_text())
    assert "data.validation" in str(contents)


def test_cross_fitted_classifiers_are_adjusted_by_their_own_draws(tmp_path):
    """Half of a set of even classes and all of an uneven base set, in each fold."""
    spec = synthetic.SyntheticSpec("noise", tuple("0123456789"), (8, 8, 1), 40, 40, 0, "planted")
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    synthetic.write_shard(tmp_path / "set", spec, 0, images)
    synthetic.finish(tmp_path / "set", spec)
    data = {"n_base": 60, "imbalance": "step", "imbalance_ratio": 5.0, "synthetic": (str(tmp_path / "set"),)}
    do(as_config(QUICK, {"data": data, "method": {"logit_adjustment": 1.0}}), tmp_path / "run")
    fields = {"checkpoint": str(tmp_path / "run"), "set": str(tmp_path / "set"), "folds": 2}
    job = job_of("score")(as_config("configs/score/classifier.py", fields))
    job.check()
    job.open()
    for shares in job.logits.__self__.shares:
        assert shares.sum() == pytest.approx(1) and shares.max() > 2 * shares.min()
    assert np.isfinite(do(job.config, tmp_path / "score").result["mean"])


def test_probabilities_that_are_too_many_are_refused():
    class Large(SimpleNamespace):
        def __len__(self):
            return 50_000

    task = as_job(QUICK).training.task
    with pytest.raises(
        ValueError, match=r"50,000 images and 20,000 classes would take 1.9 GiB a run, expected at most 1 GiB"
    ):
        classifier.keeping(task, "probabilities", Large(class_names=range(20_000)))
    assert classifier.keeping(task, "ranks", Large(class_names=range(20_000))).keep == "ranks"


def test_test_set_without_images_of_a_class_has_a_record(tmp_path):
    """Of three classes, so without Top-5; None stands where a class has no image."""
    test = SimpleNamespace(labels=np.array([0, 0, 2, 2]), class_names=("a", "b", "c"))
    p = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]], np.float32)
    rank, predicted = np.array([0, 2, 0, 0], np.int32), p.argmax(1)
    loss = -np.log(p[np.arange(4), test.labels])
    arrays = {"rank": rank, "loss": loss, "predicted": predicted, "confidence": p.max(1), "probabilities": p}
    folder = RunFolder.open(tmp_path, {}, {})
    found = classifier.accuracies(Evaluation({"loss": 0.5}, arrays), test, (8, 8, 1), folder, Machine.local(1))
    folder.write_result(found)
    assert found["per_class"] == [50.0, None, 100.0] and "top5" not in found
    assert (found["balanced_accuracy"], found["worst_class"]) == (75.0, 50.0)
    assert found["auroc_per_class"][1] is None


@pytest.fixture(scope="module")
def first(quick_study):
    """The quick study's run of the EDM's images alone: (its folder, its configuration)."""
    for folder in sorted(quick_study.store.glob("train-*")):
        config = json.loads((folder / "config.json").read_text())
        if config["sampler"].get("shares", {}).get("edm") == 1.0:
            return folder, config
    raise AssertionError("the quick study has no arm of synthetic images alone")


def start_from(folder, config, n_base=100, **method):
    """A run on real images that begins as the one of a folder, and learns nothing."""
    changes = {
        "data": {"synthetic": (), "n_base": n_base},
        "sampler": {"name": "random"},
        "method": {"pretrained": str(folder), **method},
        "optim": {"learning_rate": 1e-9, "weight_decay": 0.0},
    }
    return as_config(config, changes)


@pytest.fixture(scope="module")
def second(first, tmp_path_factory):
    work = tmp_path_factory.mktemp("second") / "run"
    return work, do(start_from(*first), work).result


def test_run_begins_where_another_ended(first, second):
    before, after = (restore_tree(folder / "checkpoints")[0] for folder in (first[0], second[0]))
    assert before["step"] == after["step"] == 10
    for name, leaf in named_leaves(before["params"]).items():
        # 10 steps of at most 1e-9 each.
        np.testing.assert_allclose(named_leaves(after["params"])[name], leaf, atol=2e-8)


def test_what_the_first_run_saw_counts_as_seen(first, second, quick_study, tmp_path):
    made = first[1]["data"]["synthetic"][0]
    assert second[1]["n_synthetic"] == 0 and len(second[1]["synthetic_digests"]) == 1
    fields = {"checkpoint": str(second[0]), "set": str(quick_study.store / made)}
    config = as_config("configs/score/classifier.py", fields)
    with pytest.raises(BadInput, match="was itself trained on images of"):
        do(config, tmp_path / "score")


def test_part_of_a_set_that_the_first_run_saw_counts_as_seen(tmp_path):
    """The first run took 20 of its 40 images; the second one's configuration does not say so."""
    spec = synthetic.SyntheticSpec("noise", tuple("0123456789"), (8, 8, 1), 40, 40, 0, "planted")
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    synthetic.write_shard(tmp_path / "set", spec, 0, images)
    synthetic.finish(tmp_path / "set", spec)
    data = {"n_base": 20, "synthetic": (str(tmp_path / "set"),), "n_synthetic": 20}
    config = as_config("configs/classifier/digits_resnet.py:quick", {"data": data})
    do(config, tmp_path / "first")
    unaware = as_config(config, {"data": {"n_synthetic": 0}})
    do(start_from(tmp_path / "first", unaware, n_base=20), tmp_path / "second")
    fields = {"checkpoint": str(tmp_path / "second"), "set": str(tmp_path / "set")}
    with pytest.raises(BadInput, match="was itself trained on images of"):
        do(as_config("configs/score/classifier.py", fields), tmp_path / "score")


def test_another_network_is_refused_with_its_leaves(first, tmp_path):
    folder, config = first
    wider = as_config(start_from(folder, config), {"model": {"width": 6}})
    with pytest.raises(BadInput, match=r"another network.*\n.*conv0/kernel is \(3, 3, 4, 4\), wanted \(3, 3, 6, 6\)"):
        do(wider, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ('arms[-1]["model"] = {"width": 24}', "expected one of the same network"),
        ('config["domains"] = {"gap": {**GAP, "arm": "outside"}}', "expected one that knows real images alone"),
        ('config["domains"] = {"gap": {**GAP, "arm": "real"}}', "expected one that knows real images alone"),
    ],
)
def test_study_that_would_be_refused_at_a_later_stage_is_refused_before_the_first(cli, tmp_path, changed, said):
    """The arms of the experiment begin as one that trains on synthetic images."""
    config = tmp_path / "experiment.py"
    config.write_text(EXPERIMENT.replace("CHANGED", changed))
    outcome = cli(
        "study --config={config} --workdir={work} --store={store}",
        config=config,
        work=tmp_path / "w",
        store=tmp_path / "s",
    )
    assert outcome.code == 2 and said in outcome.err
    assert not (tmp_path / "w").exists() and not (tmp_path / "s").exists()


EXPERIMENT = """
from jaxmoust.config import read_config

GAP = {"set": "edm", "config": "configs/domain/digits.py:quick"}


def get_config(arg=""):
    config = read_config("experiments/pretrained_vit.py:quick")
    arms = config["arms"]
    CHANGED
    return config
"""


def test_workdir_of_images_that_have_changed_is_refused_and_one_of_moved_images_is_found(cli, tmp_path):
    images, work = write_images(tmp_path / "images"), tmp_path / "work"
    line = f"train {RESNET} --config.data.source=folder --config.data.n_base=0 --config.data.path={{path}} "
    first = cli(line + "--workdir={work}", path=images, work=work)
    assert first.code == 0 and "found" not in first.out
    moved = images.rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to(moved)
    for path in (moved, tmp_path / "link"):
        again = cli(line + "--workdir={work}", path=path, work=work)
        assert again.code == 0 and re.search(r"found: it was finished on \d{4}-\d\d-\d\d \d\d:\d\d", again.out)
    files = {file.name: file for file in sorted(moved.rglob("*.png"))}
    before = contents(work)
    for file in files.values():
        pixels = np.array(Image.open(file))
        Image.fromarray(255 - pixels).save(file)
    outcome = cli(line + "--workdir={work}", path=moved, work=work)
    assert_refused(outcome, "data.base: folder has content", "data.test: folder has content")
    assert contents(work) == before


def test_data_folder_missing_or_empty_is_refused(train_on_folder, tmp_path):
    assert_refused(train_on_folder(), str(tmp_path / "images"), "existing folder")
    (tmp_path / "images").mkdir()
    assert_refused(train_on_folder(), str(tmp_path / "images"), "no class folder", "Fill the folder")
    write_images(tmp_path / "images", per_class=0)
    assert_refused(train_on_folder(), str(tmp_path / "images" / "0"), "no image")


@pytest.mark.parametrize("kept_bytes", [0, 20, 60], ids=["empty", "half a header", "half the pixels"])
def test_data_unreadable_image_is_named(train_on_folder, tmp_path, kept_bytes):
    """Whether its header or its pixels are gone, and before anything is written."""
    broken = write_images(tmp_path / "images") / "3" / "02.png"
    broken.write_bytes(broken.read_bytes()[:kept_bytes])
    assert_refused(train_on_folder(), str(broken))


def test_data_of_several_sizes_is_refused_without_image_px(train_on_folder, tmp_path):
    images = write_images(tmp_path / "images")
    Image.new("L", (9, 7)).save(images / "4" / "odd.png")
    assert_refused(train_on_folder(), "not all square and of one size", "data.image_px")
    assert train_on_folder("--config.data.image_px=8 --config.data.channels=1").code == 0


def test_data_synthetic_set_of_other_classes_is_refused(cli, train_mixed, tmp_path):
    images = write_images(tmp_path / "seven", classes="0123456")
    assert cli("data import --path={a} --workdir={b}", a=images, b=tmp_path / "set").code == 0
    assert_refused(
        train_mixed(tmp_path / "set", name="set_seven"), str(tmp_path / "set"), "'6')", "'9')", "same classes"
    )


def test_data_synthetic_set_that_is_none_is_refused(train_mixed, quick_study, tmp_path):
    assert_refused(train_mixed(tmp_path / "nowhere"), str(tmp_path / "nowhere"), "finished synthetic set")
    assert_refused(train_mixed(quick_study.generator), str(quick_study.generator), "finished synthetic set")


def test_data_truncated_shard_is_named(train_mixed, quick_study, tmp_path):
    made = shutil.copytree(quick_study.made, tmp_path / "set")
    shard = sorted(made.glob("*array_record-00001*"))[0]
    shard.write_bytes(shard.read_bytes()[:-100])
    assert_refused(train_mixed(made), shard.name, "Run the job that wrote the set again")


def test_data_more_synthetic_images_than_there_are_is_refused(train_mixed, quick_study):
    assert_refused(train_mixed(quick_study.made, "--config.data.n_synthetic=41"), "n_synthetic 41", "holds 40")


def test_data_shares_that_do_not_fit_the_pool_are_refused(train_mixed, quick_study):
    sets = quick_study.made
    assert_refused(train_mixed(sets, "--config.sampler.shares.edm=0.6"), "sum to 1.1", "sum of 1")
    assert_refused(train_mixed(sets, name="ddpm"), "['ddpm', 'real']", "['edm', 'real']")
    assert_refused(train_mixed(sets, "--config.sampler.shares.edm=half"), "half")
