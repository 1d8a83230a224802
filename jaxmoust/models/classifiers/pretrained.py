"""Public checkpoints, translated into our trees: files in, named arrays out.

Read are the .npz files of augreg and the original ViT (https://github.com/google-research/vision_transformer), and
.safetensors with the names of Hugging Face's or timm's ViT, of Hugging Face's, torchvision's or timm's ResNet, or of
the Inception that FID is published with.
Pickles (.bin, .pt, .pth) run code when opened and are refused. Nothing is loaded halfway: every leaf that is missing,
left over or of another shape is named, and only the head may be replaced.
"""

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import linen as nn
from scipy import ndimage

from jaxmoust.core.tree import map_named, merge_params, named_leaves
from jaxmoust.models.classifiers.inception import InceptionV3
from jaxmoust.models.classifiers.resnet import ResNet
from jaxmoust.models.classifiers.vit import ViT

Arrays = dict[str, np.ndarray]

_HEAD = ("params/head/kernel", "params/head/bias")


def load_pretrained(path: str | Path, model: nn.Module, shapes: Any) -> dict[str, jax.Array]:
    """Reads a public checkpoint as leaves for a model's tree; `put_leaves` puts them there.

    A ViT's position embeddings are interpolated to the model's number of patches. The head is left out where the file
    has none or one for another number of classes: then the model's own stays.

    Args:
        path: a .npz or .safetensors file, or a folder with a model.safetensors. Torch's layouts do not show how
            many heads a ViT has; where a folder holds Hugging Face's config.json too, that is asked.
        model: a `ViT` or a `ResNet` (with stem="imagenet"; public weights want imagenet_colours=True as well).
        shapes: the model's {"params": ..., "stats": ...}, as arrays or `jax.ShapeDtypeStruct`s.
    Returns: "params/..." and "stats/..." to arrays of the model's dtypes.
    Raises: ValueError: no such file, a pickle, another layout, or leaves that do not fit, all of them named.
    """
    arrays = read_arrays(Path(path))
    _check_heads(Path(path) / "config.json", model)
    layout = _find_layout(arrays, model)
    arrays = {name.removeprefix(layout.prefix): array for name, array in arrays.items()}
    wanted = named_leaves(shapes)
    origins = {name: layout.origins(name, model) for name in wanted}

    replaced = ()
    if not _head_fits(arrays, origins, wanted):
        replaced = layout.with_head
        for name in _HEAD:
            del wanted[name], origins[name]

    used = {origin for parts in origins.values() for origin in parts}
    left = {n for n in arrays.keys() - used if not re.match("|".join((*layout.ignored, *replaced, "$")), n)}
    faults = [f"missing from the file: {name}" for name in sorted(used - arrays.keys())]
    faults += [f"not wanted by the model: {name} {arrays[name].shape}" for name in sorted(left)]
    if faults:
        raise ValueError(
            f"{path}, of {layout.name}'s layout, does not fit the model:\n  "
            + "\n  ".join(faults)
            + "\nBuild the model with the sizes that the file was trained with."
        )
    made = {}
    for name, parts in origins.items():
        try:
            made[name] = layout.convert(name, [arrays[part] for part in parts], model, wanted[name].shape)
        except ValueError as e:
            found = ", ".join(f"{part} {arrays[part].shape}" for part in parts)
            raise ValueError(f"{path}: cannot make {name} {wanted[name].shape} of {found}: {e}") from e
    return merge_params(wanted, made)


