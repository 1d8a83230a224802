"""Residual networks for classification (He et al. 2016), in the form every reference number is quoted for.

v1.5 bottlenecks (the stride sits in the 3x3 convolution), zero-initialised last norm of each block (Goyal et
al. 2017, 1706.02677, section 5.1), and torch's padding, so that public weights fit. `DEPTHS` names the usual
sizes: `ResNet(num_classes=10, **DEPTHS[18])`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Key

from jaxmoust.core.checks import check_choice, check_rate
from jaxmoust.core.examples import fold_all
from jaxmoust.models.classifiers.residual import Residual, conv, make_norm
from jaxmoust.models.drop import branch_rates, drop_branch

DEPTHS: dict[int, dict[str, Any]] = {
    18: {"stage_sizes": (2, 2, 2, 2), "block": "basic"},
    34: {"stage_sizes": (3, 4, 6, 3), "block": "basic"},
    50: {"stage_sizes": (3, 4, 6, 3), "block": "bottleneck"},
    101: {"stage_sizes": (3, 4, 23, 3), "block": "bottleneck"},
    152: {"stage_sizes": (3, 8, 36, 3), "block": "bottleneck"},
}

# Mean and standard deviation of ImageNet's pixels, in [0, 1]: what public weights were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

BLOCKS = {
    "basic": ((3, True, 1), (3, False, 1)),
    "bottleneck": ((1, False, 1), (3, True, 1), (1, False, 4)),
    "bottleneck_v1": ((1, True, 1), (3, False, 1), (1, False, 4)),
}
"""The convolutions of a block by its name: (side in pixels, whether it has the block's strides, times its width)."""


class Block(nn.Module):
    """relu(shortcut(x) + branch(x)): convolutions, each followed by a norm and all but the last by a relu.

    The shortcut is a 1x1 convolution and a norm where the block changes the shape, else x itself.
    """

    kind: str
    width: int
    strides: int
    norm: Callable[..., nn.Module]
    dtype: Dtype
    drop_rate: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], norm_args: dict[str, Any], keys: Key[Array, " B"] | None = None
    ) -> Float[Array, "B h w F"]:
        """Maps to 1 / strides of the resolution; `norm_args` is what every norm is called with.

        Args:
            keys: one per example, to replace the branch by 0 at `drop_rate`; None does not.
        """
        h = x
        for i, (size_px, strided, expansion) in enumerate(BLOCKS[self.kind]):
            strides = self.strides if strided else 1
            h = conv(expansion * self.width, size_px, strides, self.dtype, name=f"conv{i}")(h)
            if i < len(BLOCKS[self.kind]) - 1:
                h = nn.relu(self.norm(name=f"norm{i}")(h, **norm_args))
            else:
                h = self.norm(name=f"norm{i}", scale_init=nn.initializers.zeros)(h, **norm_args)
        if self.strides != 1 or x.shape[-1] != h.shape[-1]:
            x = conv(h.shape[-1], 1, self.strides, self.dtype, name="shortcut_conv")(x)
            x = self.norm(name="shortcut_norm")(x, **norm_args)
        return nn.relu(x + (h if keys is None else drop_branch(keys, h, self.drop_rate)))


class ResNet(Residual):
    """ResNet: a stem, stages that double the width and, after the first, halve the resolution, and a linear head.

    Args:
        stage_sizes: blocks per stage.
        block: "basic", "bottleneck", or "bottleneck_v1", with the stride in the first convolution as He et al. had it.
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

    drops_by = "stochastic_depth"

    def setup(self) -> None:
        """Builds the layers."""
        check_choice("block", self.block, BLOCKS)
        check_choice("stem", self.stem, ("cifar", "imagenet"))
        check_rate("stochastic_depth", self.stochastic_depth)
        norm = make_norm(self.separate_stats, self.dtype, self.axis_name)
        size_px, strides = (7, 2) if self.stem == "imagenet" else (3, 1)
        self.stem_conv = conv(self.width, size_px, strides, self.dtype)
        self.stem_norm = norm()
        places = [(stage, i) for stage, size in enumerate(self.stage_sizes) for i in range(size)]
        self.blocks = [
            Block(
                kind=self.block,
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

    def maps(self, x: Array, norm_args: dict[str, Any], keys: Array | None) -> Array:
        """Returns the last stage's feature maps, see `Residual`."""
        if self.imagenet_colours:
            x = (x / 2 + 0.5 - jnp.array(IMAGENET_MEAN)) / jnp.array(IMAGENET_STD)
        h = nn.relu(self.stem_norm(self.stem_conv(x.astype(self.dtype)), **norm_args))
        if self.stem == "imagenet":
            h = nn.max_pool(h, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for i, block in enumerate(self.blocks):
            h = block(h, norm_args, fold_all(keys, i) if keys is not None and block.drop_rate > 0 else None)
        return h
