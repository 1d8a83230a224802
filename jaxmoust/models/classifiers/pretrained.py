"""Public checkpoints of classifiers, translated into our trees: files in, named arrays out.

Read are the .npz files of augreg and the original ViT (https://github.com/google-research/vision_transformer), and
.safetensors with the names of Hugging Face's or timm's ViT, of Hugging Face's, torchvision's or timm's ResNet, or of
the Inception that FID is published with. Nothing is loaded halfway: every leaf that is missing, left over or of another
shape is named, and only the head may be replaced.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from flax import linen as nn

from jaxmoust.core.tree import map_named, named_leaves
from jaxmoust.models.classifiers.inception import InceptionV3
from jaxmoust.models.classifiers.resnet import ResNet
from jaxmoust.models.classifiers.vit import ViT
from jaxmoust.models.translate import WRAPPERS, Make, Tensors, kernel, read_arrays, translate
from jaxmoust.runtime.paths import read_json

_HEAD = ("params/head/kernel", "params/head/bias")
# What files hold that no network computes with, and what goes with a head.
_COUNTERS = r".*\.num_batches_tracked$"
_HEADS = r"(head|classifier|fc|pre_logits|pooler)[./]"


def load_pretrained(path: str | Path, model: nn.Module, shapes: Any) -> dict[str, jax.Array]:
    """Reads a public checkpoint as leaves for a model's tree; `put_leaves` puts them there.

    A ViT's position embeddings are interpolated to the model's number of patches. The head is left out where the file
    has none or one for another number of classes: then the model's own stays.

    Args:
        path: a .npz or .safetensors file, or a folder with a model.safetensors. Torch's layouts do not show how
            many heads a ViT has; where Hugging Face's or timm's config.json lies beside it, that is asked.
        model: a `ViT` or a `ResNet` (with stem="imagenet"; public weights want imagenet_colours=True as well).
        shapes: the model's {"params": ..., "stats": ...}, as arrays or `jax.ShapeDtypeStruct`s.
    Returns: "params/..." and "stats/..." to arrays of the model's dtypes.
    Raises: ValueError: no such file, a pickle, another layout, or leaves that do not fit, all of them named.
    """
    layout, arrays = open_layout(path, type(model))
    beside = num_heads_of(path, model.width) if isinstance(model, ViT) else 0
    if beside and beside != model.num_heads:
        raise ValueError(
            f"The config.json beside {path} says {beside} attention heads, the model has {model.num_heads}: give it "
            "as many."
        )
    wanted, ignored = named_leaves(shapes), _COUNTERS
    if isinstance(model, InceptionV3) and not _head_fits(arrays, layout, wanted):
        raise ValueError(
            f"{path} is no Inception of FID's, whose head has {model.num_classes:,} classes (torchvision's, which was "
            "trained on ImageNet, has 1,000): give the whole file that pytorch-fid or torch-fidelity publishes."
        )
    if not _head_fits(arrays, layout, wanted):
        wanted, ignored = {name: leaf for name, leaf in wanted.items() if name not in _HEAD}, f"{_COUNTERS}|{_HEADS}"
    origin = f"{path}, of {layout.family}'s layout,"
    return translate(arrays, wanted, partial(_rule, layout, model), origin, ignored)


def load_variables(path: str | Path, model: nn.Module, image_px: int) -> dict[str, Any]:
    """Reads a public checkpoint as all a model needs, {"params": ..., "stats": ...}; a head that it lacks is zeros.

    Args:
        image_px: side of the images, of 3 channels, that the model shall fit.
    Raises: as `load_pretrained`.
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, image_px, image_px, 3)))
    shapes = {"params": shapes["params"], "stats": shapes.get("batch_stats", {})}
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return put_leaves(empty, load_pretrained(path, model, shapes))


