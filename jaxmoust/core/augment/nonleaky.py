"""EDM's non-leaky augmentation: geometric transformations of images, with labels that condition the network on them.

A generator trained on transformed images would generate transformed images. Conditioned on the transformation of each
image, and on none when it samples, it does not: the augmentation does not leak (Karras et al. 2022, 2206.00364,
appendix F.2; the warp after Karras et al. 2020, 2006.06676, appendix B).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Key

from jaxmoust.core.augment.resample import read_at
from jaxmoust.core.examples import spread

LABEL_DIM = 9
"""An example's label: x-flip, y-flip, log scale, cos - 1 and sin of the rotation, log stretch times cos and sin of
its direction, shift in x and in y. Zero where the image is as it was."""

# Symlet of 6 vanishing moments (Daubechies 1992, Ten Lectures on Wavelets, table 6.3), sum sqrt(2). Its even shifts
# are orthonormal: to interpolate with it by two and to decimate with it by two is to do nothing at all.
_SYMLET = np.array(
    [
        0.015404109327027373,
        0.0034907120842174702,
        -0.11799011114819057,
        -0.048311742585633,
        0.4910559419267466,
        0.787641141030194,
        0.3379294217276218,
        -0.07263752278646252,
        -0.021060292512300564,
        0.04472490177066578,
        0.0017677118642428036,
        -0.007800708325034148,
    ]
)
_CENTRE = 5  # the place of its largest number
_SCALE_STD = 0.2  # of log2 of the size, and of the stretch
_SHIFT_STD = 0.125  # of the shift, in units of the image's (longer) side
_TURNED_SHARE = 0.5  # of the stretches are along any direction, the others along x or y

Keys = Key[Array, " B"]
Image = Float[Array, "B H W C"]
Scalar = Float[Array, ""]


@dataclass(frozen=True)
class NonLeaky:
    """The augmentation: each of its transformations with a probability, except the flip in x.

    Every image is flipped in x with probability 1/2. Flip in y (of half of those drawn), size 2^(0.2 N(0, 1)),
    rotation by any angle, stretch 2^(0.2 N(0, 1)) along one direction and its inverse across, and a shift by
    0.125 N(0, 1) sides in x and y come each with `probability`. Beyond its border an image is mirrored, once.

    Args:
        probability: 0 switches everything off, the flip in x too. Karras et al. train CIFAR-10 with 0.12, and
            64 px images with 0.15.
    Raises: ValueError: not a probability.
    Source: Karras et al. 2022 (2206.00364), appendix F.2; order and signs of the labels as in the networks they
        published.
    """

    probability: float = 0.0

    def __post_init__(self) -> None:
        """Validates."""
        if not 0 <= self.probability <= 1:
            raise ValueError(f"got probability={self.probability} of non-leaky augmentation, expected 0 (off) to 1.")

    def __call__(self, keys: Keys, image: Image) -> tuple[Image, Float[Array, "B 9"]]:
        """Transforms each image by its own key alone: (keys [B], image [B, H, W, C]) -> (image, labels)."""
        if self.probability == 0:
            return image, jnp.zeros((image.shape[0], LABEL_DIM))
        label, to_source = jax.vmap(self._draw)(keys)
        image = jnp.where(spread(label[:, 0] == 1, image), image[:, :, ::-1], image)
        image = jnp.where(spread(label[:, 1] == 1, image), image[:, ::-1], image)
        warped = jnp.any(label[:, 2:] != 0, axis=-1)
        return jnp.where(spread(warped, image), warp(image, to_source), image), label

    def _draw(self, key: Array) -> tuple[Float[Array, "9"], Float[Array, "2 3"]]:
        """Draws one image's label and the map from its pixels to where they come from (for `warp`)."""
        k_flip, k_on, k_normal, k_angle, k_turned = jax.random.split(key, 5)
        flips = jax.random.bernoulli(k_flip, 0.5, (2,)).astype(jnp.float32)
        on = jax.random.bernoulli(k_on, self.probability, (5,)).astype(jnp.float32)
        size, stretch, shift_x, shift_y = jax.random.normal(k_normal, (4,)) * on[jnp.array([1, 3, 4, 4])]
        turn, along = jax.random.uniform(k_angle, (2,), minval=-jnp.pi, maxval=jnp.pi)
        turn = turn * on[2]
        along = jnp.where(jax.random.bernoulli(k_turned, _TURNED_SHARE), along, 0.0)
        turned = [jnp.cos(turn) - 1, jnp.sin(turn)]
        stretched = [stretch * jnp.cos(along), stretch * jnp.sin(along)]
        label = jnp.stack([flips[0], flips[1] * on[0], size, *turned, *stretched, shift_x, shift_y])
        return label, source_map(size, turn, stretch, along, shift_x, shift_y)


