"""Public layouts of weights, and parity with torch's networks of full depth and little width.

tests/models/classifiers/pretrained_parity.npz holds what the torch classes of `transformers` answer on the weights that
`weights_of` makes of every leaf's name; so the weights need no place in it, and the tests need no torch. It is made by

    python tests/models/classifiers/pretrained_test.py

in an environment with torch, and `test_stored_answers_are_those_of_torch` makes it again where there is torch.
"""

import json
import re
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxmoust.models.classifiers.pretrained import load_pretrained, put_leaves, resample_positions
from jaxmoust.models.classifiers.resnet import DEPTHS, ResNet
from jaxmoust.models.classifiers.vit import ViT
from jaxmoust.models.classifiers.wide_resnet import WideResNet

STORED = Path(__file__).with_name("pretrained_parity.npz")
CLASSES = 7
X = np.random.RandomState(0).uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
MODELS = {
    "vit12": ViT(num_classes=CLASSES, width=24, depth=12, num_heads=3, patch_px=8),
    "vit24": ViT(num_classes=CLASSES, width=32, depth=24, num_heads=4, patch_px=16),
    "resnet18": ResNet(num_classes=CLASSES, width=8, **DEPTHS[18]),
    "resnet50": ResNet(num_classes=CLASSES, width=8, **DEPTHS[50]),
}


def weights_of(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Makes weights under which activations keep their size, out of each leaf's name."""
    weights = {}
    for name, shape in shapes.items():
        # RandomState's streams are frozen for ever; a Generator's may change with numpy.
        draw = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, shape)
        if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            draw = 1 + 0.5 * draw
        elif len(shape) > 1 and name.endswith("weight"):
            draw = draw * np.sqrt(3 / np.prod(shape[1:]))
        else:
            draw = 0.3 * draw
        weights[name] = draw.astype(np.float32)
    return weights


def torch_network(name: str):
    """The class of `transformers` that a model shall agree with."""
    import transformers

    model = MODELS[name]
    if isinstance(model, ViT):
        config = transformers.ViTConfig(
            hidden_size=model.width,
            num_hidden_layers=model.depth,
            num_attention_heads=model.num_heads,
            intermediate_size=4 * model.width,
            image_size=32,
            patch_size=model.patch_px,
            num_labels=CLASSES,
            layer_norm_eps=1e-6,
        )
        return transformers.ViTForImageClassification(config).eval()
    expansion = {"basic": 1, "bottleneck": 4}[model.block]
    config = transformers.ResNetConfig(
        embedding_size=model.width,
        hidden_sizes=[model.width * expansion * 2**stage for stage in range(4)],
        depths=list(model.stage_sizes),
        layer_type=model.block,
        num_labels=CLASSES,
    )
    return transformers.ResNetForImageClassification(config).eval()