def put_leaves(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """Replaces the leaves of a tree that have these names; the others stay."""
    return map_named(lambda name, leaf: leaves.get(name, leaf), tree)


@dataclass(frozen=True)
class Layout:
    """How a family of files names what a model of ours holds.

    Args:
        family: in words.
        model: the class it is for.
        first: a leaf of every such model, by which its files are recognised.
        modules: a module of ours to the names of the file's; {} is the number of a block.
    """

    family: str
    model: type[nn.Module]
    first: str
    modules: Callable[[str], list[str]]

    def names(self, leaf: str) -> list[str]:
        """The file's names of what a leaf of ours, "params/blocks/qkv/kernel", is made of."""
        module, _, last = leaf.partition("/")[2].rpartition("/")
        if not module:
            return self.modules(last)
        suffix = f"/{last}" if self.family == "augreg" else _TORCH_LEAVES[last]
        return [name + suffix for name in self.modules(module)]


def open_layout(path: str | Path, kind: type[nn.Module]) -> tuple[Layout, Tensors]:
    """Reads a checkpoint and recognises its layout: (it, the arrays without what Hugging Face prefixes).

    Raises: ValueError: as `read_arrays`, or no layout of a network of that kind.
    """
    arrays = {re.sub(r"^(vit|resnet)\.", "", name): array for name, array in read_arrays(Path(path)).items()}
    other = next((what for sign, what in _OTHERS.items() if any(re.search(sign, name) for name in arrays)), "")
    for layout in () if other else _LAYOUTS:
        if issubclass(kind, layout.model) and layout.names(layout.first)[0] in arrays:
            return layout, arrays
    known = ", ".join(f"{layout.family}'s {layout.model.__name__}" for layout in _LAYOUTS)
    wrapped = sorted({name.partition(".")[0] for name in arrays} & set(WRAPPERS))
    inside = f" Give a file of what is inside {' or '.join(wrapped)} alone." if wrapped else ""
    what = f"{other}, which is not read:" if other else f"no {kind.__name__} of a known layout;"
    raise ValueError(f"{path} holds {', '.join(sorted(arrays)[:4])} ... and {what} known layouts: {known}.{inside}")


def num_heads_of(path: str | Path, width: int) -> int:
    """The attention heads that the config.json in a folder, or beside a file, gives a ViT; 0 where nothing says."""
    here = Path(path)
    config = read_json((here if here.is_dir() else here.parent) / "config.json")
    config = config if isinstance(config, dict) else {}
    own = config.get("model_args") if isinstance(config.get("model_args"), dict) else {}
    said = config.get("num_attention_heads") or (own or {}).get("num_heads")
    if isinstance(said, int) and said > 0:
        return said
    words = re.split(r"[_.]", str(config.get("architecture", "")))
    return next((heads for name, (of_width, heads) in _TIMM_HEADS.items() if name in words and of_width == width), 0)


def _head_fits(arrays: Tensors, layout: Layout, wanted: dict[str, Any]) -> bool:
    """Whether the file has a head, or what is left of one, and it is not for another number of classes."""
    kernel, bias = (arrays.get(layout.names(name)[0]) for name in _HEAD)
    if bias is not None:
        return bias.shape == wanted["params/head/bias"].shape
    return kernel is not None


def _rule(layout: Layout, model: Any, name: str) -> tuple[list[str], Make]:
    names = layout.names(name)
    if name.startswith("params/blocks/"):
        names = [part.format(i) for i in range(model.depth) for part in names]
    return names, partial(_make, layout, model, name)


def _make(layout: Layout, model: Any, name: str, tensors: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    if name == "params/pos_embed":
        return resample_positions(tensors[0], shape[1], num_tokens=1 if model.pool == "token" else 0)
    in_blocks = name.startswith("params/blocks/")
    if layout.family == "augreg":
        tensors = [_join_heads(name, tensor, model.num_heads) for tensor in tensors]
    elif name.endswith("/kernel"):
        tensors = [kernel([tensor], shape[1:] if in_blocks else shape) for tensor in tensors]
    if not in_blocks:
        return tensors[0]
    parts = len(tensors) // model.depth  # one, or queries, keys and values apart
    return np.stack([np.concatenate(tensors[i : i + parts], axis=-1) for i in range(0, len(tensors), parts)])


def _join_heads(name: str, array: np.ndarray, num_heads: int) -> np.ndarray:
    """Joins augreg's axes of heads and of their channels."""
    module = name.removeprefix("params/blocks/").partition("/")[0]
    if module not in ("qkv", "proj") or name == "params/blocks/proj/bias":
        return array
    heads = array.shape[-2] if module == "qkv" else array.shape[0]
    if heads != num_heads:
        raise ValueError(f"it has {heads} heads, the model {num_heads}")
    if module == "proj":
        return array.reshape(-1, array.shape[-1])
    return array.reshape(*array.shape[:-2], -1)


def resample_positions(positions: np.ndarray, length: int, num_tokens: int) -> np.ndarray:
    """Interpolates position embeddings [1, num_tokens + n * n, D] to [1, length, D], bilinearly between corners.

    Args: num_tokens: leading embeddings that belong to no patch and stay.
    Raises: ValueError: patches that do not form squares.
    Source: Dosovitskiy et al. 2021 (2010.11929), section 3.2.
    """
    if positions.shape[1] == length:
        return positions
    old, new = (int(np.sqrt(n - num_tokens)) for n in (positions.shape[1], length))
    if old**2 + num_tokens != positions.shape[1] or new**2 + num_tokens != length:
        raise ValueError(
            f"got {positions.shape[1]} positions for {length}; without {num_tokens} token both must be squares"
        )
    grid = positions[0, num_tokens:].reshape(old, old, -1).astype(np.float32)
    grid = scipy.ndimage.zoom(grid, (new / old, new / old, 1), order=1, mode="nearest")
    return np.concatenate([positions[:, :num_tokens], grid.reshape(1, new * new, -1)], axis=1)


# --- the names -------------------------------------------------------------------------------------------------------

# A ViT's modules under augreg's, Hugging Face's and timm's names; * is query, key and value.
_VIT = {
    "cls": ("cls", "embeddings.cls_token", "cls_token"),
    "pos_embed": ("Transformer/posembed_input/pos_embedding", "embeddings.position_embeddings", "pos_embed"),
    "patch_embed": ("embedding", "embeddings.patch_embeddings.projection", "patch_embed.proj"),
    "blocks/norm0": ("LayerNorm_0", "layernorm_before", "norm1"),
    "blocks/qkv": ("MultiHeadDotProductAttention_1/*", "attention.attention.*", "attn.qkv"),
    "blocks/proj": ("MultiHeadDotProductAttention_1/out", "attention.output.dense", "attn.proj"),
    "blocks/norm1": ("LayerNorm_2", "layernorm_after", "norm2"),
    "blocks/mlp0": ("MlpBlock_3/Dense_0", "intermediate.dense", "mlp.fc1"),
    "blocks/mlp1": ("MlpBlock_3/Dense_1", "output.dense", "mlp.fc2"),
    "norm": ("Transformer/encoder_norm", "layernorm", "norm"),
    "head": ("head", "classifier", "head"),
}
_VIT_BLOCKS = ("Transformer/encoderblock_{}/", "encoder.layer.{}.", "blocks.{}.")
# A ResNet's modules, and those inside its blocks, under torchvision's and Hugging Face's names.
_RESNET = {
    "stem_conv": ("conv1", "embedder.embedder.convolution"),
    "stem_norm": ("bn1", "embedder.embedder.normalization"),
    **{f"conv{i}": (f"conv{i + 1}", f"layer.{i}.convolution") for i in range(3)},
    **{f"norm{i}": (f"bn{i + 1}", f"layer.{i}.normalization") for i in range(3)},
    "shortcut_conv": ("downsample.0", "shortcut.convolution"),
    "shortcut_norm": ("downsample.1", "shortcut.normalization"),
    "head": ("fc", "classifier.1"),
}
# timm's sizes, by their word in the architecture that its config.json names: (width, heads).
# Source: timm's vision_transformer.py and deit.py.
_TIMM_HEADS = {
    "tiny": (192, 3),
    "small": (384, 6),
    "medium": (512, 8),
    "base": (768, 12),
    "large": (1024, 16),
    "so400m": (1152, 16),
    "huge": (1280, 16),
    "giant": (1408, 16),
    "gigantic": (1664, 16),
}
# Networks and layouts that are not read, by a name that only they have.
_OTHERS = {
    r"Transformer/encoderblock(_\d+)?/(MlpBlock_0|LayerNorm_1)/": "a ViT of big_vision's present layout (augreg's is "
    "the older one)",
    r"^conv_proj\.weight$": "torchvision's ViT",
    r"(^|\.)(dist_token|distillation_token)$": "a distilled DeiT, of two tokens",
    r"layer_scale\d?\.|\.ls\d\.gamma$|(^|\.)(reg_token|register_tokens)$": "a ViT with layer scale or registers, as "
    "DINOv2's are",
    r"^conv1\.\d\.": "a ResNet-D, whose stem is three convolutions",
    r"^(convnextv?2?|stages)\.\d?": "a ConvNeXt",
    r"^AuxLogits\.": "torchvision's Inception for ImageNet, not FID's",
}
_TORCH_LEAVES = {
    "kernel": ".weight",
    "scale": ".weight",
    "bias": ".bias",
    "mean": ".running_mean",
    "var": ".running_var",
    "synthetic_mean": ".running_mean",
    "synthetic_var": ".running_var",
}


def _vit_modules(column: int, module: str) -> list[str]:
    name = (_VIT_BLOCKS[column] if module.startswith("blocks/") else "") + _VIT[module][column]
    return [name.replace("*", part) for part in ("query", "key", "value")] if "*" in name else [name]


def _resnet_modules(column: int, module: str) -> list[str]:
    *blocks, part = module.split("/")
    name = _RESNET[part][column]
    for block in blocks:
        stage, number = re.findall(r"\d+", block)
        name = (f"layer{int(stage) + 1}.", f"encoder.stages.{stage}.layers.")[column] + f"{number}.{name}"
    return [name]


def _inception_modules(module: str) -> list[str]:
    return ["fc" if module == "head" else module.replace("/", ".")]


_LAYOUTS = (
    Layout("augreg", ViT, "params/patch_embed/kernel", partial(_vit_modules, 0)),
    Layout("Hugging Face", ViT, "params/patch_embed/kernel", partial(_vit_modules, 1)),
    Layout("timm", ViT, "params/patch_embed/kernel", partial(_vit_modules, 2)),
    Layout("Hugging Face", ResNet, "params/stem_conv/kernel", partial(_resnet_modules, 1)),
    Layout("torchvision", ResNet, "params/stem_conv/kernel", partial(_resnet_modules, 0)),
    Layout("FID", InceptionV3, "params/Conv2d_1a_3x3/conv/kernel", _inception_modules),
)
