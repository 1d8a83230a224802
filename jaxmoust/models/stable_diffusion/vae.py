"""The KL-VAE of Stable Diffusion (Rombach et al. 2022, 2112.10752): images to latents of 4 or 16 channels, and back."""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from jaxmoust.models.stable_diffusion.layers import Part, attention, level, middle, resample, resnet
from jaxmoust.models.unet.blocks import GroupNorm

_EPSILON = 1e-6  # of every norm
_NAMES = ("query", "key", "value", "proj_attn")


class VAE(nn.Module):
    """Encodes and decodes; its fields are those of vae/config.json, in torch's defaults."""

    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    latent_channels: int = 4
    norm_num_groups: int = 32
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Names the parts as the files do."""
        conv, common = partial(nn.Conv, kernel_size=(1, 1), dtype=self.dtype), (self.norm_num_groups, self.dtype)
        widths, num = self.block_out_channels, self.layers_per_block
        self.encoder = Part(partial(coder, "down", widths, num, 2 * self.latent_channels, *common))
        self.decoder = Part(partial(coder, "up", widths[::-1], num + 1, self.out_channels, *common))
        self.quant_conv = conv(2 * self.latent_channels) if self.use_quant_conv else lambda h: h
        self.post_quant_conv = conv(self.latent_channels) if self.use_post_quant_conv else lambda h: h

    def encode(self, image: Float[Array, "B H W 3"]) -> tuple[Float[Array, "B h w C"], Float[Array, "B h w C"]]:
        """Mean and standard deviation of the latents of images in [-1, 1], float32."""
        moments = self.quant_conv(self.encoder(image.astype(self.dtype))).astype(jnp.float32)
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        return mean, jnp.exp(0.5 * jnp.clip(log_variance, -30, 20))

    def decode(self, latent: Float[Array, "B h w C"]) -> Float[Array, "B H W 3"]:
        """Latents to images, float32, about [-1, 1]."""
        return self.decoder(self.post_quant_conv(latent.astype(self.dtype))).astype(jnp.float32)

    def __call__(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
        """Images by way of their latents' means."""
        return self.decode(self.encode(image)[0])


def coder(way: str, widths: Sequence[int], num: int, out_channels: int, groups: int, dtype: Dtype, h: Array) -> Array:
    """The encoder or the decoder: images [B, H, W, C] through one level a width, with attention at the lowest.

    Args:
        way: "down" or "up". num: blocks of a level.
    """
    conv = partial(nn.Conv, kernel_size=(3, 3), padding=1, dtype=dtype)
    blocks = [partial(Part, partial(resnet, width, _EPSILON, groups, dtype)) for width in widths]
    lowest = partial(middle, blocks[0 if way == "up" else -1], partial(Part, partial(pixel_attention, groups, dtype)))
    # A strided convolution is padded after the last row and column.
    run = partial(resample, way == "up", ((0, 1), (0, 1)), dtype)
    h = conv(widths[0], name="conv_in")(h)
    h = Part(lowest, name="mid_block")(h) if way == "up" else h
    for i, block in enumerate(blocks):
        change = partial(Part, run, name=f"{way}samplers_0") if i < len(widths) - 1 else None
        h, _ = Part(partial(level, num, block, None, change), name=f"{way}_blocks_{i}")(h)
    h = Part(lowest, name="mid_block")(h) if way == "down" else h
    return conv(out_channels, name="conv_out")(nn.silu(GroupNorm(_EPSILON, groups, dtype, name="conv_norm_out")(h)))


def pixel_attention(groups: int, dtype: Dtype, x: Array) -> Array:
    """Residual attention of the pixels [B, H, W, C] to each other, of one head."""
    h = GroupNorm(_EPSILON, groups, dtype, name="group_norm")(x).reshape(len(x), -1, x.shape[-1])
    return x + attention(1, _NAMES, dtype, h, h, bias=True).reshape(x.shape)
