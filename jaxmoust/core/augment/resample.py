"""One image read at other places than its pixels, by bilinear interpolation."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def centred(height: int, width: int) -> tuple[Float[Array, "H 1"], Float[Array, "1 W"]]:
    """Returns the rows and columns of an image's pixels, counted from its centre."""
    rows = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    cols = jnp.arange(width, dtype=jnp.float32)[None, :] - (width - 1) / 2
    return rows, cols


def read_at(
    image: Float[Array, "H W C"],
    rows: Float[Array, "h w"],
    cols: Float[Array, "h w"],
    mode: str = "constant",
    outside: float = 0.0,
) -> Float[Array, "h w C"]:
    """Reads an image at fractional rows and columns, counted from its first pixel.

    Args:
        mode: what lies beyond the border, as `jax.scipy.ndimage.map_coordinates` names it. outside: for "constant".
    """
    read = partial(jax.scipy.ndimage.map_coordinates, coordinates=[rows, cols], order=1, mode=mode, cval=outside)
    return jax.vmap(read, in_axes=-1, out_axes=-1)(image)
