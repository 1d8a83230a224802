"""The MMDiT of Stable Diffusion 3 and 3.5 (Esser et al. 2024, 2403.03206, section 4 and figure 2).

Image and text are two streams of tokens with weights of their own, which meet in one attention a block. What differs
between the published networks is read from transformer/config.json: 3.5 norms queries and keys, and in the first blocks
of 3.5-medium the image attends to itself a second time.
"""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from jaxmoust.models.stable_diffusion.layers import Part, attend, layer_norm, repeat
from jaxmoust.models.stable_diffusion.unet import two_layers, waves

_EPSILON = 1e-6  # of every norm
_TIME_WAVES = 256
_IMAGE = ("to_q", "to_k", "to_v", "norm_q", "norm_k")
_TEXT = ("add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k")


class MMDiT(nn.Module):
    """The raw network `net(x, timestep, states, pooled, position)`; fields are those of transformer/config.json.

    Args:
        remat, scan: as in `UNet`.
    """

    sample_size: int = 128
    patch_size: int = 2
    in_channels: int = 16
    out_channels: int = 16
    num_layers: int = 18
    attention_head_dim: int = 64
    num_attention_heads: int = 18
    joint_attention_dim: int = 4096
    caption_projection_dim: int = 1152
    pooled_projection_dim: int = 2048
    pos_embed_max_size: int = 96
    dual_attention_layers: tuple[int, ...] = ()
    qk_norm: str | None = None
    dtype: Dtype = jnp.float32
    remat: bool = False
    scan: bool = False

    @property
    def width(self) -> int:
        """Numbers of a token."""
        return self.num_attention_heads * self.attention_head_dim

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        timestep: Float[Array, " B"],
        states: Float[Array, "B L J"],
        pooled: Float[Array, "B P"],
        position: Float[Array, "N D"],
    ) -> Float[Array, "B H W C"]:
        """Predicts the velocity, in the type of the computation.

        Args:
            timestep: in [0, 1000]. states: of the text, word by word. pooled: of the text as a whole.
            position: `crop` of the file's table, a constant that no optimizer may see.
        """
        (batch, height, width, _), p, dense = x.shape, self.patch_size, partial(nn.Dense, dtype=self.dtype)
        cut = partial(nn.Conv, self.width, (p, p), strides=(p, p), padding="VALID", dtype=self.dtype, name="proj")
        image = Part(lambda x: cut()(x), name="pos_embed")(x.astype(self.dtype)).reshape(batch, -1, self.width)
        image = image + position.astype(self.dtype)
        text = dense(self.caption_projection_dim, name="context_embedder")(states.astype(self.dtype))
        c = nn.silu(Part(partial(_condition, self), name="time_text_embed")(timestep, pooled))
        block = nn.remat(Part) if self.remat else Part
        kinds = [(i in self.dual_attention_layers, i == self.num_layers - 1) for i in range(self.num_layers)]
        for (dual, last), equal in itertools.groupby(range(self.num_layers), key=lambda i: kinds[i]):
            names = [f"transformer_blocks_{i}" for i in equal]
            image, text = repeat(block, partial(_block, self, dual, last), names, self.scan, (image, text), c)
        scale, shift = _modulation(self, 2, "norm_out", c)
        out = dense(p * p * self.out_channels, name="proj_out")(_norm(self, image) * (1 + scale) + shift)
        return unpatch(out, p, height, width)


