"""T5's encoder (Raffel et al. 2020, 1910.10683; the gated v1.1), the third text encoder of Stable Diffusion 3.

Nothing masks the padding, so that the length texts are padded to is part of the answer.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Int

from jaxmoust.models.stable_diffusion.layers import Part


class T5Encoder(nn.Module):
    """Texts to states; its fields are those of config.json.

    What blocks add up, and the norms, is float32 whatever the type of the computation: XXL's states overflow float16.
    """

    vocab_size: int = 32_128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 1024
    num_layers: int = 8
    num_heads: int = 6
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "gated-gelu"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, ids: Int[Array, "B L"]) -> dict[str, Array]:
        """The `states` [B, L, D] of texts, float32."""
        x = nn.Embed(self.vocab_size, self.d_model, name="shared")(ids).astype(jnp.float32)
        return {"states": Part(partial(_encoder, self), name="encoder")(x)}


def buckets(length: int, num: int, furthest: int) -> Int[np.ndarray, "{length} {length}"]:
    """The bucket of each pair of places (from, to): half for either way, by distance, then by its logarithm.

    Computed here: a device's last digit would decide about distances of 16, 32 and 64.
    """
    away = np.arange(length)[None, :] - np.arange(length)[:, None]
    half, exact = num // 2, num // 4
    distance = np.abs(away)
    logarithm = np.log(np.maximum(distance, 1).astype(np.float32) / exact) / np.float32(math.log(furthest / exact))
    far = np.minimum(exact + (logarithm * (half - exact)).astype(np.int32), half - 1)
    return (np.where(distance < exact, distance, far) + half * (away > 0)).astype(np.int32)


def _encoder(net: T5Encoder, x: Array) -> Array:
    return _norm(net, "final_layer_norm")(Part(partial(_blocks, net), name="block")(x))


def _blocks(net: T5Encoder, x: Array) -> Array:
    bias = None  # of the first layer, which serves all
    for i in range(net.num_layers):
        x, bias = Part(lambda *given: Part(partial(_layers, net), name="layer")(*given), name=str(i))(x, bias)
    return x


def _layers(net: T5Encoder, x: Array, bias: Array | None) -> tuple[Array, Array]:
    def attend(x: Array, bias: Array | None) -> tuple[Array, Array]:
        return Part(partial(_attention, net), name="SelfAttention")(_norm(net, "layer_norm")(x), bias)

    def feed_forward(x: Array) -> Array:
        return Part(partial(_gated, net), name="DenseReluDense")(_norm(net, "layer_norm")(x))

    seen, bias = Part(attend, name="0")(x, bias)
    x = x + seen.astype(jnp.float32)
    return x + Part(feed_forward, name="1")(x).astype(jnp.float32), bias


def _attention(net: T5Encoder, x: Float[Array, "B L D"], bias: Array | None) -> tuple[Array, Array]:
    """Attention without a scale, with a bias by head and distance."""
    dense = partial(nn.Dense, use_bias=False, dtype=net.dtype)
    q, k, v = (dense(net.num_heads * net.d_kv, name=n)(x).reshape(*x.shape[:2], -1, net.d_kv) for n in "qkv")
    if bias is None:
        num, furthest = net.relative_attention_num_buckets, net.relative_attention_max_distance
        table = nn.Embed(num, net.num_heads, name="relative_attention_bias")
        bias = table(buckets(x.shape[1], num, furthest)).transpose(2, 0, 1)[None].astype(jnp.float32)
    seen = jax.nn.dot_product_attention(q, k, v, bias=bias, scale=1.0, implementation="xla")
    return dense(net.d_model, name="o")(seen.reshape(*x.shape[:2], -1)), bias


def _gated(net: T5Encoder, x: Array) -> Array:
    dense = partial(nn.Dense, use_bias=False, dtype=net.dtype)
    gate = nn.gelu(dense(net.d_ff, name="wi_0")(x), approximate=True)
    return dense(net.d_model, name="wo")(gate * dense(net.d_ff, name="wi_1")(x))


def _norm(net: T5Encoder, name: str) -> nn.RMSNorm:
    return nn.RMSNorm(epsilon=net.layer_norm_epsilon, dtype=jnp.float32, name=name)
