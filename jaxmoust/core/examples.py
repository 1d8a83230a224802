"""Values for each example of a batch: its key, and numbers that hold for all of it."""

import jax
from jaxtyping import Array, Int, Key, Shaped


def fold_all(keys: Key[Array, " B"], tag: Int[Array, ""] | int) -> Key[Array, " B"]:
    """Folds one number into every example's key."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, tag)


def spread(values: Shaped[Array, " B"], like: Shaped[Array, " B *rest"]) -> Shaped[Array, " B *ones"]:
    """Shapes one value an example so that it broadcasts over the rest of `like`."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))
