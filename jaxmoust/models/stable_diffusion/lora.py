"""Low-rank adapters as pure functions of a parameter tree (Hu et al. 2021, 2106.09685); `lora_files` reads and writes.

An adapter of a kernel W [..., in, out] is A [..., in, r] and B [r, out]; the network answers x W + scale (x A) B, where
scale is alpha / r. Adapters are a tree of their own, {"unet/.../to_q": {"A": ..., "B": ...}}, so that an optimizer sees
nothing else; of a file they also carry their "scale", and of DoRA (Liu et al. 2024, 2402.09353) the "magnitude" [out].

What runs has them attached: leaves lora_A and lora_B beside a kernel, which `layers.run` computes with. They are never
added to a kernel before a product of half precision, whose eight bits would swallow most of a small adapter.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxmoust.core.tree import named_leaves

Adapters = dict[str, dict[str, Any]]

ATTENTION = ("to_q", "to_k", "to_v", "to_out_0")
"""The four matrices of every attention of a U-Net."""


def targets(params: Any, names: Sequence[str] = ATTENTION) -> list[str]:
    """Lists the matrices to adapt: those whose own name is among `names`, such as "unet/.../attn1/to_q".

    Raises: ValueError: a name that no matrix has; matrices of attention are listed.
    """
    kernels = [n.removesuffix("/kernel") for n, x in named_leaves(params).items() if n.endswith("/kernel") and _flat(x)]
    adapted = [name for name in kernels if name.rpartition("/")[2] in names]
    if missing := sorted(set(names) - {name.rpartition("/")[2] for name in adapted}):
        known = sorted({name.rpartition("/")[2] for name in kernels})
        raise ValueError(f"There is no matrix {missing} to adapt: expected {known}.")
    return adapted


def _flat(leaf: Any) -> bool:
    return len(leaf.shape) == 2


def init(key: jax.Array, params: Any, rank: int, names: Sequence[str] = ATTENTION) -> Adapters:
    """Makes adapters that change nothing yet: A normal with standard deviation 1 / rank, as PEFT's "gaussian", B zero.

    Raises: ValueError: no such matrix, or a rank that is higher than one of them has.
    """
    leaves = named_leaves(params)
    shapes = {name: leaves[f"{name}/kernel"].shape for name in targets(params, names)}
    smallest = min(min(shape) for shape in shapes.values())
    if not 1 <= rank <= smallest:
        raise ValueError(f"lora.rank {rank}: expected 1 to {smallest}, the side of the smallest matrix.")
    keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
    return {
        name: {"A": jax.random.normal(keys[name], (rows, rank)) / rank, "B": jnp.zeros((rank, columns))}
        for name, (rows, columns) in shapes.items()
    }


def attach(params: Any, adapters: Mapping[str, Mapping[str, Any]], scale: float | jax.Array = 1.0) -> Any:
    """Puts adapters beside the kernels that they adapt, and beside adapters that are there; other leaves are the same.

    Args:
        scale: what each is multiplied with, besides a scale of its own.
    Raises: ValueError: an adapter of a matrix that is not there.
    """
    for name, adapter in adapters.items():
        params = _put(params, name.split("/"), adapter, scale, name)
    return params


def _put(node: Any, path: list[str], adapter: Mapping[str, Any], scale: Any, name: str) -> Any:
    if not isinstance(node, Mapping) or (path and path[0] not in node) or not (path or "kernel" in node):
        raise ValueError(f"There are adapters of {name}, which these parameters lack.")
    if path:
        return {**node, path[0]: _put(node[path[0]], path[1:], adapter, scale, name)}
    a, b = adapter["A"], scale * adapter.get("scale", 1.0) * adapter["B"]
    added = {}
    if "magnitude" in adapter:
        whole = node["kernel"].astype(jnp.float32) + _product(a, b)
        gain = adapter["magnitude"] / jnp.sqrt(jnp.square(whole).sum(tuple(range(whole.ndim - 1))))
        b, added["lora_gain"] = gain * b, node.get("lora_gain", 1.0) + gain - 1
    if "lora_A" in node:
        a, b = jnp.concatenate([node["lora_A"], a], -1), jnp.concatenate([node["lora_B"], b])
    return {**node, "lora_A": a, "lora_B": b, **added}


def _product(a: Any, b: Any) -> Any:
    return jnp.matmul(a, b, precision="highest")


def merged(params: Any, dtype: Any = None) -> Any:
    """Adds the attached adapters to their kernels, for a plain pipeline; other leaves are the same objects.

    Args: dtype: of the kernels that are adapted, which half precision rounds; None keeps theirs.
    """
    if not isinstance(params, Mapping):
        return params
    node = {name: merged(value, dtype) for name, value in params.items() if not name.startswith("lora_")}
    if "lora_A" in params:
        kernel = params["kernel"].astype(jnp.float32) * params.get("lora_gain", 1.0)
        node["kernel"] = (kernel + _product(params["lora_A"], params["lora_B"])).astype(dtype or params["kernel"].dtype)
    return node


def attached(params: Any) -> Adapters:
    """The adapters that are attached to a tree, with a scale of 1.

    Raises: ValueError: DoRA, which is no sum that another pipeline could be given.
    """
    leaves = named_leaves(params)
    if any(name.endswith("/lora_gain") for name in leaves):
        raise ValueError("Adapters with a magnitude (DoRA) are of this pipeline alone: leave the whole pipeline.")
    names = [name.removesuffix("/lora_A") for name in leaves if name.endswith("/lora_A")]
    return {name: {side: leaves[f"{name}/lora_{side}"] for side in "AB"} for name in names}
