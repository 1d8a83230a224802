"""RandAugment on the device: for every image a few operations drawn at random, all of one magnitude.

The fourteen operations are those of Cubuk et al. 2020 (1909.13719), with AutoAugment's ranges (Cubuk et al. 2019,
1805.09501, table 6). Each is read so that the image changes more as the magnitude grows, and goes either way with
probability 1/2 where there are two ways. Pixels are float32 in [-1, 1]; where an operation is defined on the 256 levels
of a byte, it rounds to them.
"""

from math import pi

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxmoust.core.augment.resample import centred, read_at

OPS = (
    "identity",
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "autocontrast",
    "equalize",
    "solarize",
    "posterize",
)
MAX_MAGNITUDE = 10.0
MOST_OPS = 100

_PLACE = {name: place for place, name in enumerate(OPS)}
# What operations do at the magnitude 10.
_ROTATE_RAD = 30 * pi / 180
_SHEAR = 0.3
_TRANSLATE = 150 / 331  # of the side
_ENHANCE = 0.9  # factors from 0.1 to 1.9
_POSTERIZE_BITS = 4  # of 8 are lost

_LUMA = (0.299, 0.587, 0.114)
_GREY = 0.0


def randaugment(
    keys: Key[Array, " B"], image: Float[Array, "B H W C"], num_ops: int, magnitude: float
) -> Float[Array, "B H W C"]:
    """Applies num_ops operations to each image, drawn from `OPS` with replacement by its own key.

    Args:
        magnitude: from 0, where nothing changes but by autocontrast and equalize, to 10, the full range of each.
    Raises: ValueError: num_ops < 0, or a magnitude outside [0, 10].
    Source: Cubuk et al. 2020 (1909.13719), figure 2; 9 is theirs for ResNet-50 on ImageNet, with num_ops = 2.
    """
    check(num_ops, magnitude)

    def one_op(i: Array, key: Array, one: Array) -> Array:
        k_op, k_way = jax.random.split(jax.random.fold_in(key, i))
        way = jnp.where(jax.random.bernoulli(k_way), 1.0, -1.0)
        return apply_op(jax.random.randint(k_op, (), 0, len(OPS)), way * (magnitude / MAX_MAGNITUDE), one)

    # A loop, so that the fourteen operations are compiled once.
    return jax.lax.fori_loop(0, num_ops, lambda i, x: jax.vmap(one_op, (None, 0, 0))(i, keys, x), image)


def check(num_ops: int, magnitude: float) -> None:
    """Refuses what `randaugment` cannot do. Raises ValueError."""
    if not 0 <= num_ops <= MOST_OPS or not 0 <= magnitude <= MAX_MAGNITUDE:
        needs = f"0 <= num_ops <= {MOST_OPS} and 0 <= magnitude <= {MAX_MAGNITUDE}"
        raise ValueError(f"got num_ops={num_ops}, magnitude={magnitude}, expected {needs}")


def apply_op(
    op: Int[Array, ""] | int, amount: Float[Array, ""] | float, image: Float[Array, "H W C"]
) -> Float[Array, "H W C"]:
    """Applies operation `OPS[op]` to one image.

    Devices run every branch of a choice that differs between the rows of a batch. So the operations are computed in
    families, each with one set of numbers chosen by op: movements, blends with a blurred or plain image, and maps of
    levels.

    Args: amount: in [-1, 1]; its size is the share of the operation's range, its sign the way where there are two.
    """
    amount = jnp.asarray(amount, jnp.float32)
    image = _move(op, amount, image)
    image = _blend(op, amount, image)
    levels = _to_levels(image)
    mapped = {
        "autocontrast": lambda: _autocontrast(image),
        "equalize": lambda: _equalize(levels),
        "solarize": lambda: jnp.where((image + 1.0) * 127.5 >= 256.0 * (1.0 - jnp.abs(amount)), -image, image),
        "posterize": lambda: _posterize(levels, amount),
    }
    for name, make in mapped.items():
        image = jnp.where(op == _PLACE[name], make(), image)
    return image


