"""How the libraries that publish classifiers name what our networks hold.

A cell of a table names a module of a file: `a&b` are joined, of `a+b` the second may be there, of `a|b` one is. In it
{} is the number of a ViT's block, {s} of a stage, {b} of a block inside it.
"""

import re
from collections.abc import Callable, Container
from dataclasses import dataclass

from flax import linen as nn

from jaxmoust.models.classifiers.convnext import ConvNeXt
from jaxmoust.models.classifiers.inception import InceptionV3
from jaxmoust.models.classifiers.resnet import ResNet
from jaxmoust.models.classifiers.vit import ViT


@dataclass(frozen=True)
class Layout:
    """How a family of files names what a model of ours holds.

    Args:
        family: in words.
        model: the class it is for.
        first: a leaf of every such model, by which its files are recognised.
        cell: a module of ours to that of a table; "" is none.
    """

    family: str
    model: type[nn.Module]
    first: str
    cell: Callable[[str], str]

    def names(self, leaf: str, arrays: Container[str]) -> list[str]:
        """The file's names of what a leaf of ours, "params/blocks/qkv/kernel", is made of."""
        module, _, last = leaf.partition("/")[2].rpartition("/")
        if last in _PLAIN:
            module, suffix = f"{module}/{last}".lstrip("/"), ""
        else:
            suffix = f"/{last}" if self.family == "augreg" else _TORCH_LEAVES[last]
        choices = []
        for choice in (self.cell(module) or module.replace("/", ".")).split("|"):
            needed, *further = choice.split("+")
            names = [_suffixed(name, suffix) for name in needed.split("&")]
            names += [name for name in (_suffixed(name, suffix) for name in further) if name in arrays]
            if any(name.format(0) in arrays for name in (names[0], _suffixed(needed.partition("&")[0], ".weight"))):
                return names
            choices.append(names)
        return choices[0]


# Leaves that are tensors of their own in the files, without a suffix.
_PLAIN = ("cls", "pos_embed", "probe", "scale0", "scale1", "gamma")
_TORCH_LEAVES = {
    "kernel": ".weight",
    "scale": ".weight",
    "bias": ".bias",
    "mean": ".running_mean",
    "var": ".running_var",
    "synthetic_mean": ".running_mean",
    "synthetic_var": ".running_var",
}


def _suffixed(name: str, suffix: str) -> str:
    return name + suffix.lstrip(".") if name.endswith("_") else name + suffix


# --- vision transformers ---------------------------------------------------------------------------------------------

_WHOLE = ("cls", "pos_embed", "patch_embed", "pre_norm", "norm", "head")
_INSIDE = ("norm0", "qkv", "proj", "norm1", "mlp0", "mlp1", "scale0", "scale1")
_MAP = ("probe", "qkv", "proj", "norm1", "mlp0", "mlp1")


def _vit(whole: str, before: str, inside: str, pool: str = "") -> Callable[[str], str]:
    table = dict(zip(_WHOLE, whole.split(), strict=True))
    table |= {f"blocks/{k}": _each(before, cell) for k, cell in zip(_INSIDE, inside.split(), strict=False)}
    table |= {f"map/{k}": cell for k, cell in zip(_MAP, pool.split(), strict=False)}
    return lambda module: "" if table.get(module, "-") == "-" else table[module]


def _each(before: str, cell: str) -> str:
    return re.sub(r"(^|[|&+])", rf"\1{before}", cell)


_ATTENTION = "MultiHeadDotProductAttention_1/"
_VITS = {
    "augreg": _vit(
        "cls Transformer/posembed_input/pos_embedding embedding - Transformer/encoder_norm head",
        "Transformer/encoderblock_{}/",
        f"LayerNorm_0 {_each(_ATTENTION, 'query&key&value')} {_ATTENTION}out LayerNorm_2 "
        "MlpBlock_3/Dense_0 MlpBlock_3/Dense_1",
    ),
    "Hugging Face": _vit(  # ViT, DeiT, DINOv2
        "embeddings.cls_token+embeddings.distillation_token+embeddings.register_tokens embeddings.position_embeddings "
        "embeddings.patch_embeddings.projection - layernorm classifier|cls_classifier+distillation_classifier",
        "encoder.layer.{}.",
        f"layernorm_before|norm1 {_each('attention.attention.', 'query&key&value')} attention.output.dense "
        "layernorm_after|norm2 intermediate.dense|mlp.fc1|mlp.weights_in output.dense|mlp.fc2|mlp.weights_out "
        "layer_scale1.lambda1 layer_scale2.lambda1",
    ),
    "timm": _vit(  # and of DeiT's and DINOv2's own repositories
        "cls_token+dist_token+reg_token+register_tokens|reg_token pos_embed patch_embed.proj norm_pre norm|fc_norm "
        "head+head_dist",
        "blocks.{}.",
        "norm1 attn.qkv attn.proj norm2 mlp.fc1|mlp.w12 mlp.fc2|mlp.w3 ls1.gamma ls2.gamma",
        "attn_pool.latent attn_pool.q&attn_pool.kv attn_pool.proj attn_pool.norm attn_pool.mlp.fc1 attn_pool.mlp.fc2",
    ),
    "Hugging Face's CLIP": _vit(  # and SigLIP
        "embeddings.class_embedding embeddings.position_embedding.weight embeddings.patch_embedding pre_layrnorm "
        "post_layernorm visual_projection",
        "encoder.layers.{}.",
        f"layer_norm1 {_each('self_attn.', 'q_proj&k_proj&v_proj')} self_attn.out_proj layer_norm2 mlp.fc1 mlp.fc2",
        "head.probe head.attention.in_proj_ head.attention.out_proj head.layernorm head.mlp.fc1 head.mlp.fc2",
    ),
    "torchvision": _vit(
        "class_token encoder.pos_embedding conv_proj - encoder.ln heads.head",
        "encoder.layers.encoder_layer_{}.",
        "ln_1 self_attention.in_proj_ self_attention.out_proj ln_2 mlp.0|mlp.linear_1 mlp.3|mlp.linear_2",
    ),
}

