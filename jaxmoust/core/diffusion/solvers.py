"""Solvers: from noise to images with any denoiser, along any noise levels.

    solver(denoise, x, sigmas, keys) -> x0

x [B, H, W, C] starts as sigmas[0] * noise; sigmas [N+1] descends, and ends at 0 for a clean image. In sigma
coordinates DDIM (eta = 0) *is* `euler` and DDPM's ancestral sampling *is* `ancestral`, whatever the network
was trained to predict. Noise added on the way by step i to image b is a function of (keys[b], i) alone:
an image does not depend on its place in the batch. Draw the initial noise from other keys than these.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxmoust.core.diffusion.denoise import Denoiser
from jaxmoust.core.diffusion.noise import LAST, normal_like
from jaxmoust.core.examples import fold_all

Image = Float[Array, "B H W C"]
Keys = Key[Array, " B"]
Sigmas = Float[Array | np.ndarray, " num_levels"]
Step = Callable[[Array, Array, Array, Array], Array]


def euler(denoise: Denoiser, x: Image, sigmas: Sigmas, keys: Keys | None = None) -> Image:
    """Follows the probability-flow ODE with Euler's method: order 1, one evaluation a step; DDIM.

    dx/dsigma = (x - denoise(x, sigma)) / sigma, hence x' = x0 + (sigma' / sigma) * (x - x0). `keys` is unused.

    Source: Karras et al. 2022 (2206.00364), Eq. 4; Song et al. 2021 (2010.02502), Eq. 12 with eta = 0.
    """

    def step(x: Array, i: Array, sigma: Array, sigma_next: Array) -> Array:
        x0 = denoise(x, _per_example(sigma, x))
        return x0 + (sigma_next / sigma) * (x - x0)

    return _scan(step, x, sigmas)


def heun(
    denoise: Denoiser,
    x: Image,
    sigmas: Sigmas,
    keys: Keys | None = None,
    s_churn: float = 0.0,
    s_min: float = 0.0,
    s_max: float = float("inf"),
    s_noise: float = 1.0,
) -> Image:
    """Follows the ODE with Heun's method, order 2, optionally churning noise: 2N - 1 evaluations for N steps.

    Args:
        keys: one per image; needed only when s_churn > 0.
        s_churn, s_min, s_max, s_noise: amount of churn, the sigmas it acts between, and its noise's scale.
    Raises: ValueError: s_churn > 0 without keys, or negative.
    Source: Karras et al. 2022 (2206.00364), Algorithm 2, whose steps are labelled.
    """
    if s_churn < 0 or (s_churn > 0 and keys is None):
        raise ValueError(
            f"got s_churn={s_churn} with keys={keys}, expected s_churn >= 0, and one key per image if > 0."
        )
    gamma_max = min(s_churn / (len(sigmas) - 1), 2**0.5 - 1)

    def step(x: Array, i: Array, sigma: Array, sigma_next: Array) -> Array:
        # 4-6: raise the noise level to sigma_hat by adding new noise.
        sigma_hat, x_hat = sigma, x
        if gamma_max > 0:
            gamma = jnp.where((s_min <= sigma) & (sigma <= s_max), gamma_max, 0.0)
            sigma_hat = sigma * (1 + gamma)
            x_hat = x + jnp.sqrt(sigma_hat**2 - sigma**2) * s_noise * _step_noise(keys, i, x)
        # 7-8: Euler step from sigma_hat to sigma_next.
        slope = (x_hat - denoise(x_hat, _per_example(sigma_hat, x))) / sigma_hat
        x_next = x_hat + (sigma_next - sigma_hat) * slope

        # 9-11: second-order correction, impossible (0 / 0) where sigma_next is 0, and wrong from a flow's first level:
        # slopes over sigma cannot be averaged on the way from infinity.
        def correct(x_next: Array) -> Array:
            slope_next = (x_next - denoise(x_next, _per_example(sigma_next, x))) / sigma_next
            return x_hat + (sigma_next - sigma_hat) * (slope + slope_next) / 2

        return jax.lax.cond((sigma_next > 0) & (sigma < LAST), correct, lambda x_next: x_next, x_next)

    return _scan(step, x, sigmas)


def ancestral(denoise: Denoiser, x: Image, sigmas: Sigmas, keys: Keys) -> Image:
    """Follows DDPM's reverse chain: draws x' from q(x' | x, x0 = denoise(x, sigma)) at each step.

    x' = x0 + (sigma'^2 / sigma^2) * (x - x0) + sigma' * sqrt(1 - sigma'^2 / sigma^2) * noise.

    Source: Ho et al. 2020 (2006.11239), Eqs. 6-7 with the posterior variance, in sigma coordinates.
    """

    def step(x: Array, i: Array, sigma: Array, sigma_next: Array) -> Array:
        x0 = denoise(x, _per_example(sigma, x))
        ratio = jnp.square(sigma_next / sigma)
        noise = _step_noise(keys, i, x)
        return x0 + ratio * (x - x0) + sigma_next * jnp.sqrt(1 - ratio) * noise

    return _scan(step, x, sigmas)


def dpmpp_2m(denoise: Denoiser, x: Image, sigmas: Sigmas, keys: Keys | None = None) -> Image:
    """Follows the ODE with DPM-Solver++(2M): order 2 with one evaluation a step, by what the last step saw.

    With lambda = -log sigma it is linear in x and exact but for denoise(x, sigma), which is extrapolated to the middle
    of the step: x' = (sigma' / sigma) x + (1 - sigma' / sigma) ((1 + r) x0 - r x0_before), r = h / (2 h_before), h the
    step in lambda. The first step, and one to sigma' = 0, take x0 as it is. r is at most 1/2, its value where steps are
    even: a flow's last steps grow fourfold, too far to extrapolate from two estimates. `keys` is unused.

    Source: Lu et al. 2022 (2211.01095), Algorithm 2, for data prediction, in sigma coordinates.
    """

    def step(x: Array, i: Array, sigma: Array, sigma_next: Array, before: tuple) -> tuple[Array, tuple]:
        x0_before, h_before = before
        x0 = denoise(x, _per_example(sigma, x))
        h = jnp.log(sigma / jnp.where(sigma_next > 0, sigma_next, sigma))
        r = jnp.where((i > 0) & (sigma_next > 0), jnp.minimum(h / (2 * h_before), 0.5), 0.0)
        middle = (1 + r) * x0 - r * x0_before
        return middle + (sigma_next / sigma) * (x - middle), (x0, h)

    return _scan_with(step, x, sigmas, (jnp.zeros_like(x), jnp.ones((), x.dtype)))


SOLVERS: dict[str, Callable[..., Array]] = {"euler": euler, "heun": heun, "ancestral": ancestral, "dpmpp_2m": dpmpp_2m}


def _scan(step: Step, x: Array, sigmas: Array | np.ndarray) -> Array:
    """Runs `step(x, i, sigma, sigma_next)` down the noise levels; one compiled step, however many there are."""
    return _scan_with(lambda x, i, sigma, sigma_next, none: (step(x, i, sigma, sigma_next), none), x, sigmas, None)


def _scan_with(step: Callable, x: Array, sigmas: Array | np.ndarray, memory: Any) -> Array:
    """`_scan` for a step that hands something on to the next: `step(x, i, sigma, sigma_next, memory)`."""
    if len(sigmas) < 2:
        raise ValueError(f"got {len(sigmas)} noise levels; a solver needs at least 2 (start and end)")
    sigmas = jnp.asarray(sigmas, x.dtype)
    index = jnp.arange(len(sigmas) - 1)
    levels = (index, sigmas[:-1], sigmas[1:])
    (x, _), _ = jax.lax.scan(lambda carry, level: (step(carry[0], *level, carry[1]), None), (x, memory), levels)
    return x


def _per_example(sigma: Array, x: Array) -> Array:
    return jnp.broadcast_to(sigma, x.shape[:1])


def _step_noise(keys: Array | None, i: Array, x: Array) -> Array:
    assert keys is not None  # the solvers that add noise ask for keys
    return normal_like(fold_all(keys, i), x.shape[1:]).astype(x.dtype)
