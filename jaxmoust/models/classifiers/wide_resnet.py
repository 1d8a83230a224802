"""Wide residual networks for images of 64 px and less (Zagoruyko & Komodakis 2016, 1605.07146)."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Bool, Float, Key

from jaxmoust.models.classifiers.resnet import make_norm, norm_arguments
from jaxmoust.models.drop import dropout, fold_all

_he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


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
            x = _conv(self.width, 1, self.strides, self.dtype, name="shortcut_conv")(h)
        h = _conv(self.width, 3, self.strides, self.dtype, name="conv0")(h)
        h = nn.relu(self.norm(name="norm1")(h, **norm_args))
        if keys is not None:
            h = dropout(keys, h, self.dropout)
        return x + _conv(self.width, 3, 1, self.dtype, name="conv1")(h)


class WideResNet(nn.Module):
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

    def setup(self) -> None:
        """Builds the layers."""
        if self.depth < 10 or (self.depth - 4) % 6:
            raise ValueError(f"got depth={self.depth}; needs 6 n + 4, such as 10, 16, 22, 28, 40")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"got dropout={self.dropout}; needs 0 <= dropout < 1")
        norm = make_norm(self.separate_stats, self.dtype, self.axis_name)
        self.stem_conv = _conv(16, 3, 1, self.dtype)
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

    def features(
        self,
        x: Float[Array, "B H W C"],
        train: bool = False,
        keys: Key[Array, " B"] | None = None,
        synthetic: Bool[Array, " B"] | None = None,
        batch_mean: Callable[[Any], Any] | None = None,
    ) -> Float[Array, "B F"]:
        """Returns the pooled features, [B, 64 * widen] float32, that the head is linear in."""
        norm_args = norm_arguments(self.separate_stats, train, synthetic, batch_mean)
        drops = train and self.dropout > 0
        if drops and keys is None:
            raise ValueError(f"got train=True with dropout={self.dropout} and no keys; give one key per example")
        h = self.stem_conv(x.astype(self.dtype))
        for i, block in enumerate(self.blocks):
            h = block(h, norm_args, fold_all(keys, i) if drops else None)
        h = nn.relu(self.norm(h, **norm_args))
        return jnp.mean(h.astype(jnp.float32), axis=(1, 2))

    def __call__(
        self,
        x: Float[Array, "B H W C"],
        train: bool = False,
        keys: Key[Array, " B"] | None = None,
        synthetic: Bool[Array, " B"] | None = None,
        batch_mean: Callable[[Any], Any] | None = None,
    ) -> Float[Array, "B num_classes"]:
        """Returns logits, float32; arguments as in `ResNet`."""
        return self.head(self.features(x, train, keys, synthetic, batch_mean))


def _conv(channels: int, size_px: int, strides: int, dtype: Dtype, name: str | None = None) -> nn.Conv:
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
