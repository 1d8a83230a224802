"""Public networks of every family, and parity with torch's; backbone_torch.py wrote what is compared with."""

import json
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

sys.path.insert(0, str(Path(__file__).parent))

import backbone_torch
from backbone_torch import STORED, pixels
from pretrained_test import weights_of

from jaxmoust.models.classifiers.backbone import Backbone, load_backbone
from jaxmoust.models.classifiers.described import module_of
from jaxmoust.models.classifiers.layouts import LAYOUTS
from jaxmoust.models.classifiers.preprocessing import Preprocessing
from jaxmoust.models.classifiers.resnet import IMAGENET_MEAN, IMAGENET_STD

with np.load(STORED) as file:
    CONTENT = dict(file)
NAMES = sorted({name for name, slash, _ in (key.partition("/") for key in CONTENT) if slash})


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


@pytest.mark.parametrize(
    ("name", "renamed"),
    [
        ("hf_vit", lambda names: {f"module.{k}": v for k, v in names.items()}),
        ("hf_dinov2", lambda names: {f"state_dict.model.{k}": v for k, v in names.items()}),
        ("timm_dinov2_registers", lambda names: {f"backbone.{k}": v for k, v in names.items()}),
        ("hf_clip", lambda names: {k: v for k, v in names.items() if not k.startswith(("text_", "logit_"))}),
        ("timm_convnext", lambda names: {f"ema.{k}": v for k, v in names.items()}),
    ],
)
def test_wrappings_of_public_files_are_taken_off(name, renamed, tmp_path):
    weights = write(tmp_path, name)
    expected = load_backbone(tmp_path)
    safetensors.numpy.save_file(renamed(weights), tmp_path / "model.safetensors")
    assert load_backbone(tmp_path).digest == expected.digest


