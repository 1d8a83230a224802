"""Trained trees leave under the names, with the shapes and with every number that a public file has.

leaving_shapes.json holds the names and shapes of state dicts of timm and torchvision. It is made by

    python tests/models/classifiers/leaving_test.py

in an environment with torch, timm and torchvision; Hugging Face's stand in pretrained_parity.npz.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxmoust.models.classifiers.leaving import as_public, own_tensors
from jaxmoust.models.classifiers.pretrained import load_pretrained, put_leaves
from jaxmoust.models.classifiers.resnet import DEPTHS, ResNet
from jaxmoust.models.classifiers.vit import ViT

HERE = Path(__file__).parent
CLASSES = 7  # of the stored ones
TIMM_VIT = dict(img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3)
MODELS = {
    "Hugging Face/vit12": ViT(num_classes=CLASSES, width=24, depth=12, num_heads=3, patch_px=8),
    "Hugging Face/resnet18": ResNet(num_classes=CLASSES, width=8, **DEPTHS[18]),
    "timm/vit": ViT(num_classes=CLASSES, width=24, depth=3, num_heads=3, patch_px=8),
    "torchvision/resnet": ResNet(num_classes=CLASSES, stage_sizes=(1, 1, 1, 1), block="basic"),
}


@pytest.fixture(params=MODELS)
def public(request, tmp_path):
    """(the model, a public file of its layout, what is in it, the layout's family)."""
    family, _, name = request.param.partition("/")
    if family == "Hugging Face":
        with np.load(HERE / "pretrained_parity.npz") as file:
            shapes = json.loads(str(file[f"{name}/shapes"]))
    else:
        shapes = json.loads((HERE / "leaving_shapes.json").read_text())[request.param]
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {name: np.int64(3) for name in arrays if name.endswith("num_batches_tracked")}
    safetensors.numpy.save_file({name: np.asarray(array) for name, array in arrays.items()}, tmp_path / "m.safetensors")
    return MODELS[request.param], tmp_path / "m.safetensors", arrays, family


def tree_of(model, path, size_px=32):
    """The variables of a model that has read a public file."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, size_px, size_px, 3), np.float32))
    tree = {"params": shapes["params"], "stats": shapes.get("batch_stats", {})}
    tree = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.25, leaf.dtype), tree)
    return jax.device_get(put_leaves(tree, load_pretrained(path, model, tree)))


def test_tree_that_was_read_of_a_file_leaves_as_that_file(public):
    model, path, arrays, family = public
    found, tensors = as_public(path, model, tree_of(model, path))
    assert found == family and tensors.keys() == arrays.keys()
    for name, array in arrays.items():
        assert tensors[name].dtype == np.asarray(array).dtype
        np.testing.assert_array_equal(tensors[name], array)


def test_tree_of_other_classes_and_sizes_leaves_with_its_own_and_is_read_again(public):
    model, path, arrays, _ = public
    model = model.clone(num_classes=3)
    tree = tree_of(model, path, size_px=64)
    tensors = as_public(path, model, tree)[1]
    assert tensors.keys() == arrays.keys()
    (kernel,) = [
        name for name in ("classifier.weight", "classifier.1.weight", "head.weight", "fc.weight") if name in arrays
    ]
    assert tensors[kernel].shape == (3, arrays[kernel].shape[1])
    again = path.with_name("again.safetensors")
    safetensors.numpy.save_file(tensors, again)
    jax.tree.map(np.testing.assert_array_equal, tree_of(model, again, size_px=64), tree)


@pytest.mark.parametrize("public", [name for name in MODELS if name.startswith("Hugging Face")], indirect=True)
def test_file_without_a_head_and_prefixes_gets_both(public):
    model, path, arrays, _ = public
    kind = "vit" if isinstance(model, ViT) else "resnet"
    base = {name.removeprefix(f"{kind}."): array for name, array in arrays.items() if "classifier" not in name}
    safetensors.numpy.save_file({**base, "pooler.dense.weight": np.zeros((24, 24), np.float32)}, path)
    tensors = as_public(path, model, tree_of(model, path), f"{kind}.")[1]
    assert tensors.keys() == arrays.keys()  # and no pooler, with which no classifier computes


def test_tree_of_another_network_than_the_files_is_refused(public):
    model, path, _, _ = public
    tree = tree_of(model, path)
    tree["params"]["head"]["kernel"] = tree["params"]["head"]["kernel"][:-1]
    name = "norm" if isinstance(model, ViT) else "stem_norm"
    tree["params"][name]["scale"] = np.ones(5, np.float32)
    with pytest.raises(ValueError, match=rf"no place for params/{name}/scale \(5,\)"):
        as_public(path, model, tree)


def test_own_names_are_those_of_the_tree():
    tree = {"params": {"head": {"kernel": np.ones((2, 3)).T}}, "stats": {}}
    (tensor,) = own_tensors(tree).items()
    assert tensor[0] == "params.head.kernel" and tensor[1].flags.c_contiguous


if __name__ == "__main__":
    import timm
    import torchvision

    networks = {
        "timm/vit": timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, **TIMM_VIT),
        "torchvision/resnet": torchvision.models.ResNet(
            torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=CLASSES
        ),
    }
    shapes = {name: {k: list(v.shape) for k, v in net.state_dict().items()} for name, net in networks.items()}
    (HERE / "leaving_shapes.json").write_text(json.dumps(shapes))
