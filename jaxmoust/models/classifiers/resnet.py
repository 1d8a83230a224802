"""Residual networks for classification (He et al. 2016), in the form every reference number is quoted for.

v1.5 bottlenecks (the stride sits in the 3x3 convolution), zero-initialised last norm of each block (Goyal et
al. 2017, 1706.02677, section 5.1), and torch's padding, so that public weights fit. `DEPTHS` names the usual
sizes: `ResNet(num_classes=10, **DEPTHS[18])`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Bool, Float, Key

from jaxmoust.models.classifiers.split_batch_norm import SplitBatchNorm
from jaxmoust.models.drop import branch_rates, drop_branch, fold_all

DEPTHS = {
    18: {"stage_sizes": (2, 2, 2, 2), "block": "basic"},
    34: {"stage_sizes": (3, 4, 6, 3), "block": "basic"},
    50: {"stage_sizes": (3, 4, 6, 3), "block": "bottleneck"},
    101: {"stage_sizes": (3, 4, 23, 3), "block": "bottleneck"},
    152: {"stage_sizes": (3, 8, 36, 3), "block": "bottleneck"},
}

# Mean and standard deviation of ImageNet's pixels, in [0, 1]: what public weights were trained with.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

_he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class BasicBlock(nn.Module):
    """relu(shortcut(x) + norm(conv3x3(relu(norm(conv3x3(x)))))): two 3x3 convolutions."""

    width: int
    strides: int
    norm: Callable[..., nn.Module]
    dtype: Dtype
    drop_rate: float = 0.0
    expansion = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], norm_args: dict[str, Any], keys: Key[Array, " B"] | None = None
    ) -> Float[Array, "B h w F"]:
        """Maps to width channels at 1 / strides of the resolution; `norm_args` is what every norm is called with."""
        h = _conv(self.width, 3, self.strides, self.dtype, name="conv0")(x)
        h = nn.relu(self.norm(name="norm0")(h, **norm_args))
        h = _conv(self.width, 3, 1, self.dtype, name="conv1")(h)
        h = self.norm(name="norm1", scale_init=nn.initializers.zeros)(h, **norm_args)
        return _join(self, x, h, norm_args, keys)


class BottleneckBlock(nn.Module):
    """A 1x1 convolution down to width, a 3x3 one at width, and a 1x1 one up to 4 * width."""

    width: int
    strides: int
    norm: Callable[..., nn.Module]
    dtype: Dtype
    drop_rate: float = 0.0
    expansion = 4

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], norm_args: dict[str, Any], keys: Key[Array, " B"] | None = None
    ) -> Float[Array, "B h w F"]:
        """Maps to 4 * width channels at 1 / strides of the resolution; `norm_args` as in `BasicBlock`."""
        h = _conv(self.width, 1, 1, self.dtype, name="conv0")(x)
        h = nn.relu(self.norm(name="norm0")(h, **norm_args))
        h = _conv(self.width, 3, self.strides, self.dtype, name="conv1")(h)
        h = nn.relu(self.norm(name="norm1")(h, **norm_args))
        h = _conv(self.expansion * self.width, 1, 1, self.dtype, name="conv2")(h)
        h = self.norm(name="norm2", scale_init=nn.initializers.zeros)(h, **norm_args)
        return _join(self, x, h, norm_args, keys)


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
        stochastic_depth: rate at which the last block's branch is dropped for an example; it rises linearly from 0
            in the first block.
        separate_stats: keep batch statistics of synthetic images apart from those of real ones (`SplitBatchNorm`).
        imagenet_colours: bring pixels, from [-1, 1], to ImageNet's mean 0 and standard deviation 1 per channel,
            which public weights expect; for images of 3 channels.
        dtype: of the computation; parameters, batch statistics and logits stay float32.
        axis_name: the mapped axis over which batch statistics are averaged; None keeps each replica's own.
    Raises: ValueError: an unknown block or stem, or a rate outside [0, 1).
    """

    stage_sizes: tuple[int, ...]
    block: str
    num_classes: int
    width: int = 64
    stem: str = "imagenet"
    stochastic_depth: float = 0.0
    separate_stats: bool = False
    imagenet_colours: bool = False
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    def setup(self) -> None:
        """Builds the layers."""
        if self.block not in BLOCKS:
            raise ValueError(f"got block={self.block!r}; known: {', '.join(map(repr, BLOCKS))}")
        if self.stem not in ("cifar", "imagenet"):
            raise ValueError(f"got stem={self.stem!r}; known: 'cifar', 'imagenet'")
        if not 0 <= self.stochastic_depth < 1:
            raise ValueError(f"got stochastic_depth={self.stochastic_depth}; needs 0 <= stochastic_depth < 1")
        norm = make_norm(self.separate_stats, self.dtype, self.axis_name)
        imagenet = self.stem == "imagenet"
        self.stem_conv = _conv(self.width, 7 if imagenet else 3, 2 if imagenet else 1, self.dtype)
        self.stem_norm = norm()
        places = [(stage, i) for stage, size in enumerate(self.stage_sizes) for i in range(size)]
        self.blocks = [
            BLOCKS[self.block](
                width=self.width * 2**stage,
                strides=2 if stage > 0 and i == 0 else 1,
                norm=norm,
                dtype=self.dtype,
                drop_rate=rate,
                name=f"stage{stage}_block{i}",
            )
            for (stage, i), rate in zip(places, branch_rates(self.stochastic_depth, len(places)), strict=True)
        ]
        self.head = nn.Dense(self.num_classes)

    def features(
        self,
        x: Float[Array, "B H W C"],
        train: bool = False,
        keys: Key[Array, " B"] | None = None,
        synthetic: Bool[Array, " B"] | None = None,
        batch_mean: Callable[[Any], Any] | None = None,
    ) -> Float[Array, "B F"]:
        """Returns the pooled features, [B, last width * expansion] float32, that the head is linear in."""
        norm_args = norm_arguments(self.separate_stats, train, synthetic, batch_mean)
        if train and self.stochastic_depth > 0 and keys is None:
            raise ValueError(f"got train=True with stochastic_depth={self.stochastic_depth} and no keys")
        if self.imagenet_colours:
            x = (x / 2 + 0.5 - jnp.array(_IMAGENET_MEAN)) / jnp.array(_IMAGENET_STD)
        h = self.stem_conv(x.astype(self.dtype))
        h = nn.relu(self.stem_norm(h, **norm_args))
        if self.stem == "imagenet":
            h = nn.max_pool(h, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for i, block in enumerate(self.blocks):
            drops = train and block.drop_rate > 0
            h = block(h, norm_args, fold_all(keys, i) if drops else None)
        return jnp.mean(h.astype(jnp.float32), axis=(1, 2))

    def __call__(
        self,
        x: Float[Array, "B H W C"],
        train: bool = False,
        keys: Key[Array, " B"] | None = None,
        synthetic: Bool[Array, " B"] | None = None,
        batch_mean: Callable[[Any], Any] | None = None,
    ) -> Float[Array, "B num_classes"]:
        """Returns logits, float32. With train=True pass `mutable=["batch_stats"]` to receive the new statistics.

        Args:
            x: images in [-1, 1].
            keys: one per example; required for train=True with stochastic_depth.
            synthetic, batch_mean: as in `SplitBatchNorm`; for separate_stats.
        """
        return self.head(self.features(x, train, keys, synthetic, batch_mean))


def make_norm(separate_stats: bool, dtype: Dtype, axis_name: str | None) -> Callable[..., nn.Module]:
    """Chooses the batch norm of a residual network; torch's momentum and epsilon."""
    if separate_stats:
        return partial(SplitBatchNorm, momentum=0.9, epsilon=1e-5, dtype=dtype)
    return partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5, dtype=dtype, axis_name=axis_name)


def norm_arguments(
    separate_stats: bool, train: bool, synthetic: Array | None, batch_mean: Callable | None
) -> dict[str, Any]:
    """Returns what every norm of one forward pass is called with.

    Raises: ValueError: told which examples are synthetic without separate statistics to use that for.
    """
    if separate_stats:
        return {"use_running_average": not train, "synthetic": synthetic, "batch_mean": batch_mean}
    if synthetic is not None:
        raise ValueError("got `synthetic`; it has a meaning with separate_stats=True only")
    return {"use_running_average": not train}


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


def _join(block: nn.Module, x: Array, h: Array, norm_args: dict[str, Any], keys: Array | None) -> Array:
    """Ends `block`: relu of x, projected only where the block changes the shape, and the branch h, or 0 for it."""
    if block.strides != 1 or x.shape[-1] != h.shape[-1]:
        x = _conv(h.shape[-1], 1, block.strides, block.dtype, name="shortcut_conv")(x)
        x = block.norm(name="shortcut_norm")(x, **norm_args)
    return nn.relu(x + (h if keys is None else drop_branch(keys, h, block.drop_rate)))