def answer_of_torch(name: str) -> tuple[dict[str, list[int]], np.ndarray]:
    """Returns the names and shapes of the torch network's leaves, and its logits [4, CLASSES]."""
    import torch

    network = torch_network(name)
    state = network.state_dict()
    shapes = {k: list(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}
    loaded = {k: torch.from_numpy(v) for k, v in weights_of(shapes).items()}
    network.load_state_dict({**state, **loaded})
    with torch.no_grad():
        return shapes, network(torch.from_numpy(X.transpose(0, 3, 1, 2).copy())).logits.numpy()


@pytest.fixture(scope="module")
def stored():
    """Reads, for each name, (weights, under Hugging Face's names; torch's logits)."""
    with np.load(STORED) as file:
        return {name: (weights_of(json.loads(str(file[f"{name}/shapes"]))), file[f"{name}/logits"]) for name in MODELS}


@pytest.fixture
def write(tmp_path):
    """Writes arrays to a file of either kind and returns its path."""

    def write_file(arrays, name="model.safetensors"):
        path = tmp_path / name
        if path.suffix == ".npz":
            np.savez(path, **arrays)
        else:
            arrays = {k: np.ascontiguousarray(v) for k, v in arrays.items()}  # it stores memory, whatever the strides
            safetensors.numpy.save_file(arrays, path)
        return path

    return write_file


def tree_of(model, size_px=32):
    """Fresh variables, {"params": ..., "stats": ...}, as arrays whose head is not zero."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, size_px, size_px, 3), np.float32))
    tree = {"params": shapes["params"], "stats": shapes.get("batch_stats", {})}
    return jax.tree.map(lambda leaf: np.full(leaf.shape, 0.25, leaf.dtype), tree)


def logits(model, tree, x=X):
    return jax.jit(model.apply)({"params": tree["params"], "batch_stats": tree["stats"]}, x)


@pytest.mark.parametrize("name", MODELS)
def test_network_answers_as_torchs_on_the_same_weights(name, stored, write):
    weights, expected = stored[name]
    assert expected.std(axis=0).min() > 0.01, "the images can be told apart"
    model, tree = MODELS[name], tree_of(MODELS[name])
    leaves = load_pretrained(write(weights), model, tree)
    found = logits(model, put_leaves(tree, leaves))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)  # dozens of float32 layers, logits of order 1


@pytest.mark.parametrize("name", MODELS)
def test_stored_answers_are_those_of_torch(name, stored):
    pytest.importorskip("torch")
    shapes, expected = answer_of_torch(name)
    assert set(shapes) == set(stored[name][0])
    np.testing.assert_allclose(stored[name][1], expected, rtol=0, atol=1e-5)  # torch's kernels differ by machine


def as_augreg(weights, model):
    """The same ViT under the names and shapes of the .npz files, written down from those files."""
    given = {k.removeprefix("vit."): v for k, v in weights.items()}
    heads = (model.num_heads, model.width // model.num_heads)
    out = {
        "cls": given["embeddings.cls_token"],
        "Transformer/posembed_input/pos_embedding": given["embeddings.position_embeddings"],
        "embedding/kernel": given["embeddings.patch_embeddings.projection.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": given["embeddings.patch_embeddings.projection.bias"],
        "Transformer/encoder_norm/scale": given["layernorm.weight"],
        "Transformer/encoder_norm/bias": given["layernorm.bias"],
        "head/kernel": given["classifier.weight"].T,
        "head/bias": given["classifier.bias"],
    }
    for i in range(model.depth):
        theirs, ours = f"Transformer/encoderblock_{i}/", f"encoder.layer.{i}."
        for norm, known in (("LayerNorm_0", "layernorm_before"), ("LayerNorm_2", "layernorm_after")):
            out[f"{theirs}{norm}/scale"] = given[f"{ours}{known}.weight"]
            out[f"{theirs}{norm}/bias"] = given[f"{ours}{known}.bias"]
        for dense, known in (("Dense_0", "intermediate"), ("Dense_1", "output")):
            out[f"{theirs}MlpBlock_3/{dense}/kernel"] = given[f"{ours}{known}.dense.weight"].T
            out[f"{theirs}MlpBlock_3/{dense}/bias"] = given[f"{ours}{known}.dense.bias"]
        attention, known = f"{theirs}MultiHeadDotProductAttention_1/", f"{ours}attention."
        for part in ("query", "key", "value"):
            out[f"{attention}{part}/kernel"] = given[f"{known}attention.{part}.weight"].T.reshape(-1, *heads)
            out[f"{attention}{part}/bias"] = given[f"{known}attention.{part}.bias"].reshape(heads)
        out[f"{attention}out/kernel"] = given[f"{known}output.dense.weight"].T.reshape(*heads, -1)
        out[f"{attention}out/bias"] = given[f"{known}output.dense.bias"]
    return out


def as_timm_vit(weights, model):
    """The same ViT under timm's names: queries, keys and values in one matrix."""
    renames = (
        (r"^vit\.", ""),
        (r"^embeddings\.cls_token", "cls_token"),
        (r"^embeddings\.position_embeddings", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
        (r"^encoder\.layer\.", "blocks."),
        (r"layernorm_before", "norm1"),
        (r"layernorm_after", "norm2"),
        (r"^layernorm", "norm"),
        (r"attention\.output\.dense", "attn.proj"),
        (r"intermediate\.dense", "mlp.fc1"),
        (r"output\.dense", "mlp.fc2"),
        (r"^classifier", "head"),
    )
    out = renamed(weights, renames)
    for i in range(model.depth):
        for leaf in ("weight", "bias"):
            parts = [out.pop(f"blocks.{i}.attention.attention.{part}.{leaf}") for part in ("query", "key", "value")]
            out[f"blocks.{i}.attn.qkv.{leaf}"] = np.concatenate(parts)
    return out


def as_torchvision(weights, model):
    """The same ResNet under torchvision's and timm's names, with the counters that their files have."""
    renames = (
        (r"^resnet\.", ""),
        (r"^embedder\.embedder\.convolution", "conv1"),
        (r"^embedder\.embedder\.normalization", "bn1"),
        (r"encoder\.stages\.(\d)\.layers", lambda m: f"layer{int(m[1]) + 1}"),
        (r"layer\.(\d)\.convolution", lambda m: f"conv{int(m[1]) + 1}"),
        (r"layer\.(\d)\.normalization", lambda m: f"bn{int(m[1]) + 1}"),
        (r"shortcut\.convolution", "downsample.0"),
        (r"shortcut\.normalization", "downsample.1"),
        (r"^classifier\.1", "fc"),
    )
    out = renamed(weights, renames)
    return {**out, "bn1.num_batches_tracked": np.int64(3), "layer1.0.bn1.num_batches_tracked": np.int64(3)}


def renamed(weights, renames):
    out = {}
    for name, array in weights.items():
        for pattern, new in renames:
            name = re.sub(pattern, new, name)
        out[name] = array
    return out


@pytest.mark.parametrize(
    ("name", "translate", "file"),
    [
        ("vit12", as_augreg, "w.npz"),
        ("vit12", as_timm_vit, "w.safetensors"),
        ("resnet18", as_torchvision, "w.safetensors"),
        ("resnet50", as_torchvision, "w.safetensors"),
    ],
)
def test_every_layout_of_the_same_weights_gives_the_same_leaves(name, translate, file, stored, write):
    model, (weights, _) = MODELS[name], stored[name]
    tree = tree_of(model)
    expected = load_pretrained(write(weights), model, tree)
    found = load_pretrained(write(translate(weights, model), file), model, tree)
    assert set(found) == set(expected)
    for leaf in expected:
        np.testing.assert_array_equal(found[leaf], expected[leaf])


def test_base_files_without_prefix_and_head_leave_the_head_alone(stored, write):
    """As Hugging Face's ViTModel is saved: no "vit.", no classifier, a pooler that no classifier computes with."""
    model, tree = MODELS["vit12"], tree_of(MODELS["vit12"])
    weights, _ = stored["vit12"]
    base = {k.removeprefix("vit."): v for k, v in weights.items() if "classifier" not in k}
    leaves = load_pretrained(write({**base, "pooler.dense.weight": np.zeros((24, 24), np.float32)}), model, tree)
    whole = put_leaves(tree, leaves)
    np.testing.assert_array_equal(whole["params"]["head"]["kernel"], tree["params"]["head"]["kernel"])
    assert set(leaves) == set(load_pretrained(write(weights), model, tree)) - {"params/head/kernel", "params/head/bias"}


@pytest.mark.parametrize("name", ["vit12", "resnet18"])
def test_head_for_another_number_of_classes_is_left_out(name, stored, write):
    model = MODELS[name].clone(num_classes=CLASSES + 1)
    leaves = load_pretrained(write(stored[name][0]), model, tree_of(model))
    assert not [leaf for leaf in leaves if "head" in leaf]
    assert [leaf for leaf in leaves if "params/" in leaf]


def test_representation_layer_goes_with_the_head_and_never_alone(stored, write):
    model = MODELS["vit12"]
    arrays = {**as_augreg(stored["vit12"][0], model), "pre_logits/bias": np.zeros(24, np.float32)}
    with pytest.raises(ValueError, match="not wanted by the model: pre_logits/bias"):
        load_pretrained(write(arrays, "w.npz"), model, tree_of(model))
    other = model.clone(num_classes=3)
    load_pretrained(write(arrays, "w.npz"), other, tree_of(other))


def test_separate_statistics_both_start_from_the_files(stored, write):
    model = MODELS["resnet18"].clone(separate_stats=True)
    leaves = load_pretrained(write(stored["resnet18"][0]), model, tree_of(model))
    np.testing.assert_array_equal(leaves["stats/stem_norm/synthetic_var"], leaves["stats/stem_norm/var"])
    assert set(leaves) == {f"{part}/{leaf}" for part in ("params", "stats") for leaf in named(tree_of(model)[part])}


def named(tree):
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(tree)]


def test_positions_are_interpolated_to_the_models_patches(stored, write):
    """32 px in patches of 8 are 4 x 4 positions, 64 px are 8 x 8; augreg's are interpolated between corners."""
    model, (weights, _) = MODELS["vit12"], stored["vit12"]
    tree = tree_of(model, size_px=64)
    leaves = load_pretrained(write(as_augreg(weights, model), "w.npz"), model, tree)
    old = weights["vit.embeddings.position_embeddings"]
    new = np.asarray(leaves["params/pos_embed"])
    assert new.shape == (1, 65, 24)
    np.testing.assert_array_equal(new[:, 0], old[:, 0])
    corners = [0, 7, 56, 63]
    np.testing.assert_allclose(new[0, 1:][corners], old[0, 1:][[0, 3, 12, 15]], atol=1e-6)
    assert np.isfinite(logits(model, put_leaves(tree, leaves), np.zeros((1, 64, 64, 3), np.float32))).all()


@pytest.mark.parametrize("new", [3, 5, 8])
def test_resampled_ramp_is_a_ramp(new):
    """Bilinear between corners: a plane stays the same plane."""

    def plane(n):
        rows, cols = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n), indexing="ij")
        return np.stack([rows, cols, 2 * rows - cols], axis=-1).reshape(1, n * n, 3).astype(np.float32)

    np.testing.assert_allclose(resample_positions(plane(4), new * new, 0), plane(new), atol=1e-6)


