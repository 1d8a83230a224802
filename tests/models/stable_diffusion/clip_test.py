"""CLIP of a local folder, and its parity with torch's.

tests/models/clip_parity.npz holds what `transformers.CLIPModel` answers on the weights that `weights_of` makes of every
leaf's name, so that the tests need no torch. It is made by

    python tests/models/stable_diffusion/clip_test.py

in an environment with torch, and `test_stored_answers_are_those_of_torch` makes it again where there is torch.
"""

import json
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

sys.path.insert(0, str(Path(__file__).parents[2]))  # when run as a program

import tiny_stable_diffusion
from tiny_clip import MEAN, STD, STORED, config, weights_of, write_clip

from jaxmoust.models.stable_diffusion.clip import load_clip
from jaxmoust.train.features import of_clip

TEXTS = ["cat", "a dog", "a photo of a dog"]
X = np.random.RandomState(0).uniform(-1, 1, (3, 16, 16, 3)).astype(np.float32)


def answer_of_torch(folder: Path) -> dict[str, np.ndarray]:
    """Names and shapes of the torch model's leaves, its image features [3, 24] and logits [3, texts]."""
    import torch
    import transformers

    tokenizer = tiny_stable_diffusion.write_tokenizer(folder)
    network = transformers.CLIPModel(transformers.CLIPConfig(**config(len(tokenizer)))).eval()
    shapes = {name: list(x.shape) for name, x in network.state_dict().items() if "position_ids" not in name}
    network.load_state_dict({k: torch.from_numpy(v) for k, v in weights_of(shapes).items()}, strict=False)
    pixels = torch.from_numpy(((X / 2 + 0.5 - np.float32(MEAN)) / np.float32(STD)).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        found = network(**tokenizer(TEXTS, padding=True, return_tensors="pt"), pixel_values=pixels)
        image = network.get_image_features(pixels)
    return {
        "shapes": np.array(json.dumps(shapes)),
        "image": image.numpy(),
        "logits": found.logits_per_image.numpy(),
    }


@pytest.fixture(scope="module")
def stored():
    with np.load(STORED) as file:
        return dict(file)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


def test_clip_answers_as_torchs_on_the_same_weights(clip, stored):
    model, params = load_clip(clip)
    image = jax.jit(model.image_features)(params, X)
    np.testing.assert_allclose(image, stored["image"], rtol=0, atol=1e-4)  # a dozen float32 layers, answers about 1
    texts = jax.jit(model.text_features)(params, model.tokenize(TEXTS))
    logits = model.logits(params, image, texts)
    np.testing.assert_allclose(logits, stored["logits"], rtol=0, atol=1e-4)
    assert stored["image"].std(axis=0).min() > 0.01 and np.ptp(stored["logits"]) > 0.1, "they can be told apart"


def test_stored_answers_are_those_of_torch(stored, tmp_path):
    pytest.importorskip("torch")
    found = answer_of_torch(tmp_path)
    assert str(found["shapes"]) == str(stored["shapes"])
    for name in ("image", "logits"):
        np.testing.assert_allclose(stored[name], found[name], rtol=0, atol=1e-5)  # torch's kernels differ by machine


def test_clip_reads_its_own_scale_of_colours(clip):
    model, _ = load_clip(clip)
    own = model.image.preprocessing
    assert (model.image_px, own.mean, own.std) == (16, tuple(MEAN), tuple(STD))


def test_extractor_of_clip_gives_its_image_features_and_is_named_by_it(clip):
    model, params = load_clip(clip)
    extractor = of_clip(clip)
    assert re.fullmatch("clip-[0-9a-f]{8}", extractor.name) and extractor.preprocessing == model.image.preprocessing
    pixels = np.rint((X + 1) * 127.5).astype(np.uint8)
    expected = jax.jit(model.image_features)(params, pixels / np.float32(127.5) - 1)
    np.testing.assert_allclose(jax.jit(extractor)(params, pixels), expected, atol=1e-5)


def test_clip_refuses_what_it_cannot_read(clip, tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        load_clip(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match="holds a 'vit', expected 'clip'"):
        load_clip(tmp_path)
    (tmp_path / "config.json").write_text((clip / "config.json").read_text())
    with pytest.raises(ValueError, match=r"lacks model\.safetensors"):
        load_clip(tmp_path)
    arrays = safetensors.numpy.load_file(clip / "model.safetensors")
    del arrays["visual_projection.weight"]
    safetensors.numpy.save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"visual_projection"):
        load_clip(tmp_path)


def test_clip_refuses_texts_that_it_would_cut(clip):
    with pytest.raises(ValueError, match="tokens long, expected at most 20"):
        load_clip(clip)[0].tokenize(["dog " * 30])


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        np.savez_compressed(STORED, **answer_of_torch(Path(folder)))
