"""Inception v3 as FID has it: the network of 2015-12-05 that published FIDs are measured with.

Szegedy et al. 2015 (1512.00567), in the variant of Heusel et al. 2017 (1706.08500): average pools leave the border's
padding out, the last block pools by the maximum, and there are 1,008 classes. Modules are called as in the state dict
that pytorch-fid and torch-fidelity publish, so that `load_pretrained` reads it (from .safetensors or .npz).
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

IMAGE_PX = 299


class Conv(nn.Module):
    """relu(norm(conv(x))); the norm's statistics are frozen."""

    channels: int
    kernel: tuple[int, int]
    strides: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w F"]:
        """Maps to `channels` at 1 / strides of the resolution."""
        strides = (self.strides, self.strides)
        h = nn.Conv(self.channels, self.kernel, strides, self.padding, use_bias=False, name="conv")(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(h))


_1, _3, _5, _ROW, _COLUMN = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)
_CROSS = ((1, 3), (3, 1))
Chain = tuple[tuple[int, tuple], ...]
"""Convolutions one after the other: (channels, kernel); where the last has several kernels, side by side and joined."""


class Block(nn.Module):
    """Branches side by side and one that pools, joined along the channels.

    Args:
        branches: name to chain; a chain's convolutions are named NAME_1, NAME_2 ..., the only one NAME, those side by
            side NAME_2a, NAME_2b.
        pool: "avg" or "max". pool_channels: of the convolution after the pool.
        shrinks: whether the last convolution of each chain, and the pool, halve the resolution; nothing follows the
            pool then.
    """

    branches: Mapping[str, Chain]
    pool: str = "avg"
    pool_channels: int = 0
    shrinks: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w F"]:
        """Runs all branches on x."""
        outputs = [self._chain(x, name, chain) for name, chain in self.branches.items()]
        if self.shrinks:
            return jnp.concatenate([*outputs, nn.max_pool(x, (3, 3), (2, 2))], axis=-1)
        if self.pool == "avg":
            pooled = nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)
        else:
            pooled = nn.max_pool(x, (3, 3), padding="SAME")
        return jnp.concatenate([*outputs, Conv(self.pool_channels, _1, name="branch_pool")(pooled)], axis=-1)

    def _chain(self, h: Array, name: str, chain: Chain) -> Array:
        for i, (channels, kernel) in enumerate(chain, 1):
            own = name if len(chain) == 1 else f"{name}_{i}"
            if kernel == _CROSS:
                sides = [Conv(channels, size, name=own + side)(h) for side, size in zip("ab", kernel, strict=True)]
                h = jnp.concatenate(sides, axis=-1)
            else:
                strides, padding = (2, "VALID") if self.shrinks and i == len(chain) else (1, "SAME")
                h = Conv(channels, kernel, strides, padding, name=own)(h)
        return h


_TWICE_3: Chain = ((64, _1), (96, _3), (96, _3))


def _block_5(pool_channels: int) -> dict[str, Any]:
    branches = {"branch1x1": ((64, _1),), "branch5x5": ((48, _1), (64, _5)), "branch3x3dbl": _TWICE_3}
    return {"branches": branches, "pool_channels": pool_channels}


def _block_6(channels: int) -> dict[str, Any]:
    once = ((channels, _1), (channels, _ROW), (192, _COLUMN))
    twice = ((channels, _1), (channels, _COLUMN), (channels, _ROW), (channels, _COLUMN), (192, _ROW))
    return {"branches": {"branch1x1": ((192, _1),), "branch7x7": once, "branch7x7dbl": twice}, "pool_channels": 192}


def _block_7(pool: str) -> dict[str, Any]:
    once, twice = ((384, _1), (384, _CROSS)), ((448, _1), (384, _3), (384, _CROSS))
    branches = {"branch1x1": ((320, _1),), "branch3x3": once, "branch3x3dbl": twice}
    return {"branches": branches, "pool": pool, "pool_channels": 192}


_STEM: dict[str, tuple] = {  # name -> fields of a Conv
    "Conv2d_1a_3x3": (32, _3, 2, "VALID"),
    "Conv2d_2a_3x3": (32, _3, 1, "VALID"),
    "Conv2d_2b_3x3": (64, _3),
    "Conv2d_3b_1x1": (80, _1),
    "Conv2d_4a_3x3": (192, _3, 1, "VALID"),
}
_POOLED = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")  # whose answers are halved
_SHRINK_7 = {
    "branch3x3": ((192, _1), (320, _3)),
    "branch7x7x3": ((192, _1), (192, _ROW), (192, _COLUMN), (192, _3)),
}
_BLOCKS = {
    "Mixed_5b": _block_5(32),
    "Mixed_5c": _block_5(64),
    "Mixed_5d": _block_5(64),
    "Mixed_6a": {"branches": {"branch3x3": ((384, _3),), "branch3x3dbl": _TWICE_3}, "shrinks": True},
    "Mixed_6b": _block_6(128),
    "Mixed_6c": _block_6(160),
    "Mixed_6d": _block_6(160),
    "Mixed_6e": _block_6(192),
    "Mixed_7a": {"branches": _SHRINK_7, "shrinks": True},
    "Mixed_7b": _block_7("avg"),
    "Mixed_7c": _block_7("max"),
}


class InceptionV3(nn.Module):
    """The network; `features` are the 2,048 numbers that FID is measured in."""

    num_classes: int = 1008

    def setup(self) -> None:
        """Builds the layer that is not among the features."""
        self.head = nn.Dense(self.num_classes)

    @nn.compact
    def features(self, x: Float[Array, "B H W 3"]) -> Float[Array, "B 2048"]:
        """Returns the pooled features of images as `prepare` gives them; 75 px and more."""
        for name, fields in _STEM.items():
            x = Conv(*fields, name=name)(x)
            if name in _POOLED:
                x = nn.max_pool(x, (3, 3), (2, 2))
        for name, block in _BLOCKS.items():
            x = Block(**block, name=name)(x)
        return x.mean(axis=(1, 2))

    def __call__(self, x: Float[Array, "B H W 3"]) -> Float[Array, "B num_classes"]:
        """Returns logits, float32."""
        return self.head(self.features(x))


def prepare(image: Float[Array, "B H W C"]) -> Float[Array, "B 299 299 3"]:
    """Brings images in [-1, 1], grey or coloured, to what the network was published with.

    That is TensorFlow 1's bilinear resampling, whose pixel i lies at i H / 299 of the image, without a half pixel's
    shift and without averaging where it shrinks; and the scale (pixel - 128) / 128 of pixels from 0 to 255.
    """
    image = jnp.broadcast_to(image, (*image.shape[:3], 3))
    rows, columns = (_resample(size) for size in image.shape[1:3])
    image = jnp.einsum("hH,BHWC,wW->BhwC", rows, (image + 1) * 127.5, columns, precision="highest")
    return (image - 128) / 128


def _resample(size_px: int) -> np.ndarray:
    """The weights [299, size_px] of each pixel in each resampled one."""
    place = np.arange(IMAGE_PX) * (size_px / IMAGE_PX)
    low = place.astype(int)
    weights = np.zeros((IMAGE_PX, size_px), np.float32)
    np.add.at(weights, (np.arange(IMAGE_PX), low), 1 - (place - low))
    np.add.at(weights, (np.arange(IMAGE_PX), np.minimum(low + 1, size_px - 1)), place - low)
    return weights