def test_resampling_to_the_same_length_is_the_identity():
    positions = np.random.default_rng(0).normal(size=(1, 17, 3)).astype(np.float32)
    assert resample_positions(positions, 17, 1) is positions


def test_resampling_refuses_what_is_no_square():
    with pytest.raises(ValueError, match="squares"):
        resample_positions(np.zeros((1, 17, 3), np.float32), 26, num_tokens=0)


@pytest.mark.parametrize("name", ["vit12", "resnet18"])
def test_every_missing_and_every_left_over_leaf_is_named(name, stored, write):
    weights = dict(stored[name][0])
    gone = [k for k in weights if k.endswith(("1.layernorm_before.bias", "layers.1.layer.0.normalization.running_var"))]
    for leaf in gone:
        del weights[leaf]
    weights["decoder.weight"] = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError) as caught:
        load_pretrained(write(weights), MODELS[name], tree_of(MODELS[name]))
    assert gone
    for leaf in gone:
        assert f"missing from the file: {re.sub('^(vit|resnet).', '', leaf)}, for " in str(caught.value)
    assert "not wanted by the model: decoder.weight (2, 3)" in str(caught.value)


def test_half_a_head_is_missing_its_other_half(stored, write):
    weights = {k: v for k, v in stored["vit12"][0].items() if k != "classifier.bias"}
    with pytest.raises(ValueError, match=r"missing from the file: classifier\.bias"):
        load_pretrained(write(weights), MODELS["vit12"], tree_of(MODELS["vit12"]))


