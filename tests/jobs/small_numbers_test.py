"""Verbs on as little as there can be: what can be computed is, and what cannot is said before anything is written."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import RESNET, assert_refused, contents, write_images

BATCHES = "--config.train.batch_size=4 --config.eval.batch_size=4"  # an image on each of the tests' devices


@pytest.fixture
def tiny(cli, tmp_path) -> Path:
    """Two classes of two images, one of which is a test image; a classifier of them, and a set of two images."""
    write_images(tmp_path / "images", per_class=2, classes="01")
    write_images(tmp_path / "generated", per_class=1, classes="01")
    own = "--config.data.source=folder --config.data.path={here}/images --config.data.n_base=0"
    short = f"{BATCHES} --config.train.num_steps=2 --config.optim.warmup_steps=0"
    assert cli(f"train {RESNET} {own} {short} --workdir={{here}}/clf", here=tmp_path).code == 0
    assert cli("data import --path={here}/generated --workdir={here}/set", here=tmp_path).code == 0
    return tmp_path


def test_two_images_are_learnt_from_evaluated_and_scored(cli, tiny):
    result = json.loads((tiny / "clf" / "result.json").read_text())
    low, high = result["top1_interval"]
    assert (result["n"], result["n_base"]) == (2, 2) and 0 <= low <= result["top1"] <= high <= 100
    assert np.isfinite(result["loss"]) and len(result["per_class"]) == 2
    line = "evaluate --config=configs/evaluate.py --config.checkpoint={here}/clf --workdir={here}/evaluated"
    assert cli(line + " --config.eval.batch_size=4", here=tiny).code == 0
    evaluated = json.loads((tiny / "evaluated" / "result.json").read_text())
    assert {k: evaluated[k] for k in ("top1", "n", "per_class")} == {k: result[k] for k in ("top1", "n", "per_class")}
    line = "score --config=configs/score/classifier.py --config.checkpoint={here}/clf --config.set={here}/set"
    assert cli(line + " --config.eval.batch_size=4 --workdir={here}/scores", here=tiny).code == 0
    assert np.isfinite(np.load(tiny / "scores" / "scores.npy")).all()


def test_what_two_images_cannot_say_is_refused_with_what_it_takes(cli, tiny):
    before = contents(tiny)
    own = "--config.data.source=folder --config.data.path={here}/images --config.data.n_base=0 --config.set={here}/set"
    for verb, words in (
        ("domain", "two images of each kind"),
        ("measure --config.extractor.path={here}/clf", "are 2, expected more than 5"),
    ):
        name = verb.split()[0]
        line = f"{verb} --config=configs/{name}/digits.py:quick {own} --workdir={{here}}/work"
        assert_refused(cli(line, here=tiny), words)
    assert contents(tiny) == before
