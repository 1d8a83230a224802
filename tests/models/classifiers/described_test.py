"""Laws of models/classifiers/described.py: a network's sizes are those of its arrays, the rest its config's."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxmoust.build import make_network
from jaxmoust.core.tree import named_leaves
from jaxmoust.models.classifiers.backbone import load_backbone
from jaxmoust.models.classifiers.described import module_of
from jaxmoust.models.classifiers.headed import leaves_of, loaded
from jaxmoust.models.classifiers.pretrained import load_pretrained, open_layout, put_leaves
from jaxmoust.models.classifiers.vit import ViT
from jaxmoust.train.features import of_vit

MODEL = ViT(num_classes=1, width=128, depth=2, num_heads=2, patch_px=4)
X = np.random.RandomState(0).uniform(-1, 1, (2, 12, 12, 3)).astype(np.float32)
WIDTH, HIDDEN, LENGTH = 128, 512, 10
BLOCK = {
    "attention.attention.query": (WIDTH, WIDTH),
    "attention.attention.key": (WIDTH, WIDTH),
    "attention.attention.value": (WIDTH, WIDTH),
    "attention.output.dense": (WIDTH, WIDTH),
    "intermediate.dense": (HIDDEN, WIDTH),
    "output.dense": (WIDTH, HIDDEN),
}


def hugging_face(prefix: str = "vit.") -> dict[str, np.ndarray]:
    """Random arrays under the names of Hugging Face's ViT, of MODEL's sizes at 12 px."""
    rng = np.random.RandomState(1)
    shapes = {
        "embeddings.cls_token": (1, 1, WIDTH),
        "embeddings.position_embeddings": (1, LENGTH, WIDTH),
        "embeddings.patch_embeddings.projection.weight": (WIDTH, 3, 4, 4),
        "embeddings.patch_embeddings.projection.bias": (WIDTH,),
        "layernorm.weight": (WIDTH,),
        "layernorm.bias": (WIDTH,),
    }
    for i in range(2):
        for name, shape in BLOCK.items():
            shapes |= {f"encoder.layer.{i}.{name}.weight": shape, f"encoder.layer.{i}.{name}.bias": shape[:1]}
        for name in ("layernorm_before", "layernorm_after"):
            shapes |= {f"encoder.layer.{i}.{name}.{leaf}": (WIDTH,) for leaf in ("weight", "bias")}
    return {prefix + k: rng.normal(0, 0.1, shape).astype(np.float32) for k, shape in shapes.items()}


def augreg() -> dict[str, np.ndarray]:
    """Random arrays under augreg's names, of the same sizes but 4 heads."""
    rng, d = np.random.RandomState(2), WIDTH
    shapes = {
        "cls": (1, 1, d),
        "Transformer/posembed_input/pos_embedding": (1, LENGTH, d),
        "embedding/kernel": (4, 4, 3, d),
        "embedding/bias": (d,),
    }
    norms = ["Transformer/encoder_norm"]
    for i in range(2):
        block = f"Transformer/encoderblock_{i}/"
        for part in ("query", "key", "value"):
            attention = f"{block}MultiHeadDotProductAttention_1/"
            shapes |= {f"{attention}{part}/kernel": (d, 4, d // 4), f"{attention}{part}/bias": (4, d // 4)}
        shapes |= {f"{attention}out/kernel": (4, d // 4, d), f"{attention}out/bias": (d,)}
        shapes |= {f"{block}MlpBlock_3/Dense_0/kernel": (d, HIDDEN), f"{block}MlpBlock_3/Dense_0/bias": (HIDDEN,)}
        shapes |= {f"{block}MlpBlock_3/Dense_1/kernel": (HIDDEN, d), f"{block}MlpBlock_3/Dense_1/bias": (d,)}
        norms += [f"{block}LayerNorm_0", f"{block}LayerNorm_2"]
    shapes |= {f"{norm}/{leaf}": (d,) for norm in norms for leaf in ("scale", "bias")}
    return {k: rng.normal(0, 0.1, shape).astype(np.float32) for k, shape in shapes.items()}


def load_vit(path, num_heads=0):
    """(the module, its variables, the side that it was trained at)."""
    backbone = load_backbone(path, num_heads=num_heads)
    return backbone.module, {"params": backbone.variables["params"]}, backbone.preprocessing.image_px


def features(model: ViT, variables) -> np.ndarray:
    return np.asarray(jax.jit(lambda v, x: model.apply(v, x, method="features"))(variables, X))


def test_vit_of_hugging_face_is_the_model_that_its_sizes_describe(tmp_path):
    safetensors.numpy.save_file(hugging_face(), tmp_path / "model.safetensors")
    model, variables, side = load_vit(tmp_path, num_heads=2)
    assert (model, side) == (MODEL.clone(num_classes=0), 12)
    tree = {"params": jax.eval_shape(MODEL.init, jax.random.key(0), X)["params"], "stats": {}}
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), tree)
    expected = put_leaves(empty, load_pretrained(tmp_path, MODEL, tree))
    np.testing.assert_array_equal(features(model, variables), features(MODEL, {"params": expected["params"]}))


def test_extractor_of_vit_gives_its_features_of_images_at_its_size(tmp_path):
    safetensors.numpy.save_file(hugging_face(), tmp_path / "model.safetensors")
    model, variables, _ = load_vit(tmp_path, num_heads=2)
    extractor = of_vit(tmp_path, num_heads=2)
    pixels = np.rint((X + 1) * 127.5).astype(np.uint8)
    found = jax.jit(extractor)(extractor.variables, pixels)
    assert extractor.name.startswith("vit-") and extractor.preprocessing.image_px == 12
    expected = model.apply(variables, pixels / np.float32(127.5) - 1, method="features")
    np.testing.assert_allclose(found, expected, atol=1e-4)  # features of order 1 after two float32 blocks


def test_vit_of_hugging_face_has_the_heads_that_its_config_names(tmp_path):
    safetensors.numpy.save_file(hugging_face(""), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 8}))
    assert load_vit(tmp_path)[0].num_heads == 8
    assert load_vit(tmp_path / "model.safetensors")[0].num_heads == 8
    with pytest.raises(ValueError, match="has 8 attention heads, as it says; got 2"):
        load_vit(tmp_path, num_heads=2)