def unpatch(tokens: Float[Array, "B N P"], patch: int, height: int, width: int) -> Float[Array, "B H W C"]:
    """Tokens of patch * patch * C numbers, row by row, as the image they are the patches of."""
    blocks = tokens.reshape(len(tokens), height // patch, width // patch, patch, patch, -1)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(len(tokens), height, width, -1)


def crop(net: MMDiT, table: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle [N, D] of the file's table of positions [1, G * G, D], for latents of height x width."""
    side, (rows, columns) = net.pos_embed_max_size, (height // net.patch_size, width // net.patch_size)
    top, left = (side - rows) // 2, (side - columns) // 2
    square = table.reshape(side, side, -1)[top : top + rows, left : left + columns]
    return square.reshape(rows * columns, -1)


def _condition(net: MMDiT, timestep: Array, pooled: Array) -> Array:
    embed = partial(Part, partial(two_layers, net.width, net.dtype))
    time = embed(name="timestep_embedder")(waves(timestep, _TIME_WAVES))
    return time + embed(name="text_embedder")(pooled.astype(net.dtype))


def _block(net: MMDiT, dual: bool, last: bool, streams: tuple[Array, Array], c: Array) -> tuple[Array, Array]:
    """One block on image [B, N, D] and text [B, L, D]; the last one leaves the text as it is."""
    image, text = streams
    shift, scale, gate, *rest = _modulation(net, 9 if dual else 6, "norm1", c)
    normed = _norm(net, image)
    if last:
        text_scale, text_shift = _modulation(net, 2, "norm1_context", c)
    else:
        text_shift, text_scale, text_gate, *text_rest = _modulation(net, 6, "norm1_context", c)
    joint = Part(partial(_attention, net, answer_text=not last), name="attn")
    seen, text_seen = joint(normed * (1 + scale) + shift, _norm(net, text) * (1 + text_scale) + text_shift)
    image = image + gate * seen
    if dual:  # the same tokens, before the first answer was added
        shift, scale, gate = rest[3:]
        image = image + gate * Part(partial(_attention, net), name="attn2")(normed * (1 + scale) + shift)[0]
    image = image + _feed_forward(net, "ff", image, *rest[:3])
    if not last:
        text = text + text_gate * text_seen
        text = text + _feed_forward(net, "ff_context", text, *text_rest)
    return image, text


def _attention(net: MMDiT, image: Array, text: Array | None = None, answer_text: bool = False) -> tuple[Array, Any]:
    """Attention of the image to itself, or of image and text, in this order, to both."""
    dense = partial(nn.Dense, image.shape[-1], dtype=net.dtype)

    def project(x: Array, names: tuple[str, ...]) -> Iterator[Array]:
        for name, norm in zip(names, (*names[3:], None), strict=False):
            y = dense(name=name)(x).reshape(*x.shape[:2], net.num_attention_heads, -1)
            yield nn.RMSNorm(epsilon=_EPSILON, dtype=net.dtype, name=norm)(y) if norm and net.qk_norm else y

    tokens = list(project(image, _IMAGE))
    if text is not None:
        tokens = [jnp.concatenate(both, axis=1) for both in zip(tokens, project(text, _TEXT), strict=True)]
    q, k, v = tokens
    seen = attend(q, k, v).reshape(len(image), -1, image.shape[-1])
    image, text = seen[:, : image.shape[1]], seen[:, image.shape[1] :]
    return dense(name="to_out_0")(image), dense(name="to_add_out")(text) if answer_text else None


def _feed_forward(net: MMDiT, name: str, x: Array, shift: Array, scale: Array, gate: Array) -> Array:
    """Four times the width with the tanh's GELU between, as it is added to x."""

    def run(x: Array) -> Array:
        proj = Part(lambda x: nn.Dense(4 * x.shape[-1], dtype=net.dtype, name="proj")(x), name="net_0")
        return nn.Dense(x.shape[-1], dtype=net.dtype, name="net_2")(nn.gelu(proj(x), approximate=True))

    return gate * Part(run, name=name)(_norm(net, x) * (1 + scale) + shift)


def _modulation(net: MMDiT, num: int, name: str, c: Array) -> list[Array]:
    """`num` vectors [B, 1, D] of the condition."""
    linear = partial(nn.Dense, num * net.width, dtype=net.dtype, name="linear")
    return jnp.split(Part(lambda c: linear()(c), name=name)(c)[:, None], num, axis=-1)


def _norm(net: MMDiT, x: Array) -> Array:
    return layer_norm(epsilon=_EPSILON, use_bias=False, use_scale=False, dtype=net.dtype)(x)
