"""Laws of jobs/clip_score.py: the score is p(class | image), and what reads scores reads it."""

import csv
import json

import jax
import numpy as np
import pytest
import tiny_clip

from jaxmoust.data.synthetic.store import open_synthetic
from jaxmoust.jobs.clip_score import probabilities
from jaxmoust.jobs.parts.configure import as_config
from jaxmoust.jobs.parts.job import do
from jaxmoust.jobs.parts.registry import BadInput
from jaxmoust.models.stable_diffusion.clip import load_clip
from jaxmoust.train.features import of_clip


def make_config(folder, made, **changes) -> dict:
    config = as_config("configs/score/clip.py", {"clip": str(folder), "set": str(made)})
    return as_config(config, {"prompts": {"template": "a {}"}, **changes})


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny_clip.write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def scored(clip, quick_study, tmp_path_factory):
    work = tmp_path_factory.mktemp("scored") / "clip"
    do(make_config(clip, quick_study.made), work)
    return work


def test_clip_score_is_the_probability_of_the_class_among_all(scored, clip, quick_study):
    made, (model, params) = open_synthetic(quick_study.made), load_clip(clip)
    extractor = of_clip(clip)
    pixels = np.stack([extractor.preprocessing(np.repeat(made.read(i), 3, axis=-1)) for i in range(len(made))])
    images = jax.jit(extractor)(params, pixels)
    texts = jax.jit(model.text_features)(params, model.tokenize([f"a {name}" for name in made.class_names]))
    expected = jax.nn.softmax(model.logits(params, images, texts), axis=1)[np.arange(len(made)), made.labels]
    found = np.load(scored / "scores.npy")
    np.testing.assert_allclose(found, expected, rtol=1e-4)  # float32 features of two programs, times a scale of 7
    assert np.ptp(found) > 0
    result = json.loads((scored / "result.json").read_text())
    assert (result["n"], result["score"]) == (40, "clip") and result["extractor"].startswith("clip-")
    assert result["above_chance"] == (found > 0.1).mean()


def test_clip_scores_are_read_by_filters(scored, quick_study, tmp_path):
    config = as_config(f"configs/classifier/digits_resnet.py:quick,synthetic={quick_study.made},share=0.5")
    config = as_config(config, {"data": {"scores": str(scored), "drop_lowest": 0.25, "drop_per_class": False}})
    assert do(config, tmp_path / "work").result["n_synthetic"] == 30


def test_probabilities_follow_directions_and_sum_to_one():
    texts = np.eye(3)
    images = np.array([[5.0, 0, 0], [0, 0.1, 0.1], [1, 1, 1]])
    found = probabilities(images, texts, 100.0)
    np.testing.assert_allclose(found, [[1, 0, 0], [0, 0.5, 0.5], [1 / 3] * 3], atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clip": ""}, r"config\.clip or config\.set is empty"),
        ({"clip": "no_such"}, r"no_such has no config\.json"),
        ({"set": "no_such"}, "no_such"),
        ({"prompts": {"template": "a photo"}}, r"each with one \{\}"),
        ({"prompts": {"template": "a {} " + "dog " * 30}}, "tokens long"),
        ({"eval": {"batch_size": 30}}, r"eval\.batch_size 30"),
    ],
)
def test_clip_score_refuses_before_anything_is_written(clip, quick_study, tmp_path, changes, said):
    with pytest.raises(BadInput, match=said):
        do(make_config(clip, quick_study.made, **changes), tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_study_filters_by_clip(cli, clip, quick_study, tmp_path):
    line = "study --config=experiments/filters.py:quick,clip={clip} --config.seeds=0, --workdir={work} --store={store}"
    outcome = cli(line, clip=clip, work=tmp_path / "work", store=quick_study.store)
    assert outcome.code == 0 and "score clip of sd, seed 0" in outcome.out
    with open(tmp_path / "work" / "results.csv") as file:
        rows = {row["arm"]: int(row["n_synthetic"]) for row in csv.DictReader(file)}
    assert 0 < rows["clip_chance"] < rows["all"] == 40


def test_study_refuses_a_clip_that_is_not_there_before_anything_runs(cli, quick_study, tmp_path):
    line = "study --config=experiments/filters.py:quick,clip=no_such --workdir={work} --store={store}"
    outcome = cli(line, work=tmp_path / "work", store=quick_study.store)
    assert outcome.code == 2 and "no_such has no config.json" in outcome.err and not (tmp_path / "work").exists()
