"""The parts of models/unet/unet.py: residual blocks, attention, group norm, changes of resolution, noise embeddings."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float, Key

from jaxmoust.models.drop import dropout

_xavier = nn.initializers.variance_scaling
INITS: dict[str, tuple[Initializer, Initializer]] = {
    "lecun_normal": (nn.linear.default_kernel_init, nn.linear.default_kernel_init),
    "ddpm": (_xavier(1.0, "fan_avg", "uniform"), _xavier(2.0, "fan_avg", "uniform")),
    "ddpmpp": (_xavier(1.0, "fan_avg", "uniform"), _xavier(0.2, "fan_avg", "uniform")),
    "adm": (_xavier(1 / 3, "fan_in", "uniform"), _xavier(1 / 3, "fan_in", "uniform")),
}
"""Initial kernels by name: (of layers at large, of an attention's queries, keys and values in one matrix).

"ddpm" and "ddpmpp" are Xavier's uniform distribution; the former gives queries, keys and values each the variance of
a C x C matrix, the latter a fifth of that of the C x 3C matrix (Karras et al. 2022's DDPM++). "adm" is PyTorch's own.
"""

RESAMPLES = ("conv", "conv_centred", "pool", "residual", "residual_projected")
EMBEDDINGS = ("positional", "positional_open", "fourier")


class Block(nn.Module):
    """Residual block: norm, SiLU, conv; norm modulated by the embedding, SiLU, dropout, zero-initialised conv.

    Args:
        channels: of the answer. dropout: rate.
        adaptive_scale, skip_scale, kernel_init: as the network's. norm: makes a `GroupNorm` of a name.
        resample: "" keeps the resolution; "down" halves and "up" doubles that of branch and skip alike.
        project: the skip has a 1x1 convolution even where the number of channels stays.
    """

    channels: int
    dropout: float
    adaptive_scale: bool
    skip_scale: float
    kernel_init: str
    norm: Callable[..., nn.Module]
    dtype: Dtype
    resample: str = ""
    project: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], emb: Float[Array, "B E"], keys: Key[Array, " B"] | None
    ) -> Float[Array, "B H2 W2 channels"]:
        """Maps x, [B, H, W, any number of channels], to `channels`; drops nothing where keys is None."""
        # Going backwards, a CPU would fuse the sum of all gradients of the residual stream so far into every
        # reader and compute it anew each time; the barrier makes each block end in one array.
        x = jax.lax.optimization_barrier(x)
        kernel_init, _ = INITS[self.kernel_init]
        dense = partial(nn.Dense, kernel_init=kernel_init, dtype=self.dtype)
        moved = {"": lambda h: h, "down": halve, "up": double}[self.resample]
        h = nn.silu(self.norm(name="norm0")(x))
        h = conv(self.channels, self.dtype, "conv0", kernel_init)(moved(h))
        modulation = dense((2 if self.adaptive_scale else 1) * self.channels, name="modulation")(emb)
        if self.adaptive_scale:
            scale, shift = jnp.split(modulation, 2, axis=-1)
            h = self.norm(name="norm1")(h, scale, shift)
        else:
            h = self.norm(name="norm1")(h + modulation[:, None, None, :])
        h = nn.silu(h)
        if keys is not None:
            h = dropout(keys, h, self.dropout)
        h = conv(self.channels, self.dtype, "conv1", nn.initializers.zeros)(h)
        # A 1x1 convolution and a change of resolution may change places: it goes where there are fewer pixels.
        if self.resample == "down":
            x = halve(x)
        if self.project or x.shape[-1] != self.channels:
            x = dense(self.channels, name="skip")(x)
        if self.resample == "up":
            x = double(x)
        return (x + h) * self.skip_scale


class Attention(nn.Module):
    """Residual self-attention over the pixels: norm, queries, keys and values, zero-initialised projection."""

    num_heads: int
    skip_scale: float
    kernel_init: str
    norm: Callable[..., nn.Module]
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Maps x to its own shape."""
        batch, height, width, channels = x.shape
        if self.num_heads < 1 or channels % self.num_heads:
            raise ValueError(
                f"got {self.num_heads} attention heads on {channels} channels. "
                "Choose num_heads or head_channels so that the heads divide the channels."
            )
        h = self.norm(name="norm")(x)
        h = nn.Dense(3 * channels, kernel_init=INITS[self.kernel_init][1], dtype=self.dtype, name="qkv")(h)
        h = h.reshape(batch, height * width, 3, self.num_heads, channels // self.num_heads)
        h = jax.nn.dot_product_attention(h[:, :, 0], h[:, :, 1], h[:, :, 2])
        h = h.reshape(batch, height, width, channels)
        h = nn.Dense(channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="proj")(h)
        return (x + h) * self.skip_scale


class GroupNorm(nn.Module):
    """Group norm with an optional scale and shift per example.

    Statistics are taken per channel, then averaged over the group, and everything that follows is one
    multiply-add: on a CPU several times faster than normalising an array reshaped into its groups.

    Args:
        num_groups: 0 is min(32, C / 4) where that divides C, else the next lower number that does.
    """

    epsilon: float = 1e-6
    num_groups: int = 0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        scale: Float[Array, "B C"] | None = None,
        shift: Float[Array, "B C"] | None = None,
    ) -> Float[Array, "B H W C"]:
        """Returns norm(x) * (1 + scale) + shift."""
        batch, _, _, channels = x.shape
        num_groups = self.num_groups or max(
            n for n in range(1, min(32, max(1, channels // 4)) + 1) if channels % n == 0
        )
        if channels % num_groups:
            raise ValueError(
                f"got norm_groups={num_groups} on {channels} channels, expected a divisor, or 0 to have one chosen."
            )
        gain = self.param("scale", nn.initializers.ones, (channels,))[None]
        bias = self.param("bias", nn.initializers.zeros, (channels,))[None]
        if scale is not None and shift is not None:
            gain = gain * (1 + scale.astype(jnp.float32))
            bias = bias * (1 + scale.astype(jnp.float32)) + shift.astype(jnp.float32)

        def over_group(per_channel: Array) -> Array:
            grouped = jnp.mean(per_channel.reshape(batch, num_groups, -1), axis=-1, keepdims=True)
            return jnp.broadcast_to(grouped, (batch, num_groups, channels // num_groups)).reshape(batch, channels)

        wide = x.astype(jnp.float32)
        mean = over_group(jnp.mean(wide, axis=(1, 2)))
        # Of the deviations: the mean of squares less the square of the mean loses digits where the mean is large.
        variance = over_group(jnp.mean(jnp.square(wide - mean[:, None, None, :]), axis=(1, 2)))
        gain = gain * jax.lax.rsqrt(variance + self.epsilon)
        bias = bias - mean * gain
        return (wide * gain[:, None, None, :] + bias[:, None, None, :]).astype(self.dtype)


def halve(x: Float[Array, "B H W C"]) -> Float[Array, "B H/2 W/2 C"]:
    """Averages 2x2 pixels."""
    batch, height, width, channels = x.shape
    return jnp.mean(x.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


def double(x: Float[Array, "B H W C"]) -> Float[Array, "B 2H 2W C"]:
    """Repeats every pixel 2x2 times."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


def embed_noise(embedding: str, c_noise: Float[Array, " B"], channels: int) -> Float[Array, "B channels"]:
    """Embeds c_noise as sines and cosines, of frequencies chosen by the name in `EMBEDDINGS`.

    "positional" and "positional_open" are 1 ... 1e-4 in geometric progression, the last one included, or the next after
    the last. "fourier" are the quantiles of N(0, 16^2) instead of a draw from it, so they need no key and no place in a
    checkpoint.

    Source: Ho et al. 2020 (2006.11239), appendix B, after Vaswani et al. 2017; Dhariwal & Nichol 2021 (2105.05233);
        Song et al. 2021 (2011.13456), appendix C, after Tancik et al. 2020.
    """
    half = channels // 2
    c_noise, steps = c_noise.astype(jnp.float32), jnp.arange(half, dtype=jnp.float32)
    if embedding == "fourier":
        frequencies = 16.0 * jax.scipy.special.ndtri((steps + 0.5) / half)
        c_noise = 2 * math.pi * c_noise
    else:
        num_intervals = max(1, half - 1) if embedding == "positional" else half
        frequencies = jnp.exp(-math.log(10_000) * steps / num_intervals)
    angles = c_noise[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def conv(
    channels: int,
    dtype: Dtype,
    name: str,
    init: Initializer,
    strides: int = 1,
    padding: int | tuple[tuple[int, int], ...] = 1,
) -> nn.Conv:
    """A 3x3 convolution."""
    return nn.Conv(channels, (3, 3), strides=strides, padding=padding, kernel_init=init, dtype=dtype, name=name)