def _move(op: Array | int, amount: Array, image: Array) -> Array:
    """Rotates, shears or shifts about the centre, by bilinear interpolation; what comes from outside is grey."""

    def only(name: str, value: float) -> Array:
        return jnp.where(op == _PLACE[name], value * amount, 0.0)

    height, width = image.shape[:2]
    row, col = centred(height, width)
    angle = only("rotate", _ROTATE_RAD)
    from_row = jnp.cos(angle) * row - jnp.sin(angle) * col + only("shear_y", _SHEAR) * col
    from_col = jnp.sin(angle) * row + jnp.cos(angle) * col + only("shear_x", _SHEAR) * row
    from_row = from_row + only("translate_y", _TRANSLATE * height) + (height - 1) / 2
    from_col = from_col + only("translate_x", _TRANSLATE * width) + (width - 1) / 2
    return read_at(image, from_row, from_col, outside=_GREY)


def _blend(op: Array | int, amount: Array, image: Array) -> Array:
    """Moves the image away from or towards a plainer one: its grey, its mean, black, or its blur."""
    weights = jnp.array(_LUMA if image.shape[-1] == 3 else (1 / image.shape[-1],) * image.shape[-1])
    luma = jnp.sum(image * weights[None, None, :], axis=-1, keepdims=True)
    plain = image
    for name, other in (
        ("color", luma),
        ("contrast", jnp.mean(luma, keepdims=True)),
        ("brightness", jnp.full((1, 1, 1), -1.0)),
        ("sharpness", _blur(image)),
    ):
        plain = jnp.where(op == _PLACE[name], jnp.broadcast_to(other, image.shape), plain)
    # With `plain` the image itself, as for every operation of another family, nothing is added.
    return jnp.clip(image + _ENHANCE * amount * (image - plain), -1, 1)


def _blur(image: Array) -> Array:
    """Averages each pixel, weighing 5, with its eight neighbours; the border stays as it is, as PIL leaves it."""
    total = 4.0 * image
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            total = total + jnp.roll(image, (down, right), (0, 1))
    inside = jnp.zeros(image.shape[:2], bool).at[1:-1, 1:-1].set(True)
    return jnp.where(inside[..., None], total / 13.0, image)


def _to_levels(image: Array) -> Array:
    return jnp.round((image + 1.0) * 127.5).astype(jnp.int32)


def _from_levels(levels: Array) -> Array:
    return levels.astype(jnp.float32) / 127.5 - 1.0


def _autocontrast(image: Array) -> Array:
    """Stretches each channel to the whole range; a channel of one value stays."""
    low, high = jnp.min(image, axis=(0, 1), keepdims=True), jnp.max(image, axis=(0, 1), keepdims=True)
    flat = high <= low
    # A linear map of [low, high] to [-1, 1]; rounding may leave the range by a hair.
    stretched = jnp.clip((image - low) * (2.0 / jnp.where(flat, 1.0, high - low)) - 1.0, -1, 1)
    return jnp.where(flat, image, stretched)


def _equalize(levels: Array) -> Array:
    """Gives each channel about as many pixels at every level, by PIL's table.

    A level is mapped to the number of pixels below it, in units of 1/255 of all pixels but the brightest level's.
    """

    def channel(one: Array) -> Array:
        counts = jnp.zeros(256, jnp.int32).at[one.reshape(-1)].add(1)
        brightest = counts[jnp.max(one)]
        unit = (one.size - brightest) // 255
        below = jnp.cumsum(counts) - counts
        table = jnp.clip((unit // 2 + below) // jnp.maximum(unit, 1), 0, 255)
        return jnp.where(unit > 0, table[one], one)

    return _from_levels(jax.vmap(channel, in_axes=-1, out_axes=-1)(levels))


def _posterize(levels: Array, amount: Array) -> Array:
    """Keeps the upper bits of each level; up to `_POSTERIZE_BITS` are lost."""
    lost = jnp.round(_POSTERIZE_BITS * jnp.abs(amount)).astype(jnp.int32)
    return _from_levels(jnp.left_shift(jnp.right_shift(levels, lost), lost))
