"""Public checkpoints of classifiers, translated into our trees: files in, named arrays out.

Read are .npz files of augreg and the original ViT (https://github.com/google-research/vision_transformer), and
.safetensors of every layout that layouts.py lists. Nothing is loaded halfway: every leaf that is missing, left over or
of another shape is named, and only the head may be replaced.
"""

import contextlib
import dataclasses
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from flax import linen as nn

from jaxmoust.core.tree import map_named, named_leaves
from jaxmoust.models.classifiers.described import facts_of, module_of, read_config
from jaxmoust.models.classifiers.inception import InceptionV3
from jaxmoust.models.classifiers.layouts import LAYOUTS, OTHERS, Layout
from jaxmoust.models.classifiers.vit import ViT
from jaxmoust.models.translate import WRAPPERS, Make, Tensors, kernel, read_arrays, translate, unwrapped

HEAD = ("params/head/kernel", "params/head/bias")
# What files hold that no network computes with, the other tower of a CLIP, and what goes with a head.
_UNUSED = (
    r".*\.num_batches_tracked$|(.*\.)?position_ids$|(embeddings\.)?mask_token$|text_model\.|text_projection\.|"
    r"logit_(scale|bias)$"
)
_HEADS = r"(head|head_dist|heads|(cls_|distillation_)?classifier|fc|pre_logits|pooler|visual_projection)[./]"
# Fields that arrays do not show.
_NOT_SHOWN = {"parent", "name", "num_classes", "axis_name", "dtype", "remat", "scan", "dropout", "stochastic_depth"}
_PREFIXES = r"^(vit|deit|dinov2|dinov2_with_registers|vision_model|convnext|resnet|backbone)\."


def load_pretrained(path: str | Path, model: nn.Module, shapes: Any) -> dict[str, jax.Array]:
    """Reads a public checkpoint as leaves for a model's tree; `put_leaves` puts them there.

    A ViT's position embeddings are interpolated to the model's number of patches. The head is left out where the file
    has none or one for another number of classes: then the model's own stays.

    Args:
        path: a .npz or .safetensors file, or a folder with a model.safetensors. What Hugging Face's or timm's
            config.json beside it says of heads, activation, epsilon and strides must be the model's.
        model: a `ViT`, a `ConvNeXt` or a `ResNet` (with stem="imagenet"; public weights want imagenet_colours=True as
            well).
        shapes: the model's {"params": ..., "stats": ...}, as arrays or `jax.ShapeDtypeStruct`s.
    Returns: "params/..." and "stats/..." to arrays of the model's dtypes.
    Raises: ValueError: no such file, a pickle, another layout, or leaves that do not fit, all of them named.
    """
    layout, arrays = open_layout(path, type(model))
    return load_opened(layout, arrays, path, model, shapes)


def load_opened(layout: Layout, arrays: Tensors, path: str | Path, model: nn.Module, shapes: Any) -> dict[str, Any]:
    """The same of a file that `open_layout` opened."""
    said = {name: value for name, value in facts_of(path, layout, arrays).items() if hasattr(model, name)}
    for name, value in said.items():
        if (own := getattr(model, name)) != value:
            what = {"num_heads": "attention heads"}.get(name, f"for {name}")
            raise ValueError(
                f"The config.json beside {path} says {value} {what}, the model has {own}: give it the file's, "
                f"--config.model.{name}={value}."
            )
    wanted, ignored = named_leaves(shapes), _UNUSED
    if isinstance(model, InceptionV3) and not _head_fits(arrays, layout, wanted):
        raise ValueError(
            f"{path} is no Inception of FID's, whose head has {model.num_classes:,} classes (torchvision's, which was "
            "trained on ImageNet, has 1,000): give the whole file that pytorch-fid or torch-fidelity publishes."
        )
    if not _head_fits(arrays, layout, wanted):
        wanted, ignored = {name: leaf for name, leaf in wanted.items() if name not in HEAD}, f"{_UNUSED}|{_HEADS}"
    origin = f"{path}, of {layout.family}'s layout,"
    try:
        return translate(arrays, wanted, partial(rule_of, layout, arrays, model), origin, ignored)
    except ValueError as error:
        with contextlib.suppress(ValueError, KeyError, IndexError):  # of arrays that are not whole
            own = module_of(layout, arrays, path, getattr(model, "num_heads", 0))
            fields = sorted({field.name for field in dataclasses.fields(own)} - _NOT_SHOWN)
            other = [f"{name}={value}" for name in fields if (value := getattr(own, name)) != getattr(model, name)]
            error.args = (f"{error} It is of a {type(own).__name__} with {', '.join(other)}." if other else str(error),)
        raise


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


