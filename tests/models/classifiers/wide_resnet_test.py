"""Laws and the published parameter count of models/classifiers/wide_resnet.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.core.tree import count_params, map_named
from jaxmoust.models.classifiers.wide_resnet import WideResNet

SMALL = WideResNet(num_classes=5, depth=10, widen=1)
X = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))


def _shapes(model, size_px=32):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size_px, size_px, 3)))


def _variables(model):
    """Random parameters and statistics under which activations keep their size; drawing them compiles nothing."""
    rng = np.random.default_rng(1)

    def draw(name, leaf):
        if name.endswith("kernel"):
            return rng.normal(size=leaf.shape, scale=np.prod(leaf.shape[:-1]) ** -0.5)
        return rng.uniform(0.5, 1.0, leaf.shape) if name.endswith(("scale", "var")) else rng.normal(size=leaf.shape) / 5

    return map_named(lambda name, leaf: draw(name, leaf).astype(np.float32), _shapes(model, 8))


def test_wrn_28_10_has_the_published_number_of_parameters():
    # The 36.5 M of the paper's table 4, to the last one those of the authors' network for ten classes.
    assert count_params(_shapes(WideResNet(num_classes=10))["params"]) == 36_479_194


def test_wrn_16_4_and_40_2_have_the_published_numbers_of_parameters():
    # 2.7 M and 2.2 M.
    assert count_params(_shapes(WideResNet(num_classes=10, depth=16, widen=4))["params"]) == 2_748_890
    assert count_params(_shapes(WideResNet(num_classes=10, depth=40, widen=2))["params"]) == 2_243_546


def test_block_with_its_last_convolution_zero_is_its_shortcut():
    """Not of its rectified input: the path through all blocks of a stage is the identity."""
    model, variables = SMALL.clone(depth=16), _variables(SMALL)
    deeper = _variables(SMALL.clone(depth=16))
    for stage in range(3):
        block = deeper["params"][f"stage{stage}_block1"]
        block["conv1"]["kernel"] = jnp.zeros_like(block["conv1"]["kernel"])
    for tree in ("params", "batch_stats"):
        deeper[tree] = {**deeper[tree], **variables[tree]}
    np.testing.assert_allclose(jax.jit(model.apply)(deeper, X), jax.jit(SMALL.apply)(variables, X), atol=1e-5)


def test_features_are_what_the_head_is_linear_in():
    variables = _variables(SMALL)
    features = jax.jit(partial(SMALL.apply, method="features"))(variables, X)
    head = variables["params"]["head"]
    assert features.shape == (4, 64) and features.std() > 1e-3
    np.testing.assert_allclose(jax.jit(SMALL.apply)(variables, X), features @ head["kernel"] + head["bias"], atol=1e-5)


def test_dropout_of_an_example_depends_on_its_own_key_alone():
    model = SMALL.clone(dropout=0.5, separate_stats=True)
    variables = _variables(model)
    # One kind an example, so that batch norm couples only the two of a pair.
    keys, twice = jax.random.split(jax.random.key(2), 4), jnp.concatenate([X[:2], X[:2]])
    apply = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    whole, _ = apply(variables, twice, keys=keys, synthetic=jnp.array([False, False, True, True]))
    swapped, _ = apply(
        variables, twice, keys=keys[jnp.array([2, 3, 0, 1])], synthetic=jnp.array([False, False, True, True])
    )
    # The same two images under the same two keys, once as the one kind and once as the other; rounding of sums.
    np.testing.assert_allclose(swapped[2:], whole[:2], atol=1e-4)
    np.testing.assert_allclose(swapped[:2], whole[2:], atol=1e-4)
    assert np.abs(whole[:2] - whole[2:]).max() > 1e-2


def test_half_precision_keeps_parameters_statistics_and_logits_in_float32():
    model = SMALL.clone(dtype=jnp.bfloat16)
    variables = _shapes(model, 8)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert jax.eval_shape(model.apply, variables, X).dtype == jnp.float32


@pytest.mark.parametrize(
    ("fields", "message"), [({"depth": 20}, "depth=20"), ({"depth": 4}, "depth=4"), ({"dropout": 1.0}, "dropout=1.0")]
)
def test_impossible_sizes_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        _shapes(SMALL.clone(**fields), 8)


def test_training_with_dropout_and_without_keys_is_refused():
    with pytest.raises(ValueError, match="no keys"):
        jax.eval_shape(partial(SMALL.clone(dropout=0.1).init, train=True), jax.random.key(0), X)
