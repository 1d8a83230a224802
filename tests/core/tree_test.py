"""Laws of core/tree.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.core.tree import count_params, map_named, merge_params, named_leaves

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


def test_merge_params_takes_loaded_values_in_the_wanted_dtype():
    init = jax.eval_shape(lambda: {"w": jnp.zeros((2, 2)), "n": jnp.zeros(3, jnp.bfloat16)})
    merged = merge_params(init, {"n": np.arange(3.0), "w": np.full((2, 2), 7.0)})
    assert merged["w"].dtype == jnp.float32 and merged["n"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(merged["w"], 7.0)
    np.testing.assert_array_equal(merged["n"].astype(jnp.float32), [0, 1, 2])


def test_merge_params_names_every_fault_on_both_sides():
    init = {"a": jnp.zeros(2), "b": {"c": jnp.zeros((3, 4)), "d": jnp.zeros(())}}
    loaded = {"b": {"c": np.zeros((4, 3)), "d": np.zeros(())}, "e": np.zeros(5)}
    with pytest.raises(ValueError) as error:
        merge_params(init, loaded)
    message = str(error.value)
    assert "missing from the loaded tree: a (2,)" in message
    assert "not wanted by the model: e (5,)" in message
    assert "another shape: b/c is (4, 3), wanted (3, 4)" in message
    assert "b/d" not in message
