"""What the readers of public U-Nets share: the tree of models/unet/unet.py made from named tensors, strictly."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.models.translate import Rule, Tensors, kernel, translate
from jaxmoust.models.unet.unet import PUBLISHED


@dataclass(frozen=True)
class Imported:
    """A public network as a generator of this project.

    Args:
        sections: `model`, `method` and `augment` as a generator's configuration has them; plain JSON values.
        params: float32 parameters of that model.
        num_classes: K; 1 where the network is unconditional. image_shape: (H, W, C).
    """

    sections: dict[str, dict[str, Any]]
    params: Any
    num_classes: int
    image_shape: tuple[int, int, int]


def place(module: str) -> tuple[str, int, str, int, bool]:
    """Reads a name of ours: (down, up or middle; level; block or resample; index; whether its attention)."""
    match = re.fullmatch(r"(down|up|middle)(\d*)_(block|resample)(\d*)(_attention)?", module)
    assert match, module
    return match[1], int(match[2] or 0), match[3], int(match[4] or 0), bool(match[5])


def make_params(
    file: Path,
    model: Mapping[str, Any],
    shape: tuple[int, int, int],
    num_classes: int,
    tensors: Tensors,
    rule: Rule,
    augment_dim: int = 0,
) -> Any:
    """Makes every leaf of our network from the tensors.

    Args:
        model: the section `model` of a configuration. shape: (H, W, C) of its images.
    Raises: ValueError: naming every leaf that is missing, left over or of another shape, in our words and the file's.
    """
    sizes = {name: value for name, value in model.items() if name != "name"}
    network = PUBLISHED[model["name"]](
        out_channels=shape[-1], num_classes=num_classes, augment_dim=augment_dim, **sizes
    )
    init = functools.partial(network.init, jax.random.key(0))
    template = jax.eval_shape(init, jnp.zeros((1, *shape)), jnp.zeros((1,)), jnp.zeros((1,), jnp.int32))["params"]
    return translate(tensors, template, rule, file)


def features_in(tensors: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """A layer on [cosines, sines] as one on [sines, cosines]."""
    tensor = kernel(tensors, shape)
    return np.roll(tensor, tensor.shape[0] // 2, axis=0) if len(shape) == 2 else tensor


def features_out(tensors: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """A layer into [cosines, sines] as one into [sines, cosines]."""
    tensor = kernel(tensors, shape)
    return np.roll(tensor, tensor.shape[-1] // 2, axis=-1)


def stacked(tensors: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Layers side by side as one."""
    return np.concatenate([kernel([tensor], shape) for tensor in tensors], axis=-1)


def unwoven(tensors: list[np.ndarray], shape: tuple[int, ...], head_channels: int) -> np.ndarray:
    """Outputs in the order (head, channel, q k v) as (q k v, head, channel)."""
    tensor = kernel(tensors, shape)
    if tensor.shape != shape:
        return tensor
    channels = shape[-1] // 3
    heads = channels // head_channels if head_channels else 1
    woven = tensor.reshape(*shape[:-1], heads, channels // heads, 3)
    return np.moveaxis(woven, -1, -3).reshape(shape)


def with_null(tensors: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """A table of classes with a row of zeros for "no class", unless it has one."""
    (table,) = tensors
    return np.pad(table, ((0, 1), (0, 0))) if table.shape == (shape[0] - 1, shape[1]) else table


def with_null_transposed(tensors: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    return with_null([tensors[0].T], shape)
