"""Augmentation on the device: label-preserving warps, crops and erasures; label-mixing mixup and cutmix.

Every function takes one key per example; images are float32 [B, H, W, C] in [-1, 1]. What happens to an
example depends on its own key, and for the mixing ones on its block of `BLOCK` consecutive examples, keyed by
the block's first key: so the result is the same however the batch is split over devices, as long as every
device holds whole blocks.
"""

from dataclasses import dataclass
from math import pi

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxmoust.core.augment import randaugment
from jaxmoust.core.augment.resample import centred, read_at
from jaxmoust.core.checks import check_choice, check_not_negative
from jaxmoust.core.examples import fold_all, spread

BLOCK = 8
"""Mixing partners are sought among this many consecutive examples."""

# What is seen beyond the border: the name in jnp.pad and the name of the same rule in map_coordinates.
_FILLS = {"reflect": "mirror", "edge": "nearest", "constant": "constant"}
_BLACK = -1.0

Keys = Key[Array, " B"]
Image = Float[Array, "B H W C"]
Target = Float[Array, "B K"]


def flip(keys: Keys, image: Image) -> Image:
    """Mirrors each image left to right with probability 1/2."""
    mirrored = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(spread(mirrored, image), image[:, :, ::-1], image)


def padded_crop(keys: Keys, image: Image, padding_px: int, fill: str = "reflect") -> Image:
    """Shifts each image by whole pixels: pads every side by padding_px, crops the old size anywhere inside.

    Args:
        fill: what the padding shows: "reflect" the image mirrored, "edge" its border, "constant" black (-1).
    Raises: ValueError: negative padding, an unknown fill, or "reflect" with padding_px >= the image's side.
    """
    check_choice("fill", fill, _FILLS)
    height, width = image.shape[1:3]
    if padding_px < 0 or (fill == "reflect" and padding_px >= min(height, width)):
        raise ValueError(
            f"got padding_px={padding_px} for images of {height}x{width} px with fill={fill!r}, "
            "expected padding_px >= 0, and < the shorter side to reflect"
        )
    if padding_px == 0:
        return image
    pad = ((0, 0), (padding_px, padding_px), (padding_px, padding_px), (0, 0))
    constant = {"constant_values": _BLACK} if fill == "constant" else {}
    padded = jnp.pad(image, pad, mode=fill, **constant)

    def crop(key: Array, one: Array) -> Array:
        top, left = jax.random.randint(key, (2,), 0, 2 * padding_px + 1)
        return jax.lax.dynamic_slice(one, (top, left, 0), (height, width, one.shape[-1]))

    return jax.vmap(crop)(keys, padded)


def cutout(keys: Keys, image: Image, size_px: int) -> Image:
    """Paints a grey (0) square over each image; centred on any pixel, it may stick out and lose area.

    Raises: ValueError: size_px < 0.
    Source: DeVries & Taylor 2017 (1708.04552).
    """
    check_not_negative(size_px=size_px)
    size = jnp.full(keys.shape, size_px, jnp.float32)
    return jnp.where(_box(keys, size, size, image.shape[1:3])[..., None], 0.0, image)


def warp(
    keys: Keys,
    image: Image,
    translate_px: float = 0.0,
    rotate_deg: float = 0.0,
    scale: float = 0.0,
    fill: str = "reflect",
) -> Image:
    """Moves, turns and scales each image about its centre, by bilinear interpolation.

    Args:
        translate_px: largest shift along each axis; uniform in [-translate_px, translate_px].
        rotate_deg: largest turn to either side; uniform.
        scale: largest relative change of size; log-uniform in [1 / (1 + scale), 1 + scale].
        fill: as in `padded_crop`.
    Raises: ValueError: a negative range, or an unknown fill.
    """
    check_choice("fill", fill, _FILLS)
    check_not_negative(translate_px=translate_px, rotate_deg=rotate_deg, scale=scale)
    height, width = image.shape[1:3]
    rows, cols = centred(height, width)

    def one_image(key: Array, one: Array) -> Array:
        angle, log_size, shift_rows, shift_cols = jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0)
        angle = angle * (rotate_deg * pi / 180)
        size = jnp.exp(log_size * jnp.log1p(scale))
        # Where each output pixel comes from: the inverse of shift o turn o scale.
        row, col = rows - translate_px * shift_rows, cols - translate_px * shift_cols
        from_row = (jnp.cos(angle) * row - jnp.sin(angle) * col) / size + (height - 1) / 2
        from_col = (jnp.sin(angle) * row + jnp.cos(angle) * col) / size + (width - 1) / 2
        return read_at(one, from_row, from_col, _FILLS[fill], _BLACK)

    return jax.vmap(one_image)(keys, image)


