"""The laws must hold without help from implicit casts or implicit broadcasting between ranks."""

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_arithmetic():
    """Makes every implicit dtype or rank promotion an error."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
