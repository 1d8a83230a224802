"""A study's probes stand on features computed once: of whole splits, whatever base sets arms and seeds take."""

import pytest
from tiny_backbone import write_backbone

from jaxmoust.jobs.parts.configure import configuration
from jaxmoust.jobs.study import Study


@pytest.fixture(scope="module")
def lay_out(tmp_path_factory):
    backbone = write_backbone(tmp_path_factory.mktemp("study") / "backbone")

    def study(*words):
        words = (*words, "--config.data.source=digits", "--config.data.path=", "--config.seeds=0,1,2")
        path = f"experiments/photographs.py:quick,px=8,backbone={backbone},base=40"
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