def test_wrong_shape_names_the_leaf_and_both_shapes(stored, write):
    wider = MODELS["vit12"].clone(width=48)
    with pytest.raises(ValueError, match=r"params/norm/scale is \(24,\), wanted \(48,\)"):
        load_pretrained(write(stored["vit12"][0]), wider, tree_of(wider))


def test_blocks_of_different_shapes_are_refused_by_name(stored, write):
    weights = dict(stored["vit12"][0])
    weights["vit.encoder.layer.3.layernorm_before.bias"] = np.zeros(5, np.float32)
    with pytest.raises(
        ValueError, match=r"params/blocks/norm0/bias .* encoder\.layer\.3\.layernorm_before\.bias \(5,\)"
    ):
        load_pretrained(write(weights), MODELS["vit12"], tree_of(MODELS["vit12"]))


def test_another_number_of_heads_is_refused_although_the_sizes_fit(stored, write):
    model = MODELS["vit12"]
    arrays = as_augreg(stored["vit12"][0], model)
    other = model.clone(num_heads=4)
    with pytest.raises(ValueError, match="it has 3 heads, the model 4"):
        load_pretrained(write(arrays, "w.npz"), other, tree_of(other))


def test_heads_of_a_folder_are_those_of_its_config(stored, write, tmp_path):
    """Torch's matrices look the same for any number of heads."""
    model = MODELS["vit12"]
    write(stored["vit12"][0])
    (tmp_path / "config.json").write_text('{"num_attention_heads": 3}')
    assert load_pretrained(tmp_path, model, tree_of(model))
    other = model.clone(num_heads=4)
    with pytest.raises(ValueError, match="says 3 attention heads, the model has 4"):
        load_pretrained(tmp_path, other, tree_of(other))


