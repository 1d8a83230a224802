"""Laws of core/augment/randaugment.py; operations on levels are compared with PIL's, which the papers' code calls."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from jaxmoust.core.augment import randaugment
from jaxmoust.core.augment.randaugment import OPS, apply_op

LEVELS = np.random.default_rng(0).integers(30, 220, (12, 14, 3)).astype(np.uint8)
_apply = jax.jit(apply_op)


def _unit(levels):
    return jnp.asarray(levels, jnp.float32) / 127.5 - 1


def _levels(image):
    return (np.asarray(image) + 1) * 127.5


def _ours(name, amount, levels=LEVELS):
    return _levels(_apply(OPS.index(name), amount, _unit(levels)))


def test_ops_are_those_of_the_paper():
    assert len(set(OPS)) == 14 and OPS[0] == "identity"


@pytest.mark.parametrize("name", sorted(set(OPS) - {"autocontrast", "equalize"}))
def test_op_of_no_amount_is_the_identity(name):
    np.testing.assert_allclose(_ours(name, 0.0), LEVELS, atol=1e-4)  # float32 of numbers up to 255


def test_identity_is_the_identity_at_any_amount():
    np.testing.assert_allclose(_ours("identity", -1.0), LEVELS, atol=1e-4)


@pytest.mark.parametrize("amount", [1.0, -1.0, 0.5, -0.3])
@pytest.mark.parametrize(
    ("name", "enhance"),
    [
        ("color", ImageEnhance.Color),
        ("contrast", ImageEnhance.Contrast),
        ("brightness", ImageEnhance.Brightness),
        ("sharpness", ImageEnhance.Sharpness),
    ],
)
def test_blends_are_pils(name, enhance, amount):
    expected = np.asarray(enhance(Image.fromarray(LEVELS)).enhance(1 + 0.9 * amount), np.float32)
    # PIL rounds the plain image, by up to 1/2, and the blend, by up to 1: factors reach 1.9.
    np.testing.assert_allclose(_ours(name, amount), expected, atol=2)


@pytest.mark.parametrize("levels", [LEVELS, LEVELS // 8, np.full_like(LEVELS, 9)], ids=["wide", "few", "flat"])
@pytest.mark.parametrize(
    ("name", "function"), [("autocontrast", ImageOps.autocontrast), ("equalize", ImageOps.equalize)]
)
def test_stretches_are_pils(name, function, levels):
    expected = np.asarray(function(Image.fromarray(levels)), np.float32)
    # PIL rounds a stretched level; an equalized one is a level in both.
    np.testing.assert_allclose(_ours(name, 0.7, levels), expected, atol=1 if name == "autocontrast" else 1e-3)


def test_equalize_flattens_the_histogram():
    skewed = (255 * np.random.default_rng(1).random((64, 64, 1)) ** 3).astype(np.uint8)
    counts = np.histogram(_ours("equalize", 1.0, skewed), bins=4, range=(0, 256))[0]
    assert np.histogram(skewed, bins=4, range=(0, 256))[0].max() > 2400
    # Quarters of 1024 pixels; the dark levels hold up to a hundred pixels each, which stay together.
    np.testing.assert_allclose(counts, 1024, atol=300)


@pytest.mark.parametrize("amount", [0.25, -0.6, 1.0])
def test_solarize_is_pils(amount):
    threshold = 256 * (1 - abs(amount))
    expected = np.asarray(ImageOps.solarize(Image.fromarray(LEVELS), threshold), np.float32)
    np.testing.assert_allclose(_ours("solarize", amount), expected, atol=1e-3)


@pytest.mark.parametrize(("amount", "bits"), [(0.25, 7), (-0.5, 6), (1.0, 4)])
def test_posterize_is_pils(amount, bits):
    expected = np.asarray(ImageOps.posterize(Image.fromarray(LEVELS), bits), np.float32)
    np.testing.assert_allclose(_ours("posterize", amount), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "by_row", "by_col"),
    [
        # On the ramp image(row, col) = row or col about the centre: what a step down and to the right adds to it.
        ("rotate", (np.cos(np.pi / 6), -np.sin(np.pi / 6)), (np.sin(np.pi / 6), np.cos(np.pi / 6))),
        ("shear_x", (1.0, 0.0), (0.3, 1.0)),
        ("shear_y", (1.0, 0.3), (0.0, 1.0)),
    ],
)
def test_movements_turn_and_shear_about_the_centre(name, by_row, by_col):
    rows, cols = np.meshgrid(np.arange(9.0) - 4, np.arange(9.0) - 4, indexing="ij")
    ramps = jnp.asarray(np.stack([rows, cols], axis=-1) / 10, jnp.float32)
    found = 10 * np.asarray(_apply(OPS.index(name), 1.0, ramps))
    np.testing.assert_allclose(found[4, 4], 0, atol=1e-5)
    # Bilinear interpolation of a plane is exact; float32 of numbers up to 10.
    np.testing.assert_allclose(found[5, 4] - found[4, 4], [by_row[0], by_col[0]], atol=1e-5)
    np.testing.assert_allclose(found[4, 5] - found[4, 4], [by_row[1], by_col[1]], atol=1e-5)


@pytest.mark.parametrize(("name", "axis"), [("translate_x", 1), ("translate_y", 0)])
def test_translations_shift_by_their_share_of_the_side_and_leave_grey(name, axis):
    image = np.random.default_rng(2).uniform(-1, 1, (20, 20, 1)).astype(np.float32)
    amount = 331 / 150 * 0.25  # a quarter of 20 px
    found = np.moveaxis(np.asarray(_apply(OPS.index(name), amount, jnp.asarray(image))), axis, 0)
    moved = np.moveaxis(image, axis, 0)
    np.testing.assert_allclose(found[:14], moved[5:19], atol=1e-5)
    np.testing.assert_allclose(found[16:], 0, atol=1e-5)
    back = np.moveaxis(np.asarray(_apply(OPS.index(name), -amount, jnp.asarray(image))), axis, 0)
    np.testing.assert_allclose(back[6:], moved[1:15], atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_randaugment_keeps_shape_dtype_and_range(channels):
    keys = jax.random.split(jax.random.key(0), 64)
    image = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (64, 6, 7, channels)), jnp.float32)
    found = _run(keys, image, num_ops=3, magnitude=10.0)
    assert found.shape == image.shape and found.dtype == jnp.float32
    assert np.isfinite(found).all() and np.abs(found).max() <= 1 + 1e-6


def _run(keys, image, **options):
    return jax.jit(partial(randaugment.randaugment, **options))(keys, image)


def test_randaugment_of_one_op_draws_every_op_alike():
    """Each row equals what one of the operations, one way or the other, makes of the image."""
    num = 560
    keys = jax.random.split(jax.random.key(1), num)
    image = _unit(LEVELS)
    found = np.asarray(_run(keys, jnp.broadcast_to(image, (num, *image.shape)), num_ops=1, magnitude=7.0))
    made = np.stack([[_apply(op, way * 0.7, image) for way in (-1, 1)] for op in range(len(OPS))])
    distance = np.abs(found[:, None, None] - made[None]).max(axis=(3, 4, 5))
    assert distance.min(axis=(1, 2)).max() < 1e-5  # compiled together or apart
    op = distance.min(axis=2).argmin(axis=1)
    counts = np.bincount(op, minlength=len(OPS))
    assert np.abs(counts - num / len(OPS)).max() < 4 * np.sqrt(num / len(OPS))  # 4 standard deviations
    turned = distance[op == OPS.index("rotate"), OPS.index("rotate")].argmin(axis=1)
    assert 0 < turned.mean() < 1


def test_randaugment_of_an_image_depends_on_its_own_key_alone():
    keys = jax.random.split(jax.random.key(2), 8)
    image = jnp.asarray(np.random.default_rng(3).uniform(-1, 1, (8, 6, 6, 3)), jnp.float32)
    whole = _run(keys, image, num_ops=2, magnitude=9.0)
    np.testing.assert_allclose(_run(keys[3:5], image[3:5], num_ops=2, magnitude=9.0), whole[3:5], atol=1e-6)


def test_randaugment_of_no_ops_is_the_identity():
    image = jnp.zeros((2, 4, 4, 1))
    np.testing.assert_array_equal(_run(jax.random.split(jax.random.key(0)), image, num_ops=0, magnitude=9.0), image)


@pytest.mark.parametrize("options", [{"num_ops": -1, "magnitude": 1.0}, {"num_ops": 1, "magnitude": 10.5}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match="num_ops="):
        randaugment.randaugment(jax.random.split(jax.random.key(0)), jnp.zeros((2, 4, 4, 1)), **options)
