"""Laws of core/losses.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from jaxmoust.core.losses import cross_entropy, label_rank, smooth

LOGITS = jax.random.normal(jax.random.key(0), (6, 4)) * 3
LABEL = jnp.array([0, 1, 2, 3, 1, 1])


def test_cross_entropy_is_minus_the_log_likelihood():
    expected = -log_softmax(np.asarray(LOGITS, np.float64), axis=1)[np.arange(6), LABEL]
    np.testing.assert_allclose(cross_entropy(LOGITS, LABEL), expected, rtol=1e-5)


def test_cross_entropy_of_labels_is_that_of_one_hot_targets():
    np.testing.assert_array_equal(
        cross_entropy(LOGITS, LABEL, smoothing=0.1), cross_entropy(LOGITS, jax.nn.one_hot(LABEL, 4), smoothing=0.1)
    )


def test_cross_entropy_is_linear_in_the_target():
    target = 0.3 * jax.nn.one_hot(LABEL, 4) + 0.7 * jax.nn.one_hot((LABEL + 1) % 4, 4)
    expected = 0.3 * cross_entropy(LOGITS, LABEL) + 0.7 * cross_entropy(LOGITS, (LABEL + 1) % 4)
    np.testing.assert_allclose(cross_entropy(LOGITS, target), expected, rtol=1e-5)


def test_smoothing_mixes_in_the_uniform_target():
    uniform = cross_entropy(LOGITS, jnp.full((6, 4), 0.25))
    expected = 0.9 * cross_entropy(LOGITS, LABEL) + 0.1 * uniform
    np.testing.assert_allclose(cross_entropy(LOGITS, LABEL, smoothing=0.1), expected, rtol=1e-5)


def test_smooth_gives_each_row_its_own_share_of_the_uniform_target():
    found = smooth(jax.nn.one_hot(LABEL, 4), jnp.array([0.0, 0.1, 0.2, 0.0, 0.5, 0.9])[:, None])
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(found[0], [1, 0, 0, 0])
    np.testing.assert_allclose(found[4], [0.125, 0.625, 0.125, 0.125], rtol=1e-6)
    one_share = smooth(jax.nn.one_hot(LABEL, 4), 0.1)
    np.testing.assert_allclose(cross_entropy(LOGITS, one_share), cross_entropy(LOGITS, LABEL, smoothing=0.1), rtol=1e-6)


def test_cross_entropy_of_half_precision_logits_is_float32():
    assert cross_entropy(LOGITS.astype(jnp.bfloat16), LABEL).dtype == jnp.float32


def test_cross_entropy_refuses_impossible_smoothing():
    with pytest.raises(ValueError, match="smoothing=1"):
        cross_entropy(LOGITS, LABEL, smoothing=1.0)


def test_label_rank_is_the_place_in_descending_order():
    order = np.argsort(-np.asarray(LOGITS), axis=1)
    expected = [list(row).index(label) for row, label in zip(order, LABEL, strict=True)]
    np.testing.assert_array_equal(label_rank(LOGITS, LABEL), expected)


def test_label_rank_counts_ties_and_nan_against_the_model():
    logits = jnp.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [2.0, 1.0, 1.0], [jnp.nan, 0.0, 0.0], [1.0, jnp.nan, 0.0]])
    np.testing.assert_array_equal(label_rank(logits, jnp.array([0, 1, 0, 0, 0])), [1, 2, 0, 2, 1])