def test_dinov2s_own_files_need_no_config(tmp_path):
    """Named as timm's but for the registers, a token for masks beside, and a place for the class token."""
    weights = write(tmp_path, "timm_dinov2_registers")
    expected = load_backbone(tmp_path)
    (tmp_path / "config.json").unlink()
    weights["register_tokens"] = weights.pop("reg_token")
    weights["mask_token"] = np.zeros((1, 24), np.float32)
    shared = weights["cls_token"] / 2
    weights |= {"cls_token": shared, "pos_embed": np.concatenate([shared, weights["pos_embed"]], axis=1)}
    safetensors.numpy.save_file(weights, tmp_path / "model.safetensors")
    found = load_backbone(tmp_path, num_heads=2)
    assert found.module == expected.module
    for leaf in ("cls", "pos_embed"):
        ours, theirs = (b.variables["params"][leaf][:, :1] for b in (found, expected))
        assert not np.array_equal(ours, theirs)
    token, place = (found.variables["params"][leaf][:, :1] for leaf in ("cls", "pos_embed"))
    np.testing.assert_array_equal(token + place, expected.variables["params"]["cls"][:, :1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_of_a_file_becomes_float32(dtype, tmp_path):
    weights = write(tmp_path, "hf_dinov2_giant")
    half = {name: array.astype(np.dtype(dtype)) for name, array in weights.items()}
    safetensors.numpy.save_file(half, tmp_path / "model.safetensors")
    norm = load_backbone(tmp_path).variables["params"]["norm"]["scale"]
    assert norm.dtype == np.float32 and isinstance(norm, np.ndarray)
    np.testing.assert_array_equal(norm, half["layernorm.weight"].astype(np.float32))


def test_shards_are_one_file(tmp_path):
    weights = write(tmp_path, "hf_vit")
    expected = load_backbone(tmp_path).digest
    (tmp_path / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for shard, inside in shards.items():
        safetensors.numpy.save_file({name: weights[name] for name in inside}, tmp_path / shard)
    index = {"weight_map": {name: shard for shard, inside in shards.items() for name in inside}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load_backbone(tmp_path).digest == expected


def test_pool_is_the_familys_or_as_asked(tmp_path):
    """DINOv2 with a linear head reads the mean over patches, too; the class token is the first half of that."""
    write(tmp_path, "hf_dinov2")
    both, token = load_backbone(tmp_path), load_backbone(tmp_path, pool="token")
    assert (both.module.pool, both.num_features, token.num_features) == ("token_gap", 48, 24)
    assert both.digest != token.digest and token.module.num_classes == 0
    features, _ = answers(token, pixels(42))
    np.testing.assert_allclose(features, CONTENT["hf_dinov2/features/42"][:, :24], rtol=0, atol=1e-4)


def test_another_pool_leaves_the_head_out(tmp_path):
    write(tmp_path, "hf_clip")
    mean = load_backbone(tmp_path, pool="gap")
    assert (mean.module.pool, mean.module.tokens, mean.module.num_classes, mean.num_features) == ("gap", 1, 0, 24)


def test_sizes_that_patches_do_not_divide_are_refused(tmp_path):
    write(tmp_path, "timm_dinov2")
    with pytest.raises(ValueError, match=r"got 32 px; .* patches of 7 px, expected 28 or 35 px"):
        load_backbone(tmp_path, image_px=32)


@pytest.mark.parametrize("name", NAMES)
def test_every_missing_and_every_left_over_tensor_is_named(name, tmp_path):
    weights = write(tmp_path, name)
    last = [k for k in weights if "norm" in k.lower() and k.endswith("bias") and "text" not in k][-1:]
    last = last or [k for k in weights if k.endswith("bias")][-1:]
    weights = {k: v for k, v in weights.items() if k not in last} | {"decoder.weight": np.zeros(2, np.float32)}
    safetensors.numpy.save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError) as refusal:
        load_backbone(tmp_path, num_heads=2 if name == "tv_vit" else 0)
    missing = re.escape(".".join(last[0].split(".")[-2:]))
    assert re.search(rf"missing from the file: \S*{missing}, for ", str(refusal.value))
    assert "not wanted by the model: decoder.weight (2,)" in str(refusal.value)


ACTIVATIONS = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "SiLU": "gelu"}
OF_TIMM = json.loads(str(CONTENT["architectures"]))


def test_timms_architectures_have_the_heads_activation_and_epsilon_that_timm_builds(tmp_path):
    """All of its plain ViTs: told rightly, or asked for. (SiLU is DINOv2's g, whose arrays show that it is gated.)"""
    (layout,) = (one for one in LAYOUTS if (one.family, one.model.__name__) == ("timm", "ViT"))
    known = 0
    for architecture, (width, heads, activation, epsilon) in OF_TIMM.items():
        shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 5, width), "norm.weight": (width,)}
        shapes |= {"patch_embed.proj.weight": (width, 3, 2, 2), "blocks.0.norm1.bias": (width,)}
        shapes |= {"blocks.0.mlp.fc1.weight": (4 * width, width), "blocks.0.mlp.fc2.weight": (width, 4 * width)}
        arrays = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
        (tmp_path / "config.json").write_text(json.dumps({"architecture": f"{architecture}.some_tag"}))
        try:
            found = module_of(layout, arrays, tmp_path)
        except ValueError as error:
            assert "how many attention heads" in str(error), architecture
            continue
        known += 1
        assert (found.num_heads, found.epsilon) == (heads, epsilon), architecture
        assert found.activation == ACTIVATIONS[activation], architecture
    assert known >= 130