def open_layout(path: str | Path, kind: type[nn.Module]) -> tuple[Layout, Tensors]:
    """Reads a checkpoint and recognises its layout: (it, the arrays without what Hugging Face prefixes).

    Raises: ValueError: as `read_arrays`, or no layout of a network of that kind.
    """
    from jaxmoust.models.stable_diffusion.weights import open_tensors  # here, as CLIP's image tower is one of ours

    path = Path(path)
    sharded = (path / "model.safetensors.index.json").is_file() and not (path / "model.safetensors").exists()
    arrays = unwrapped(dict(open_tensors(path, "model"))) if sharded else read_arrays(path)
    arrays = {re.sub(_PREFIXES, "", name): array for name, array in arrays.items()}
    other = next((what for sign, what in OTHERS.items() if any(re.search(sign, name) for name in arrays)), "")
    for layout in () if other else LAYOUTS:
        if issubclass(layout.model, kind) and layout.names(layout.first, arrays)[0] in arrays:
            return layout, arrays
    known = ", ".join(f"{layout.family}'s {layout.model.__name__}" for layout in LAYOUTS)
    wrapped = sorted({name.partition(".")[0] for name in arrays} & set(WRAPPERS))
    inside = f" Give a file of what is inside {' or '.join(wrapped)} alone." if wrapped else ""
    network = "network" if kind is nn.Module else kind.__name__
    what = f"{other}, which is not read:" if other else f"no {network} of a known layout;"
    raise ValueError(f"{path} holds {', '.join(sorted(arrays)[:4])} ... and {what} known layouts: {known}.{inside}")


def _head_fits(arrays: Tensors, layout: Layout, wanted: dict[str, Any]) -> bool:
    """Whether the file has a head, or what is left of one, and it is not for another number of classes."""
    return num_outputs(layout, arrays) == wanted["params/head/bias"].shape[0]


def num_outputs(layout: Layout, arrays: Tensors) -> int | None:
    """The width of a file's head; None where it has none."""
    kernel, bias = (arrays.get(layout.names(name, arrays)[0]) for name in HEAD)
    if bias is not None:
        return len(bias)
    return None if kernel is None else kernel.shape[-1 if layout.family == "augreg" else 0]


def rule_of(layout: Layout, arrays: Tensors, model: Any, name: str) -> tuple[list[str], Make]:
    """How a leaf of a model is made: (the names of the tensors of a file that it is made of, what makes it of them)."""
    names = layout.names(name, arrays)
    if name.startswith("params/blocks/"):
        names = [part.format(i) for i in range(model.depth) for part in names]
    if names == ["visual_projection.bias"]:
        names = []
    return names, partial(_make, layout, model, name)


