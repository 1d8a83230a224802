"""Laws of models/classifiers/split_batch_norm.py."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.models.classifiers.resnet import ResNet
from jaxmoust.models.classifiers.split_batch_norm import SplitBatchNorm

X = 2 + 3 * jax.random.normal(jax.random.key(0), (8, 4, 4, 3))
SYNTHETIC = jnp.array([0, 0, 0, 0, 0, 1, 1, 1], bool)
PARAMS = {"scale": jnp.array([1.0, 2.0, 0.5]), "bias": jnp.array([0.0, 1.0, -1.0])}
STATS = {
    "mean": jnp.array([1.0, 2.0, 3.0]),
    "var": jnp.array([1.0, 4.0, 9.0]),
    "synthetic_mean": jnp.array([-1.0, -2.0, -3.0]),
    "synthetic_var": jnp.array([0.1, 0.2, 0.3]),
}


@partial(jax.jit, static_argnames="batch_mean")
def _train(x, synthetic, stats=STATS, batch_mean=None):
    return SplitBatchNorm().apply(
        {"params": PARAMS, "batch_stats": stats}, x, False, synthetic, batch_mean, mutable=["batch_stats"]
    )


def _batch_norm(x, stats):
    variables = {"params": PARAMS, "batch_stats": stats}
    return nn.BatchNorm(use_running_average=False, momentum=0.9).apply(variables, x, mutable=["batch_stats"])


def _of(kind, stats=STATS):
    """The statistics of one kind under the usual names."""
    prefix = "synthetic_" if kind else ""
    return {name: stats[prefix + name] for name in ("mean", "var")}


def test_each_kind_is_normalised_as_if_alone():
    found, new = _train(X, SYNTHETIC)
    for kind in (0, 1):
        rows = SYNTHETIC if kind else ~SYNTHETIC
        expected, stats = _batch_norm(X[rows], _of(kind))
        np.testing.assert_allclose(found[rows], expected, atol=1e-5)  # sums in another order
        for name, value in _of(kind, new["batch_stats"]).items():
            np.testing.assert_allclose(value, stats["batch_stats"][name], rtol=1e-5)


@pytest.mark.parametrize("kind", [0, 1])
def test_kind_that_is_absent_keeps_its_statistics(kind):
    found, new = _train(X, jnp.full(8, bool(kind)))
    np.testing.assert_allclose(found, _batch_norm(X, _of(kind))[0], atol=1e-5)
    for name, value in _of(1 - kind, new["batch_stats"]).items():
        np.testing.assert_array_equal(value, _of(1 - kind)[name])


def test_absent_kind_leaves_gradients_finite():
    grads = jax.grad(lambda x: jnp.sum(_train(x, jnp.zeros(8, bool))[0] ** 3))(X)
    assert np.isfinite(grads).all() and np.abs(grads).max() > 0


def test_gradients_are_those_of_each_kind_alone():
    found = jax.grad(lambda x: jnp.sum(jnp.sin(_train(x, SYNTHETIC)[0])))(X)
    alone = jax.grad(lambda x: jnp.sum(jnp.sin(_batch_norm(x, _of(0))[0])))(X[:5])
    np.testing.assert_allclose(found[:5], alone, atol=1e-5)


def test_evaluation_uses_the_statistics_of_real_images():
    variables = {"params": PARAMS, "batch_stats": STATS}
    found = SplitBatchNorm().apply(variables, X, True, SYNTHETIC)
    known = {"params": PARAMS, "batch_stats": _of(0)}
    np.testing.assert_allclose(found, nn.BatchNorm(use_running_average=True).apply(known, X), atol=1e-5)


def test_statistics_are_those_of_the_whole_batch_however_the_kinds_lie():
    """Over four parts of a mapped axis, of which the first two hold no synthetic image at all."""
    whole, new_whole = _train(X, SYNTHETIC)
    mean = partial(jax.tree.map, partial(jax.lax.pmean, axis_name="replica"))
    apply = jax.vmap(lambda x, synthetic: _train(x, synthetic, batch_mean=mean), axis_name="replica")
    parts, new_parts = apply(X.reshape(4, 2, 4, 4, 3), SYNTHETIC.reshape(4, 2))
    np.testing.assert_allclose(parts.reshape(whole.shape), whole, atol=1e-5)
    for name, value in new_whole["batch_stats"].items():
        np.testing.assert_allclose(new_parts["batch_stats"][name], np.broadcast_to(value, (4, 3)), rtol=1e-5)


def test_half_precision_answers_in_half_and_counts_in_float32():
    norm = SplitBatchNorm(dtype=jnp.bfloat16)
    found, new = norm.apply(
        {"params": PARAMS, "batch_stats": STATS}, X.astype(jnp.bfloat16), False, mutable=["batch_stats"]
    )
    assert found.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(new))


def test_network_without_separate_statistics_refuses_to_be_told():
    model = ResNet(stage_sizes=(), block="basic", num_classes=2, width=4, stem="cifar")
    with pytest.raises(ValueError, match="separate_stats=True only"):
        jax.eval_shape(partial(model.init, synthetic=SYNTHETIC), jax.random.key(0), X)