HALF = (0.5, 0.5, 0.5)
TIMM_CFG = {"input_size": [3, 48, 48], "interpolation": "bicubic", "crop_pct": 0.9, "mean": HALF, "std": HALF}


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("", {}, Preprocessing(42, IMAGENET_MEAN, IMAGENET_STD, 48)),
        (
            "preprocessor_config.json",  # facebook/dinov2-small's
            {
                "crop_size": {"height": 224, "width": 224},
                "do_center_crop": True,
                "do_resize": True,
                "image_mean": IMAGENET_MEAN,
                "image_std": IMAGENET_STD,
                "resample": 3,
                "size": {"shortest_edge": 256},
            },
            Preprocessing(224, IMAGENET_MEAN, IMAGENET_STD, 256),
        ),
        (
            "preprocessor_config.json",  # google/siglip-base-patch16-224's
            {"image_mean": HALF, "image_std": HALF, "resample": 3, "size": {"height": 224, "width": 224}},
            Preprocessing(224, HALF, HALF, 224, squash=True),
        ),
        (
            "preprocessor_config.json",  # microsoft/resnet-50's
            {"crop_pct": 0.875, "image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD, "resample": 3, "size": 224},
            Preprocessing(224, IMAGENET_MEAN, IMAGENET_STD, 256),
        ),
        ("config.json", {"pretrained_cfg": TIMM_CFG}, Preprocessing(48, HALF, HALF, 53)),
        (
            "config.json",
            {"pretrained_cfg": {**TIMM_CFG, "crop_mode": "squash", "interpolation": "bilinear", "crop_pct": 1.0}},
            Preprocessing(48, HALF, HALF, 48, squash=True, interpolation="bilinear"),
        ),
    ],
)
def test_preprocessing_is_the_files_own_or_the_familys(file, content, expected, tmp_path):
    write(tmp_path, "timm_dinov2", **(content if file == "config.json" else {}))
    if file == "preprocessor_config.json":
        (tmp_path / file).write_text(json.dumps(content))
    px = 0 if expected.image_px % 7 == 0 else 42
    assert load_backbone(tmp_path, px).preprocessing == expected.at(px)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"resample": 9}, "resample is 9, expected"),
        ({"size": {"height": 32, "width": 64}}, "expected squares"),
        ({"image_mean": [0.5]}, "expected three numbers"),
    ],
)
def test_preprocessing_that_is_not_known_is_refused(content, message, tmp_path):
    write(tmp_path, "timm_dinov2")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_backbone(tmp_path)


@pytest.mark.parametrize("squash", [False, True])
def test_preprocessing_cuts_the_middle_or_squashes(squash):
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, 10:30] = 200
    square = Preprocessing(10, squash=squash, interpolation="bilinear")(image)
    assert square.shape == (10, 10, 3)
    assert (square[:, [0, -1]] < 100).all() == squash


def test_same_weights_with_another_preprocessing_are_another_backbone(tmp_path):
    write(tmp_path, "timm_dinov2")
    one, again, other = load_backbone(tmp_path), load_backbone(tmp_path), load_backbone(tmp_path, image_px=28)
    assert one.digest == again.digest != other.digest


def test_backbone_without_attention_is_not_given_heads(tmp_path):
    write(tmp_path, "hf_resnet_v1")
    with pytest.raises(ValueError, match=r"is a ResNet, which has no attention heads; got 2"):
        load_backbone(tmp_path, num_heads=2)


def test_backbone_of_the_hub_is_fetched_without_pickles(tmp_path, monkeypatch):
    import huggingface_hub

    write(tmp_path, "hf_vit")
    asked = {}

    def download(name, revision, allow_patterns):
        asked.update(name=name, patterns=allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for name in ("owner/model", "timm/vit_small_patch14_dinov2.lvd142m"):
        assert load_backbone(name).source == asked["name"] == name
    assert not [pattern for pattern in asked["patterns"] if ".bin" in pattern or pattern == "*"]

    def gone(*args, **how):
        raise OSError("404 Client Error: Repository Not Found")

    def gated(*args, **how):
        raise OSError("403 Client Error: Cannot access gated repo")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", gated)
    with pytest.raises(ValueError, match=r"gated repo\. It is gated: accept .* type `hf auth login`"):
        load_backbone("owner/model")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", gone)
    with pytest.raises(ValueError, match=r"Not Found\. Check the name\. .* `hf download owner/model --local-dir DIR`"):
        load_backbone("owner/model")


def test_stored_answers_are_those_of_torch():
    for package in ("torch", "timm", "transformers", "torchvision"):
        pytest.importorskip(package)
    found = backbone_torch.answers()
    assert set(found) == set(CONTENT)
    for key, value in CONTENT.items():
        if value.ndim:
            np.testing.assert_allclose(value, found[key], rtol=0, atol=1e-5)  # torch's kernels differ by machine
