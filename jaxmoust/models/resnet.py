"""Residual networks for classification (He et al. 2016), in the form every reference number is quoted for.

v1.5 bottlenecks (the stride sits in the 3x3 convolution), zero-initialised last norm of each block (Goyal et
al. 2017, 1706.02677, section 5.1), and torch's padding, so that public weights fit. `DEPTHS` names the usual
sizes: `ResNet(num_classes=10, **DEPTHS[18])`.
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

DEPTHS = {
    18: {"stage_sizes": (2, 2, 2, 2), "block": "basic"},
    34: {"stage_sizes": (3, 4, 6, 3), "block": "basic"},
    50: {"stage_sizes": (3, 4, 6, 3), "block": "bottleneck"},
    101: {"stage_sizes": (3, 4, 23, 3), "block": "bottleneck"},
    152: {"stage_sizes": (3, 8, 36, 3), "block": "bottleneck"},
}

_he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class BasicBlock(nn.Module):
    """relu(shortcut(x) + norm(conv3x3(relu(norm(conv3x3(x)))))): two 3x3 convolutions."""

    width: int
    strides: int
    norm: Callable[..., nn.Module]
    dtype: Dtype
    expansion = 1

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B h w F"]:
        """Maps to width channels at 1 / strides of the resolution."""
        h = _conv(self.width, 3, self.strides, self.dtype, name="conv0")(x)
        h = nn.relu(self.norm(name="norm0")(h, use_running_average=not train))
        h = _conv(self.width, 3, 1, self.dtype, name="conv1")(h)
        h = self.norm(name="norm1", scale_init=nn.initializers.zeros)(h, use_running_average=not train)
        return nn.relu(_shortcut(self, x, h.shape[-1], train) + h)


class BottleneckBlock(nn.Module):
    """A 1x1 convolution down to width, a 3x3 one at width, and a 1x1 one up to 4 * width."""

    width: int
    strides: int
    norm: Callable[..., nn.Module]
    dtype: Dtype
    expansion = 4

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B h w F"]:
        """Maps to 4 * width channels at 1 / strides of the resolution."""
        h = _conv(self.width, 1, 1, self.dtype, name="conv0")(x)
        h = nn.relu(self.norm(name="norm0")(h, use_running_average=not train))
        h = _conv(self.width, 3, self.strides, self.dtype, name="conv1")(h)
        h = nn.relu(self.norm(name="norm1")(h, use_running_average=not train))
        h = _conv(self.expansion * self.width, 1, 1, self.dtype, name="conv2")(h)
        h = self.norm(name="norm2", scale_init=nn.initializers.zeros)(h, use_running_average=not train)
        return nn.relu(_shortcut(self, x, h.shape[-1], train) + h)


BLOCKS = {"basic": BasicBlock, "bottleneck": BottleneckBlock}


class ResNet(nn.Module):
    """ResNet: a stem, stages that double the width and, after the first, halve the resolution, and a linear head.

    Args:
        stage_sizes: blocks per stage.
        block: "basic" or "bottleneck".
        num_classes: width of the logits.
        width: channels of the first stage.
        stem: "imagenet", a 7x7 convolution and a max-pool, 1/4 of the resolution; "cifar", one 3x3 convolution
            at full resolution, for images of 64 px and less.
        dtype: of the computation; parameters, batch statistics and logits stay float32.
        axis_name: the mapped axis over which batch statistics are averaged; None keeps each replica's own.
    Raises: ValueError: an unknown block or stem.
    """

    stage_sizes: tuple[int, ...]
    block: str
    num_classes: int
    width: int = 64
    stem: str = "imagenet"
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    def setup(self) -> None:
        """Builds the layers."""
        if self.block not in BLOCKS:
            raise ValueError(f"got block={self.block!r}; known: {', '.join(map(repr, BLOCKS))}")
        if self.stem not in ("cifar", "imagenet"):
            raise ValueError(f"got stem={self.stem!r}; known: 'cifar', 'imagenet'")
        norm = partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5, dtype=self.dtype, axis_name=self.axis_name)
        imagenet = self.stem == "imagenet"
        self.stem_conv = _conv(self.width, 7 if imagenet else 3, 2 if imagenet else 1, self.dtype)
        self.stem_norm = norm()
        self.blocks = [
            BLOCKS[self.block](
                width=self.width * 2**stage,
                strides=2 if stage > 0 and i == 0 else 1,
                norm=norm,
                dtype=self.dtype,
                name=f"stage{stage}_block{i}",
            )
            for stage, size in enumerate(self.stage_sizes)
            for i in range(size)
        ]
        self.head = nn.Dense(self.num_classes)

    def features(self, x: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B F"]:
        """Returns the pooled features, [B, last width * expansion] float32, that the head is linear in."""
        h = self.stem_conv(x.astype(self.dtype))
        h = nn.relu(self.stem_norm(h, use_running_average=not train))
        if self.stem == "imagenet":
            h = nn.max_pool(h, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for block in self.blocks:
            h = block(h, train)
        return jnp.mean(h.astype(jnp.float32), axis=(1, 2))

    def __call__(self, x: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B num_classes"]:
        """Returns logits, float32. With train=True pass `mutable=["batch_stats"]` to receive the new statistics."""
        return self.head(self.features(x, train))


def _conv(channels: int, size_px: int, strides: int, dtype: Dtype, name: str | None = None) -> nn.Conv:
    # Explicit padding: "SAME" would put the odd pixel of a strided convolution on the other side than torch.
    return nn.Conv(
        channels,
        (size_px, size_px),
        strides=strides,
        padding=size_px // 2,
        use_bias=False,
        kernel_init=_he_normal,
        dtype=dtype,
        name=name,
    )


def _shortcut(block: nn.Module, x: Array, channels: int, train: bool) -> Array:
    """Projects x, inside `block`, only where the block changes the shape."""
    if block.strides == 1 and x.shape[-1] == channels:
        return x
    x = _conv(channels, 1, block.strides, block.dtype, name="shortcut_conv")(x)
    return block.norm(name="shortcut_norm")(x, use_running_average=not train)