def _make(layout: Layout, model: Any, name: str, tensors: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    if name == "params/pos_embed":
        return _positions(layout, model, tensors[0], shape)
    if name in ("params/cls", "params/map/probe"):
        return np.concatenate([tensor.reshape(1, -1, shape[-1]) for tensor in tensors], axis=1)
    if name == "params/head/bias":
        return sum(tensors, np.zeros(shape, np.float32)) / max(1, len(tensors))
    in_blocks = name.startswith("params/blocks/")
    if layout.family == "augreg":
        tensors = [_join_heads(name, tensor, model.num_heads) for tensor in tensors]
    elif name.endswith("/kernel"):
        tensors = [kernel([tensor], shape[1:] if in_blocks else shape) for tensor in tensors]
    elif name.endswith("/gamma"):
        return tensors[0].reshape(shape)
    if name == "params/head/kernel":  # of several tokens: logits are the mean of their heads'
        return np.concatenate(tensors) / len(tensors)
    parts = len(tensors) // (model.depth if in_blocks else 1)  # one, or queries, keys and values apart
    joined = [np.concatenate(tensors[i : i + parts], axis=-1) for i in range(0, len(tensors), parts)]
    return np.stack(joined) if in_blocks else joined[0]


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


def _positions(layout: Layout, model: ViT, positions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Interpolates as the family does, and gives tokens whose place is not learnt zeros: theirs is in the token."""
    positions = positions.reshape(1, -1, positions.shape[-1])
    length, tokens = positions.shape[1], model.tokens
    placed = num_placed(length, model)
    how = _RESAMPLING.get(layout.family, "bicubic")
    if layout.family == "Hugging Face" and tokens > 2:
        how = "antialias"
    positions = resample_positions(positions, shape[1] - tokens + placed, placed, how)
    gap = np.zeros((1, tokens - placed, positions.shape[-1]), positions.dtype)
    return np.concatenate([positions[:, :placed], gap, positions[:, placed:]], axis=1)


def trained_side(layout: Layout, arrays: Tensors, model: ViT, path: str | Path) -> int:
    """The side in pixels of the images that a ViT's positions are for; a config.json says what is beside patches."""
    length = arrays[layout.names("params/pos_embed", arrays)[0]].size // model.width
    grid, said = int(np.sqrt(length - num_placed(length, model))), read_config(path).get("image_size")
    return said if isinstance(said, int) and said // model.patch_px == grid else grid * model.patch_px


def num_placed(length: int, model: ViT) -> int:
    """How many of the first positions are those of tokens."""
    return next((n for n in sorted({0, min(1, model.tokens), model.tokens}) if is_square(length - n)), model.tokens)


# How families interpolate positions: Hugging Face by torch's cubic, with registers by the one that averages.
_RESAMPLING = {"augreg": "linear", "timm": "antialias", "torchvision": "corners"}


def is_square(number: int) -> bool:
    """Whether a number of patches is that of a square image."""
    return number > 0 and int(np.sqrt(number)) ** 2 == number


def resample_positions(positions: np.ndarray, length: int, num_tokens: int, how: str = "linear") -> np.ndarray:
    """Interpolates position embeddings [1, num_tokens + n * n, D] to [1, length, D].

    Args:
        num_tokens: leading embeddings that belong to no patch and stay.
        how: "linear", between corners; "bicubic", as torch's interpolate; "corners", the same between corners;
            "antialias", as torch's that averages where it shrinks.
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
    if how == "linear":
        grid = scipy.ndimage.zoom(grid, (new / old, new / old, 1), order=1, mode="nearest")
    else:
        matrix = _cubic(old, new, how)
        grid = np.einsum("ia,jb,abd->ijd", matrix, matrix, grid, optimize=True).astype(np.float32)
    return np.concatenate([positions[:, :num_tokens], grid.reshape(1, new * new, -1)], axis=1)


def _cubic(old: int, new: int, how: str) -> np.ndarray:
    """The matrix [new, old] of torch's cubic interpolation: a = -0.75, or -0.5 where it averages.

    Source: Keys 1981, Eq. 15; torch.nn.functional.interpolate.
    """
    ratio = (old - 1) / max(1, new - 1) if how == "corners" else old / new
    centre = np.arange(new)[:, None] * ratio if how == "corners" else (np.arange(new)[:, None] + 0.5) * ratio - 0.5
    wide, a = (max(1.0, ratio), -0.5) if how == "antialias" else (1.0, -0.75)
    places = np.arange(-2 * old - 4, 3 * old + 4)  # more than any kernel reaches
    t = np.abs(places - centre) / wide
    near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4)
    weights = np.where(t <= 1, near, np.where(t < 2, far, 0))
    if how == "antialias":  # what lies outside has no part
        weights = weights[:, (places >= 0) & (places < old)]
        return weights / weights.sum(axis=1, keepdims=True)
    border = np.clip(places, 0, old - 1)[:, None] == np.arange(old)  # what lies outside is as at the border
    return weights @ border