def put_leaves(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """Replaces the leaves of a tree that have these names; the others stay."""
    return map_named(lambda name, leaf: leaves.get(name, leaf), tree)


def read_arrays(path: Path) -> Arrays:
    """Reads every array of a .npz or .safetensors file without running anything that is in it.

    Raises: ValueError: no such file, another kind of file, or a damaged one.
    """
    path = path / "model.safetensors" if path.is_dir() else path
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(
            f"{path}: allowed are .npz and .safetensors. A file of torch runs code when opened; turn it into a "
            "safe one where you trust it: safetensors.torch.save_file(torch.load(file, weights_only=True), new_file)."
        )
    if not path.is_file():
        raise ValueError(f"{path}: no such file. Give the path of a downloaded checkpoint.")
    try:
        if path.suffix == ".safetensors":
            return safetensors.numpy.load_file(path)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (safetensors.SafetensorError, zipfile.BadZipFile, EOFError, ValueError, TypeError, KeyError) as e:
        raise ValueError(f"{path} cannot be read as {path.suffix}: {e}. Fetch it again.") from e


@dataclass(frozen=True)
class Layout:
    """How a family of files names and shapes what a model of ours holds.

    Args:
        name: in words. model: the class it is for. mark: a name that only files of this layout have.
        origins: (our leaf, model) to the names in the file that it is made of.
        convert: (our leaf, the arrays of those names, model, wanted shape) to our array.
        prefix: taken off the file's names. ignored: patterns of names that hold nothing a network computes with.
        with_head: patterns of names that are dropped with the head.
    """

    name: str
    model: type[nn.Module]
    mark: str
    origins: Callable[[str, Any], list[str]]
    convert: Callable[[str, list[np.ndarray], Any, tuple[int, ...]], np.ndarray]
    prefix: str = ""
    ignored: tuple[str, ...] = ()
    with_head: tuple[str, ...] = ()


def _find_layout(arrays: Arrays, model: nn.Module) -> Layout:
    found = [layout for layout in _LAYOUTS if layout.mark in arrays and isinstance(model, layout.model)]
    if not found:
        known = ", ".join(dict.fromkeys(f"{layout.name}'s {layout.model.__name__}" for layout in _LAYOUTS))
        raise ValueError(
            f"got a file with {', '.join(sorted(arrays)[:4])} ... for a {type(model).__name__}; known layouts: {known}"
        )
    return found[0]


def _check_heads(config: Path, model: nn.Module) -> None:
    if isinstance(model, ViT) and config.is_file():
        heads = json.loads(config.read_text()).get("num_attention_heads", model.num_heads)
        if heads != model.num_heads:
            raise ValueError(
                f"{config} says {heads} attention heads, the model has {model.num_heads}: give it as many."
            )


def _head_fits(arrays: Arrays, origins: dict[str, list[str]], wanted: dict[str, Any]) -> bool:
    """Whether the file has a head, or what is left of one, and it is not for another number of classes."""
    kernel, bias = (arrays.get(origins[name][0]) for name in _HEAD)
    if bias is not None:
        return bias.shape == wanted["params/head/bias"].shape
    return kernel is not None


# --- vision transformers: each of our modules, and its names in a file; {} is the number of the block ----------------

_AUGREG = "Transformer/encoderblock_{}/"
_HUGGINGFACE = "encoder.layer.{}."
_TIMM = "blocks.{}."
_AUGREG_VIT = {
    "cls": ["cls"],
    "pos_embed": ["Transformer/posembed_input/pos_embedding"],
    "patch_embed": ["embedding"],
    "blocks/norm0": [_AUGREG + "LayerNorm_0"],
    "blocks/qkv": [_AUGREG + f"MultiHeadDotProductAttention_1/{part}" for part in ("query", "key", "value")],
    "blocks/proj": [_AUGREG + "MultiHeadDotProductAttention_1/out"],
    "blocks/norm1": [_AUGREG + "LayerNorm_2"],
    "blocks/mlp0": [_AUGREG + "MlpBlock_3/Dense_0"],
    "blocks/mlp1": [_AUGREG + "MlpBlock_3/Dense_1"],
    "norm": ["Transformer/encoder_norm"],
    "head": ["head"],
}
_HUGGINGFACE_VIT = {
    "cls": ["embeddings.cls_token"],
    "pos_embed": ["embeddings.position_embeddings"],
    "patch_embed": ["embeddings.patch_embeddings.projection"],
    "blocks/norm0": [_HUGGINGFACE + "layernorm_before"],
    "blocks/qkv": [_HUGGINGFACE + f"attention.attention.{part}" for part in ("query", "key", "value")],
    "blocks/proj": [_HUGGINGFACE + "attention.output.dense"],
    "blocks/norm1": [_HUGGINGFACE + "layernorm_after"],
    "blocks/mlp0": [_HUGGINGFACE + "intermediate.dense"],
    "blocks/mlp1": [_HUGGINGFACE + "output.dense"],
    "norm": ["layernorm"],
    "head": ["classifier"],
}
_TIMM_VIT = {
    "cls": ["cls_token"],
    "pos_embed": ["pos_embed"],
    "patch_embed": ["patch_embed.proj"],
    "blocks/norm0": [_TIMM + "norm1"],
    "blocks/qkv": [_TIMM + "attn.qkv"],
    "blocks/proj": [_TIMM + "attn.proj"],
    "blocks/norm1": [_TIMM + "norm2"],
    "blocks/mlp0": [_TIMM + "mlp.fc1"],
    "blocks/mlp1": [_TIMM + "mlp.fc2"],
    "norm": ["norm"],
    "head": ["head"],
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


def _vit_origins(modules: dict[str, list[str]], leaves: dict[str, str]) -> Callable[[str, ViT], list[str]]:
    def origins(name: str, model: ViT) -> list[str]:
        name = name.removeprefix("params/")
        module, _, leaf = name.rpartition("/")
        names = [part + leaves[leaf] for part in modules[module]] if module else modules[name]
        if not name.startswith("blocks/"):
            return names
        return [part.format(i) for i in range(model.depth) for part in names]

    return origins


def _convert_vit(to_ours: Callable[[str, np.ndarray, ViT], np.ndarray]) -> Callable:
    def convert(name: str, arrays: list[np.ndarray], model: ViT, shape: tuple[int, ...]) -> np.ndarray:
        arrays = [to_ours(name, array, model) for array in arrays]
        if name == "params/pos_embed":
            return resample_positions(arrays[0], shape[1], num_tokens=1 if model.pool == "token" else 0)
        if not name.startswith("params/blocks/"):
            return arrays[0]
        parts = len(arrays) // model.depth  # one, or queries, keys and values apart
        blocks = [np.concatenate(arrays[i : i + parts], axis=-1) for i in range(0, len(arrays), parts)]
        return np.stack(blocks)

    return convert


def _from_torch(name: str, array: np.ndarray, model: nn.Module) -> np.ndarray:
    """[out, in] to [in, out]; [out, in, height, width] to [height, width, in, out]."""
    if not name.endswith("/kernel"):
        return array
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _from_augreg(name: str, array: np.ndarray, model: ViT) -> np.ndarray:
    """Joins the axes of heads and of their channels."""
    module = name.removeprefix("params/blocks/").partition("/")[0]
    if module not in ("qkv", "proj") or name == "params/blocks/proj/bias":
        return array
    heads = array.shape[-2] if module == "qkv" else array.shape[0]
    if heads != model.num_heads:
        raise ValueError(f"it has {heads} heads, the model {model.num_heads}")
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
    grid = ndimage.zoom(grid, (new / old, new / old, 1), order=1, mode="nearest")
    return np.concatenate([positions[:, :num_tokens], grid.reshape(1, new * new, -1)], axis=1)


# --- residual networks -----------------------------------------------------------------------------------------------


def _torchvision_module(module: str) -> str:
    if match := re.fullmatch(r"stage(\d+)_block(\d+)/(.*)", module):
        stage, block, part = match.groups()
        names = {"shortcut_conv": "downsample.0", "shortcut_norm": "downsample.1"}
        part = names.get(part) or {"conv": "conv", "norm": "bn"}[part[:-1]] + str(int(part[-1]) + 1)
        return f"layer{int(stage) + 1}.{block}.{part}"
    return {"stem_conv": "conv1", "stem_norm": "bn1", "head": "fc"}[module]


def _huggingface_module(module: str) -> str:
    kinds = {"conv": "convolution", "norm": "normalization"}
    if match := re.fullmatch(r"stage(\d+)_block(\d+)/(.*)", module):
        stage, block, part = match.groups()
        kind = kinds[part.removeprefix("shortcut_")[:4]]
        part = "shortcut" if part.startswith("shortcut") else f"layer.{part[-1]}"
        return f"encoder.stages.{stage}.layers.{block}.{part}.{kind}"
    stem = "embedder.embedder."
    return {"stem_conv": stem + kinds["conv"], "stem_norm": stem + kinds["norm"], "head": "classifier.1"}[module]


def _inception_module(module: str) -> str:
    return "fc" if module == "head" else module.replace("/", ".")


def _resnet_origins(module_of: Callable[[str], str]) -> Callable[[str, nn.Module], list[str]]:
    def origins(name: str, model: nn.Module) -> list[str]:
        module, _, leaf = name.partition("/")[2].rpartition("/")
        return [module_of(module) + _TORCH_LEAVES[leaf]]

    return origins


def _convert_resnet(name: str, arrays: list[np.ndarray], model: nn.Module, shape: tuple[int, ...]) -> np.ndarray:
    return _from_torch(name, arrays[0], model)


_COUNTERS = (r".*\.num_batches_tracked$",)
_FLAX_LEAVES = {leaf: f"/{leaf}" for leaf in ("kernel", "bias", "scale")}
_LAYOUTS = (
    Layout(
        "augreg",
        ViT,
        "Transformer/encoder_norm/scale",
        _vit_origins(_AUGREG_VIT, _FLAX_LEAVES),
        _convert_vit(_from_augreg),
        with_head=("pre_logits/", "head/"),
    ),
    *(
        Layout(
            "Hugging Face",
            ViT,
            prefix + "embeddings.cls_token",
            _vit_origins(_HUGGINGFACE_VIT, _TORCH_LEAVES),
            _convert_vit(_from_torch),
            prefix,
            with_head=(r"pooler\.", r"classifier\."),
        )
        for prefix in ("vit.", "")
    ),
    Layout(
        "timm",
        ViT,
        "patch_embed.proj.weight",
        _vit_origins(_TIMM_VIT, _TORCH_LEAVES),
        _convert_vit(_from_torch),
        with_head=(r"head\.", r"pre_logits\."),
    ),
    *(
        Layout(
            "Hugging Face",
            ResNet,
            prefix + "embedder.embedder.convolution.weight",
            _resnet_origins(_huggingface_module),
            _convert_resnet,
            prefix,
            ignored=_COUNTERS,
            with_head=(r"classifier\.",),
        )
        for prefix in ("resnet.", "")
    ),
    Layout(
        "FID",
        InceptionV3,
        "Conv2d_1a_3x3.conv.weight",
        _resnet_origins(_inception_module),
        _convert_resnet,
        ignored=_COUNTERS,
        with_head=(r"fc\.",),
    ),
    Layout(
        "torchvision",
        ResNet,
        "conv1.weight",
        _resnet_origins(_torchvision_module),
        _convert_resnet,
        ignored=_COUNTERS,
        with_head=(r"fc\.",),
    ),
)
