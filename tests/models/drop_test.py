"""Laws of models/drop.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.models.drop import branch_rates, drop_branch, dropout

KEYS = jax.random.split(jax.random.key(0), 400)


def test_dropped_branch_is_zero_or_scaled_as_a_whole():
    found = np.asarray(drop_branch(KEYS, jnp.ones((400, 2, 3)), 0.2)).reshape(400, -1)
    kept = found[:, 0] > 0
    np.testing.assert_allclose(found, np.where(kept[:, None], 1.25, 0.0) * np.ones((1, 6)), rtol=1e-6)
    assert abs(kept.mean() - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 400)  # 4 standard errors


def test_branch_at_rate_zero_is_kept():
    x = jax.random.normal(jax.random.key(1), (400, 2))
    np.testing.assert_array_equal(drop_branch(KEYS, x, 0.0), x)


def test_dropout_zeroes_numbers_and_keeps_the_mean():
    found = np.asarray(dropout(KEYS, jnp.ones((400, 50)), 0.4))
    np.testing.assert_allclose(np.unique(found), [0, 1 / 0.6], rtol=1e-6)
    assert abs((found == 0).mean() - 0.4) < 4 * np.sqrt(0.24 / 20_000)  # 4 standard errors


@pytest.mark.parametrize("drop", [dropout, drop_branch])
def test_draws_of_an_example_depend_on_its_own_key_alone(drop):
    x = jnp.ones((400, 3))
    np.testing.assert_array_equal(drop(KEYS[7:9], x[7:9], 0.5), drop(KEYS, x, 0.5)[7:9])


def test_rates_rise_from_zero_to_the_last():
    np.testing.assert_allclose(branch_rates(0.3, 4), [0, 0.1, 0.2, 0.3])
    assert branch_rates(0.3, 1) == [0.0]
    assert branch_rates(0.3, 0) == []
