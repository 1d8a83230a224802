"""Trained trees leave under the names, with the shapes and with every number that a public file has.

The files are those of backbone_torch.py: state dicts of Hugging Face, timm and torchvision.
"""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

sys.path.insert(0, str(Path(__file__).parent))

from backbone_test import NAMES, write

from jaxmoust.models.classifiers.backbone import load_backbone
from jaxmoust.models.classifiers.headed import with_head
from jaxmoust.models.classifiers.leaving import as_public, network_of, own_tensors
from jaxmoust.models.classifiers.vit import ViT

HEADS = ("classifier.", "head.weight", "head.bias", "head.fc.", "fc.", "visual_projection.")
# Files whose head is of two tokens, or that have none for a classifier; those that say too little to be read.
REFUSED = {"hf_clip", "hf_siglip", "hf_deit_distilled", "timm_deit_distilled"}
READABLE = [name for name in NAMES if name not in ("timm_resnet", "tv_vit")]
# What files hold that no classifier computes with.
LEFT = ("text_model.", "logit_scale", "logit_bias")


def trained(backbone, num_classes=3):
    """A backbone with a head for other classes, every number of both moved."""
    model = with_head(backbone.source, num_classes)
    rng = np.random.default_rng(0)
    width = backbone.num_features
    head = {"kernel": rng.normal(size=(width, num_classes)).astype(np.float32), "bias": np.arange(3, dtype=np.float32)}
    own = {name: part for name, part in backbone.variables["params"].items() if name != "head"}
    tree = {"params": {"backbone": own}, "stats": {"backbone": backbone.variables["stats"]}}
    moved = jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape).astype(np.float32), tree)
    return model, {**moved, "params": {**moved["params"], "head": head}}


@pytest.mark.parametrize("name", [name for name in READABLE if name not in REFUSED])
def test_tree_that_was_read_of_a_file_leaves_as_that_file_but_for_the_head(name, tmp_path):
    weights = write(tmp_path, name)
    backbone = load_backbone(tmp_path)
    tensors = as_public(tmp_path, backbone.module, backbone.variables)[1]
    for tensor, array in tensors.items():
        if backbone.module.num_classes or not tensor.startswith(HEADS):
            assert tensor in weights and tensors[tensor].dtype == array.dtype
            np.testing.assert_array_equal(array, weights[tensor], err_msg=tensor)
    assert all(any(part in left for part in LEFT) for left in weights.keys() - tensors.keys())


@pytest.mark.parametrize("name", ["hf_dinov2_registers", "timm_reg_gap"])
def test_backbone_with_a_head_for_other_classes_answers_alike_when_it_is_read_again(name, tmp_path):
    """Also where a token's place, which the file has not, has been learnt: it goes into the token."""
    write(tmp_path, name)
    backbone = load_backbone(tmp_path)
    network, tree = network_of(*trained(backbone))
    tensors = as_public(tmp_path, network, tree)[1]
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    again = load_backbone(tmp_path)
    assert again.module.num_classes == 3
    px = again.preprocessing.image_px
    x = np.random.default_rng(1).normal(size=(2, px, px, 3)).astype(np.float32)
    found = jax.jit(again.module.apply)({"params": again.variables["params"]}, x)
    expected = jax.jit(network.apply)({"params": tree["params"]}, x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)  # a sum of two numbers is rounded once more


def test_file_without_a_head_and_prefixes_gets_both(tmp_path):
    """As Hugging Face's ViTModel is saved: no "vit.", no classifier, a pooler that no classifier computes with."""
    weights = write(tmp_path, "hf_vit")
    base = {name.removeprefix("vit."): array for name, array in weights.items() if "classifier" not in name}
    base["pooler.dense.weight"] = np.zeros((24, 24), np.float32)
    safetensors.numpy.save_file(base, tmp_path / "model.safetensors")
    network, tree = network_of(*trained(load_backbone(tmp_path)))
    assert as_public(tmp_path, network, tree, "vit.")[1].keys() == weights.keys()


@pytest.mark.parametrize("name", sorted(REFUSED - {"hf_siglip"}))
def test_layout_without_a_place_for_the_head_is_refused(name, tmp_path):
    write(tmp_path, name)
    network, tree = network_of(*trained(load_backbone(tmp_path)))
    with pytest.raises(ValueError, match="has no place for params/head"):
        as_public(tmp_path, network, tree)


def test_tree_of_another_network_than_the_files_is_refused(tmp_path):
    write(tmp_path, "timm_vit")
    network, tree = network_of(*trained(load_backbone(tmp_path)))
    assert isinstance(network, ViT)
    tree["params"]["norm"]["scale"] = np.ones(5, np.float32)
    with pytest.raises(ValueError, match=r"no place for params/norm/scale \(5,\)"):
        as_public(tmp_path, network, tree)


def test_own_names_are_those_of_the_tree():
    tree = {"params": {"head": {"kernel": np.ones((2, 3)).T}}, "stats": {}}
    (tensor,) = own_tensors(tree).items()
    assert tensor[0] == "params.head.kernel" and tensor[1].flags.c_contiguous
