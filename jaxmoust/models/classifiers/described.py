"""The network that files describe: by the sizes of their arrays, and by Hugging Face's or timm's config.json."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn

from jaxmoust.models.classifiers.convnext import ConvNeXt
from jaxmoust.models.classifiers.layouts import Layout
from jaxmoust.models.classifiers.resnet import ResNet
from jaxmoust.models.classifiers.vit import ViT
from jaxmoust.runtime.paths import read_json

Facts = dict[str, Any]  # fields of a module, as far as a config.json says them
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "quickgelu": "quick_gelu",
}
# What Hugging Face's kinds of networks have where their config.json is silent: activation, epsilon, heads.
_VIT, _SIGLIP = ("gelu", 1e-12, 12), ("gelu_pytorch_tanh", 1e-6, 12)
_CLIP, _DINO = ("quick_gelu", 1e-5, 12), ("gelu", 1e-6, 12)
_KINDS: dict[str, tuple[str, float, int]] = {
    "vit": _VIT,
    "deit": _VIT,
    "dinov2": _DINO,
    "dinov2_with_registers": _DINO,
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "convnext": _VIT,
    "resnet": ("relu", 1e-5, 0),
}
# timm's sizes, by the word of an architecture's name: width -> heads. Source: timm's vision_transformer.py, deit.py.
_TIMM_HEADS = {
    "tiny": {192: 3},
    "xsmall": {256: 4},
    "small": {384: 6},
    "medium": {512: 8},
    "betwixt": {640: 10},
    "base": {768: 12, 896: 14},
    "large": {1024: 16},
    "so400m": {1152: 16},
    "huge": {1280: 16},
    "giant": {1408: 16, 1536: 24},
    "giantopt": {1536: 16},
    "gigantic": {1664: 16},
}
# timm's SigLIPs that were trained with the approximated GELU; the others were published with the exact one.
_TANH = r"large_patch16_siglip.*_512|patch32_siglip|so400m_patch16_siglip|giantopt"
_TIMM_PLAIN = r"(tv_)?resnet\d+|convnext_(tiny|small|base|large|x+large|atto|femto|pico|nano)"
# Arguments of timm's models that the arrays show, or that make no difference to an answer.
_SHOWN = re.compile(
    "img_size|patch_size|embed_dim|depths?|dims|num_heads|num_classes|init_values|ls_init_value|class_token|reg_tokens|"
    "no_embed_class|dynamic_img_.*|global_pool|fc_norm|mlp_ratio|conv_mlp|qkv_bias|pre_norm|act_layer|weight_init|.*drop.*|"
    "in_chans|pretrained.*"
)
_TORCHVISION_HEADS = {768: 12, 1024: 16, 1280: 16}


def facts_of(path: str | Path, layout: Layout, arrays: Mapping[str, np.ndarray]) -> Facts:
    """Fields of the network that a config.json in the folder, or beside the file, says.

    Raises: ValueError: something that our networks cannot have, by its name.
    """
    config = read_config(path)
    if "architecture" in config:
        facts = _of_timm(config, layout, arrays)
    elif config:
        facts = _of_hugging_face(config, layout)
    else:
        return {}
    if layout.model is ViT:
        return facts | ({"activation": "swiglu"} if _is_gated(layout, arrays) else {})
    if layout.model is ConvNeXt:
        return {name: facts[name] for name in ("activation", "epsilon", "head_epsilon") if name in facts}
    return {"block": facts["block"]} if "block" in facts else {}


def read_config(path: str | Path) -> dict[str, Any]:
    """The config.json in a folder, or beside a file; of a model with two towers that of images; {} where there is none.

    Raises: ValueError: a damaged one.
    """
    config = beside(path, "config.json")
    parts = [config.get(part) or {} for part in ("vision_config", "vision_config_dict")]
    return {**config, **{name: value for part in parts for name, value in part.items() if name != "model_type"}}


def beside(path: str | Path, name: str) -> dict[str, Any]:
    """A JSON object in a folder, or beside a file; {} where there is none."""
    here = Path(path)
    content = read_json((here if here.is_dir() else here.parent) / name)
    return content if isinstance(content, dict) else {}


def _of_timm(config: Mapping[str, Any], layout: Layout, arrays: Mapping[str, np.ndarray]) -> Facts:
    architecture = str(config["architecture"]).partition(".")[0]
    own = config.get("model_args") if isinstance(config.get("model_args"), dict) else {}
    for name, value in (own or {}).items():
        if not _SHOWN.fullmatch(name) and value:
            raise ValueError(f"config.json: model_args has {name}={value!r}, which is not supported.")
    if layout.model is not ViT:
        if not re.fullmatch(_TIMM_PLAIN, architecture):
            raise ValueError(f"config.json: the architecture is {architecture!r}, expected {_TIMM_PLAIN}.")
        epsilon = 1e-5 if architecture == "convnext_xxlarge" else 1e-6
        activation = _activation((own or {}).get("act_layer", "gelu"))
        return {"activation": activation, "epsilon": epsilon, "head_epsilon": epsilon}
    words = architecture.split("_")
    width = arrays[layout.names("params/norm/scale", arrays)[0]].shape[0]
    heads = next((of[width] for word, of in _TIMM_HEADS.items() if word in words and width in of), 0)
    heads = 16 if architecture == "vit_base_patch16_gap_224" else heads
    said = {"num_heads": (own or {}).get("num_heads") or heads}
    default = "quick_gelu" if "quickgelu" in words else "gelu_tanh" if re.search(_TANH, architecture) else "gelu"
    said["activation"] = _activation((own or {}).get("act_layer") or default)
    said["epsilon"] = 1e-5 if "clip" in words else 1e-6
    return {name: value for name, value in said.items() if value}


def _of_hugging_face(config: Mapping[str, Any], layout: Layout) -> Facts:
    kind = config.get("model_type")
    if kind is not None and kind not in _KINDS:
        raise ValueError(f"config.json: model_type is {kind!r}, expected one of {', '.join(_KINDS)}.")
    for name, allowed in (("qkv_bias", True), ("num_channels", 3), ("downsample_in_first_stage", False)):
        if config.get(name, allowed) != allowed:
            raise ValueError(f"config.json: {name} is {config[name]!r}, expected {allowed!r}.")
    usual = dict(zip(("hidden_act", "layer_norm_eps", "num_attention_heads"), _KINDS.get(str(kind), ()), strict=False))
    usual |= {name: config[name] for name in ("hidden_act", "layer_norm_eps", "num_attention_heads") if name in config}
    if layout.model is ResNet:
        if usual.get("hidden_act", "relu") != "relu":
            raise ValueError(f"config.json: hidden_act is {config['hidden_act']!r}, expected 'relu'.")
        return {"block": "bottleneck_v1"} if config.get("downsample_in_bottleneck") else {}
    facts: Facts = {}
    if isinstance(heads := usual.get("num_attention_heads"), int):
        facts["num_heads"] = heads
    if "hidden_act" in usual:
        facts["activation"] = _activation(usual["hidden_act"])
    if isinstance(epsilon := usual.get("layer_norm_eps"), float):
        facts["head_epsilon" if layout.model is ConvNeXt else "epsilon"] = epsilon
    return facts


def _activation(name: Any) -> str:
    if name not in _ACTIVATIONS:
        raise ValueError(f"config.json: the activation is {name!r}, expected one of {', '.join(_ACTIVATIONS)}.")
    return _ACTIVATIONS[name]


def _is_gated(layout: Layout, arrays: Mapping[str, np.ndarray]) -> bool:
    if layout.family == "augreg":
        return False
    sizes = [arrays[layout.names(f"params/blocks/mlp{i}/kernel", arrays)[0].format(0)].shape for i in (0, 1)]
    return sizes[0][0] == 2 * sizes[1][1]


def module_of(
    layout: Layout, arrays: Mapping[str, np.ndarray], path: str | Path, num_heads: int = 0, heads_field: str = ""
) -> nn.Module:
    """The network, without a head, that a file is of.

    Args:
        num_heads: attention heads of a ViT; 0: as the file, or the config.json beside it, says.
        heads_field: the field of a configuration that gives them, for errors; "": there is none.
    Raises: ValueError: a file that lacks what its kind of network has, or heads that nothing says.
    """

    def names(leaf: str) -> list[str]:
        return layout.names(f"params/{leaf}", arrays)

    def count(pattern: str) -> int:
        return next(i for i in itertools.count() if names(pattern.format(i))[0].format(i) not in arrays)

    facts = facts_of(path, layout, arrays)
    if layout.model is not ViT:
        if num_heads:
            raise ValueError(f"{path} is a {layout.model.__name__}, which has no attention heads; got {num_heads}.")
        stages = count("stage{}_block0/conv0/kernel" if layout.model is ResNet else "stage{}_block0/conv/kernel")
        part = "conv0" if layout.model is ResNet else "conv"
        sizes = tuple(count(f"stage{stage}_block{{}}/{part}/kernel") for stage in range(stages))
        width = len(arrays[names("stem_conv/kernel")[0]])
        if layout.model is ResNet:
            block = "bottleneck" if names("stage0_block0/conv2/kernel")[0] in arrays else "basic"
            return ResNet(num_classes=0, stage_sizes=sizes, width=width, **{"block": block, **facts})
        widths = tuple(len(arrays[names(f"stage{stage}_block0/conv/bias")[0]]) for stage in range(stages))
        return ConvNeXt(num_classes=0, stage_sizes=sizes, widths=widths, **facts)
    return _vit_of(layout, arrays, path, facts, num_heads, count("blocks/norm0/bias"), heads_field)


def _vit_of(
    layout: Layout,
    arrays: Mapping[str, np.ndarray],
    path: str | Path,
    facts: Facts,
    num_heads: int,
    depth: int,
    heads_field: str,
) -> ViT:
    def find(leaf: str) -> list[np.ndarray]:
        return [arrays[name.format(0)] for name in layout.names(f"params/{leaf}", arrays) if name.format(0) in arrays]

    for leaf in ("pos_embed", "norm/scale", "blocks/mlp1/kernel"):
        if not find(leaf):
            lacking = layout.names(f"params/{leaf}", arrays)[0].format(0)
            raise ValueError(f"{path} lacks {lacking}: it is no ViT of {layout.family}'s layout. Fetch it again.")
    augreg = layout.family == "augreg"
    patch, inside = find("patch_embed/kernel")[0], find("blocks/mlp1/kernel")[0].shape[0 if augreg else 1]
    width, patch_px = (patch.shape[3], patch.shape[0]) if augreg else (patch.shape[0], patch.shape[2])
    own = find("blocks/qkv/kernel")[0].shape[1] if augreg else 0
    if layout.family == "torchvision":
        own = _TORCHVISION_HEADS.get(width, 0)
    elif layout.family == "timm" and find("blocks/scale0") and patch_px == 14 and not facts:
        own = width // 64  # DINOv2's, as its repository publishes them
    said = facts.get("num_heads") or own
    if not said and not num_heads:
        give = f", or give their number: --{heads_field}=N" if heads_field else ""
        raise ValueError(
            f"{path} does not say how many attention heads it has, and a width of {width} does not tell. Put the "
            f"config.json of its publisher beside it{give}."
        )
    if num_heads not in (0, said or num_heads):
        raise ValueError(f"{path} has {said} attention heads, as it says; got {num_heads}.")
    gated = _is_gated(layout, arrays)
    tokens = sum(token.size // width for token in find("cls"))
    pool = _pool_of(layout, arrays, path, find, tokens, width)
    is_clip = layout.family == "Hugging Face's CLIP"
    if is_clip and "activation" not in facts:
        raise ValueError(f"{path} does not say its activation. Put the config.json of its publisher beside it.")
    return ViT(
        num_classes=0,
        width=width,
        depth=depth,
        num_heads=num_heads or said,
        patch_px=patch_px,
        pool=pool,
        num_tokens=None if tokens == pool.startswith("token") and pool != "tokens" else tokens,
        mlp_width=0 if inside == 4 * width else inside,
        layer_scale=bool(find("blocks/scale0")),
        pre_norm=bool(find("pre_norm/scale")),
        activation=facts.get("activation") or ("gelu_tanh" if augreg else "swiglu" if gated else "gelu"),
        epsilon=facts.get("epsilon", 1e-6),
    )


def _pool_of(
    layout: Layout, arrays: Mapping[str, np.ndarray], path: str | Path, find: Any, tokens: int, width: int
) -> str:
    head = find("head/kernel")
    if find("map/probe"):
        return "map"
    if "fc_norm.weight" in arrays:
        return "gap_norm"
    if any(name.endswith(("dist_token", "distillation_token")) for name in arrays):
        return "tokens"
    if not tokens or _names_gap(layout, arrays, path):
        return "gap"
    return "token_gap" if head and layout.family != "augreg" and head[0].shape[1] == 2 * width else "token"


def _names_gap(layout: Layout, arrays: Mapping[str, np.ndarray], path: str | Path) -> bool:
    """Whether the mean over patches is read of a network that has tokens."""
    has_class = any(name.endswith(("cls_token", "class_embedding", "class_token")) or name == "cls" for name in arrays)
    return not has_class or read_config(path).get("global_pool") == "avg"
