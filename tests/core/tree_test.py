"""Laws of core/tree.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.core.tree import count_params, digest, map_named, named_leaves

TREE = {"block": {"conv": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}}, "head": [jnp.ones(4)]}


def test_named_leaves_are_paths_in_tree_order():
    named = named_leaves(TREE)
    assert list(named) == ["block/conv/bias", "block/conv/kernel", "head/0"]
    for leaf, expected in zip(named.values(), jax.tree.leaves(TREE), strict=True):
        assert leaf is expected


def test_count_params_needs_no_allocation():
    shapes = {"huge": jax.ShapeDtypeStruct((1 << 20, 1 << 20), jnp.float32), "scalar": jax.ShapeDtypeStruct((), "f4")}
    assert count_params(TREE) == 12
    assert count_params(shapes) == (1 << 40) + 1


def test_map_named_sees_the_names_of_named_leaves():
    seen = named_leaves(map_named(lambda name, leaf: name, TREE))
    assert all(name == value for name, value in seen.items())


def test_digest_is_that_of_the_sets_written_before():
    """Recorded in synthetic sets since the first version: it must never change."""
    tree = {"b": np.arange(6, dtype=np.float32).reshape(2, 3).T, "a": {"c": jnp.int32(7)}}
    assert digest(tree, header="net") == "fa861e1d7aa569ae"


@pytest.mark.parametrize(
    ("tree", "header"),
    [
        ({"a": np.zeros(2, np.float32)}, "other"),
        ({"b": np.zeros(2, np.float32)}, "net"),
        ({"a": np.zeros(2, np.int32)}, "net"),
        ({"a": np.zeros((1, 2), np.float32)}, "net"),
        ({"a": np.array([0, 1], np.float32)}, "net"),
    ],
    ids=["header", "name", "dtype", "shape", "value"],
)
def test_digest_tells_all_that_differs(tree, header):
    assert digest(tree, header) != digest({"a": np.zeros(2, np.float32)}, "net")


def test_digest_does_not_depend_on_the_layout_in_memory_or_the_order_of_the_names():
    one = np.arange(6.0).reshape(2, 3)
    assert digest({"a": one, "b": one}, "") == digest({"b": np.asfortranarray(one), "a": one}, "")
