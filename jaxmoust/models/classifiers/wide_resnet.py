"""Wide residual networks for images of 64 px and less (Zagoruyko & Komodakis 2016, 1605.07146)."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Key

from jaxmoust.core.checks import check_rate
from jaxmoust.core.examples import fold_all
from jaxmoust.models.classifiers.residual import Residual, conv, make_norm
from jaxmoust.models.drop import dropout


class Block(nn.Module):
    """Pre-activation block: x + conv3x3(drop(relu(norm(conv3x3(relu(norm(x))))))).

    Where the shape changes, the shortcut is a 1x1 convolution of the activated input.
    """

    width: int
    strides: int
    dropout: float
    norm: Callable[..., nn.Module]
    dtype: Dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], norm_args: dict[str, Any], keys: Key[Array, " B"] | None
    ) -> Float[Array, "B h w F"]:
        """Maps to width channels at 1 / strides of the resolution; `norm_args` is what every norm is called with."""
        h = nn.relu(self.norm(name="norm0")(x, **norm_args))
        if x.shape[-1] != self.width or self.strides != 1:
            x = conv(self.width, 1, self.strides, self.dtype, name="shortcut_conv")(h)
        h = conv(self.width, 3, self.strides, self.dtype, name="conv0")(h)
        h = nn.relu(self.norm(name="norm1")(h, **norm_args))
        if keys is not None:
            h = dropout(keys, h, self.dropout)
        return x + conv(self.width, 3, 1, self.dtype, name="conv1")(h)


class WideResNet(Residual):
    """WRN-depth-widen: 16 channels, three stages of 16, 32 and 64 times `widen`, norm, mean over pixels, head.

    WRN-28-10 has the paper's 36.5 M parameters, 36,479,194 for ten classes: no convolution has a bias.

    Args:
        num_classes: width of the logits.
        depth: 6 n + 4, for n blocks a stage.
        widen: times the width of an ordinary ResNet.
        dropout: rate between the two convolutions of a block, drawn from one key per example.
        separate_stats: keep batch statistics of synthetic images apart from those of real ones (`SplitBatchNorm`).
        dtype: of the computation; parameters, batch statistics and logits stay float32.
        axis_name: the mapped axis over which batch statistics are averaged; None keeps each replica's own.
    Raises: ValueError: a depth that is not 6 n + 4 with n >= 1, or a rate outside [0, 1).
    """

    num_classes: int
    depth: int = 28
    widen: int = 10
    dropout: float = 0.0
    separate_stats: bool = False
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    drops_by = "dropout"

    def setup(self) -> None:
        """Builds the layers."""
        if self.depth < 10 or (self.depth - 4) % 6:
            raise ValueError(f"got depth={self.depth}, expected 6 n + 4, such as 10, 16, 22, 28, 40.")
        check_rate("dropout", self.dropout)
        norm = make_norm(self.separate_stats, self.dtype, self.axis_name)
        self.stem_conv = conv(16, 3, 1, self.dtype)
        self.blocks = [
            Block(
                width=16 * 2**stage * self.widen,
                strides=2 if stage > 0 and i == 0 else 1,
                dropout=self.dropout,
                norm=norm,
                dtype=self.dtype,
                name=f"stage{stage}_block{i}",
            )
            for stage in range(3)
            for i in range((self.depth - 4) // 6)
        ]
        self.norm = norm()
        self.head = nn.Dense(self.num_classes)

    def maps(self, x: Array, norm_args: dict[str, Any], keys: Array | None) -> Array:
        """Returns the last stage's feature maps, see `Residual`."""
        h = self.stem_conv(x.astype(self.dtype))
        for i, block in enumerate(self.blocks):
            h = block(h, norm_args, None if keys is None else fold_all(keys, i))
        return nn.relu(self.norm(h, **norm_args))