def test_shallower_model_names_the_blocks_it_has_not(stored, write):
    shallow = MODELS["vit12"].clone(depth=11)
    with pytest.raises(ValueError, match=r"not wanted by the model: encoder\.layer\.11\.layernorm_after\.bias \(24,\)"):
        load_pretrained(write(stored["vit12"][0]), shallow, tree_of(shallow))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel", "big_vision"),
        ("params/Transformer/encoderblock/LayerNorm_1/scale", "big_vision"),
        ("visual.transformer.resblocks.0.ln_1.weight", "OpenCLIP"),
        ("conv1.0.weight", "ResNet-D"),
        ("stages.0.blocks.0.mlp.grn.weight", "ConvNeXt V2"),
    ],
)
@pytest.mark.parametrize("of", ["vit12", "resnet18"])
def test_layouts_that_are_not_read_are_called_by_their_names(of, name, what, stored, write):
    arrays = {**stored[of][0], name: np.zeros(2, np.float32)}
    with pytest.raises(ValueError, match=f"{what}.*which is not read: known layouts: "):
        load_pretrained(write(arrays), MODELS[of], tree_of(MODELS[of]))


def test_prefixes_of_training_scripts_are_taken_off_or_named(stored, write):
    model, weights = MODELS["resnet18"], stored["resnet18"][0]
    expected = load_pretrained(write(weights), model, tree_of(model))
    found = load_pretrained(
        write({f"module.{k}": v for k, v in weights.items()}, "m.safetensors"), model, tree_of(model)
    )
    assert all(np.array_equal(found[leaf], expected[leaf]) for leaf in expected)
    both = {f"{part}.{k}": v for k, v in weights.items() for part in ("model", "ema")}
    with pytest.raises(ValueError, match="Give a file of what is inside ema or model alone"):
        load_pretrained(write(both, "both.safetensors"), model, tree_of(model))


def test_missing_leaves_are_not_said_to_be_a_matter_of_sizes(stored, write):
    weights = {k: v for k, v in stored["vit12"][0].items() if "layernorm_after" not in k}
    with pytest.raises(ValueError) as caught:
        load_pretrained(write(weights), MODELS["vit12"], tree_of(MODELS["vit12"]))
    assert "with the sizes that" not in str(caught.value) and "another network or depth" in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "vit", "num_attention_heads": 3}, "says 1e-12 for epsilon, the model has 1e-06"),
        ({"hidden_act": "gelu_new"}, "says gelu_tanh for activation, the model has gelu"),
        ({"hidden_act": "relu"}, "the activation is 'relu', expected one of gelu,"),
        ({"model_type": "dinov3_vit"}, "model_type is 'dinov3_vit', expected one of vit,"),
        ({"qkv_bias": False}, "qkv_bias is False, expected True"),
        ({"architecture": "vit_tiny_patch16_224", "model_args": {"qk_norm": True}}, "model_args has qk_norm=True"),
    ],
)
def test_what_a_config_says_is_the_models_or_refused(config, message, stored, write, tmp_path):
    write(stored["vit12"][0])
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = as_timm_vit(stored["vit12"][0], MODELS["vit12"]) if "architecture" in config else stored["vit12"][0]
    write(weights)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_pretrained(tmp_path, MODELS["vit12"], tree_of(MODELS["vit12"]))


def test_strides_of_bottlenecks_are_those_of_the_config(stored, write, tmp_path):
    write(stored["resnet50"][0])
    (tmp_path / "config.json").write_text('{"model_type": "resnet", "downsample_in_bottleneck": true}')
    with pytest.raises(ValueError, match="says bottleneck_v1 for block, the model has bottleneck"):
        load_pretrained(tmp_path, MODELS["resnet50"], tree_of(MODELS["resnet50"]))


def test_a_file_of_another_vit_says_what_it_is_of(stored, write):
    arrays = {**stored["vit12"][0], "vit.embeddings.register_tokens": np.zeros((1, 4, 24), np.float32)}
    arrays |= {
        f"vit.encoder.layer.{i}.layer_scale{j}.lambda1": np.ones(24, np.float32) for i in range(12) for j in (1, 2)
    }
    with pytest.raises(ValueError, match="It is of a ViT with layer_scale=True, num_tokens=5"):
        load_pretrained(write(arrays), MODELS["vit12"], tree_of(MODELS["vit12"]))


@pytest.mark.parametrize("model", [MODELS["resnet18"], WideResNet(num_classes=2, depth=10, widen=1)])
def test_file_for_another_kind_of_network_is_refused(model, stored, write):
    with pytest.raises(ValueError, match="known layouts: augreg's ViT"):
        load_pretrained(write(stored["vit12"][0]), model, tree_of(model))


if __name__ == "__main__":
    content = {}
    for model_name in MODELS:
        leaf_shapes, answer = answer_of_torch(model_name)
        content |= {f"{model_name}/shapes": np.array(json.dumps(leaf_shapes)), f"{model_name}/logits": answer}
    np.savez_compressed(STORED, **content)
    print(STORED, STORED.stat().st_size, "bytes")
