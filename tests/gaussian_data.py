"""The exact denoiser of Gaussian data: the ground truth of tests of denoisers and solvers."""

import jax.numpy as jnp

from jaxmoust.core.diffusion.denoise import Denoiser
from jaxmoust.core.examples import spread


def gaussian_denoiser(mean, std) -> Denoiser:
    """E[x0 | x] = mean + std^2 / (std^2 + sigma^2) * (x - mean) of data ~ N(mean, std^2), independent pixels.

    Args:
        mean, std: numbers, or arrays that broadcast against [H, W, C].
    """

    def denoise(x, sigma):
        mu = jnp.broadcast_to(jnp.asarray(mean, x.dtype), x.shape)
        variance = jnp.broadcast_to(jnp.square(jnp.asarray(std, x.dtype)), x.shape)
        return mu + variance / (variance + spread(sigma, x) ** 2) * (x - mu)

    return denoise
