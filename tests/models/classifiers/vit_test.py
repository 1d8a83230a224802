"""Laws and published parameter counts of models/classifiers/vit.py; parity with torch is in pretrained_test.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.core.tree import count_params
from jaxmoust.models.classifiers.vit import SIZES, ViT

SMALL = ViT(num_classes=5, width=8, depth=3, num_heads=2, patch_px=4)
X = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
KEYS = jax.random.split(jax.random.key(1), 4)


def _shapes(model, size_px=32):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size_px, size_px, 3)))


@pytest.fixture(scope="module")
def variables():
    """Parameters moved off their initial values, so that the head is not zero."""
    rng = np.random.default_rng(2)
    fresh = jax.jit(SMALL.init)(jax.random.key(1), X)
    return jax.tree.map(lambda leaf: leaf + 0.3 * rng.standard_normal(leaf.shape, np.float32), fresh)


def _run(model, variables, x=X, **options):
    return jax.jit(partial(model.apply, **options))(variables, x)


@pytest.mark.parametrize(
    ("size", "count"), [("Ti", 5_717_416), ("S", 22_050_664), ("B", 86_567_656), ("L", 304_326_632)]
)
def test_vit_16_has_the_published_number_of_parameters(size, count):
    # DeiT's and timm's counts at 224 px and 1000 classes.
    assert count_params(_shapes(ViT(num_classes=1000, **SIZES[size]), 224)) == count


def test_features_are_what_the_head_is_linear_in(variables):
    features = _run(SMALL, variables, method="features")
    head = variables["params"]["head"]
    assert features.shape == (4, 8)
    np.testing.assert_allclose(_run(SMALL, variables), features @ head["kernel"] + head["bias"], atol=1e-5)


def test_fresh_network_answers_zero():
    fresh = jax.jit(SMALL.init)(jax.random.key(3), X)
    np.testing.assert_array_equal(_run(SMALL, fresh), 0)


def test_each_third_of_the_attention_matrix_is_drawn_as_a_square_one():
    """Glorot's uniform rule for [D, D]: at most sqrt(6 / 2 D), and nearly that."""
    width = 64
    fresh = jax.jit(SMALL.clone(width=width).init)(jax.random.key(3), X)
    kernel = np.abs(fresh["params"]["blocks"]["qkv"]["kernel"])
    assert kernel.shape == (3, width, 3 * width)
    bound = np.sqrt(3 / width)
    assert np.all(kernel.reshape(3, width, 3, width).max(axis=(1, 3)) <= bound)
    assert np.all(kernel.reshape(3, width, 3, width).max(axis=(1, 3)) > 0.99 * bound)


@pytest.mark.parametrize(("options"), [{"scan": False}, {"remat": True}, {"scan": False, "remat": True}])
def test_scan_and_remat_change_no_number(variables, options):
    """Also not what is dropped."""
    dropping = SMALL.clone(dropout=0.2, stochastic_depth=0.4)

    def loss(params, model):
        return jnp.sum(jnp.sin(model.apply({"params": params}, X, True, KEYS)))

    expected = jax.jit(jax.grad(partial(loss, model=dropping)))(variables["params"])
    found = jax.jit(jax.grad(partial(loss, model=dropping.clone(**options))))(variables["params"])
    for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)  # other fusions round otherwise; gradients of order 1 to 10


def test_gap_without_positions_does_not_see_the_order_of_the_patches(variables):
    model = SMALL.clone(pool="gap")
    params = dict(variables["params"])
    del params["cls"]
    params["pos_embed"] = jnp.zeros((1, 4, 8))
    rows = jnp.roll(X, 4, axis=1)  # patches of 4 px on 8 px: the upper and lower ones change places
    found, moved = (_run(model, {"params": params}, x, method="features") for x in (X, rows))
    np.testing.assert_allclose(found, moved, atol=1e-5)
    params["pos_embed"] = variables["params"]["pos_embed"][:, 1:]
    found, moved = (_run(model, {"params": params}, x, method="features") for x in (X, rows))
    assert np.abs(found - moved).max() > 1e-2


def test_draws_of_an_example_depend_on_its_own_key_alone(variables):
    model = SMALL.clone(dropout=0.3, stochastic_depth=0.5)
    whole = _run(model, variables, train=True, keys=KEYS)
    part = _run(model, variables, X[2:], train=True, keys=KEYS[2:])
    np.testing.assert_allclose(part, whole[2:], atol=1e-5)
    other = _run(model, variables, train=True, keys=KEYS[::-1])
    assert np.abs(other - whole).max() > 1e-2


def test_evaluation_drops_nothing(variables):
    model = SMALL.clone(dropout=0.3, stochastic_depth=0.5)
    np.testing.assert_array_equal(_run(model, variables), _run(SMALL, variables))


def test_layers_and_branches_draw_on_their_own(variables):
    """One image many times: the last two blocks, at rates 1/4 and 1/2, keep or drop their four branches: 16 answers."""
    model = SMALL.clone(stochastic_depth=0.5)
    same, keys = jnp.broadcast_to(X[:1], (640, 8, 8, 3)), jax.random.split(jax.random.key(5), 640)
    found = _run(model, variables, same, train=True, keys=keys)
    assert len(np.unique(np.round(found, 3), axis=0)) == 16


def test_half_precision_keeps_parameters_and_logits_in_float32():
    model = SMALL.clone(dtype=jnp.bfloat16)
    variables = _shapes(model, 8)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert jax.eval_shape(model.apply, variables, X).dtype == jnp.float32


def test_half_precision_computes_in_half_precision(variables):
    half = SMALL.clone(dtype=jnp.bfloat16)
    apply = partial(half.apply, capture_intermediates=True, mutable=["intermediates"])
    inside = jax.eval_shape(apply, variables, X)[1]["intermediates"]
    assert inside["patch_embed"]["__call__"][0].dtype == inside["norm"]["__call__"][0].dtype == jnp.bfloat16
    # Three digits, through three blocks.
    np.testing.assert_allclose(_run(half, variables), _run(SMALL, variables), atol=0.1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pool": "max"}, "pool='max'"),
        ({"activation": "relu"}, "activation='relu'"),
        ({"num_heads": 3}, "num_heads=3"),
        ({"depth": 0}, "depth=0"),
        ({"stochastic_depth": 1.0}, "stochastic_depth=1.0"),
        ({"dropout": -0.1}, "dropout=-0.1"),
        ({"patch_px": 3}, "divisible by patch_px=3"),
    ],
)
def test_impossible_sizes_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        _shapes(SMALL.clone(**fields), 8)


def test_training_with_draws_and_without_keys_is_refused(variables):
    with pytest.raises(ValueError, match="no keys"):
        SMALL.clone(stochastic_depth=0.1).apply(variables, X, train=True)
