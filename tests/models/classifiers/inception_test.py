"""Parity of models/classifiers/inception.py with the network that published FIDs are measured with.

inception_parity.npz holds a sixteenth of the features that torch-fidelity 0.4.0's InceptionV3 (whose own
tests hold it to TensorFlow's) gives for the images X, on the weights that `weights_of` makes of every leaf's name. It
is made by `python tests/models/classifiers/inception_test.py` in an environment with torch-fidelity, and the last test
makes it again where there is one.
"""

import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxmoust.models.classifiers import inception
from jaxmoust.train.features import of_inception

STORED = Path(__file__).with_name("inception_parity.npz")
X = np.random.RandomState(0).randint(0, 256, (2, 20, 20, 3)).astype(np.uint8)
EVERY = 16


def weights_of(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Makes weights under which activations keep their size, out of each leaf's name."""
    weights = {}
    for name, shape in shapes.items():
        # RandomState's streams are frozen for ever; a Generator's may change with numpy.
        draw = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, shape)
        if name.endswith(("running_var", "bn.weight")):
            draw = 1 + 0.3 * draw
        elif len(shape) > 1:
            draw = draw * np.sqrt(6 / np.prod(shape[1:]))
        else:
            draw = 0.3 * draw
        weights[name] = draw.astype(np.float32)
    return weights


def answer_of_torch(folder: Path) -> dict[str, np.ndarray]:
    """Names and shapes of the leaves, and every 16th feature of X."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    load, found = torch.nn.Module.load_state_dict, {}

    def take(self, state, *args, **kwargs):  # its constructor loads a file; here it loads what we give it
        shapes = {k: list(v.shape) for k, v in self.state_dict().items() if not k.endswith("num_batches_tracked")}
        found["shapes"] = shapes
        given = {k: torch.from_numpy(v) for k, v in weights_of(shapes).items()}
        return load(self, {**self.state_dict(), **given})

    path = folder / "empty.pth"
    torch.save({}, path)
    try:
        torch.nn.Module.load_state_dict = take
        network = FeatureExtractorInceptionV3("i", ["2048"], feature_extractor_weights_path=path)
    finally:
        torch.nn.Module.load_state_dict = load
    with torch.no_grad():
        (features,) = network(torch.from_numpy(X.transpose(0, 3, 1, 2).copy()))
    return {"shapes": np.array(json.dumps(found["shapes"])), "features": features.numpy()[:, ::EVERY]}


@pytest.fixture(scope="module")
def stored():
    with np.load(STORED) as file:
        return dict(file)


def test_inception_answers_as_the_published_one_on_the_same_weights_and_pixels(stored, tmp_path):
    weights = weights_of(json.loads(str(stored["shapes"])))
    safetensors.numpy.save_file(weights, tmp_path / "fid.safetensors")
    extractor = of_inception(tmp_path / "fid.safetensors")
    assert extractor.name.startswith("inception-")
    found = np.asarray(jax.jit(extractor)(extractor.variables, jnp.asarray(X)))
    assert found.shape == (2, 2048) and stored["features"].std() > 0.1
    np.testing.assert_allclose(found[:, ::EVERY], stored["features"], rtol=0, atol=1e-4)  # 47 layers, features about 1


def test_inception_resamples_as_tensorflow_1_did():
    """Pixel i of the result lies at i size / 299: the first is the first, and nothing is averaged where it shrinks."""
    ramp = np.broadcast_to(np.arange(598.0)[:, None], (598, 598))[None, :, :, None] / 597 * 2 - 1
    found = np.asarray(inception.prepare(jnp.asarray(ramp, jnp.float32)))
    assert found.shape == (1, 299, 299, 3)
    expected = (np.arange(299) * 2 / 597 * 255 - 128) / 128
    np.testing.assert_allclose(found[0, :, 7, 1], expected, atol=1e-5)
    small = np.asarray(inception.prepare(jnp.asarray([[[-1.0], [1.0]], [[-1.0], [1.0]]])[None]))[0, 0, :, 0]
    np.testing.assert_allclose(small[:150] * 128 + 128, np.minimum(np.arange(150) * 2 / 299, 1) * 255, atol=1e-3)
    np.testing.assert_allclose(small[150:] * 128 + 128, 255, atol=1e-3)


def test_inception_refuses_a_file_that_lacks_a_layer(stored, tmp_path):
    shapes = json.loads(str(stored["shapes"]))
    weights = {k: np.zeros(v, np.float32) for k, v in shapes.items() if k != "Mixed_6c.branch7x7_2.conv.weight"}
    safetensors.numpy.save_file(weights, tmp_path / "fid.safetensors")
    with pytest.raises(ValueError, match=r"Mixed_6c\.branch7x7_2\.conv\.weight"):
        of_inception(tmp_path / "fid.safetensors")


@pytest.mark.parametrize("classes", [1000, 0])
def test_inception_of_torchvision_is_not_taken_for_fids(stored, tmp_path, classes):
    """Its names are the same and its head has 1,000 classes; a file without a head does not say whose it is."""
    shapes = json.loads(str(stored["shapes"]))
    weights = {k: np.zeros([classes, *v[1:]] if k.startswith("fc.") else v, np.float32) for k, v in shapes.items()}
    weights = {k: v for k, v in weights.items() if v.size}
    safetensors.numpy.save_file(weights, tmp_path / "inception.safetensors")
    with pytest.raises(ValueError, match=r"no Inception of FID's.*torchvision's.*1,000"):
        of_inception(tmp_path / "inception.safetensors")
    safetensors.numpy.save_file({**weights, "AuxLogits.fc.weight": np.zeros(3)}, tmp_path / "inception.safetensors")
    with pytest.raises(ValueError, match="torchvision's Inception for ImageNet, not FID's"):
        of_inception(tmp_path / "inception.safetensors")


def test_stored_features_are_those_of_torch_fidelity(stored, tmp_path):
    pytest.importorskip("torch_fidelity")
    found = answer_of_torch(tmp_path)
    assert str(found["shapes"]) == str(stored["shapes"])
    np.testing.assert_allclose(stored["features"], found["features"], rtol=0, atol=1e-5)  # torch's kernels differ


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        np.savez_compressed(STORED, **answer_of_torch(Path(folder)))
