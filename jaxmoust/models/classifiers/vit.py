"""Vision transformers for classification (Dosovitskiy et al. 2021, 2010.11929), pre-norm.

`SIZES` names the usual sizes: `ViT(num_classes=10, patch_px=4, **SIZES["S"])`. All blocks' parameters are stacked
along a first axis, whether the program holds the blocks one by one or one of them in a loop, so that this choice,
of compile time against run time, can change between two runs of one checkpoint.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Key

from jaxmoust.core.checks import check_choice, check_rate
from jaxmoust.core.examples import fold_all
from jaxmoust.models.drop import branch_rates, drop_branch, dropout

SIZES: dict[str, dict[str, int]] = {
    "Ti": {"width": 192, "depth": 12, "num_heads": 3},
    "S": {"width": 384, "depth": 12, "num_heads": 6},
    "B": {"width": 768, "depth": 12, "num_heads": 12},
    "L": {"width": 1024, "depth": 24, "num_heads": 16},
}

POOLS = ("token", "gap", "gap_norm", "tokens", "token_gap", "map")


def _swiglu(x: Array) -> Array:
    gate, value = jnp.split(x, 2, axis=-1)
    return nn.silu(gate) * value


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": partial(nn.gelu, approximate=False),
    "gelu_tanh": nn.gelu,
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "swiglu": _swiglu,  # of two halves one
}

# Queries, keys and values are one matrix, [D, 3 D], of which each third is to be sampled as a [D, D] by Glorot &
# Bengio's rule: uniform of variance 2 / (D + D).
_glorot_thirds = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")


class Branches(nn.Module):
    """Attention and two layers, which a block and a pool are made of."""

    num_heads: int
    dropout: float
    activation: str
    drops_branches: bool
    mlp_width: int
    epsilon: float
    layer_scale: bool
    dtype: Dtype

    def _attend(self, h: Array, queries: int | None = None) -> Array:
        """Lets the first `queries` tokens, or all, look at the others, or all."""
        batch, length, width = h.shape
        h = nn.Dense(3 * width, dtype=self.dtype, kernel_init=_glorot_thirds, name="qkv")(h)
        h = h.reshape(batch, length, 3, self.num_heads, width // self.num_heads)
        h = jax.nn.dot_product_attention(h[:, :queries, 0], h[:, queries or 0 :, 1], h[:, queries or 0 :, 2])
        h = h.reshape(batch, -1, width)
        h = nn.Dense(width, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="proj")(h)
        return self._scaled(h, "scale0")

    def _mlp(self, h: Array, keys: Array | None = None) -> Array:
        bias_init = nn.initializers.normal(1e-6)
        dense = partial(nn.Dense, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), bias_init=bias_init)
        width, halves = h.shape[-1], 1 + (self.activation == "swiglu")
        h = ACTIVATIONS[self.activation](dense(halves * (self.mlp_width or 4 * width), name="mlp0")(h))
        if keys is not None and self.dropout > 0:
            h = dropout(fold_all(keys, 2), h, self.dropout)
        return self._scaled(dense(width, name="mlp1")(h), "scale1")

    def _scaled(self, h: Array, name: str) -> Array:
        if not self.layer_scale:
            return h
        return h * self.param(name, nn.initializers.constant(1e-5), h.shape[-1:]).astype(self.dtype)


class Block(Branches):
    """x + attention(norm(x)), then x + mlp(norm(x)); either branch can be dropped for an example."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L D"], layer: tuple[Key[Array, " B"] | None, Float[Array, ""]]
    ) -> tuple[Float[Array, "B L D"], None]:
        """Maps x to its own shape; the None is what a loop collects.

        Args:
            layer: keys, one per example, or None not to drop; and the rate at which a branch is dropped.
        """
        keys, rate = layer
        norm = partial(nn.LayerNorm, self.epsilon, self.dtype)
        x = x + self._dropped(self._attend(norm(name="norm0")(x)), keys, rate, 0)
        return x + self._dropped(self._mlp(norm(name="norm1")(x), keys), keys, rate, 1), None

    def _dropped(self, h: Array, keys: Array | None, rate: Array, branch: int) -> Array:
        if keys is None:
            return h
        keys = fold_all(keys, branch)
        if self.dropout > 0:
            h = dropout(fold_all(keys, 0), h, self.dropout)
        return drop_branch(fold_all(keys, 1), h, rate) if self.drops_branches else h


