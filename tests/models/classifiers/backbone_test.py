"""Public networks of every family, and parity with torch's; backbone_torch.py wrote what is compared with."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

sys.path.insert(0, str(Path(__file__).parent))

from backbone_torch import STORED, pixels
from pretrained_test import weights_of

from jaxmoust.models.classifiers.backbone import Backbone, load_backbone

with np.load(STORED) as file:
    CONTENT = dict(file)
NAMES = sorted({key.partition("/")[0] for key in CONTENT})


def write(folder: Path, name: str, **config) -> dict[str, np.ndarray]:
    """Writes the files of a network into a folder; returns its tensors."""
    weights = {k: np.asarray(v) for k, v in weights_of(json.loads(str(CONTENT[f"{name}/shapes"]))).items()}
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    own = json.loads(str(CONTENT[f"{name}/config"]))
    if own or config:
        (folder / "config.json").write_text(json.dumps({**own, **config}))
    return weights


def answers(backbone: Backbone, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits of images that a network reads as x."""
    images = x * np.float32(backbone.preprocessing.std) + np.float32(backbone.preprocessing.mean)
    features, head = jax.jit(backbone.features)(backbone.variables, images), backbone.variables["params"]["head"]
    return features, features @ head["kernel"] + head["bias"]


@pytest.mark.parametrize("name", NAMES)
def test_backbone_answers_as_torchs_network(name, tmp_path):
    write(tmp_path, name)
    heads = 2 if name == "tv_vit" else 0
    sizes = [int(key.rpartition("/")[2]) for key in CONTENT if key.startswith(f"{name}/features/")]
    assert sizes
    for side in sizes:
        backbone = load_backbone(tmp_path, image_px=side, num_heads=heads)
        features, logits = answers(backbone, pixels(side))
        expected = CONTENT[f"{name}/features/{side}"]
        assert backbone.num_features == expected.shape[1] and backbone.preprocessing.image_px == side
        assert expected.std(axis=0).max() > 0.01, "the images can be told apart"
        np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4)  # float32 layers, features of order 1
        if f"{name}/logits/{side}" in CONTENT:
            np.testing.assert_allclose(logits, CONTENT[f"{name}/logits/{side}"], rtol=0, atol=1e-4)
