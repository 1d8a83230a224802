"""Low-rank adapters on a classifier's matrices (Hu et al. 2021, 2106.09685), as pure functions of its parameters.

A matrix W [in, out], or the stack of those of all blocks [blocks, in, out], runs as W + scale * A B, with
A [..., in, r] and B [..., r, out].
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxmoust.core.tree import map_named, named_leaves

Adapters = dict[str, dict[str, Any]]


def init(key: jax.Array, params: Any, rank: int) -> Adapters:
    """Makes adapters of every matrix but the head's that change nothing yet: A normal, of variance 1 / in, and B zero.

    Raises: ValueError: a network without such matrices, as one of convolutions is, or a rank above one's sides.
    """
    leaves = {
        name.removesuffix("/kernel"): leaf for name, leaf in named_leaves(params).items() if _is_matrix(name, leaf)
    }
    if not leaves:
        raise ValueError(
            "method.learn 'lora' of a network without matrices: adapters are of transformers. Use 'probe' or "
            "'full' for convolutions."
        )
    smallest = min(min(leaf.shape[-2:]) for leaf in leaves.values())
    if rank > smallest:
        raise ValueError(f"method.rank {rank}: expected 1 to {smallest}, the side of the smallest matrix.")
    keys = dict(zip(leaves, jax.random.split(key, len(leaves)), strict=True))

    def pair(name: str) -> dict[str, jax.Array]:
        *stack, rows, columns = leaves[name].shape
        a = jax.random.normal(keys[name], (*stack, rows, rank)) / jnp.sqrt(rows)
        return {"A": a, "B": jnp.zeros((*stack, rank, columns))}

    return {name: pair(name) for name in leaves}


def merge(params: Any, adapters: Any, scale: float) -> Any:
    """Adds scale * A B to every adapted matrix; other leaves are the same objects."""
    factors = named_leaves(adapters)

    def adapt(name: str, leaf: Any) -> Any:
        module = name.removesuffix("/kernel")
        if f"{module}/A" not in factors:
            return leaf
        return leaf + scale * (factors[f"{module}/A"] @ factors[f"{module}/B"])

    return map_named(adapt, params)


def _is_matrix(name: str, leaf: Any) -> bool:
    in_stack = "/blocks/" in f"/{name}" and len(leaf.shape) == 3
    return name.endswith("/kernel") and name != "head/kernel" and (len(leaf.shape) == 2 or in_stack)
