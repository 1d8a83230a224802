"""Laws and published parameter counts of models/classifiers/resnet.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.core.tree import count_params, named_leaves
from jaxmoust.models.classifiers.resnet import DEPTHS, ResNet

SMALL = ResNet(stage_sizes=(1, 1), block="basic", num_classes=5, width=8, stem="cifar")
X = jax.random.normal(jax.random.key(0), (8, 8, 8, 3))


def _shapes(model, size_px=32):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size_px, size_px, 3)))


@pytest.fixture(scope="module")
def variables():
    """Parameters and statistics moved off their initial values."""
    fresh = jax.jit(SMALL.init)(jax.random.key(1), X)
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: x + 0.1 * np.abs(rng.standard_normal(x.shape, np.float32)), fresh)


@jax.jit
def _train(variables, x=X):
    return SMALL.apply(variables, x, train=True, mutable=["batch_stats", "intermediates"], capture_intermediates=True)


_evaluate = jax.jit(SMALL.apply)


@pytest.mark.parametrize(
    ("depth", "count"),
    [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)],
)
def test_imagenet_resnet_has_torchvisions_number_of_parameters(depth, count):
    assert count_params(_shapes(ResNet(num_classes=1000, **DEPTHS[depth]), 224)["params"]) == count


def test_cifar_resnet18_has_the_usual_number_of_parameters():
    # The 11.17 M of every CIFAR-10 ResNet-18: the ImageNet one with a 3x3 stem and 10 classes.
    assert count_params(_shapes(ResNet(num_classes=10, stem="cifar", **DEPTHS[18]))["params"]) == 11_173_962


@pytest.mark.parametrize(("stem", "size_px"), [("cifar", 8), ("imagenet", 32)])
@pytest.mark.parametrize("depth", [18, 50])
def test_features_are_what_the_head_is_linear_in(stem, size_px, depth):
    model = ResNet(num_classes=7, width=4, stem=stem, **{**DEPTHS[depth], "stage_sizes": (1, 1)})
    x = jax.random.normal(jax.random.key(3), (2, size_px, size_px, 1))
    variables = jax.jit(model.init)(jax.random.key(4), x)
    features = jax.jit(partial(model.apply, method="features"))(variables, x)
    assert features.shape == (2, 8 if depth == 18 else 32)
    head = variables["params"]["head"]
    # Two orders of the same short sums.
    np.testing.assert_allclose(jax.jit(model.apply)(variables, x), features @ head["kernel"] + head["bias"], atol=1e-5)


def test_block_starts_as_its_shortcut():
    # The last norm's scale is 0, so a block without projection is relu of its input, which is not negative.
    model = SMALL.clone(stage_sizes=(3,))
    variables = jax.jit(model.init)(jax.random.key(5), X)
    stem = SMALL.clone(stage_sizes=())
    only_stem = {name: {k: v for k, v in tree.items() if "stage" not in k} for name, tree in variables.items()}
    np.testing.assert_array_equal(jax.jit(model.apply)(variables, X), jax.jit(stem.apply)(only_stem, X))


def test_strided_convolution_pads_as_torch_does():
    # With padding 1 on both sides the 3x3 kernel's centre falls on even pixels: 0, 2, 4, ...
    model = ResNet(stage_sizes=(0, 1), block="basic", num_classes=2, width=4, stem="cifar")
    variables = jax.jit(model.init)(jax.random.key(6), X)
    kernel = jnp.zeros((3, 3, 4, 8)).at[1, 1].set(1.0)
    variables["params"]["stage1_block0"]["conv0"]["kernel"] = kernel
    apply = partial(model.apply, capture_intermediates=True, mutable=["intermediates"])
    _, state = jax.jit(apply)(variables, X)
    inner = state["intermediates"]
    stem = jax.nn.relu(inner["stem_norm"]["__call__"][0])
    expected = jnp.broadcast_to(stem[:, ::2, ::2].sum(axis=-1, keepdims=True), (8, 4, 4, 8))
    np.testing.assert_allclose(inner["stage1_block0"]["conv0"]["__call__"][0], expected, rtol=1e-5)


def test_training_updates_the_statistics_and_evaluation_uses_them(variables):
    logits, new = _train(variables)
    for name, old in named_leaves(variables["batch_stats"]).items():
        assert np.abs(named_leaves(new["batch_stats"])[name] - old).max() > 1e-4, name
    assert np.abs(_evaluate(variables, X) - logits).max() > 1e-3


def test_statistics_move_a_tenth_of_the_way(variables):
    _, new = _train(variables)
    stem = new["intermediates"]["stem_conv"]["__call__"][0]
    old_mean = variables["batch_stats"]["stem_norm"]["mean"]
    expected = 0.9 * old_mean + 0.1 * stem.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(new["batch_stats"]["stem_norm"]["mean"], expected, atol=1e-6)


def test_evaluation_of_an_image_does_not_depend_on_its_batch(variables):
    np.testing.assert_allclose(_evaluate(variables, X[:4]), _evaluate(variables, X)[:4], atol=1e-5)  # sums' order


def test_synchronised_norm_over_an_axis_is_that_of_the_whole_batch(variables):
    whole, new_whole = _train(variables)
    synced = SMALL.clone(axis_name="replica")
    apply = partial(synced.apply, variables, train=True, mutable=["batch_stats"])
    parts, new_parts = jax.jit(jax.vmap(apply, axis_name="replica"))(X.reshape(4, 2, 8, 8, 3))
    # Means of four means against one mean: rounding.
    np.testing.assert_allclose(parts.reshape(whole.shape), whole, atol=1e-4)
    for one, four in zip(
        jax.tree.leaves(new_whole["batch_stats"]), jax.tree.leaves(new_parts["batch_stats"]), strict=True
    ):
        np.testing.assert_allclose(four, jnp.broadcast_to(one, four.shape), atol=1e-5)


def test_half_precision_keeps_parameters_statistics_and_logits_in_float32():
    model = SMALL.clone(dtype=jnp.bfloat16)
    variables = _shapes(model, 8)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert jax.eval_shape(model.apply, variables, X).dtype == jnp.float32


@pytest.mark.parametrize("fields", [{"block": "preact"}, {"stem": "svhn"}])
def test_unknown_parts_are_refused(fields):
    (name, value) = next(iter(fields.items()))
    with pytest.raises(ValueError, match=f"{name}='{value}'"):
        _shapes(SMALL.clone(**fields), 8)


def test_stochastic_depth_drops_the_last_blocks_branch_for_some_examples(variables):
    """Two blocks, of rates 0 and 0.5: with one image many times there are two answers."""
    model = SMALL.clone(stochastic_depth=0.5, separate_stats=True)
    doubled = dict(variables)
    doubled["batch_stats"] = _shapes(model, 8)["batch_stats"]
    doubled["batch_stats"] = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), doubled["batch_stats"])
    same, keys = jnp.broadcast_to(X[:1], (32, 8, 8, 3)), jax.random.split(jax.random.key(7), 32)
    apply = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    found, _ = apply(doubled, same, keys=keys)
    assert len(np.unique(np.round(found, 3), axis=0)) == 2
    np.testing.assert_allclose(apply(doubled, same, keys=keys[::-1])[0], found[::-1], atol=1e-4)
    with pytest.raises(ValueError, match="no keys"):
        model.apply(doubled, same, train=True, mutable=["batch_stats"])


def test_imagenet_colours_standardise_the_pixels(variables):
    """The mean colour of ImageNet answers as grey does without; a pixel one standard deviation above it as 1."""
    model = SMALL.clone(imagenet_colours=True)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    given = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    found = jax.jit(model.apply)(variables, np.float32(2 * (mean + std * given) - 1))
    np.testing.assert_allclose(found, _evaluate(variables, np.float32(given)), atol=1e-4)


def test_separate_statistics_add_no_parameters():
    split = SMALL.clone(separate_stats=True)
    assert count_params(_shapes(split, 8)["params"]) == count_params(_shapes(SMALL, 8)["params"])
    assert count_params(_shapes(split, 8)["batch_stats"]) == 2 * count_params(_shapes(SMALL, 8)["batch_stats"])
