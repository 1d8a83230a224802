"""Dropout and stochastic depth, keyed per example: how a batch lies on devices does not matter."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def dropout(keys: Key[Array, " B"], h: Float[Array, " B *rest"], rate: float) -> Float[Array, " B *rest"]:
    """Zeroes each number with probability `rate`, example b by keys[b] alone, and scales the rest up."""
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, h.shape[1:]))(keys)
    return jnp.where(keep, h / (1 - rate), jnp.zeros_like(h))


def drop_branch(keys: Key[Array, " B"], h: Float[Array, " B *rest"], rate: Float[Array, ""] | float) -> Array:
    """Replaces a residual branch by 0 with probability `rate`, for example b by keys[b], and scales the rest up.

    Source: Huang et al. 2016 (1603.09382), with the scaling in training instead of at test.
    """
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate))(keys)
    factor = jnp.where(keep, 1 / (1 - rate), 0.0).astype(h.dtype)
    return h * factor.reshape(-1, *(1,) * (h.ndim - 1))


def branch_rates(last: float, num_branches: int) -> list[float]:
    """Lists rates that rise linearly from 0 at the first branch to `last` at the last one."""
    return [last * i / max(1, num_branches - 1) for i in range(num_branches)]