def jitter(keys: Keys, image: Image, brightness: float = 0.0, contrast: float = 0.0) -> Image:
    """Stretches each image about its own mean and shifts it, clipped to [-1, 1].

    Args:
        brightness: largest shift; uniform in [-brightness, brightness], in units of the [-1, 1] range.
        contrast: largest relative stretch; the factor is uniform in [1 - contrast, 1 + contrast].
    Raises: ValueError: brightness < 0, or contrast outside [0, 1].
    """
    if brightness < 0 or not 0 <= contrast <= 1:
        raise ValueError(f"got brightness={brightness}, contrast={contrast}, expected >= 0, and contrast <= 1.")
    draw = jax.vmap(lambda key: jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0))(keys)
    shift, stretch = brightness * draw[:, 0], 1 + contrast * draw[:, 1]
    mean = jnp.mean(image, axis=(1, 2, 3), keepdims=True)
    return jnp.clip(mean + spread(stretch, image) * (image - mean) + spread(shift, image), -1, 1)


def mixup(keys: Keys, image: Image, target: Target, alpha: float) -> tuple[Image, Target]:
    """Blends each example with a partner: lam * own + (1 - lam) * partner's, lam ~ Beta(alpha, alpha).

    Args:
        target: class probabilities; blended with the same lam as the image.
    Raises: ValueError: alpha <= 0, or a batch that is not a multiple of `BLOCK`.
    Source: Zhang et al. 2018 (1710.09412).
    """
    lam, partner = _mixing(keys, alpha)

    def blend(own: Array) -> Array:
        weight = spread(lam, own)
        return weight * own + (1 - weight) * own[partner]

    return blend(image), blend(target)


def cutmix(keys: Keys, image: Image, target: Target, alpha: float) -> tuple[Image, Target]:
    """Pastes a rectangle of a partner over each image; the partner's label weighs what its pixels cover.

    The rectangle has the image's aspect ratio and 1 - lam of its area, lam ~ Beta(alpha, alpha), before it is
    cut at the border; the label is weighted by the area that is left.

    Raises: as `mixup`.
    Source: Yun et al. 2019 (1905.04899), Eqs. 1-2.
    """
    lam, partner = _mixing(keys, alpha)
    side = jnp.sqrt(1 - lam)
    height, width = image.shape[1:3]
    box = _box(fold_all(keys, 2), side * height, side * width, (height, width))
    covered = jnp.mean(box, axis=(1, 2), dtype=jnp.float32)[:, None]
    mixed = jnp.where(box[..., None], image[partner], image)
    return mixed, (1 - covered) * target + covered * target[partner]


