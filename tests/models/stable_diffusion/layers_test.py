"""models/stable_diffusion/layers.py: norms in half types."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxmoust.models.stable_diffusion.layers import layer_norm
from jaxmoust.models.unet.blocks import GroupNorm


def expected(x: np.ndarray, axes: tuple[int, ...], centred: bool = True) -> np.ndarray:
    """The norm in float64."""
    x = x.astype(np.float64)
    x = x - x.mean(axes, keepdims=True) * centred
    return x / np.sqrt(np.square(x).mean(axes, keepdims=True) + 1e-5)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("kind", ["layer", "group", "root mean square"])
def test_norms_are_right_where_squares_overflow_the_type(kind, dtype):
    """Numbers of about 1000, whose squares float16 does not hold, and sums of 512 of them that lose bfloat16's bits."""
    x = jnp.asarray(1000 + 30 * np.random.default_rng(0).standard_normal((2, 4, 4, 32)), dtype)
    given = np.asarray(x, np.float64)
    make = {
        "layer": partial(layer_norm, epsilon=1e-5),
        "group": partial(GroupNorm, 1e-5, 1),  # one group, of all
        "root mean square": partial(nn.RMSNorm, epsilon=1e-5),
    }[kind]
    found = make(dtype=dtype).apply({"params": {"scale": jnp.ones(32), "bias": jnp.zeros(32)}}, x)
    assert found.dtype == dtype
    axes = (1, 2, 3) if kind == "group" else (3,)
    bits = jnp.finfo(dtype).nmant + 1
    np.testing.assert_allclose(
        np.asarray(found, np.float64), expected(given, axes, kind[0] != "r"), rtol=2.0**-bits * 1.01, atol=1e-4
    )  # rounded once, at the end