def test_heads_that_nothing_says_are_asked_for_and_never_guessed(tmp_path):
    """A width of 128 may be 2 heads of 64, or 4 or 8."""
    safetensors.numpy.save_file(hugging_face(), tmp_path / "model.safetensors")
    for config in (None, "[]", '{"architecture": "vit_base_patch16_224"}', '{"num_attention_heads": "two"}'):
        if config:
            (tmp_path / "config.json").write_text(config)
        with pytest.raises(ValueError, match=r"does not say how many attention heads .* beside it\.$"):
            load_vit(tmp_path)
    for give, field in ((of_vit, "extractor"), (loaded, "model")):
        with pytest.raises(ValueError, match=rf"beside it, or give their number: --config\.{field}\.num_heads=N\.$"):
            give(str(tmp_path))


def test_heads_that_a_configuration_gives_reach_the_backbone_and_its_leaves(tmp_path):
    """Of the same tensors 4 heads and 2 have other features; each has those of the backbone with as many."""
    safetensors.numpy.save_file(hugging_face(), tmp_path / "model.safetensors")
    section, found = {"name": "backbone", "dtype": "float32", "weights": str(tmp_path)}, {}
    for heads in (2, 4):
        model, backbone = make_network({**section, "num_heads": heads}, 3), load_backbone(tmp_path, num_heads=heads)
        x = np.random.RandomState(3).uniform(-1, 1, (2, model.image_px, model.image_px, 3)).astype(np.float32)
        empty = jax.tree.map(np.zeros_like, model.init(jax.random.key(0), x))
        leaves = leaves_of(model, empty)
        assert leaves.keys() == {name for name in named_leaves(empty) if "/backbone/" in name}
        found[heads] = model.apply(put_leaves(empty, leaves), x, method="features")
        expected = backbone.features(backbone.variables, (x + 1) / 2)
        np.testing.assert_allclose(found[heads], expected, atol=1e-5)  # of the order of operations
    assert np.abs(found[2] - found[4]).max() > 5e-4


