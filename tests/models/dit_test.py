"""Laws of models/dit.py, its published size, and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.core.diffusion.methods import METHODS, class_denoiser
from jaxmoust.core.tree import count_params
from jaxmoust.models.dit import DITS, DiT, positions

SMALL = DiT(out_channels=1, num_classes=3, augment_dim=2, width=16, depth=2, num_heads=2, patch_size=4)
X = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
C_NOISE, LABEL = jnp.linspace(-1.5, 1.0, 4), jnp.arange(4) % 3


@functools.cache
def fresh():
    return jax.jit(SMALL.init)(jax.random.key(2), X, C_NOISE, LABEL)


@functools.cache
def moved():
    """Parameters moved off their zeros, as training moves them."""
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32), fresh())


@functools.partial(jax.jit, static_argnames="model")
def answer(params, x=X, c_noise=C_NOISE, label=LABEL, model=SMALL, **told):
    return model.apply(params, x, c_noise, label, **told)


def shapes(model, size):
    given = jnp.zeros((1, *size)), jnp.zeros(1), jnp.zeros(1, jnp.int32)
    return jax.eval_shape(model.init, jax.random.key(0), *given)["params"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("dit_s", 32_963_360), ("dit_b", 130_512_416), ("dit_l", 458_102_816), ("dit_xl", 675_129_632)],
)
def test_sizes_have_the_published_number_of_parameters(name, parameters):
    """At patch 2, 1,000 classes, as the code published with the paper counts: its fixed table of positions, too."""
    model = DITS[name](out_channels=4, num_classes=1000, patch_size=2, learn_variance=True)
    table = positions(16, 16, model.width)
    assert count_params(shapes(model, (32, 32, 4))) + table.size == parameters


def test_xl_2_has_as_many_parameters_as_its_description_says():
    model = DITS["dit_xl"](out_channels=4, num_classes=1000, learn_variance=True)
    assert count_params(shapes(model, (32, 32, 4))) == 674_834_720 == 675_129_632 - 294_912


@pytest.mark.parametrize(("name", "millions"), [("dit_s", 33), ("dit_b", 131), ("dit_l", 459)])
def test_sizes_at_patch_8_are_those_of_the_papers_table(name, millions):
    """Millions to the nearest that the paper's table 4 gives."""
    model = DITS[name](out_channels=4, num_classes=1000, patch_size=8, learn_variance=True)
    count = count_params(shapes(model, (32, 32, 4))) + 16 * model.width
    assert abs(count / 1e6 - millions) < 1.1


def test_network_starts_as_the_zero_function_and_then_is_none():
    np.testing.assert_array_equal(answer(fresh()), 0)
    assert answer(moved()).std() > 0.1


def test_answer_follows_noise_level_class_and_augmentation_of_each_example_alone():
    plain = answer(moved())
    changes = (
        {"c_noise": C_NOISE.at[0].set(2.0)},
        {"label": LABEL.at[0].set(3)},  # "no class"
        {"augment_label": jnp.zeros((4, 2)).at[0].set(1.0)},
        {"x": X.at[0].add(1.0)},
    )
    for change in changes:
        other = answer(moved(), **change)
        assert np.abs(other[0] - plain[0]).max() > 1e-3, change
        np.testing.assert_allclose(other[1:], plain[1:], atol=1e-6, err_msg=str(change))  # rounding


def test_loop_over_blocks_and_recomputing_them_are_the_same_function():
    for change in ({"scan": False}, {"remat": True}):
        # Float32 sums in another order.
        np.testing.assert_allclose(answer(moved(), model=SMALL.clone(**change)), answer(moved()), atol=2e-6)


def test_answer_lies_where_its_patch_does():
    """Of a network whose last layer sees a token's own patch alone, a change of one patch moves that patch alone."""
    model = DiT(out_channels=1, width=16, depth=1, num_heads=2, patch_size=4)
    params = jax.jit(model.init)(jax.random.key(0), X, C_NOISE)
    rng = np.random.default_rng(0)
    params["params"]["out"]["kernel"] = rng.standard_normal((16, 16), np.float32)  # gates are 0: no attention
    moved = np.abs(
        answer(params, X.at[:, 4:, :4].add(1.0), model=model, label=None) - answer(params, model=model, label=None)
    )
    assert moved[:, 4:, :4].min(axis=(1, 2, 3)).max() > 0
    moved[:, 4:, :4] = 0
    assert moved.max() < 1e-6


def test_half_type_computes_norms_and_the_answer_in_float32():
    half = answer(moved(), model=SMALL.clone(dtype=jnp.bfloat16))
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, answer(moved()), atol=0.1)  # bfloat16 keeps 8 bits


def test_channels_of_the_variance_are_left_unread():
    model = SMALL.clone(learn_variance=True)
    params = moved()["params"]
    kernel = jnp.concatenate([jnp.stack([params["out"]["kernel"]] * 2, -1)], -1).reshape(16, -1)
    bias = jnp.stack([params["out"]["bias"], 5 + params["out"]["bias"]], -1).reshape(-1)
    wide = {"params": {**params, "out": {"kernel": kernel, "bias": bias}}}
    np.testing.assert_allclose(answer(wide, model=model), answer({"params": params}), atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_denoises_by_it(name):
    """At a noise level of next to nothing, the image is its own estimate, whatever the network says."""
    denoiser = class_denoiser(METHODS[name](), SMALL.apply, moved()["params"], LABEL)
    np.testing.assert_allclose(denoiser(X, jnp.full(4, 1e-3)), X, atol=0.02)
    assert np.isfinite(denoiser(X, jnp.full(4, 50.0))).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch_size": 3}, r"patch_size 3: expected .*divide.*8x8"),
        ({"patch_size": 0}, "patch_size 0"),
        ({"depth": 0}, r"model\.depth.*0.*from 1"),
        ({"width": 18}, r"model\.width.*18.*multiples of 4"),
        ({"num_heads": 3}, "num_heads 3"),
    ],
)
def test_sizes_that_fit_no_network_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        shapes(SMALL.clone(**change), (8, 8, 1))
