"""Batch norm with separate statistics of real and synthetic images, in place of `nn.BatchNorm`, which has one set."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Bool, Float


class SplitBatchNorm(nn.Module):
    """Batch norm with separate statistics of real and synthetic examples, and one scale and bias for both.

    In training every example is normalised by the statistics of its own kind; running averages are kept of both,
    and evaluation uses those of the real ones. A kind that a batch has none of keeps its averages. Names are those
    of `nn.BatchNorm`, with `synthetic_mean` and `synthetic_var` added.

    Args:
        momentum: what the running averages keep of their old value. epsilon: added to the variance.
        dtype: of the answer; statistics are float32.
    Source: separate norms for two kinds of example in one batch: Xie et al. 2020 (1911.09665), section 4.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Dtype = jnp.float32
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B *rest C"],
        use_running_average: bool,
        synthetic: Bool[Array, " B"] | None = None,
        batch_mean: Callable[[Any], Any] | None = None,
    ) -> Float[Array, "B *rest C"]:
        """Normalises each channel.

        Args:
            synthetic: which examples are; None: none is.
            batch_mean: averages a tree over the devices that share the batch, so that the statistics are those of
                the global batch, however many of a kind a device holds; None: the batch lies on one device.
        """
        channels = (x.shape[-1],)
        moments = {
            name: self.variable("batch_stats", name, init, channels, jnp.float32)
            for prefix in ("", "synthetic_")
            for name, init in ((f"{prefix}mean", jnp.zeros), (f"{prefix}var", jnp.ones))
        }
        scale = self.param("scale", self.scale_init, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        if use_running_average:
            gain = scale * jax.lax.rsqrt(moments["var"].value + self.epsilon)
            return _affine(x, gain[None], (bias - moments["mean"].value * gain)[None], self.dtype)

        if synthetic is None:
            synthetic = jnp.zeros(len(x), bool)
        share, mean, var = _moments(x, synthetic, batch_mean)
        if not self.is_initializing():
            for kind, prefix in enumerate(("", "synthetic_")):
                for name, new in (("mean", mean[kind]), ("var", var[kind])):
                    old = moments[prefix + name]
                    moved = self.momentum * old.value + (1 - self.momentum) * new
                    old.value = jnp.where(share[kind] > 0, moved, old.value)
        gain = scale * jax.lax.rsqrt(var + self.epsilon)
        shift = bias - mean * gain
        own = synthetic.astype(jnp.int32)
        return _affine(x, gain[own], shift[own], self.dtype)


def _moments(x: Array, synthetic: Array, batch_mean: Callable | None) -> tuple[Array, Array, Array]:
    """Returns, for real and synthetic rows: their share [2] of the global batch, means and variances [2, C]."""
    member = jnp.stack([~synthetic, synthetic]).astype(jnp.float32)
    wide = x.astype(jnp.float32)
    axes = tuple(range(1, x.ndim - 1))
    # Per example first: then one small product gives the sums of both kinds.
    first, second = jnp.mean(wide, axes), jnp.mean(jnp.square(wide), axes)
    sums = (member.mean(1), member @ first / len(x), member @ second / len(x))
    share, first, second = batch_mean(sums) if batch_mean else sums
    # Where a kind is absent its sums are 0, and nothing is normalised by the outcome.
    weight = 1 / jnp.where(share > 0, share, 1.0)[:, None]
    mean = first * weight
    return share, mean, jnp.maximum(second * weight - jnp.square(mean), 0.0)


def _affine(x: Array, gain: Array, shift: Array, dtype: Dtype) -> Array:
    shape = (gain.shape[0], *(1,) * (x.ndim - 2), gain.shape[1])
    return (x.astype(jnp.float32) * gain.reshape(shape) + shift.reshape(shape)).astype(dtype)
