"""Named leaves of a parameter tree: the names that checkpoints, masks and error messages share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
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


def count_params(tree: Tree) -> int:
    """Counts the numbers in the tree. Leaves need only a shape, so `jax.eval_shape`'s answer will do."""
    return sum(int(np.prod(leaf.shape, dtype=np.int64)) for leaf in jax.tree.leaves(tree))


def merge_params(init: Tree, loaded: Tree) -> Tree:
    """Puts loaded values into the structure and dtypes of `init`, strictly in both directions.

    Args:
        init: the tree the model wants; arrays or `jax.ShapeDtypeStruct`s.
        loaded: the tree a checkpoint holds; containers may differ (dict, FrozenDict), names may not.
    Returns: a tree like `init` whose every leaf comes from `loaded`.
    Raises: ValueError: naming every leaf that is missing, left over, or of another shape (with both shapes).
    """
    wanted, given = named_leaves(init), named_leaves(loaded)
    faults = [f"missing from the loaded tree: {name} {tuple(wanted[name].shape)}" for name in wanted.keys() - given]
    faults += [f"not wanted by the model: {name} {tuple(np.shape(given[name]))}" for name in given.keys() - wanted]
    faults += [
        f"another shape: {name} is {tuple(np.shape(given[name]))}, wanted {tuple(wanted[name].shape)}"
        for name in wanted.keys() & given
        if tuple(np.shape(given[name])) != tuple(wanted[name].shape)
    ]
    if faults:
        raise ValueError(
            "the loaded parameters do not fit the model:\n  "
            + "\n  ".join(sorted(faults))
            + "\nBuild the model with the sizes it was trained with, or rename the leaves before merging."
        )
    return map_named(lambda name, leaf: jnp.asarray(given[name], leaf.dtype), init)
