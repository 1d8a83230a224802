"""Laws of models/classifiers/backbone.py."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

sys.path.insert(0, str(Path(__file__).parent))

from pretrained_test import STORED, X, weights_of

from jaxmoust.models.classifiers.backbone import Preprocessing, load_backbone


@pytest.mark.parametrize("name", ["vit12", "resnet18", "resnet50"])
def test_backbone_answers_as_torchs_network(name, tmp_path):
    with np.load(STORED) as file:
        weights, expected = weights_of(json.loads(str(file[f"{name}/shapes"]))), file[f"{name}/logits"]
    safetensors.numpy.save_file(weights, tmp_path / "model.safetensors")
    backbone = load_backbone(tmp_path, num_heads=3 if name == "vit12" else 0)
    images = X * np.float32(backbone.preprocessing.std) + np.float32(backbone.preprocessing.mean)
    features = jax.jit(backbone.features)(backbone.variables, images)
    assert features.shape == (4, backbone.num_features)
    kernel = weights.get("classifier.weight", weights.get("classifier.1.weight"))
    bias = weights.get("classifier.bias", weights.get("classifier.1.bias"))
    np.testing.assert_allclose(features @ kernel.T + bias, expected, atol=1e-4)  # dozens of float32 layers


@pytest.mark.parametrize("squash", [False, True])
def test_preprocessing_cuts_the_middle_or_squashes(squash):
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 10:30] = 200
    square = Preprocessing(10, squash=squash, interpolation="bilinear")(image)
    assert square.shape == (10, 10, 3)
    assert (square[:, [0, -1]] < 100).all() == squash
