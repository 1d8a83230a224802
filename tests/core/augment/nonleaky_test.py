"""Laws of core/augment/nonleaky.py: what happens to an image is what its label says, and nothing where it is silent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.core.augment import nonleaky
from jaxmoust.core.augment.nonleaky import LABEL_DIM, NonLeaky, source_map, warp

NUM = 400
KEYS = jax.random.split(jax.random.key(0), NUM)
# Doubling and halving by the symlet, orthonormal in float64, in float32: sums of 12 x 12 products of about 1.
ROUNDING = 1e-5


def smooth(num: int, height: int, width: int, channels: int) -> jax.Array:
    """Random images of a few low frequencies, zero at the border."""
    rng = np.random.default_rng(0)
    y, x = np.linspace(0, np.pi, height)[:, None, None], np.linspace(0, np.pi, width)[None, :, None]
    image = np.zeros((num, height, width, channels))
    for i in range(1, 4):
        for j in range(1, 4):
            image += rng.normal(size=(num, 1, 1, channels)) * np.sin(i * y) * np.sin(j * x) / (i * j)
    return jnp.asarray(image / np.abs(image).max(), jnp.float32)


def maps(num: int = 1, **drawn) -> jax.Array:
    """The same transformation `num` times, whatever is not named being nothing."""
    names = ("size", "turn", "stretch", "along", "shift_x", "shift_y")
    return jnp.stack([source_map(*(jnp.float32(drawn.get(name, 0.0)) for name in names))] * num)


def test_off_is_nothing_and_labels_are_zero():
    image = smooth(4, 8, 8, 3)
    out, label = NonLeaky()(KEYS[:4], image)
    np.testing.assert_array_equal(out, image)
    assert label.shape == (4, LABEL_DIM)
    np.testing.assert_array_equal(label, 0)


@pytest.fixture(scope="module")
def drawn():
    """Images, and what a likely augmentation makes of them."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        image = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (NUM, 6, 6, 1)), jnp.float32)
        return image, *jax.jit(NonLeaky(0.4))(KEYS, image)


def test_image_that_no_label_speaks_of_is_itself(drawn):
    image, out, label = drawn
    still = ~np.any(np.asarray(label) != 0, axis=1)
    flipped = (np.asarray(label[:, 0]) == 1) & ~np.any(np.asarray(label[:, 1:]) != 0, axis=1)
    assert still.sum() > 5 and flipped.sum() > 5
    np.testing.assert_array_equal(out[still], image[still])
    np.testing.assert_array_equal(out[flipped], image[flipped][:, :, ::-1])
    assert np.all(np.abs(out - image)[~still].max(axis=(1, 2, 3)) > 0)


def test_flips_keep_the_pixels(drawn):
    image, out, label = (np.asarray(a) for a in drawn)
    only = np.all(label[:, 2:] == 0, axis=1)
    assert only.sum() > 20 and label[only, 1].sum() > 2
    np.testing.assert_array_equal(
        np.sort(out[only].reshape(only.sum(), -1)), np.sort(image[only].reshape(only.sum(), -1))
    )


def test_each_transformation_comes_as_often_as_it_is_named(drawn):
    label = np.asarray(drawn[2])
    events = [
        (label[:, 0] == 1, 0.5),
        (label[:, 1] == 1, 0.4 / 2),
        (label[:, 2] != 0, 0.4),
        (label[:, 4] != 0, 0.4),
        (label[:, 5] != 0, 0.4),
        (label[:, 7] != 0, 0.4),
    ]
    for event, p in events:
        assert event.mean() == pytest.approx(p, abs=4 * (p * (1 - p) / NUM) ** 0.5)  # 4 standard errors
    np.testing.assert_array_equal(label[:, 7] != 0, label[:, 8] != 0)
    np.testing.assert_allclose((1 + label[:, 3]) ** 2 + label[:, 4] ** 2, 1, rtol=1e-5)  # cosine and sine


def test_example_depends_on_its_own_key_alone(drawn):
    image, out, label = drawn
    order = np.arange(NUM)[::-1][:16]
    again, again_label = jax.jit(NonLeaky(0.4))(KEYS[order], image[order])
    np.testing.assert_allclose(again, out[order], atol=ROUNDING)  # another batch size: other sums
    np.testing.assert_allclose(again_label, label[order], atol=ROUNDING)


