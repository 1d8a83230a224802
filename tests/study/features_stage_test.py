"""A study's probes stand on features computed once: of whole splits, whatever base sets arms and seeds take."""

from types import SimpleNamespace

import pytest
from tiny_backbone import write_backbone

from jaxmoust.jobs.parts.configure import configuration
from jaxmoust.jobs.study import Study
from jaxmoust.models.stable_diffusion.memory import Need
from jaxmoust.study.store import Stage


@pytest.fixture(scope="module")
def lay_out(tmp_path_factory):
    backbone = write_backbone(tmp_path_factory.mktemp("study") / "backbone")

    def study(*words):
        words = (*words, "--config.data.source=digits", "--config.data.path=", "--config.seeds=0,1,2")
        path = f"experiments/photographs.py:quick,px=8,backbone={backbone},base=80"
        return Study(configuration(path, [*words])[1], backbone.parent / "stages")

    return study


def test_arms_and_seeds_share_features_of_their_images(lay_out, monkeypatch, tmp_path):
    study = lay_out()
    stages = study.experiment.stages
    kinds = {kind: [stage for stage in stages if stage.kind == kind] for kind in ("features", "train")}
    assert len(kinds["train"]) == 5 * 3  # three controls and the learning curve, of three base sets
    looks = [(one.config["part"], one.config["views"], one.config["data"]["n_base"]) for one in kinds["features"]]
    assert looks == [("train", 5, 0), ("test", 1, 0), ("train", 5, 0)]  # one more for the stronger augmentation
    assert {study.experiment.describe(one) for one in kinds["features"]} >= {"features of test images, n_base all"}
    study.check(tmp_path / "work")


def test_stages_of_a_probe_are_tried_before_they_run(lay_out, tmp_path):
    study = lay_out()
    study.check(tmp_path / "work")
    tried = {stage.kind: study.calibrate(stage) for stage in study.experiment.stages[:3]}
    assert set(tried) == {"features", "train"} and all(seconds > 0 for seconds in tried.values())
    (words,) = study.memory_words()
    assert words.startswith("features of images: ") and words.endswith(
        "on one device; a GPU or TPU core of 16 GB holds it."
    )


def test_fine_tuning_says_once_what_it_needs_of_a_small_gpu(monkeypatch):
    stages = [Stage("fit", {"seed": seed}) for seed in (0, 1)] + [Stage("score", {"seed": 0})]
    study = SimpleNamespace(
        experiment=SimpleNamespace(stages=stages, describe=lambda stage: f"fit lora, base_seed {stage.config['seed']}"),
        store=SimpleNamespace(has=lambda stage: False),
        _plan=lambda stage: SimpleNamespace(need_alone=Need({"parameters": 6 * 2**30})),
    )
    (words,) = Study.memory_words(study)
    assert words == "fit lora: 6.0 GiB: parameters 6.0 on one device; a GPU or TPU core of 16 GB holds it."
    monkeypatch.setattr("jaxmoust.jobs.study.SMALL_GPU_BYTES", 8e9)
    assert "does not hold it; what needs less is a smaller train.batch_size" in Study.memory_words(study)[0]
