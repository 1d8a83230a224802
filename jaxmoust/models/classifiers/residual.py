"""What residual networks share: their convolutions and norms, and the way from images to logits."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Bool, Float, Key

from jaxmoust.models.classifiers.split_batch_norm import SplitBatchNorm


def conv(channels: int, size_px: int, strides: int, dtype: Dtype, name: str | None = None) -> nn.Conv:
    """A square convolution without a bias, of He's initial variance (He et al. 2015, 1502.01852, Eq. 14)."""
    # Explicit padding: "SAME" would put the odd pixel of a strided convolution on the other side than torch.
    return nn.Conv(
        channels,
        (size_px, size_px),
        strides=strides,
        padding=size_px // 2,
        use_bias=False,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        dtype=dtype,
        name=name,
    )


def make_norm(separate_stats: bool, dtype: Dtype, axis_name: str | None) -> Callable[..., nn.Module]:
    """Chooses the batch norm of a residual network; torch's momentum and epsilon."""
    if separate_stats:
        return partial(SplitBatchNorm, momentum=0.9, epsilon=1e-5, dtype=dtype)
    return partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5, dtype=dtype, axis_name=axis_name)


class Residual(nn.Module):
    """A network that ends in the mean over pixels and a linear head.

    A subclass has a layer `head`, the field `separate_stats`, a rate by which it drops something in training, whose
    name is `drops_by`, and `maps(x, norm_args, keys)`: the last feature maps [B, h, w, F], every norm called with
    `norm_args`, nothing dropped where keys is None.
    """

    drops_by = ""

    def features(
        self,
        x: Float[Array, "B H W C"],
        train: bool = False,
        keys: Key[Array, " B"] | None = None,
        synthetic: Bool[Array, " B"] | None = None,
        batch_mean: Callable[[Any], Any] | None = None,
    ) -> Float[Array, "B F"]:
        """Returns the pooled features, float32, that the head is linear in; arguments as in `__call__`."""
        drops = train and getattr(self, self.drops_by) > 0
        if drops and keys is None:
            rate = f"{self.drops_by}={getattr(self, self.drops_by)}"
            raise ValueError(f"got train=True with {rate} and no keys. Give one key per example.")
        norm_args: dict[str, Any] = {"use_running_average": not train}
        if self.separate_stats:
            norm_args |= {"synthetic": synthetic, "batch_mean": batch_mean}
        elif synthetic is not None:
            raise ValueError("got `synthetic`; it has a meaning with separate_stats=True only")
        h = self.maps(x, norm_args, keys if drops else None)
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
            keys: one per example; required for train=True where something is dropped.
            synthetic, batch_mean: as in `SplitBatchNorm`; for separate_stats.
        Raises: ValueError: no keys, or `synthetic` is given to a network without separate statistics.
        """
        return self.head(self.features(x, train, keys, synthetic, batch_mean))