class AttentionPool(Branches):
    """A learnt token that looks at all tokens once, and is the answer (Zhai et al. 2022, 2106.04560, section 3.4)."""

    @nn.compact
    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B D"]:
        """Pools x."""
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, 1, x.shape[-1])).astype(self.dtype)
        h = self._attend(jnp.concatenate([jnp.broadcast_to(probe, (len(x), 1, x.shape[-1])), x], axis=1), 1)[:, 0]
        return h + self._mlp(nn.LayerNorm(self.epsilon, self.dtype, name="norm1")(h))


class ViT(nn.Module):
    """ViT: patches as tokens with learnt positions, pre-norm blocks, a norm, pooling, and a linear head.

    Args:
        num_classes: width of the logits.
        width: of the tokens; the two layers between attentions are 4 * width wide inside.
        depth: number of blocks.
        num_heads: attention heads of each block; they divide the width.
        patch_px: side of a patch; 16, or 4 for images of 32 px.
        pool: "token", a learnt token's state; "gap", the mean over all patches, "gap_norm", normed after it;
            "tokens", the states of all learnt tokens side by side; "token_gap", the first one's and the mean;
            "map", what one more token answers that looks at all patches.
        dropout: rate after the embedding and in every block, drawn from one key per example.
        stochastic_depth: rate at which the last block's branches are dropped for an example; it rises linearly
            from 0 in the first block (Huang et al. 2016, 1603.09382).
        activation: "gelu", or its approximation by tanh, "gelu_tanh", which public augreg weights were trained with, or
            by a sigmoid, "quick_gelu"; "swiglu" gates one half of a layer by the other.
        epsilon: what norms add to the variance.
        num_tokens: learnt tokens before the patches, the class's and registers; None: 1 for "token", 0 for "gap".
        mlp_width: of the two layers' inside; 0: 4 * width.
        layer_scale: whether each branch ends in a learnt factor for each channel.
        pre_norm: whether the tokens are normed before the first block, and patches embedded without a bias.
        remat: compute a block's activations again going backwards instead of keeping them: less memory for
            about a third more work.
        scan: compile one block and loop over it; False compiles every block (Ti on a CPU: five times as long to
            compile, no faster to run).
        dtype: of the computation; parameters and logits stay float32.
        axis_name: not used: every classifier takes it, and this one has no statistics to average over devices.
    Raises: ValueError: sizes that do not fit, at the first call.
    """

    num_classes: int
    width: int
    depth: int
    num_heads: int
    patch_px: int = 16
    pool: str = "token"
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    activation: str = "gelu"
    epsilon: float = 1e-6
    num_tokens: int | None = None
    mlp_width: int = 0
    layer_scale: bool = False
    pre_norm: bool = False
    remat: bool = False
    scan: bool = True
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    def setup(self) -> None:
        """Builds the layers whose shapes do not depend on the image."""
        self._check()
        self.patch_embed = nn.Conv(
            self.width,
            (self.patch_px, self.patch_px),
            strides=self.patch_px,
            padding="VALID",
            use_bias=not self.pre_norm,
            dtype=self.dtype,
            name="patch_embed",
        )
        block = nn.remat(Block, prevent_cse=not self.scan) if self.remat else Block
        how = (self.mlp_width, self.epsilon, self.layer_scale, self.dtype)
        self.blocks = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.depth,
            unroll=1 if self.scan else self.depth,
        )(self.num_heads, self.dropout, self.activation, self.stochastic_depth > 0, *how, name="blocks")
        norm = partial(nn.LayerNorm, self.epsilon, self.dtype)
        self.norm = norm(name="norm")
        if self.pre_norm:
            self.norm_before = norm(name="pre_norm")
        if self.pool == "map":
            self.map = AttentionPool(self.num_heads, 0.0, self.activation, False, *how, name="map")
        self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="head")

    @property
    def tokens(self) -> int:
        """How many learnt tokens there are."""
        return self.num_tokens if self.num_tokens is not None else int(self.pool.startswith("token"))

    @nn.compact
    def features(
        self, x: Float[Array, "B H W C"], train: bool = False, keys: Key[Array, " B"] | None = None
    ) -> Float[Array, "B F"]:
        """Returns the pooled, normed tokens, float32, that the head is linear in; arguments as in `__call__`."""
        if not train or self.dropout == self.stochastic_depth == 0:
            keys = None
        elif keys is None:
            raise ValueError(
                f"got train=True with dropout={self.dropout}, stochastic_depth={self.stochastic_depth} and no keys. "
                "Give one key per example."
            )
        if x.shape[1] % self.patch_px or x.shape[2] % self.patch_px:
            raise ValueError(
                f"got images of {x.shape[1]}x{x.shape[2]} px; both sides must be divisible by patch_px={self.patch_px}"
            )
        h = self.patch_embed(x.astype(self.dtype))
        h = h.reshape(len(h), -1, self.width)
        if self.tokens:
            token = self.param("cls", nn.initializers.zeros, (1, self.tokens, self.width))
            token = jnp.broadcast_to(token.astype(self.dtype), (len(h), *token.shape[1:]))
            h = jnp.concatenate([token, h], axis=1)
        position = self.param("pos_embed", nn.initializers.normal(0.02), (1, h.shape[1], self.width))
        h = h + position.astype(self.dtype)
        h = self.norm_before(h) if self.pre_norm else h
        if keys is not None and self.dropout > 0:
            h = dropout(fold_all(keys, self.depth), h, self.dropout)

        layers = jnp.arange(self.depth)
        block_keys = None if keys is None else jax.vmap(fold_all, (None, 0))(keys, layers)
        rates = jnp.array(branch_rates(self.stochastic_depth, self.depth))
        h, _ = self.blocks(h, (block_keys, rates))
        return self._pooled(h).astype(jnp.float32)

    def _pooled(self, h: Array) -> Array:
        if self.pool == "gap_norm":
            return self.norm(jnp.mean(h[:, self.tokens :].astype(jnp.float32), axis=1))
        h = self.norm(h)
        if self.pool == "map":
            return self.map(h)
        h = h.astype(jnp.float32)
        mean = jnp.mean(h[:, self.tokens :], axis=1)
        if self.pool == "token_gap":
            return jnp.concatenate([h[:, 0], mean], axis=-1)
        return mean if self.pool == "gap" else h[:, : 1 if self.pool == "token" else self.tokens].reshape(len(h), -1)

    def __call__(
        self, x: Float[Array, "B H W C"], train: bool = False, keys: Key[Array, " B"] | None = None
    ) -> Float[Array, "B num_classes"]:
        """Returns logits, float32.

        Args:
            x: images in [-1, 1]; H and W divisible by patch_px, and always the same, as positions are learnt.
            keys: one per example; required for train=True with dropout or stochastic_depth.
        """
        return self.head(self.features(x, train, keys))

    def _check(self) -> None:
        check_choice("pool", self.pool, POOLS)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_rate("dropout", self.dropout)
        check_rate("stochastic_depth", self.stochastic_depth)
        if self.num_heads < 1 or self.width % self.num_heads or self.depth < 1 or self.patch_px < 1:
            raise ValueError(
                f"got width={self.width}, num_heads={self.num_heads}, depth={self.depth}, patch_px={self.patch_px}, "
                "expected positive numbers, and heads that divide the width."
            )
