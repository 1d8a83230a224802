"""The conditional U-Net of Stable Diffusion 1.x, 2.x (Rombach et al. 2022, 2112.10752) and XL (2307.01952).

Residual blocks that read the embedding of time, and spatial transformers that attend to the text's states. What differs
between the published networks is read from unet/config.json; XL's also reads the text as a whole and the image's sizes.
"""

import math
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from jaxmoust.models.stable_diffusion.layers import Part, attention, layer_norm, level, middle, repeat, resample, resnet
from jaxmoust.models.unet.blocks import GroupNorm

BLOCKS = ("CrossAttnDownBlock2D", "DownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D")
_NAMES = ("to_q", "to_k", "to_v", "to_out_0")


class UNet(nn.Module):
    """The raw network `net(x, timestep, states)`; its fields are those of unet/config.json, in torch's defaults.

    Args:
        attention_head_dim: heads of each level, for so the files call their number.
        remat: for its gradient, keep what lies between the blocks alone and compute their inside again; the same
            answers (Chen et al. 2016, 1604.06174).
        scan: the parameters are `layers.stacked`, and equal blocks of attention in a row are compiled once.
    """

    sample_size: int = 64
    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    down_block_types: tuple[str, ...] = (*[BLOCKS[0]] * 3, BLOCKS[1])
    up_block_types: tuple[str, ...] = (BLOCKS[2], *[BLOCKS[3]] * 3)
    cross_attention_dim: int = 1280
    attention_head_dim: int | tuple[int, ...] = 8
    transformer_layers_per_block: int | tuple[int, ...] = 1
    use_linear_projection: bool = False
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    addition_embed_type: str | None = None
    addition_time_embed_dim: int | None = None
    dtype: Dtype = jnp.float32
    remat: bool = False
    scan: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        timestep: Float[Array, " B"],
        states: Float[Array, "B L D"],
        added: tuple[Float[Array, "B P"], Float[Array, "B 6"]] | None = None,
    ) -> Float[Array, "B H W C"]:
        """Predicts what the checkpoint was trained to, in the type of the computation.

        Args:
            added: for XL, the text as a whole, and the image's sizes and where it was cut out of a larger one.
        """
        conv = partial(nn.Conv, kernel_size=(3, 3), padding=1, dtype=self.dtype)
        widths, last, states = self.block_out_channels, len(self.block_out_channels) - 1, states.astype(self.dtype)
        embed = partial(two_layers, 4 * widths[0], self.dtype)
        emb = Part(embed, name="time_embedding")(waves(timestep, widths[0]))
        if added is not None:
            pooled, time_ids = added
            sizes = waves(time_ids.reshape(-1), self.addition_time_embed_dim or 0).reshape(len(x), -1)
            emb = emb + Part(embed, name="add_embedding")(jnp.concatenate([pooled, sizes], axis=-1))

        block, style = nn.remat(Part) if self.remat else Part, (self.norm_num_groups, self.dtype)
        heads, depth = map(self._by_level, (self.attention_head_dim, self.transformer_layers_per_block))
        resnets = [partial(block, partial(resnet, width, self.norm_eps, *style)) for width in widths]
        transformers = [
            partial(block, partial(transformer, *numbers, self.use_linear_projection, self.scan, *style))
            for numbers in zip(heads, depth, strict=True)
        ]
        down, up = (partial(Part, partial(resample, to_double, 1, self.dtype)) for to_double in (False, True))
        h = conv(widths[0], name="conv_in")(x.astype(self.dtype))
        skips = [h]
        for i, kind in enumerate(self.down_block_types):
            transform = transformers[i] if kind == BLOCKS[0] else None
            change = partial(down, name="downsamplers_0") if i < last else None
            run = partial(level, self.layers_per_block, resnets[i], transform, change)
            h, answers = Part(run, name=f"down_blocks_{i}")(h, emb, states)
            skips += answers
        h = Part(partial(middle, resnets[-1], transformers[-1]), name="mid_block")(h, emb, states)
        for i, kind in enumerate(self.up_block_types):
            transform = transformers[last - i] if kind == BLOCKS[3] else None
            change = partial(up, name="upsamplers_0") if i < last else None
            run = partial(level, self.layers_per_block + 1, resnets[last - i], transform, change, skips=skips)
            h, _ = Part(run, name=f"up_blocks_{i}")(h, emb, states)
        h = nn.silu(GroupNorm(self.norm_eps, self.norm_num_groups, self.dtype, name="conv_norm_out")(h))
        return conv(self.out_channels, name="conv_out")(h)

    def _by_level(self, value: int | tuple[int, ...]) -> tuple[int, ...]:
        return value if isinstance(value, tuple) else (value,) * len(self.block_out_channels)


def transformer(
    heads: int, depth: int, linear: bool, scan: bool, groups: int, dtype: Dtype, x: Array, states: Array
) -> Array:
    """A spatial transformer: the pixels [B, H, W, C] as tokens, through some blocks, added to what they were."""
    project = partial(nn.Dense if linear else partial(nn.Conv, kernel_size=(1, 1)), x.shape[-1], dtype=dtype)
    h = project(name="proj_in")(GroupNorm(1e-6, groups, dtype, name="norm")(x)).reshape(len(x), -1, x.shape[-1])
    names = [f"transformer_blocks_{i}" for i in range(depth)]
    h = repeat(Part, partial(transformer_block, heads, dtype), names, scan, h, states)
    return x + project(name="proj_out")(h.reshape(x.shape))


def transformer_block(heads: int, dtype: Dtype, x: Array, states: Array) -> Array:
    """Attention of the pixels [B, N, C] to each other, then to the text [B, L, D]; then a gated feed-forward."""
    norm, attend_to = partial(layer_norm, dtype=dtype), partial(Part, partial(attention, heads, _NAMES, dtype))
    h = norm(name="norm1")(x)
    x = x + attend_to(name="attn1")(h, h)
    x = x + attend_to(name="attn2")(norm(name="norm2")(x), states)
    return x + Part(partial(feed_forward, dtype), name="ff")(norm(name="norm3")(x))


def feed_forward(dtype: Dtype, x: Float[Array, "B N C"]) -> Float[Array, "B N C"]:
    """GEGLU of four times the width (Shazeer 2020, 2002.05202), with the exact GELU."""
    proj = Part(lambda x: nn.Dense(8 * x.shape[-1], dtype=dtype, name="proj")(x), name="net_0")
    h, gate = jnp.split(proj(x), 2, axis=-1)
    return nn.Dense(x.shape[-1], dtype=dtype, name="net_2")(h * nn.gelu(gate, approximate=False))


def two_layers(features: int, dtype: Dtype, x: Float[Array, "B C"], **init: Any) -> Float[Array, "B {features}"]:
    """Two layers with SiLU between them. Args: init: `kernel_init`, as a dense layer has it."""
    h = nn.silu(nn.Dense(features, dtype=dtype, name="linear_1", **init)(x))
    return nn.Dense(features, dtype=dtype, name="linear_2", **init)(h)


def waves(x: Float[Array, " B"], channels: int, shift: int = 0) -> Float[Array, "B {channels}"]:
    """Embeds numbers as cosines, then sines, of frequencies from 1 to nearly 1e-4 in geometric progression.

    Args: shift: 1 has the last frequency be 1e-4.
    """
    rates = jnp.exp(-math.log(10_000) * jnp.arange(channels // 2, dtype=jnp.float32) / (channels // 2 - shift))
    angles = x.astype(jnp.float32)[:, None] * rates
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