# --- networks of stages ----------------------------------------------------------------------------------------------


def _staged(whole: dict[str, str], before: str, inside: dict[str, str]) -> Callable[[str], str]:
    """Of tables of modules of stage s, from 0 on, and of its block b; t is s + 1, e and o are 2 s and 2 s + 1."""

    def cell(module: str) -> str:
        stage = re.match(r"stage(\d+)_(?:block(\d+)/)?(.*)", module)
        if not stage:
            return whole.get(module, "")
        s, b, part = int(stage[1]), stage[2], stage[3]
        name = whole.get(f"stage_{part}", "") if b is None else before + inside.get(part, part)
        return name.format(s=s, t=s + 1, e=2 * s, o=2 * s + 1, b=b)

    return cell


_RESNETS = {
    "Hugging Face": _staged(
        {
            "stem_conv": "embedder.embedder.convolution",
            "stem_norm": "embedder.embedder.normalization",
            "head": "classifier.1",
        },
        "encoder.stages.{s}.layers.{b}.",
        {f"conv{i}": f"layer.{i}.convolution" for i in range(3)}
        | {f"norm{i}": f"layer.{i}.normalization" for i in range(3)}
        | {"shortcut_conv": "shortcut.convolution", "shortcut_norm": "shortcut.normalization"},
    ),
    "torchvision": _staged(  # and timm
        {"stem_conv": "conv1", "stem_norm": "bn1", "head": "fc"},
        "layer{t}.{b}.",
        {f"conv{i}": f"conv{i + 1}" for i in range(3)}
        | {f"norm{i}": f"bn{i + 1}" for i in range(3)}
        | {"shortcut_conv": "downsample.0", "shortcut_norm": "downsample.1"},
    ),
}
_WHOLE_CONVNEXT = ("stem_conv", "stem_norm", "stage_norm", "stage_conv", "norm", "head")
_INSIDE_CONVNEXT = ("conv", "norm", "mlp0", "mlp1", "gamma")


def _convnext(whole: str, before: str, inside: str) -> Callable[[str], str]:
    table = dict(zip(_WHOLE_CONVNEXT, whole.split(), strict=True))
    return _staged(table, before, dict(zip(_INSIDE_CONVNEXT, inside.split(), strict=True)))


_CONVNEXTS = {
    "timm": _convnext(
        "stem.0 stem.1 stages.{s}.downsample.0 stages.{s}.downsample.1 head.norm head.fc",
        "stages.{s}.blocks.{b}.",
        "conv_dw norm mlp.fc1 mlp.fc2 gamma",
    ),
    "Hugging Face": _convnext(
        "embeddings.patch_embeddings embeddings.layernorm encoder.stages.{s}.downsampling_layer.0 "
        "encoder.stages.{s}.downsampling_layer.1 layernorm classifier",
        "encoder.stages.{s}.layers.{b}.",
        "dwconv layernorm pwconv1 pwconv2 layer_scale_parameter",
    ),
    "torchvision": _convnext(
        "features.0.0 features.0.1 features.{e}.0 features.{e}.1 classifier.0 classifier.2",
        "features.{o}.{b}.",
        "block.0 block.2 block.3 block.5 layer_scale",
    ),
    "ConvNeXt's own": _convnext(
        "downsample_layers.0.0 downsample_layers.0.1 downsample_layers.{s}.0 downsample_layers.{s}.1 norm head",
        "stages.{s}.{b}.",
        "dwconv norm pwconv1 pwconv2 gamma",
    ),
}


def _inception(module: str) -> str:
    return "fc" if module == "head" else module.replace("/", ".")


LAYOUTS = (
    *(Layout(family, ViT, "params/patch_embed/kernel", cell) for family, cell in _VITS.items()),
    *(Layout(family, ResNet, "params/stem_conv/kernel", cell) for family, cell in _RESNETS.items()),
    *(Layout(family, ConvNeXt, "params/stem_conv/kernel", cell) for family, cell in _CONVNEXTS.items()),
    Layout("FID", InceptionV3, "params/Conv2d_1a_3x3/conv/kernel", _inception),
)
# Networks and layouts that are not read, by a name that only they have.
OTHERS = {
    r"Transformer/encoderblock(_\d+)?/(MlpBlock_0|LayerNorm_1)/": "a ViT of big_vision's present layout (augreg's is "
    "the older one)",
    r"^(visual\.)?transformer\.resblocks\.": "a CLIP of OpenCLIP's layout (Hugging Face's or timm's is read)",
    r"\.rope_embeddings\.|^rope": "a ViT with rotary positions, as DINOv3's are",
    r"^conv1\.\d\.": "a ResNet-D, whose stem is three convolutions",
    r"\.grn\.": "a ConvNeXt V2",
    r"^stages\.\d\.blocks\.\d\.attn\.": "a network of stages with attention",
    r"^AuxLogits\.": "torchvision's Inception for ImageNet, not FID's",
}
