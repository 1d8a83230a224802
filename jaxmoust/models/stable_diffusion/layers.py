"""The layers that the networks of Stable Diffusion share, as functions of arrays, and the parts that name them.

Parts are named as the files' tensors are, so that `weights.torch_name` is the only rule between the two. Norms and the
softmax are computed in float32, whatever the type of the rest.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jax import lax
from jaxtyping import Array

from jaxmoust.core.tree import named_leaves
from jaxmoust.models.unet.blocks import GroupNorm, double

Make = Callable[..., nn.Module]
_BLOCK = "transformer_blocks_"
layer_norm = partial(nn.LayerNorm, epsilon=1e-5, use_fast_variance=False)


class Part(nn.Module):
    """Runs a function; the layers that it makes are those of a part of the network that has this module's name."""

    run: Callable[..., Any]

    @nn.compact
    def __call__(self, *arrays: Array | None) -> Any:
        """What the function answers."""
        return self.run(*arrays)


def run(module: nn.Module, params: Any, *arrays: Array, **options: Any) -> Any:
    """What a module answers, as one value: it changes none of its variables. Attached adapters answer with it."""
    with nn.intercept_methods(_adapted):
        return module.apply({"params": params}, *arrays, **options)


def _adapted(layer: Callable[..., Any], args: tuple, options: dict[str, Any], context: Any) -> Any:
    """Adds (x A) B to the answer of a layer that has an adapter, see `lora.attach`.

    A dense layer's is rounded to its type once, with that; a convolution's before, as not every backend has another.
    """
    module, params = context.module, context.module.variables.get("params", {})
    if context.method_name != "__call__" or "lora_A" not in params:
        return layer(*args, **options)
    wide = {"dot_general": partial(lax.dot_general, preferred_element_type=jnp.float32)}
    module = module.clone(parent=None, **(wide if isinstance(module, nn.Dense) else {}))
    answer = module.apply({"params": {k: v for k, v in params.items() if not k.startswith("lora_")}}, *args)
    if "lora_gain" in params:
        answer = answer * params["lora_gain"] + params.get("bias", 0) * (1 - params["lora_gain"])
    low = module.clone(features=len(params["lora_B"]), use_bias=False).apply(
        {"params": {"kernel": params["lora_A"]}}, *args
    )
    low, high = (x.astype(module.dtype) for x in (low, params["lora_B"]))
    return (answer + jnp.matmul(low, high, preferred_element_type=jnp.float32)).astype(module.dtype)


def shapes_of(module: nn.Module, *arrays: Any) -> dict[str, Any]:
    """The parameters of a module on arrays, or what has their shapes; as `jax.ShapeDtypeStruct`s, nothing computed."""
    return jax.eval_shape(lambda *arrays: module.init(jax.random.key(0), *arrays), *arrays)["params"]


def repeat(block: Make, run: Callable[..., Any], names: Sequence[str], scan: bool, x: Any, *given: Array) -> Any:
    """Equal blocks in a row, each on what the one before answered: compiled once by `scan`, on weights of `stacked`.

    Args:
        block: makes a part. run: what each does: (x, *given) -> x. names: of the parts.
    """
    if not scan or len(names) == 1:
        for name in names:
            x = block(run, name=name)(x, *given)
        return x
    rngs: dict[Any, bool] = {"params": True}
    length = len(names)
    scanned = nn.scan(block, variable_axes={"params": 0}, split_rngs=rngs, in_axes=nn.broadcast, length=length)
    return scanned(lambda x, *given: (run(x, *given), None), name=names[0])(x, *given)[0]


def stacked(tree: Any) -> Any:
    """Parameters with the weights of equal blocks, which follow on each other, in one: a `Stack` a leaf.

    Raises: ValueError: blocks with adapters of different kinds, which cannot be one.
    """
    if not isinstance(tree, Mapping):
        return tree
    kind: dict[str, Any] = {}
    first = ""
    rows: dict[str, list[Any]] = {}
    numbered = [name for name in tree if name.startswith(_BLOCK)]
    for name in sorted(numbered, key=lambda name: int(name.removeprefix(_BLOCK))):
        shapes = {k: x.shape for k, x in named_leaves(tree[name]).items() if "/lora_" not in k}
        kind, first = (kind, first) if shapes == kind else (shapes, name)
        rows.setdefault(first, []).append(tree[name])
    node = {
        name: jax.tree.map(lambda *leaves: Stack(leaves), *blocks) if len(blocks) > 1 else blocks[0]
        for name, blocks in rows.items()
    }
    return node | {name: stacked(value) for name, value in tree.items() if not name.startswith(_BLOCK)}