@pytest.mark.parametrize(
    ("architecture", "width", "heads"),
    [
        ("vit_tiny_patch16_224", 192, 3),
        ("deit_small_patch16_224.fb_in1k", 384, 6),
        ("vit_large_patch14_clip_224", 1024, 16),
        ("vit_huge_patch14_224", 1280, 16),
        ("vit_small_patch16_224", 768, 0),  # timm once called another size by this name
        ("vit_mine", 128, 0),
    ],
)
def test_heads_of_timms_architectures_are_those_that_timm_gives_them(tmp_path, architecture, width, heads):
    arrays = {"cls_token": (1, 1, width), "pos_embed": (1, 5, width), "norm.weight": (width,)}
    arrays |= {"patch_embed.proj.weight": (width, 3, 2, 2), "blocks.0.mlp.fc1.weight": (4 * width, width)}
    arrays |= {"blocks.0.mlp.fc2.weight": (width, 4 * width), "blocks.0.norm1.bias": (width,)}
    zeros = {name: np.zeros(shape, np.float32) for name, shape in arrays.items()}
    safetensors.numpy.save_file(zeros, tmp_path / "model.safetensors")

    def heads_of(config) -> int:
        (tmp_path / "config.json").write_text(json.dumps(config))
        return module_of(*open_layout(tmp_path, ViT), tmp_path).num_heads

    if heads:
        assert heads_of({"architecture": architecture, "num_classes": 0}) == heads
    else:
        with pytest.raises(ValueError, match="does not say how many attention heads"):
            heads_of({"architecture": architecture, "num_classes": 0})
    assert heads_of({"architecture": architecture, "model_args": {"num_heads": 4}}) == 4


def test_timms_vit_huge_has_16_heads_of_80(tmp_path):
    """One block of its width; 1280 is no multiple of 16 heads of 64."""
    rng, d = np.random.RandomState(3), 1280
    shapes = {"cls_token": (1, 1, d), "pos_embed": (1, 5, d), "patch_embed.proj.weight": (d, 3, 2, 2)}
    shapes |= {
        "patch_embed.proj.bias": (d,),
        "blocks.0.attn.qkv.weight": (3 * d, d),
        "blocks.0.attn.qkv.bias": (3 * d,),
    }
    shapes |= {
        "blocks.0.attn.proj.weight": (d, d),
        "blocks.0.mlp.fc1.weight": (4 * d, d),
        "blocks.0.mlp.fc1.bias": (4 * d,),
    }
    shapes |= {"blocks.0.mlp.fc2.weight": (d, 4 * d), "blocks.0.mlp.fc2.bias": (d,), "blocks.0.attn.proj.bias": (d,)}
    norms = ("norm", "blocks.0.norm1", "blocks.0.norm2")
    shapes |= {f"{norm}.{leaf}": (d,) for norm in norms for leaf in ("weight", "bias")}
    arrays = {name: rng.normal(0, 0.02, shape).astype(np.float16) for name, shape in shapes.items()}
    safetensors.numpy.save_file(arrays, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_huge_patch14_224"}))
    model, _, side = load_vit(tmp_path)
    assert (model.num_heads, model.width, model.depth, side) == (16, d, 1, 4)


def test_vit_of_augreg_has_the_heads_of_its_arrays_and_its_activation(tmp_path):
    np.savez(tmp_path / "ti.npz", **augreg())
    model, variables, side = load_vit(tmp_path / "ti.npz")
    assert (model.num_heads, model.activation, model.depth, side) == (4, "gelu_tanh", 2, 12)
    assert np.isfinite(features(model, variables)).all()


def test_vit_without_a_token_pools_its_patches(tmp_path):
    arrays = augreg()
    del arrays["cls"]
    arrays["Transformer/posembed_input/pos_embedding"] = arrays["Transformer/posembed_input/pos_embedding"][:, :9]
    np.savez(tmp_path / "gap.npz", **arrays)
    model, _, side = load_vit(tmp_path / "gap.npz")
    assert (model.pool, side) == ("gap", 12)


def test_vit_refuses_other_files(tmp_path: Path):
    np.savez(tmp_path / "other.npz", kernel=np.zeros(3))
    with pytest.raises(ValueError, match=r"holds kernel \.\.\. and no network of a known layout"):
        load_vit(tmp_path / "other.npz")
    with pytest.raises(ValueError, match=r"expected \.npz or \.safetensors"):
        load_vit(tmp_path / "model.bin")