@pytest.mark.parametrize("shape", [(8, 8, 3), (6, 10, 1)])
def test_identity_warp_returns_the_image(shape):
    image = jnp.asarray(np.random.default_rng(2).uniform(-1, 1, (3, *shape)), jnp.float32)
    np.testing.assert_allclose(warp(image, maps(3)), image, atol=ROUNDING)


def test_symlets_even_shifts_are_orthonormal():
    halving = nonleaky._halving(9)
    np.testing.assert_allclose(halving @ halving.T, np.eye(9), atol=1e-10)  # of the 16 digits of its coefficients


@pytest.mark.parametrize(("drawn", "roll"), [({"shift_x": 1.0}, (0, 2)), ({"shift_y": -1.0}, (-2, 0))])
def test_shift_by_whole_pixels_moves_them(drawn, roll):
    """One standard deviation is an eighth of a side: 2 pixels of 16; x to the right, y down."""
    image = jnp.asarray(np.random.default_rng(2).uniform(-1, 1, (1, 16, 16, 1)), jnp.float32)
    moved = np.roll(image, roll, axis=(1, 2))
    inside = (slice(None), slice(2, 14), slice(2, 14))
    np.testing.assert_allclose(warp(image, maps(**drawn))[inside], moved[inside], atol=ROUNDING)


def test_border_shows_the_image_mirrored():
    image = jnp.asarray(np.random.default_rng(2).uniform(-1, 1, (1, 16, 16, 1)), jnp.float32)
    padded = np.pad(image, ((0, 0), (0, 0), (2, 0), (0, 0)), mode="reflect")
    np.testing.assert_allclose(warp(image, maps(shift_x=1.0)), padded[:, :, :16], atol=ROUNDING)


# Bilinear interpolation at twice the resolution of waves of 10 and more pixels.
SMOOTH = 0.02


def test_quarter_turn_turns_the_image():
    """A positive angle turns from x to -y: counterclockwise as seen."""
    image = smooth(2, 32, 32, 2)
    turned = warp(image, maps(2, turn=np.pi / 2))
    np.testing.assert_allclose(turned, np.rot90(image, 1, axes=(1, 2)), atol=SMOOTH)


def test_wide_image_is_turned_without_shear():
    """A bar of 4 x 24 pixels stands upright after a quarter turn, cut by the border, and as wide as it was high."""
    wide = np.zeros((1, 16, 64, 1), np.float32)
    wide[:, 6:10, 20:44] = 1
    turned = np.asarray(warp(jnp.asarray(wide), maps(turn=np.pi / 2)))[0, :, :, 0]
    # The symlet overshoots beside the bar's edges; its mirror images stand 15 pixels to either side.
    assert turned[:, 30:34].min() > 0.8
    assert np.abs(turned[:, [22, 23, 24, 25, 26, 37, 38, 39, 40, 41]]).max() < 0.1


def test_size_grows_by_a_power_of_two():
    image = smooth(2, 32, 32, 1)
    grown = warp(image, maps(2, size=5.0))  # 2^(0.2 * 5): twice
    expected = jax.image.resize(image[:, 8:24, 8:24], (2, 32, 32, 1), "cubic")
    np.testing.assert_allclose(grown[:, 4:28, 4:28], expected[:, 4:28, 4:28], atol=SMOOTH)


def test_stretch_grows_along_its_direction_and_shrinks_across():
    grow = 2**0.2
    along_x = np.asarray(maps(stretch=1.0))[0, :, :2]
    np.testing.assert_allclose(along_x, np.diag([1 / grow, grow]), rtol=1e-6)
    along_y = np.asarray(maps(stretch=1.0, along=np.pi / 2))[0, :, :2]
    np.testing.assert_allclose(along_y, np.diag([grow, 1 / grow]), atol=1e-6)


def test_warp_is_an_inverse_of_the_opposite_one():
    image = smooth(1, 32, 32, 1)
    there = warp(image, maps(turn=0.3, size=0.5))
    back = warp(there, maps(turn=-0.3, size=-0.5))
    inside = (slice(None), slice(6, 26), slice(6, 26))
    np.testing.assert_allclose(back[inside], image[inside], atol=2 * SMOOTH)


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(probability):
    with pytest.raises(ValueError, match=f"probability={probability}"):
        NonLeaky(probability)