@dataclass(frozen=True)
class Stack:
    """Leaves that are to be one array [n, ...], which is not made yet. Raises ValueError where their shapes differ."""

    leaves: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Compares them."""
        if len({leaf.shape for leaf in self.leaves}) > 1:
            raise ValueError(f"leaves of the shapes {[leaf.shape for leaf in self.leaves]}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return (len(self.leaves), *self.leaves[0].shape)

    @property
    def dtype(self) -> Any:
        """Of the array."""
        return self.leaves[0].dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The array, made anew each time, so that no second copy of all parameters is held."""
        return np.stack([np.asarray(leaf, dtype) for leaf in self.leaves])


def attend(q: Array, k: Array, v: Array, causal: bool = False) -> Array:
    """Attention [B, L, N, H] of N heads; by cuDNN's flash attention, of O(L) memory, where there is one for them.

    It is for half types and heads of up to 128 numbers, on NVIDIA's GPUs from Ampere on.
    """
    capability = str(getattr(jax.devices()[0], "compute_capability", ""))
    is_new, is_half = re.fullmatch(r"(8|9|1\d)\.\d", capability), q.dtype in (jnp.bfloat16, jnp.float16)
    flash = is_new and is_half and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128
    return jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation="cudnn" if flash else "xla")


def attention(heads: int, names: Sequence[str], dtype: Dtype, x: Array, states: Array, **how: bool) -> Array:
    """Lets x [B, L, C] attend to states [B, S, D], by four matrices of these names.

    Args:
        how: `bias`, whether the first three have one; `causal`, whether each place sees only those up to it.
    """
    dense = partial(nn.Dense, x.shape[-1], dtype=dtype)
    q, k, v = (
        dense(use_bias=how.get("bias", False), name=name)(seen).reshape(*seen.shape[:2], heads, -1)
        for name, seen in zip(names, (x, states, states), strict=False)
    )
    return dense(name=names[3])(attend(q, k, v, how.get("causal", False)).reshape(x.shape))


def resnet(channels: int, epsilon: float, groups: int, dtype: Dtype, x: Array, emb: Array | None = None) -> Array:
    """Residual block of x [B, H, W, C]: norm, SiLU, conv; the embedding of time [B, E] if there is one; all again."""
    norm, conv = partial(GroupNorm, epsilon, groups, dtype), partial(nn.Conv, channels, (3, 3), padding=1, dtype=dtype)
    h = conv(name="conv1")(nn.silu(norm(name="norm1")(x)))
    if emb is not None:
        h = h + nn.Dense(channels, dtype=dtype, name="time_emb_proj")(nn.silu(emb))[:, None, None]
    h = conv(name="conv2")(nn.silu(norm(name="norm2")(h)))
    if x.shape[-1] != channels:
        x = nn.Conv(channels, (1, 1), dtype=dtype, name="conv_shortcut")(x)
    return x + h


def resample(up: bool, padding: Any, dtype: Dtype, x: Array) -> Array:
    """Doubles the sides of x [B, H, W, C] by nearest neighbours and a convolution, or halves them by a strided one."""
    conv = partial(nn.Conv, x.shape[-1], (3, 3), dtype=dtype, name="conv")
    return conv(padding=1)(double(x)) if up else conv(strides=2, padding=padding)(x)


def level(
    num: int, block: Make, transform: Make | None, change: Make | None, h: Array, *given: Any, **state: Any
) -> Any:
    """The blocks of one resolution, each followed by attention where there is one, then a change of resolution.

    Args:
        block, transform, change: make the parts; a block reads the first of `given`, attention the second.
        state: `skips`, of the way down; the last is taken off, and joined to what each block reads.
    Returns: the last answer, and all.
    """
    answers = []
    for i in range(num):
        h = jnp.concatenate([h, state["skips"].pop()], axis=-1) if state else h
        h = block(name=f"resnets_{i}")(h, *given[:1])
        h = transform(name=f"attentions_{i}")(h, *given[1:]) if transform else h
        answers.append(h)
    if change:
        h = change()(h)
        answers.append(h)
    return h, answers


def middle(block: Make, transform: Make, h: Array, *given: Array) -> Array:
    """Two blocks with attention between them, which read as those of a level do."""
    h = transform(name="attentions_0")(block(name="resnets_0")(h, *given[:1]), *given[1:])
    return block(name="resnets_1")(h, *given[:1])
