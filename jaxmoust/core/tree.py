"""Named leaves of a parameter tree: the names that checkpoints, masks, digests and error messages share."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Tree = Any  # a pytree of arrays, or of anything with a shape and a dtype


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: Tree) -> dict[str, Any]:
    """Lists the leaves under their paths, 'block_0/conv/kernel', in the tree's own order."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def map_named(fn: Callable[[str, Any], Any], tree: Tree) -> Tree:
    """Maps `fn(name, leaf)` over the tree; names as in `named_leaves`."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: fn(_name(path), leaf), tree)


def zeros_of(shapes: Tree) -> Tree:
    """Fills a tree of `jax.ShapeDtypeStruct`s with zeros, in NumPy."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def count_params(tree: Tree) -> int:
    """Counts the numbers in the tree. Leaves need only a shape, so `jax.eval_shape`'s answer will do."""
    return sum(int(np.prod(leaf.shape, dtype=np.int64)) for leaf in jax.tree.leaves(tree))


def digest(tree: Tree, header: str) -> str:
    """Names a tree by its content: 16 hexadecimal digits of SHA-256 over `header` and every leaf, by name.

    Synthetic sets record the digests of their generators and seeds depend on them: what is hashed must not change.

    Args:
        header: what else makes the tree what it is, such as the settings of its network.
    """
    content = hashlib.sha256(header.encode())
    for name, leaf in sorted(named_leaves(tree).items()):
        array = np.asarray(leaf)
        content.update(f"{name} {array.dtype} {array.shape}".encode())
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()[:16]
