"""Laws of models/unet/unet.py, and the parameter counts of the published networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxmoust.core.tree import count_params, named_leaves
from jaxmoust.models.drop import dropout
from jaxmoust.models.unet import blocks
from jaxmoust.models.unet.unet import PUBLISHED, UNet

SMALL = UNet(
    out_channels=1,
    num_classes=3,
    base_channels=8,
    channel_multipliers=(1, 2),
    num_blocks=1,
    attention_px=(4,),
    head_channels=8,
    dropout=0.5,
)
KEYS = jax.random.split(jax.random.key(0), 8)
X = jax.random.normal(jax.random.key(1), (8, 8, 8, 1))
C_NOISE = jnp.linspace(-1.5, 1.0, 8)
LABEL = jnp.arange(8) % 3


@pytest.fixture(scope="module")
def fresh():
    """Parameters as initialised."""
    return jax.jit(SMALL.init)(jax.random.key(2), X, C_NOISE, LABEL)


@pytest.fixture(scope="module")
def params(fresh):
    """Parameters moved off their zeros, as training moves them."""
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32), fresh)


@jax.jit
def _evaluate(params, x=X, c_noise=C_NOISE, label=LABEL):
    return SMALL.apply(params, x, c_noise, label)


@jax.jit
def _train(params, keys, x=X, c_noise=C_NOISE, label=LABEL):
    return SMALL.apply(params, x, c_noise, label, keys, train=True)


def _shapes(model, size, label=None):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, *size)), jnp.zeros(2), label)


@pytest.mark.parametrize(
    ("name", "px", "num_classes", "augment_dim", "count"),
    [
        # Ho et al. 2020, appendix B: 35.7 million on CIFAR-10.
        ("ddpm_cifar10", 32, 0, 0, 35_746_307),
        # Counted in the networks that NVlabs/edm's training/networks.py builds.
        ("ddpmpp_cifar10", 32, 10, 9, 55_735_299),
        ("ddpmpp_64px", 64, 0, 9, 61_805_571),
        # And a row of 768 for "no class", which theirs has not.
        ("adm_64px", 64, 1000, 0, 295_899_267 + 768),
    ],
)
def test_published_network_has_the_published_number_of_parameters(name, px, num_classes, augment_dim, count):
    model = PUBLISHED[name](out_channels=3, num_classes=num_classes, augment_dim=augment_dim)
    label = jnp.zeros(2, jnp.int32) if num_classes else None
    assert count_params(_shapes(model, (px, px, 3), label)) == count


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_network_has_no_field_but_unets_and_takes_other_sizes(name):
    model = PUBLISHED[name](out_channels=1, base_channels=8, num_blocks=1, head_channels=4)
    assert isinstance(model, UNet)
    assert (model.base_channels, model.num_blocks, model.head_channels) == (8, 1, 4)
    assert model.channel_multipliers == PUBLISHED[name](out_channels=1).channel_multipliers


def test_unet_starts_as_the_zero_function(fresh):
    out = _evaluate(fresh)
    assert out.shape == X.shape and out.dtype == jnp.float32
    np.testing.assert_array_equal(out, 0)


@pytest.mark.parametrize(
    "field",
    [
        *({"resample": name} for name in blocks.RESAMPLES),
        *({"embedding": name} for name in blocks.EMBEDDINGS),
        {"label_input": "features"},
        {"augment_dim": 9},
        {"dtype": jnp.bfloat16},
    ],
)
def test_unet_answers_in_float32_at_the_resolution_it_got(field):
    model = SMALL.clone(out_channels=4, **field)
    variables = _shapes(model, (12, 8, 3), jnp.zeros(2, jnp.int32))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    out = jax.eval_shape(model.apply, variables, jnp.zeros((2, 12, 8, 3)), jnp.zeros(2), jnp.zeros(2, jnp.int32))
    assert out.shape == (2, 12, 8, 4) and out.dtype == jnp.float32


# The same parts in EDM's manner: labels and augmentation among the features, residual blocks between levels.
OTHER = SMALL.clone(
    augment_dim=9,
    up_attention_last=True,
    label_input="features",
    adaptive_scale=False,
    resample="residual_projected",
    kernel_init="ddpmpp",
)
AUGMENT_LABEL = jax.random.normal(jax.random.key(7), (8, 9))


@pytest.fixture(scope="module")
def other_params():
    """As `params`, of OTHER."""
    shapes = jax.eval_shape(OTHER.init, jax.random.key(2), X, C_NOISE, LABEL)
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda x: 0.2 * rng.standard_normal(x.shape, np.float32), shapes)


@jax.jit
def _other(params, label=LABEL, augment_label=AUGMENT_LABEL):
    return OTHER.apply(params, X, C_NOISE, label, augment_label=augment_label)


@pytest.mark.parametrize("model", [SMALL, OTHER], ids=["small", "other"])
def test_every_parameter_learns(model, params, other_params):
    # Weights are off zero, so a zero gradient is a parameter that does not reach the answer (as a bias before
    # a norm would be, had the norm one channel a group).
    given = {"augment_label": AUGMENT_LABEL} if model is OTHER else {}
    grads = jax.jit(jax.grad(lambda params: jnp.sum(model.apply(params, X, C_NOISE, LABEL, **given) * X)))(
        other_params if model is OTHER else params
    )
    dead = [name for name, grad in named_leaves(grads).items() if not np.abs(grad).max() > 1e-7]
    assert dead == []


def test_augmentation_changes_the_answer_and_none_is_zeros(other_params):
    told = _other(other_params)
    none = _other(other_params, augment_label=None)
    np.testing.assert_array_equal(none, _other(other_params, augment_label=jnp.zeros((8, 9))))
    assert np.all(np.abs(told - none).max(axis=(1, 2, 3)) > 1e-3)


def test_null_class_adds_nothing_to_the_features(other_params):
    """Only the bias of the layer of labels is left of it."""
    emptied = jax.tree_util.tree_map_with_path(
        lambda path, x: 0 * x if "label_dense" in str(path) and "kernel" in str(path) else x, other_params
    )
    null = _other(other_params, label=jnp.full(8, 3))
    np.testing.assert_array_equal(null, _other(emptied, label=jnp.full(8, 3)))
    np.testing.assert_array_equal(null, _other(emptied))
    assert np.abs(null - _other(other_params)).max() > 1e-3


def test_network_of_one_class_takes_labels_and_hears_nothing_from_them():
    model = SMALL.clone(num_classes=1)
    variables = _shapes(model, (8, 8, 1), jnp.zeros(2, jnp.int32))
    assert not [name for name in variables["params"] if "label" in name]
    unconditional = _shapes(SMALL.clone(num_classes=0), (8, 8, 1))
    assert jax.tree.structure(variables) == jax.tree.structure(unconditional)


def test_label_and_null_class_change_the_answer(params):
    answers = [_evaluate(params, label=jnp.full(8, label)) for label in range(4)]
    for i in range(4):
        for j in range(i):
            assert np.abs(answers[i] - answers[j]).max() > 1e-3


def test_noise_level_changes_the_answer(params):
    assert np.abs(_evaluate(params, c_noise=C_NOISE + 0.5) - _evaluate(params)).max() > 1e-3


def test_image_does_not_depend_on_its_place_in_the_batch(params):
    order = np.array([5, 2, 7, 0, 1, 6, 3, 4])
    moved = _evaluate(params, X[order], C_NOISE[order], LABEL[order])
    # Some processors add up in another order at another place: rounding of answers of about 1.
    np.testing.assert_allclose(moved, _evaluate(params)[order], atol=1e-6, rtol=0)


def test_dropout_is_a_function_of_each_key(params):
    dropped = _train(params, KEYS)
    np.testing.assert_array_equal(dropped, _train(params, KEYS))
    other = KEYS.at[0].set(jax.random.key(9))
    changed = np.abs(_train(params, other) - dropped).max(axis=(1, 2, 3))
    assert changed[0] > 1e-3 and np.all(changed[1:] == 0)
    assert np.abs(dropped - _evaluate(params)).max() > 1e-3


def test_dropout_does_not_depend_on_the_layout_over_devices(params):
    halves = [_train(params, KEYS[h], X[h], C_NOISE[h], LABEL[h]) for h in (slice(0, 4), slice(4, 8))]
    # The same numbers are dropped; sums may be taken in another order: rounding of answers of about 1.
    np.testing.assert_allclose(np.concatenate(halves), _train(params, KEYS), atol=1e-5)


def test_dropout_keeps_the_mean():
    x = jnp.ones((8, 64, 64))
    out = dropout(KEYS, x, 0.3)
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / np.float32(0.7))}
    assert abs(out.mean() - 1) < 4 * np.sqrt(0.3 / 0.7 / x.size)  # 4 standard errors


def test_attention_stands_where_it_is_named():
    def places(**fields):
        variables = _shapes(SMALL.clone(**fields), (8, 8, 1), jnp.zeros(2, jnp.int32))
        return {name for name in variables["params"] if name.endswith("_attention")}

    assert places(attention_px=(), middle_attention=False) == set()
    assert places(attention_px=()) == {"middle_block0_attention"}
    assert places(attention_px=(8,), middle_attention=False) == {
        "down0_block0_attention",
        "up0_block0_attention",
        "up0_block1_attention",
    }


def test_attention_on_the_way_up_stands_after_the_last_block_alone():
    variables = _shapes(SMALL.clone(num_blocks=2, up_attention_last=True), (8, 8, 1), jnp.zeros(2, jnp.int32))
    found = {name for name in variables["params"] if name.startswith("up") and name.endswith("_attention")}
    assert found == {"up1_block2_attention"}


@pytest.mark.parametrize(("resample", "first"), [("conv", 1), ("conv_centred", 0)])
def test_strided_convolution_begins_where_its_padding_says(params, resample, first):
    """A kernel that reads its middle sees pixel (1, 1) first without padding before it, pixel (0, 0) with it."""
    middle = {"kernel": jnp.zeros((3, 3, 8, 8)).at[1, 1].set(jnp.eye(8)), "bias": jnp.zeros(8)}
    variables = {"params": {**params["params"], "down1_resample": middle}}
    model = SMALL.clone(resample=resample)
    seen = ("down0_block0", "down1_resample")
    capture = {"capture_intermediates": lambda module, method: module.name in seen and method == "__call__"}
    _, kept = jax.jit(lambda variables: model.apply(variables, X, C_NOISE, LABEL, **capture))(variables)
    before, after = (kept["intermediates"][name]["__call__"][0] for name in seen)
    np.testing.assert_array_equal(after, before[:, first::2, first::2])


def test_group_norm_is_flax_group_norm():
    x = 3 + 2 * jax.random.normal(jax.random.key(4), (2, 4, 4, 24))
    ours, flax_norm = blocks.GroupNorm(dtype=jnp.float32), nn.GroupNorm(num_groups=6, epsilon=1e-6)
    variables = {"params": {"scale": jnp.linspace(0.5, 1.5, 24), "bias": jnp.linspace(-1.0, 1.0, 24)}}
    np.testing.assert_allclose(ours.apply(variables, x), flax_norm.apply(variables, x), atol=1e-5)  # float32 sums
    scale, shift = jax.random.normal(jax.random.key(6), (2, 2, 24))
    expected = flax_norm.apply(variables, x) * (1 + scale[:, None, None]) + shift[:, None, None]
    np.testing.assert_allclose(ours.apply(variables, x, scale, shift), expected, atol=1e-5)
    twelve = blocks.GroupNorm(dtype=jnp.float32, epsilon=0.1, num_groups=12)
    flax_norm = nn.GroupNorm(num_groups=12, epsilon=0.1)
    np.testing.assert_allclose(twelve.apply(variables, x), flax_norm.apply(variables, x), atol=1e-5)


def test_group_norm_keeps_its_digits_where_the_mean_is_large():
    """Against float64. Squares of 1,000 hold no digit of a variance of 1: by their mean the norm would be 0.5 off."""
    x = (1000 + np.random.default_rng(0).standard_normal((2, 8, 8, 8))).astype(np.float32)
    grouped = x.astype(np.float64).reshape(2, 64, 2, 4)
    mean, variance = (f(grouped, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    expected = ((grouped - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
    norm = blocks.GroupNorm(num_groups=2)
    found = norm.apply({"params": {"scale": jnp.ones(8), "bias": jnp.zeros(8)}}, x)
    np.testing.assert_allclose(found, expected, atol=1e-3)  # 1,000 has units of 6e-5, and gain and shift cancel once


@pytest.mark.parametrize("embedding", blocks.EMBEDDINGS)
def test_embedding_tells_noise_levels_apart(embedding):
    # c_noise of EDM: ln(sigma) / 4 for sigma in 0.002 ... 80, in steps of 10 %.
    features = np.asarray(blocks.embed_noise(embedding, jnp.linspace(-1.55, 1.1, 106), 16))
    assert features.shape == (106, 16) and np.abs(features).max() <= 1
    np.testing.assert_allclose((features**2).sum(axis=1), 8, rtol=1e-5)  # pairs of sine and cosine
    distance = np.linalg.norm(features[:, None] - features[None], axis=-1) + 9 * np.eye(106)
    assert distance.min() > 0.02


@pytest.mark.parametrize(
    ("fields", "size", "message"),
    [
        ({"channel_multipliers": (1, 1, 1)}, (8, 10, 1), "divisible by 4"),
        ({"num_heads": 3, "head_channels": 0}, (8, 8, 1), "3 attention heads on 16"),
        ({"embedding": "sine"}, (8, 8, 1), "embedding='sine'"),
        ({"resample": "fir"}, (8, 8, 1), "resample='fir'"),
        ({"label_input": "image"}, (8, 8, 1), "label_input='image'"),
        ({"kernel_init": "zeros"}, (8, 8, 1), "kernel_init='zeros'"),
        ({"norm_groups": 3}, (8, 8, 1), "norm_groups=3 on 8 channels"),
        ({"base_channels": 7}, (8, 8, 1), "base_channels=7"),
        ({"dropout": 1.0}, (8, 8, 1), "dropout=1.0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields, size, message):
    with pytest.raises(ValueError, match=message):
        _shapes(SMALL.clone(**fields), size, jnp.zeros(2, jnp.int32))


def test_labels_are_given_exactly_where_there_are_classes():
    with pytest.raises(ValueError, match="null class is 3"):
        _shapes(SMALL, (8, 8, 1), None)
    with pytest.raises(ValueError, match="num_classes=0"):
        _shapes(SMALL.clone(num_classes=0), (8, 8, 1), jnp.zeros(2, jnp.int32))


def test_augmentation_labels_are_given_only_as_long_as_the_network_takes_them(fresh, other_params):
    with pytest.raises(ValueError, match="augment_dim=0"):
        SMALL.apply(fresh, X, C_NOISE, LABEL, augment_label=AUGMENT_LABEL)
    with pytest.raises(ValueError, match=r"expected \(8, 9\)"):
        OTHER.apply(other_params, X, C_NOISE, LABEL, augment_label=AUGMENT_LABEL[:, :5])


def test_training_with_dropout_needs_keys(fresh):
    with pytest.raises(ValueError, match="one key per example"):
        SMALL.apply(fresh, X, C_NOISE, LABEL, train=True)