@dataclass(frozen=True)
class Augment:
    """A training augmentation: whichever of its parts are on, in the order of the fields.

    A part's draws do not change when another part is switched on. When both mixup and cutmix are on, each
    block of `BLOCK` examples takes one of the two with probability 1/2.

    Args:
        flip: mirrors left to right with probability 1/2 (`flip`).
        translate_px: largest shift along each axis, interpolated (`warp`).
        rotate_deg: largest turn to either side, in degrees (`warp`).
        scale: largest relative change of size (`warp`).
        crop_px: pads every side by so many pixels and crops the old size anywhere inside (`padded_crop`).
        randaugment_ops: operations of `randaugment` on each image; 0 = off.
        randaugment_magnitude: how strong the operations of `randaugment` are, from 0 to 10.
        brightness: largest shift of all pixels, in units of the [-1, 1] range (`jitter`).
        contrast: largest relative stretch about the image's mean, at most 1 (`jitter`).
        cutout_px: side of a grey square painted over each image (`cutout`); 0 = off.
        mixup: alpha of `mixup`, which blends two images and their labels; 0 = off.
        cutmix: alpha of `cutmix`, which pastes a rectangle of another image; 0 = off.
        fill: what warp and crop see beyond the border: "reflect", "edge" or "constant" (black, -1).
    Raises: ValueError: a negative field, contrast > 1, a magnitude > 10, or an unknown fill.
    """

    flip: bool = False
    translate_px: float = 0.0
    rotate_deg: float = 0.0
    scale: float = 0.0
    crop_px: int = 0
    randaugment_ops: int = 0
    randaugment_magnitude: float = 9.0
    brightness: float = 0.0
    contrast: float = 0.0
    cutout_px: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    fill: str = "reflect"

    def __post_init__(self) -> None:
        """Validates."""
        check_choice("fill", self.fill, _FILLS)
        check_not_negative(**{name: value for name, value in vars(self).items() if name != "fill"})
        randaugment.check(self.randaugment_ops, self.randaugment_magnitude)
        if self.contrast > 1:
            raise ValueError(f"got contrast={self.contrast}, expected 0 <= contrast <= 1.")

    @property
    def mixes(self) -> bool:
        """Whether targets are blended, which needs per-device batches of whole blocks."""
        return self.mixup > 0 or self.cutmix > 0

    def __call__(self, keys: Keys, image: Image, target: Target) -> tuple[Image, Target]:
        """Augments a batch: (keys [B], image [B, H, W, C], target [B, K]) -> (image, target)."""
        if self.flip:
            image = flip(fold_all(keys, 0), image)
        if self.translate_px > 0 or self.rotate_deg > 0 or self.scale > 0:
            image = warp(fold_all(keys, 1), image, self.translate_px, self.rotate_deg, self.scale, fill=self.fill)
        if self.crop_px > 0:
            image = padded_crop(fold_all(keys, 2), image, self.crop_px, fill=self.fill)
        if self.randaugment_ops > 0:
            ops, magnitude = self.randaugment_ops, self.randaugment_magnitude
            image = randaugment.randaugment(fold_all(keys, 8), image, ops, magnitude)
        if self.brightness > 0 or self.contrast > 0:
            image = jitter(fold_all(keys, 3), image, self.brightness, self.contrast)
        if self.cutout_px > 0:
            image = cutout(fold_all(keys, 4), image, self.cutout_px)
        return self._mix(keys, image, target)

    def _mix(self, keys: Array, image: Array, target: Array) -> tuple[Array, Array]:
        blended = mixup(fold_all(keys, 5), image, target, self.mixup) if self.mixup > 0 else (image, target)
        if self.cutmix == 0:
            return blended
        pasted = cutmix(fold_all(keys, 6), image, target, self.cutmix)
        if self.mixup == 0:
            return pasted
        coin = jnp.repeat(jax.vmap(jax.random.bernoulli)(_block_keys(fold_all(keys, 7))), BLOCK)
        return jax.tree.map(lambda a, b: jnp.where(spread(coin, a), a, b), blended, pasted)


def _block_keys(keys: Array) -> Array:
    if len(keys) % BLOCK:
        raise ValueError(
            f"got {len(keys)} examples on a device; mixup and cutmix need a multiple of {BLOCK}, "
            "so that their result does not depend on the number of devices. Change the batch size."
        )
    return keys[::BLOCK]


def _mixing(keys: Array, alpha: float) -> tuple[Float[Array, " B"], Int[Array, " B"]]:
    """Draws lam [B] and each example's partner [B], a permutation inside its block."""
    if not alpha > 0:
        raise ValueError(f"got alpha={alpha}; mixing needs alpha > 0 (to switch it off, do not call it)")
    lam = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(fold_all(keys, 0))
    orders = jax.vmap(lambda key: jax.random.permutation(key, BLOCK))(_block_keys(fold_all(keys, 1)))
    starts = jnp.arange(0, len(keys), BLOCK)
    return lam, (starts[:, None] + orders).reshape(-1)


def _box(keys: Array, height: Array, width: Array, image_px: tuple[int, ...]) -> Array:
    """Marks [B, H, W] the pixels of a height [B] x width [B] box centred on a uniformly drawn pixel.

    Along each axis the box covers the `round(side)` pixels from centre - round(side) // 2 on.
    """

    def span(key: Array, side: Array, length: int) -> Array:
        side = jnp.round(side).astype(jnp.int32)
        start = jax.random.randint(key, (), 0, length) - side // 2
        pixel = jnp.arange(length)
        return (pixel >= start) & (pixel < start + side)

    spans = jax.vmap(span, in_axes=(0, 0, None))
    rows = spans(fold_all(keys, 0), height, image_px[0])
    cols = spans(fold_all(keys, 1), width, image_px[1])
    return rows[:, :, None] & cols[:, None, :]
