"""Laws of core/examples.py."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.core.examples import fold_all, spread

KEYS = jax.random.split(jax.random.key(0), 5)


def test_each_key_is_folded_by_itself():
    folded = fold_all(KEYS, 3)
    for key, own in zip(KEYS, folded, strict=True):
        assert jax.random.fold_in(key, 3) == own


def test_values_spread_over_the_rest_of_their_example():
    image = jnp.ones((5, 2, 3, 1))
    np.testing.assert_array_equal((spread(jnp.arange(5.0), image) * image)[:, 1, 2, 0], np.arange(5))
    assert spread(jnp.arange(5), jnp.ones(5)).shape == (5,)
