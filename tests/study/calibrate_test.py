"""What was never computed is tried for a moment: every kind of stage can be, before those have run that it needs."""

import pytest
from command_line import write_images
from tiny_backbone import write_backbone

from jaxmoust.jobs.parts.configure import configuration
from jaxmoust.jobs.study import Study

DIGITS = ("--config.data.source=digits", "--config.data.path=")


def of_each_kind(file: str, folder, *words: str) -> tuple[Study, dict]:
    """A study of which nothing has run, and the first stage of each kind and task."""
    study = Study(configuration(f"experiments/{file}", [*words])[1], folder / "stages")
    study.check(folder / "work")
    found: dict = {}
    for stage in study.experiment.stages:
        found.setdefault((stage.kind, stage.config["task"]), stage)
    return study, found


def test_every_kind_of_stage_of_photographs_is_tried_before_anything_has_run(tmp_path, monkeypatch):
    backbone, mine = write_backbone(tmp_path / "backbone"), write_images(tmp_path / "mine")
    words = f"external,quick,px=8,base=40,backbone={backbone},mine={mine}"
    study, stages = of_each_kind(f"photographs.py:{words}", tmp_path, *DIGITS)
    kinds = {"fit", "sample", "features", "train", "domain", "measure"}
    assert {kind for kind, _ in stages} == kinds and ("sample", "imported") in stages
    assert all(study.calibrate(stage) > 0 for stage in stages.values())
    said = sorted(study.memory_words())  # of a probe, and of images that lie there, nothing is said
    subjects = ["features of images", "fit finetune lora", "sample sd", "sample sd_lora"]
    assert [words.partition(":")[0] for words in said] == subjects
    assert all(words.endswith("on one device; a GPU or TPU core of 16 GB holds it.") for words in said)
    monkeypatch.setattr("jaxmoust.jobs.study.SMALL_GPU_BYTES", 1e3)
    assert all("does not hold it; what needs less is a smaller " in words for words in study.memory_words())


@pytest.mark.parametrize(("file", "kinds"), [("filters.py", ("score",)), ("my_images.py", ("fit", "sample"))])
def test_scores_and_generators_of_pixels_are_tried_before_anything_has_run(tmp_path, file, kinds):
    study, stages = of_each_kind(f"{file}:digits,quick", tmp_path)
    tried = {kind: study.calibrate(stage) for (kind, _), stage in stages.items() if kind in kinds}
    assert set(tried) == set(kinds) and all(seconds > 0 for seconds in tried.values())


@pytest.mark.parametrize("learn", ["lora", "full"])
def test_what_a_public_network_needs_of_a_small_gpu_is_said_once_and_what_would_need_less(tmp_path, monkeypatch, learn):
    backbone = write_backbone(tmp_path / "backbone")
    words = (*DIGITS, f"--config.classifier.method.learn={learn}")
    study, _ = of_each_kind(f"photographs.py:finetune,quick,px=8,base=40,backbone={backbone}", tmp_path, *words)
    (said,) = (words for words in study.memory_words() if words.startswith("classifiers"))
    assert said.startswith(f"classifiers, method.learn '{learn}': ") and said.endswith(
        "a GPU or TPU core of 16 GB holds it."
    )
    monkeypatch.setattr("jaxmoust.jobs.study.SMALL_GPU_BYTES", 1e3)
    (said,) = (words for words in study.memory_words() if words.startswith("classifiers"))
    assert "does not hold it; what needs less is a smaller train.batch_size" in said and "'lora' or 'probe'" in said
