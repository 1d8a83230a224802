"""Laws of jobs/export.py: what a classifier leaves as, what its files say of it, and what is refused."""

import json

import numpy as np
import pytest
import safetensors.numpy
from command_line import assert_refused, contents

from jaxmoust.build import CLASSIFIER_MODELS, make_module
from jaxmoust.core.tree import named_leaves
from jaxmoust.jobs import export
from jaxmoust.jobs.parts.configure import as_config
from jaxmoust.jobs.parts.inputs import Inputs, Output
from jaxmoust.jobs.parts.streams import plain_form
from jaxmoust.models.classifiers.layouts import LAYOUTS
from jaxmoust.models.classifiers.preprocessing import Preprocessing, preprocessing_of
from jaxmoust.models.classifiers.vit import ViT
from jaxmoust.train.loop import variables_of
from jaxmoust.train.warm_start import read_state

LINE = "export --checkpoint={c} --workdir={w}"


def test_export_of_a_network_that_began_as_none_leaves_every_number_under_its_own_name(cli, trained, tmp_path):
    outcome = cli(LINE, c=trained, w=tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert set(contents(tmp_path / "out")) == {
        *("model.safetensors", "config.json", "preprocessor_config.json", "README.md")
    }
    tensors = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
    leaves = named_leaves(variables_of(read_state(trained)))
    assert {name.replace("/", ".") for name in leaves} == set(tensors)
    for name, leaf in leaves.items():
        np.testing.assert_array_equal(tensors[name.replace("/", ".")], leaf)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["class_names"] == list("0123456789") and config["name"] == "resnet"
    before = contents(tmp_path)
    assert_refused(cli(LINE, c=trained, w=tmp_path / "out"), "not empty")
    assert_refused(cli(LINE + " --like={n}", c=trained, w=tmp_path / "new", n=tmp_path / "none.npz"), "no such file")
    assert_refused(cli(LINE, c=tmp_path, w=tmp_path / "new"), "holds no finished 'classify' run")
    assert contents(tmp_path) == before


def test_card_says_what_it_was_trained_on_and_how_sure_it_is_and_no_path(trained):
    output = Inputs().output(str(trained), "classify", "train")
    result = {**output.result, "n_synthetic": 40, "share": 0.5, "top1": 81.234, "top1_interval": (78.4, 83.8)}
    data = {**output.config["data"], "synthetic": ("/home/me/sets/edm",)}
    config = {**output.config, "data": data, "method": {"pretrained": "/home/me/vit.safetensors"}}
    card = export.model_card(Output(config, result, None), "timm")
    assert card.startswith("---\npipeline_tag: image-classification\nlibrary_name: timm\n---\n")
    for words in (
        "100 real images of digits",
        "40 synthetic images (edm) make up 50%",
        "began as vit.safetensors",
        "Top-1 81.23 % on 797 test images that this training did not see, 95 % interval [78.40, 83.80]",
    ):
        assert words in card, words
    assert "/home" not in card
    probe = {**config, "model": {"name": "backbone", "weights": "/home/me/dinov2-small"}}
    card = export.model_card(Output(probe, {**result, "learn": "probe", "l2": 0.001}, None), "timm")
    assert "\n# dinov2-small for 10 classes\n" in card and "steps" not in card and "/home" not in card
    assert "a linear head, fitted on the features of dinov2-small, left unchanged (penalty 0.001)." in card


@pytest.mark.parametrize("family", ["Hugging Face", "timm"])
def test_config_is_the_public_files_own_with_these_classes_size_and_colours(family):
    config = as_config(
        {
            **{"task": "classify", "data": {"source": "digits"}, "train": {"num_steps": 1, "batch_size": 1}},
            "model": {"name": "resnet", "stage_sizes": (1,), "block": "basic", "imagenet_colours": True},
        }
    )
    output = Output(config, {"class_names": ["cat", "owl"], "image_shape": (32, 32, 3)}, None)
    said = {
        "model_type": "resnet",
        "image_size": 224,
        "depths": [1],
        "architecture": "resnet18",
        "id2label": {"0": "x"},
    }
    seen = export._seen(make_module(config["model"], CLASSIFIER_MODELS, num_classes=2), plain_form((32, 32, 3)))
    found = export._config(family, said, seen, output)
    assert found["depths"] == [1] and found["architecture"] == "resnet18"
    if family == "timm":
        cfg = found["pretrained_cfg"]
        assert (cfg["num_classes"], cfg["input_size"], cfg["mean"][0]) == (2, [3, 32, 32], 0.485)
        assert found["label_names"] == ["cat", "owl"]
    else:
        assert found["architectures"] == ["ResNetForImageClassification"] and found["image_size"] == 32
        assert found["id2label"] == {0: "cat", 1: "owl"} and found["label2id"] == {"cat": 0, "owl": 1}
    how = export._preprocessing(seen)
    assert how["size"] == {"shortest_edge": 32} and how["image_std"][2] == 0.225


@pytest.mark.parametrize(
    "how",
    [
        Preprocessing(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 256, interpolation="bilinear"),
        Preprocessing(384, resize_px=384, squash=True),
        Preprocessing(224, resize_px=256, squash=True, interpolation="lanczos"),
        Preprocessing(224, resize_px=224),
    ],
)
@pytest.mark.parametrize("library", ["Hugging Face", "timm"])
def test_preprocessing_that_leaves_is_the_one_that_is_read_again(how, library, tmp_path):
    output = Output(as_config("configs/classifier/digits_resnet.py"), {"class_names": ["a"]}, None)
    said, name = export._preprocessing(how), "preprocessor_config.json"
    if library == "timm":
        said, name = export._config("timm", {}, how, output), "config.json"
    (tmp_path / name).write_text(json.dumps(said))
    assert preprocessing_of(tmp_path, LAYOUTS[0], ViT(num_classes=0, width=24, depth=1, num_heads=2), 224) == how
