"""Laws of core/augment/augment.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.core.augment import augment, randaugment
from jaxmoust.core.augment.augment import Augment

EVERYTHING = Augment(
    flip=True,
    translate_px=1.5,
    rotate_deg=15.0,
    scale=0.1,
    crop_px=1,
    randaugment_ops=2,
    brightness=0.1,
    contrast=0.2,
    cutout_px=3,
    mixup=0.4,
    cutmix=1.0,
)


def _batch(num=16, size=(8, 8, 2), num_classes=5, seed=0):
    keys = jax.random.split(jax.random.key(seed), num)
    image = np.random.default_rng(seed).uniform(-1, 1, (num, *size)).astype(np.float32)
    target = np.eye(num_classes, dtype=np.float32)[np.arange(num) % num_classes]
    return keys, jnp.asarray(image), jnp.asarray(target)


def _run(fn, *args, **options):
    """Calls it compiled, as training does; options are constants of the program."""
    return jax.jit(partial(fn, **options))(*args)


def test_flip_mirrors_or_keeps_each_image():
    keys, image, _ = _batch(64)
    flipped = _run(augment.flip, keys, image)
    kept = jnp.all(flipped == image, axis=(1, 2, 3))
    mirrored = jnp.all(flipped == image[:, :, ::-1], axis=(1, 2, 3))
    assert jnp.all(kept ^ mirrored)
    assert 16 <= mirrored.sum() <= 48  # 32 +- 4 standard deviations
    np.testing.assert_array_equal(np.sort(flipped, axis=2), np.sort(image, axis=2))


def test_crop_without_padding_is_the_identity():
    keys, image, _ = _batch()
    np.testing.assert_array_equal(augment.padded_crop(keys, image, 0), image)


@pytest.mark.parametrize(("fill", "numpy_fill"), [("reflect", {}), ("edge", {}), ("constant", {"constant_values": -1})])
def test_padded_crop_is_a_window_of_the_padded_image(fill, numpy_fill):
    keys, image, _ = _batch(32, (5, 6, 1))
    cropped = np.asarray(_run(augment.padded_crop, keys, image, padding_px=2, fill=fill))
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2), (0, 0)), mode=fill, **numpy_fill)
    corners = [
        (top, left)
        for one, wide in zip(cropped, padded, strict=True)
        for top in range(5)
        for left in range(5)
        if np.array_equal(wide[top : top + 5, left : left + 6], one)
    ]
    assert len(corners) == 32  # each is found once
    assert len(set(corners)) > 12  # and most of the 25 places are used


def test_cutout_clears_a_square_clipped_at_the_border():
    keys, _, _ = _batch(256)
    cleared = np.asarray(_run(augment.cutout, keys, jnp.ones((256, 8, 8, 1)), size_px=3)[..., 0] == 0)
    rows, cols = cleared.any(axis=2).sum(axis=1), cleared.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(cleared.sum(axis=(1, 2)), rows * cols)  # a rectangle
    assert set(rows) == set(cols) == {2, 3}  # its centre is a pixel, so at most one row is lost
    inside = (rows == 3) & (cols == 3)
    assert abs(inside.mean() - (6 / 8) ** 2) < 4 * np.sqrt(0.25 / 256)  # centres 1 ... 6 of 8 along each axis
    assert len(np.unique(cleared, axis=0)) > 40  # of 64 places


def test_cutout_of_no_size_is_the_identity():
    keys, image, _ = _batch()
    np.testing.assert_array_equal(_run(augment.cutout, keys, image, size_px=0), image)


def test_warp_of_no_range_is_the_identity():
    keys, image, _ = _batch()
    # cos(0) = 1 and sin(0) = 0 exactly; the centre is a half-integer, so positions are exact too.
    np.testing.assert_array_equal(_run(augment.warp, keys, image), image)


def test_warp_moves_a_ramp_by_its_shift():
    # On a linear ramp bilinear interpolation is exact, so a shift by s px changes the middle by s px of ramp.
    keys, _, _ = _batch(200)
    ramp = jnp.broadcast_to(jnp.arange(9.0)[None, :, None, None], (200, 9, 9, 1))
    shift = np.asarray(_run(augment.warp, keys, ramp, translate_px=1.5)[:, 4, 4, 0]) - 4
    assert np.abs(shift).max() <= 1.5 and np.abs(shift).max() > 1.4
    assert abs(shift.mean()) < 4 * 1.5 / np.sqrt(3 * 200)  # 4 standard errors of a uniform mean


def test_warp_turns_and_scales_about_the_centre():
    # On the ramp r -> row, a turn by a at size s makes the gradient (cos a, -sin a) / s and keeps the centre.
    keys, _, _ = _batch(200)
    ramp = jnp.broadcast_to(jnp.arange(9.0)[None, :, None, None], (200, 9, 9, 1))
    out = np.asarray(_run(augment.warp, keys, ramp, rotate_deg=30.0, scale=0.25)[..., 0])
    np.testing.assert_allclose(out[:, 4, 4], 4, atol=1e-5)
    by_row, by_col = out[:, 5, 4] - out[:, 4, 4], out[:, 4, 5] - out[:, 4, 4]
    size, angle = 1 / np.hypot(by_row, by_col), np.rad2deg(np.arctan2(by_col, by_row))
    assert 1 / 1.25 - 1e-4 <= size.min() < 0.82 and 1.22 < size.max() <= 1.25 + 1e-4
    assert 29 < np.abs(angle).max() <= 30 + 1e-3


def test_jitter_is_affine_per_image_and_clipped():
    keys, image, _ = _batch()
    image = 0.3 * image
    out = np.asarray(_run(augment.jitter, keys, image, brightness=0.2, contrast=0.5))
    for before, after in zip(np.asarray(image), out, strict=True):
        slope, offset = np.polyfit(before.ravel(), after.ravel(), 1)
        np.testing.assert_allclose(after, slope * before + offset, atol=1e-5)
        assert 0.5 <= slope <= 1.5
        assert abs(after.mean() - before.mean()) <= 0.2 + 1e-6
    assert np.abs(_run(augment.jitter, keys, image / 0.3, brightness=1.0, contrast=1.0)).max() <= 1


def _weights_of_own_and_partner(target, mixed):
    """Reads lam off targets of 16 distinct classes: example b keeps lam_b of class b."""
    own = np.diagonal(mixed)
    partner = np.where(own > 1 - 1e-6, np.arange(len(mixed)), np.argmax(mixed - np.diag(own), axis=1))
    return own, partner


def test_mixup_blends_image_and_target_alike():
    keys, image, target = _batch(num_classes=16)
    mixed_image, mixed_target = map(np.asarray, _run(augment.mixup, keys, image, target, alpha=0.8))
    np.testing.assert_allclose(mixed_target.sum(axis=1), 1, rtol=1e-6)
    lam, partner = _weights_of_own_and_partner(target, mixed_target)
    assert np.all(partner // augment.BLOCK == np.arange(16) // augment.BLOCK)
    over = lam[:, None, None, None]
    # lam is read back from a float32 sum.
    np.testing.assert_allclose(mixed_image, over * image + (1 - over) * image[partner], atol=1e-6)
    assert len(set(lam)) > 8  # one lam per example


def test_mixup_weight_follows_beta():
    # Partners differ from the example itself but for the permutation's fixed points, which show lam = 1.
    num = 4096
    keys = jax.random.split(jax.random.key(3), num)
    own = jnp.asarray(np.eye(augment.BLOCK, dtype=np.float32)[np.arange(num) % augment.BLOCK])
    _, mixed = _run(augment.mixup, keys, jnp.zeros((num, 1, 1, 1)), own, alpha=2.0)
    lam = np.asarray(jnp.sum(mixed * own, axis=1))
    lam = lam[lam < 1]
    # Beta(2, 2): mean 1/2, variance 1/20; 4 standard errors.
    assert abs(lam.mean() - 0.5) < 4 * np.sqrt(0.05 / len(lam))
    assert lam.var() == pytest.approx(0.05, rel=0.1)


def test_cutmix_label_weighs_the_pasted_area():
    num = 16
    keys, _, target = _batch(num, num_classes=num)
    image = jnp.broadcast_to(jnp.arange(float(num))[:, None, None, None], (num, 8, 12, 1))
    mixed_image, mixed_target = map(np.asarray, _run(augment.cutmix, keys, image, target, alpha=1.0))
    _, partner = _weights_of_own_and_partner(target, mixed_target)
    for b in range(num):
        pasted = mixed_image[b, :, :, 0] != b
        assert np.all(mixed_image[b, :, :, 0][pasted] == partner[b])
        expected = np.zeros(num)
        expected[b] += 1 - pasted.mean()
        expected[partner[b]] += pasted.mean()
        np.testing.assert_allclose(mixed_target[b], expected, atol=1e-6)
        assert pasted.sum() == pasted.any(axis=1).sum() * pasted.any(axis=0).sum()  # a rectangle


def test_augment_does_not_depend_on_the_layout_over_devices():
    batch = _batch(16)
    run = jax.jit(EVERYTHING)
    whole = run(*batch)
    halves = [run(*(part[start : start + 8] for part in batch)) for start in (0, 8)]
    for one, two in zip(whole, zip(*halves, strict=True), strict=True):
        # The same draws exactly; sums inside an image may be taken in another order.
        np.testing.assert_allclose(one, np.concatenate(two), atol=1e-6)


def test_augment_with_nothing_on_is_the_identity():
    keys, image, target = _batch(3)  # no block structure needed
    out_image, out_target = Augment()(keys, image, target)
    assert out_image is image and out_target is target


def test_augment_part_draws_the_same_when_another_is_switched_on():
    keys, image, target = _batch()
    flipped, _ = _run(Augment(flip=True), keys, image, target)
    cut, _ = _run(Augment(cutout_px=3), keys, image, target)
    both, _ = _run(Augment(flip=True, cutout_px=3), keys, image, target)
    np.testing.assert_array_equal(both, jnp.where(cut == 0, 0.0, flipped))


def test_augment_with_both_mixes_each_block_by_one_of_them():
    keys, image, target = _batch(128, num_classes=128)
    _, both = _run(Augment(mixup=0.7, cutmix=0.7), keys, image, target)
    _, blended = _run(Augment(mixup=0.7), keys, image, target)
    _, pasted = _run(Augment(cutmix=0.7), keys, image, target)
    as_blocks = lambda x: np.asarray(x).reshape(16, -1)  # noqa: E731
    is_mixup = np.all(as_blocks(both) == as_blocks(blended), axis=1)
    is_cutmix = np.all(as_blocks(both) == as_blocks(pasted), axis=1)
    assert np.all(is_mixup ^ is_cutmix)
    assert 1 <= is_mixup.sum() <= 15


def test_augment_applies_randaugment_by_its_own_keys():
    keys, image, target = _batch()
    found, _ = _run(Augment(randaugment_ops=1, randaugment_magnitude=5.0), keys, image, target)
    own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, 8)
    np.testing.assert_array_equal(found, _run(randaugment.randaugment, own, image, num_ops=1, magnitude=5.0))


def test_augment_is_a_value():
    assert Augment(flip=True) == Augment(flip=True)
    assert hash(Augment(crop_px=2)) == hash(Augment(crop_px=2)) != hash(Augment(crop_px=3))


@pytest.mark.parametrize(
    "fields",
    [
        {"crop_px": -1},
        {"mixup": -0.1},
        {"contrast": 1.5},
        {"brightness": float("nan")},
        {"fill": "wrap"},
        {"randaugment_ops": -1},
    ],
)
def test_augment_refuses_impossible_fields_at_birth(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Augment(**fields)


def test_mixing_refuses_broken_blocks():
    keys, image, target = _batch(12)
    with pytest.raises(ValueError, match="multiple of 8"):
        augment.mixup(keys, image, target, 1.0)
    with pytest.raises(ValueError, match="alpha"):
        augment.cutmix(keys[:8], image[:8], target[:8], 0.0)


def test_parts_refuse_what_does_not_fit_the_image():
    keys, image, _ = _batch(8)
    with pytest.raises(ValueError, match="padding_px=8"):
        augment.padded_crop(keys, image, 8)
    with pytest.raises(ValueError, match="fill"):
        augment.padded_crop(keys, image, 1, fill="wrap")
    with pytest.raises(ValueError, match="size_px"):
        augment.cutout(keys, image, -1)
    with pytest.raises(ValueError, match="rotate_deg"):
        augment.warp(keys, image, rotate_deg=-1.0)