def source_map(
    size: Scalar, turn: Scalar, stretch: Scalar, along: Scalar, shift_x: Scalar, shift_y: Scalar
) -> Float[Array, "2 3"]:
    """Returns the affine map from an output place (x, y, 1) to its source: shift, stretch, turn and scale undone.

    Args:
        size, stretch, shift_x, shift_y: in standard deviations, as drawn. turn, along: in radians.
    Returns: [2, 3] for places about the centre of the image, in units of its (longer) side; x right, y down.
    """
    grow = 2 ** (_SCALE_STD * stretch)
    across = jnp.diag(jnp.stack([1 / grow, grow]))
    with jax.default_matmul_precision("highest"):  # bfloat16, a TPU's default, is off by 1 in 256
        linear = 2 ** (-_SCALE_STD * size) * (_rotation(turn) @ _rotation(-along) @ across @ _rotation(along))
        shift = -_SHIFT_STD * (linear @ jnp.stack([shift_x, shift_y]))
    return jnp.concatenate([linear, shift[:, None]], axis=1)


def warp(image: Image, to_source: Float[Array, "B 2 3"]) -> Image:
    """Resamples each image at other places: the pixel at place p shows what was at `to_source @ (p, 1)`.

    The image is mirrored over its border by a whole side less one pixel (beyond is grey, 0), doubled in resolution
    by a symlet, read off by bilinear interpolation at doubled resolution, and halved by the same symlet: a band
    limit that keeps small turns from blurring. All but the reading off is linear with constant coefficients, hence a
    matrix on rows and one on columns. The identity returns the image to rounding.

    Args:
        to_source: as from `source_map`: (x, y) about the centre, in units of the image's (longer) side.
    """
    height, width = image.shape[1:3]
    up_rows, up_cols = (jnp.asarray(_doubling(n), image.dtype) for n in (height, width))
    down_rows, down_cols = (jnp.asarray(_halving(n), image.dtype) for n in (height, width))
    # Fine places of the halving's support, about the centre of the image, in units of its longer side.
    unit = 2 * max(height, width)
    y = (jnp.arange(2 * height + 10, dtype=jnp.float32) - _CENTRE - (height - 1)) / unit
    x = (jnp.arange(2 * width + 10, dtype=jnp.float32) - _CENTRE - (width - 1)) / unit
    fine = jnp.einsum("rh,cw,bhwk->brck", up_rows, up_cols, image, precision="highest")
    # The fine place of source pixel 0 and of the centre: see _doubling.
    centre_row, centre_col = (2 * (n - 1) + _CENTRE + n - 1.0 for n in (height, width))

    def read(one: Array, matrix: Array) -> Array:
        from_x = matrix[0, 0] * x[None, :] + matrix[0, 1] * y[:, None] + matrix[0, 2]
        from_y = matrix[1, 0] * x[None, :] + matrix[1, 1] * y[:, None] + matrix[1, 2]
        return read_at(one, from_y * unit + centre_row, from_x * unit + centre_col)

    moved = jax.vmap(read)(fine, to_source)
    return jnp.einsum("hr,wc,brck->bhwk", down_rows, down_cols, moved, precision="highest")


def _doubling(length: int) -> Float64[np.ndarray, "fine {length}"]:
    """Mirrors a row of pixels over both ends by length - 1, then interpolates: pixel k stands at fine place 2k.

    Returns: a matrix on the pixels, whose first row is the first fine place that the mirrored row reaches: pixel 0
        of the row itself lies at row 2 (length - 1) + _CENTRE.
    """
    margin = length - 1
    source = np.abs(np.arange(-margin, length + margin))
    source = margin - np.abs(margin - source)  # mirrored, without repeating the end
    matrix = np.zeros((2 * len(source) + len(_SYMLET) - 2, length))
    for place, pixel in enumerate(source):
        matrix[2 * place : 2 * place + len(_SYMLET), pixel] += _SYMLET
    return matrix


def _halving(length: int) -> Float64[np.ndarray, "{length} fine"]:
    """Decimates fine places by two: the transpose of doubling, without the mirror."""
    matrix = np.zeros((length, 2 * length + len(_SYMLET) - 2))
    for pixel in range(length):
        matrix[pixel, 2 * pixel : 2 * pixel + len(_SYMLET)] = _SYMLET
    return matrix


def _rotation(angle: Scalar) -> Float[Array, "2 2"]:
    return jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
