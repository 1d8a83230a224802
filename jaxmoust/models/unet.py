"""A U-Net for diffusion: the raw network `net(x, c_noise, label)` that `core.denoise` wraps.

One module from 0.2 M parameters up to the published ones, by its sizes alone: residual blocks of group norm,
SiLU and 3x3 convolutions, modulated by an embedding of noise level and class, with self-attention at chosen
resolutions (Ho et al. 2020, 2006.11239, appendix B). It starts as the zero function: the output convolution,
and the last layer of every residual branch, are initialised to zero. Where later work improved on DDPM the
defaults follow it: the embedding scales and shifts the second norm (Dhariwal & Nichol 2021, 2105.05233,
section 3) and sums are scaled by sqrt(1/2) (Song et al. 2021, 2011.13456, appendix H); `adaptive_scale=False,
skip_scale=1.0` is DDPM's own.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Int, Key


class UNet(nn.Module):
    """U-Net with one level per entry of channel_multipliers; each next level halves the resolution.

    Args:
        out_channels: channels of the answer.
        num_classes: 0 = unconditional; else labels are 0 ... num_classes - 1, and `num_classes` itself is the
            null class: train some examples with it to have an unconditional network for guidance.
        base_channels: width of the first level; the embedding is 4 times as wide.
        channel_multipliers: width of each level, in units of base_channels.
        num_blocks: residual blocks per level on the way down; one more on the way up.
        attention_px: image heights at which every block is followed by self-attention.
        middle_attention: whether the lowest resolution has self-attention between its two middle blocks.
        num_heads, head_channels: attention heads, or, where head_channels > 0, as many heads of that width
            as the level is wide.
        dropout: rate inside the blocks, drawn from one key per example.
        embedding: of c_noise; "positional" (timesteps, log sigma) or "fourier".
        adaptive_scale: the embedding scales and shifts; False: only shifts.
        skip_scale: factor on the sum of a residual branch and its input.
        resample: between levels; "conv" strided or nearest-neighbour and a 3x3 convolution; "pool" averages
            2x2 pixels and repeats them, without parameters.
        dtype: of the computation; parameters, norms' statistics and the answer stay float32.
    Raises: ValueError: sizes that do not fit, at the first call.
    """

    out_channels: int
    num_classes: int = 0
    base_channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 2)
    num_blocks: int = 2
    attention_px: tuple[int, ...] = (16,)
    middle_attention: bool = True
    num_heads: int = 1
    head_channels: int = 0
    dropout: float = 0.0
    embedding: str = "positional"
    adaptive_scale: bool = True
    skip_scale: float = 0.5**0.5
    resample: str = "conv"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        c_noise: Float[Array, " B"],
        label: Int[Array, " B"] | None = None,
        keys: Key[Array, " B"] | None = None,
        train: bool = False,
    ) -> Float[Array, "B H W out_channels"]:
        """Answers for each example on its own.

        Args:
            x: noisy images of about unit variance; H and W divisible by 2^(levels - 1).
            c_noise: noise level, in whatever unit the network is trained with.
            label: class labels; required where num_classes > 0, refused where it is 0.
            keys: one per example; required for train=True with dropout > 0.
        """
        self._check(x, label, keys, train)
        dropout = self.dropout if train else 0.0
        emb = self._embed(c_noise, label)
        num_made = 0

        def block(h: Array, channels: int, name: str, attention: bool) -> Array:
            nonlocal num_made
            block_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, num_made) if dropout > 0 else None
            num_made += 1
            h = Block(channels, dropout, self.adaptive_scale, self.skip_scale, self.dtype, name=name)(
                h, emb, block_keys
            )
            if attention:
                heads = channels // self.head_channels if self.head_channels else self.num_heads
                h = Attention(heads, self.skip_scale, self.dtype, name=f"{name}_attention")(h)
            return h

        widths = [self.base_channels * multiplier for multiplier in self.channel_multipliers]
        h = _conv(self.base_channels, self.dtype, name="conv_in")(x.astype(self.dtype))
        skips = [h]
        for level, channels in enumerate(widths):
            if level > 0:
                h = self._down(h, name=f"down{level}_resample")
                skips.append(h)
            for i in range(self.num_blocks):
                h = block(h, channels, f"down{level}_block{i}", h.shape[1] in self.attention_px)
                skips.append(h)

        h = block(h, widths[-1], "middle_block0", self.middle_attention)
        h = block(h, widths[-1], "middle_block1", attention=False)

        for level, channels in reversed(list(enumerate(widths))):
            for i in range(self.num_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = block(h, channels, f"up{level}_block{i}", h.shape[1] in self.attention_px)
            if level > 0:
                h = self._up(h, name=f"up{level}_resample")
        assert not skips

        h = nn.silu(GroupNorm(dtype=self.dtype, name="norm_out")(h))
        # In float32: this layer writes the answer.
        return _conv(self.out_channels, jnp.float32, name="conv_out", zero=True)(h.astype(jnp.float32))

    def _embed(self, c_noise: Array, label: Array | None) -> Array:
        features = {"positional": positional, "fourier": fourier}[self.embedding](c_noise, self.base_channels)
        emb_channels = 4 * self.base_channels
        emb = nn.silu(nn.Dense(emb_channels, dtype=self.dtype, name="noise_dense0")(features))
        emb = nn.Dense(emb_channels, dtype=self.dtype, name="noise_dense1")(emb)
        if self.num_classes > 0:
            table = nn.Embed(
                self.num_classes + 1,
                emb_channels,
                embedding_init=nn.initializers.normal(1.0),
                dtype=self.dtype,
                name="label_embed",
            )
            emb = emb + table(label)
        return nn.silu(emb)

    def _down(self, h: Array, name: str) -> Array:
        if self.resample == "conv":
            return _conv(h.shape[-1], self.dtype, name=name, strides=2)(h)
        batch, height, width, channels = h.shape
        return jnp.mean(h.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))

    def _up(self, h: Array, name: str) -> Array:
        batch, height, width, channels = h.shape
        h = jnp.broadcast_to(h[:, :, None, :, None, :], (batch, height, 2, width, 2, channels))
        h = h.reshape(batch, 2 * height, 2 * width, channels)
        return _conv(channels, self.dtype, name=name)(h) if self.resample == "conv" else h

    def _check(self, x: Array, label: Array | None, keys: Array | None, train: bool) -> None:
        if self.embedding not in ("positional", "fourier"):
            raise ValueError(f"got embedding={self.embedding!r}; known: 'positional', 'fourier'")
        if self.resample not in ("conv", "pool"):
            raise ValueError(f"got resample={self.resample!r}; known: 'conv', 'pool'")
        if self.base_channels < 4 or self.base_channels % 2:
            raise ValueError(f"got base_channels={self.base_channels}; needs an even number >= 4")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"got dropout={self.dropout}; needs 0 <= dropout < 1")
        factor = 2 ** (len(self.channel_multipliers) - 1)
        if x.shape[1] % factor or x.shape[2] % factor:
            raise ValueError(
                f"got images of {x.shape[1]}x{x.shape[2]} px; {len(self.channel_multipliers)} levels need both "
                f"sides divisible by {factor}: resize the images or give fewer channel_multipliers"
            )
        if (label is None) != (self.num_classes == 0):
            raise ValueError(
                f"got label={label} with num_classes={self.num_classes}; give labels exactly where num_classes > 0 "
                f"(the null class is {self.num_classes})"
            )
        if train and self.dropout > 0 and keys is None:
            raise ValueError(f"got train=True with dropout={self.dropout} and no keys; give one key per example")


class Block(nn.Module):
    """Residual block: norm, SiLU, conv; norm modulated by the embedding, SiLU, dropout, zero-initialised conv."""

    channels: int
    dropout: float
    adaptive_scale: bool
    skip_scale: float
    dtype: Dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], emb: Float[Array, "B E"], keys: Key[Array, " B"] | None
    ) -> Float[Array, "B H W channels"]:
        """Maps x, [B, H, W, any number of channels], to `channels`."""
        # Going backwards, a CPU would fuse the sum of all gradients of the residual stream so far into every
        # reader and compute it anew each time; the barrier makes each block end in one array.
        x = jax.lax.optimization_barrier(x)
        h = nn.silu(GroupNorm(dtype=self.dtype, name="norm0")(x))
        h = _conv(self.channels, self.dtype, name="conv0")(h)
        num_modulations = 2 if self.adaptive_scale else 1
        modulation = nn.Dense(num_modulations * self.channels, dtype=self.dtype, name="modulation")(emb)
        if self.adaptive_scale:
            scale, shift = jnp.split(modulation, 2, axis=-1)
            h = GroupNorm(dtype=self.dtype, name="norm1")(h, scale, shift)
        else:
            h = GroupNorm(dtype=self.dtype, name="norm1")(h + modulation[:, None, None, :])
        h = nn.silu(h)
        if self.dropout > 0:
            h = dropout(keys, h, self.dropout)
        h = _conv(self.channels, self.dtype, name="conv1", zero=True)(h)
        if x.shape[-1] != self.channels:
            x = nn.Dense(self.channels, dtype=self.dtype, name="skip")(x)
        return (x + h) * self.skip_scale


class Attention(nn.Module):
    """Residual self-attention over the pixels: norm, queries, keys and values, zero-initialised projection."""

    num_heads: int
    skip_scale: float
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Maps x to its own shape."""
        batch, height, width, channels = x.shape
        if self.num_heads < 1 or channels % self.num_heads:
            raise ValueError(
                f"got {self.num_heads} attention heads on {channels} channels; "
                "choose num_heads or head_channels so that the heads divide the channels"
            )
        h = GroupNorm(dtype=self.dtype, name="norm")(x)
        h = nn.Dense(3 * channels, dtype=self.dtype, name="qkv")(h)
        h = h.reshape(batch, height * width, 3, self.num_heads, channels // self.num_heads)
        h = jax.nn.dot_product_attention(h[:, :, 0], h[:, :, 1], h[:, :, 2])
        h = h.reshape(batch, height, width, channels)
        h = nn.Dense(channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="proj")(h)
        return (x + h) * self.skip_scale


class GroupNorm(nn.Module):
    """Group norm, min(32, C / 4) groups where they divide C, with an optional scale and shift per example.

    Statistics are taken per channel, then averaged over the group, and everything that follows is one
    multiply-add: on a CPU several times faster than normalising an array reshaped into its groups.
    """

    dtype: Dtype
    epsilon: float = 1e-6

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        scale: Float[Array, "B C"] | None = None,
        shift: Float[Array, "B C"] | None = None,
    ) -> Float[Array, "B H W C"]:
        """Returns norm(x) * (1 + scale) + shift."""
        batch, _, _, channels = x.shape
        num_groups = max(n for n in range(1, min(32, max(1, channels // 4)) + 1) if channels % n == 0)
        gain = self.param("scale", nn.initializers.ones, (channels,))[None]
        bias = self.param("bias", nn.initializers.zeros, (channels,))[None]
        if scale is not None:
            gain = gain * (1 + scale.astype(jnp.float32))
            bias = bias * (1 + scale.astype(jnp.float32)) + shift.astype(jnp.float32)

        def over_group(per_channel: Array) -> Array:
            grouped = jnp.mean(per_channel.reshape(batch, num_groups, -1), axis=-1, keepdims=True)
            return jnp.broadcast_to(grouped, (batch, num_groups, channels // num_groups)).reshape(batch, channels)

        wide = x.astype(jnp.float32)
        mean = over_group(jnp.mean(wide, axis=(1, 2)))
        variance = over_group(jnp.mean(jnp.square(wide), axis=(1, 2))) - jnp.square(mean)
        gain = gain * jax.lax.rsqrt(jnp.maximum(variance, 0.0) + self.epsilon)
        bias = bias - mean * gain
        return (wide * gain[:, None, None, :] + bias[:, None, None, :]).astype(self.dtype)


def positional(c_noise: Float[Array, " B"], channels: int) -> Float[Array, "B channels"]:
    """Embeds c_noise as sines and cosines of frequencies 1 ... 1e-4, in geometric progression.

    Source: Ho et al. 2020 (2006.11239), appendix B, after Vaswani et al. 2017.
    """
    half = channels // 2
    frequencies = jnp.exp(-math.log(10_000) * jnp.arange(half, dtype=jnp.float32) / max(1, half - 1))
    angles = c_noise.astype(jnp.float32)[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def fourier(c_noise: Float[Array, " B"], channels: int, std: float = 16.0) -> Float[Array, "B channels"]:
    """Embeds c_noise as sines and cosines of frequencies ~ N(0, std^2).

    The frequencies are the distribution's quantiles instead of a draw from it, so they need no key and no
    place in a checkpoint. Source: Song et al. 2021 (2011.13456), appendix C, after Tancik et al. 2020.
    """
    half = channels // 2
    frequencies = std * jax.scipy.special.ndtri((jnp.arange(half, dtype=jnp.float32) + 0.5) / half)
    angles = 2 * math.pi * c_noise.astype(jnp.float32)[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def dropout(keys: Key[Array, " B"], x: Float[Array, "B *rest"], rate: float) -> Float[Array, "B *rest"]:
    """Zeroes each number with probability `rate`, example b by keys[b] alone, and scales the rest up."""
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


def _conv(channels: int, dtype: Dtype, name: str, strides: int = 1, zero: bool = False) -> nn.Conv:
    init = nn.initializers.zeros if zero else nn.linear.default_kernel_init
    return nn.Conv(channels, (3, 3), strides=strides, padding=1, kernel_init=init, dtype=dtype, name=name)
